"""Arming: refused while anything moves, whatever the driver says of velocities, and possible again after clocks went wrong."""

import os
import signal
import sys
import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from robots import Robot, loop, play

from dfplan import cli
from dfplan.deploy.robot.transport import Reading
from dfplan.deploy.run import run
from dfplan.tools.clock import FakeClock


class Guided(Robot):
    """Somebody moves joint a at `speed` rad/s; `says`: the velocities that the driver reports."""

    def __init__(self, clock, speed, says):
        super().__init__(clock)
        self.speed, self.says = speed, says

    def read(self):
        joints, lamp = super().read()
        place = (
            -1 + self.speed * self.clock.now() + 5e-4 * (-1) ** round(100 * self.clock.now())
        )  # and it is noisy
        values = {"position": np.array([place, 0.0])}
        if self.says is not None:
            values["velocity"] = np.full(2, self.says)
        return [Reading("joints", ("a", "b"), values, joints.stamp, joints.received), lamp]


@pytest.mark.parametrize("says", [np.nan, 0.0, None])
def test_arming_is_refused_while_positions_change(says):
    clock = FakeClock()
    robot = Guided(clock, 1.0, says)
    made, _, _ = loop(robot=robot, clock=clock)
    play(made, 0.8)
    assert made.machine.state == "READY" and "joint 'a' moves" in made.arm()[1]
    robot.speed = 0.0
    play(made, 0.15, arm=False)
    assert not made.arm()[0]
    play(made, 0.15, arm=False)
    assert made.arm()[0]


class Clocks(Robot):
    """Stamps of joint states that are `ahead`, and a robot's clock that is set `back`, s."""

    ahead = back = 0.0

    def now(self):
        return super().now() - self.back

    def read(self):
        joints, lamp = super().read()
        return [
            Reading(joints.source, joints.names, joints.values, joints.stamp + self.ahead, joints.received),
            lamp,
        ]


@pytest.mark.parametrize("what, why", [("ahead", "stamped ahead"), ("back", "set back")])
def test_after_a_clock_that_went_wrong_the_arm_holds_and_is_armed_again(what, why):
    clock = FakeClock()
    robot = Clocks(clock)
    made, _, _ = loop(robot=robot, clock=clock)
    play(made, 1.0)
    assert made.machine.state == "RUNNING"
    setattr(robot, what, 1e8)
    play(made, 0.3, arm=False)
    assert made.machine.state == "HOLD" and why in made.machine.reason
    if what == "ahead":
        assert "stamped ahead" in made.arm()[1] and made.status().refusals["joints: ahead"] > 10
        robot.ahead = 0.0
    play(made, 1.0, arm=False)
    assert made.machine.state == "HOLD" and made.arm()[0]
    play(made, 0.5, arm=False)
    assert made.machine.state == "RUNNING"


def test_a_running_arm_is_not_asked_whether_it_rests():
    made, _, _ = loop()
    play(made, 1.3)
    assert made.plan.setpoints[-1].velocity.any() and made.arm() == (True, "already running")


@pytest.mark.parametrize("moving", [True, False])
def test_sigterm_to_the_command_stops_the_arm_and_then_ends(moving, monkeypatch, capsys):
    made, robot, _ = loop()
    before = signal.getsignal(signal.SIGTERM)

    def command(**_):
        kill = partial(os.kill, os.getpid(), signal.SIGTERM)
        report = run(made, moving, until=lambda: bool(made.clock.now() > 1.3 and kill()))
        print([change.new for change in report.changes][-2:])

    monkeypatch.setattr(sys, "argv", ["dfplan", "deploy"])
    monkeypatch.setattr(cli.app, "cli", command)
    cli.main()
    assert capsys.readouterr().out == f"{['HOLD', 'DISARMED'] if moving else ['READY', 'DISARMED']}\n"
    assert not robot.up and signal.getsignal(signal.SIGTERM) == before
    if moving:
        last = robot.sent[-1][1]
        assert np.ptp(last.positions, axis=0).max() < 1e-9  # it rests


def test_a_command_that_moves_nothing_ends_by_sigterm_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dfplan", "train"])
    monkeypatch.setattr(cli.app, "cli", lambda **_: [os.kill(os.getpid(), signal.SIGTERM), time.sleep(5)])
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert capsys.readouterr().err == "dfplan: stopped\n"
