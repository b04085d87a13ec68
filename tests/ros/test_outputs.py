"""Services, simulated time, and controllers that take positions or twists, with real Fast DDS."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from peers import START, arm, wait
from ros_common import STARVED, call, mapping_of, starved, watching

from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.panda import HOME
from dfplan.deploy.robot.tables import Command
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Transport
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.ros2 import ros2_transport

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]
START_AT = np.append(HOME, 0.05)
SPEED = np.append(np.linspace(0.1, 0.4, 7), 0.0)


def steady(mapping, transport, position, velocity, seconds=0.4) -> JointTrajectory:
    names = tuple(j.name for j in mapping.robot.joints)
    times = np.linspace(0, seconds, 9)[1:]
    speeds = np.repeat(velocity[None], 8, 0)
    speeds[-1] = 0
    now = transport.now()
    expires = now + mapping.loop.expire
    return JointTrajectory(names, times, position + times[:, None] * velocity, speeds, now, expires)


def joints_of(mapping, transport):
    """Where the joints are, or None."""
    for reading in transport.read():
        if reading.source == "joints":
            return np.array(
                [reading.values["position"][reading.names.index(j.name)] for j in mapping.robot.joints]
            )
    return None


def stream(kind: str, message: str):
    """What a controller of one kind hears of a trajectory of 0.4 s, the trajectory, and whether a thread starved."""
    from dfplan.deploy.ros.ros2 import Ros2Bus

    mapping = mapping_of("reach")
    joints = tuple(j.name for j in mapping.robot.joints)
    commands = (Command("/servo", joints[6::-1], kind), Command("/gripper", joints[7:], "position"))
    mapping, got = replace(mapping, commands=commands), []
    transport = ros2_transport(mapping, node=f"dfplan_{kind}")
    assert isinstance(transport, Transport)
    ear = Ros2Bus(f"ear_{kind}")
    ear.subscribe("/servo", message, lambda m, t: got.append(m))
    ear.subscribe("/gripper", ros.ARRAY, lambda m, t: None)
    ear.open()
    transport.connect(Handlers(lambda: (True, "armed"), lambda: (True, "stopped")))
    try:
        assert call(f"/dfplan_{kind}/arm") == (True, "armed")
        wait(transport.connected, START, "connected")
        time.sleep(0.5)
        assert not got  # nothing before the first command
        waited = starved([os.getpid()])
        sent = steady(mapping, transport, START_AT, SPEED)
        assert transport.send(sent)
        time.sleep(1.2)
        late = steady(mapping, transport, START_AT, SPEED)
        assert not transport.send(replace(late, expires=late.stamp - 0.01))
        return got, sent, waited() > STARVED
    finally:
        transport.close()
        ear.close()


def count(messages, busy: bool) -> None:
    """100 a second for 0.4 s and 0.3 s more, in which the end is repeated: never more, and fewer only when starved."""
    assert len(messages) <= 72
    assert len(messages) >= 68 or (busy and messages)


def test_positions():
    """Positions follow the trajectory at the loop's rate, in the controller's order, and end at its end."""
    messages, sent, busy = stream("position", ros.ARRAY)
    count(messages, busy)
    rows = np.array([list(m.data) for m in messages])
    share = (rows - START_AT[6::-1]) / SPEED[6::-1]  # all joints are as far along as one another
    np.testing.assert_allclose(share, np.repeat(share[:, :1], 7, 1), atol=1e-9)
    assert (np.diff(share[:, 0]) >= 0).all() and share[0, 0] >= 0.05 - 1e-9
    np.testing.assert_allclose(rows[-1], sent.positions[-1, 6::-1], atol=1e-9)


def test_twists():
    """Each twist is the tool's velocity at the time that it is stamped with, by kinematics; 0 at the end."""
    messages, sent, busy = stream("twist", ros.TWIST)
    count(messages, busy)
    pose, h = body(mapping_of("reach").robot).pose, 1e-5
    for message in messages:
        since = ros.seconds(message.header.stamp) - sent.stamp
        q, qd = sent.at(since)
        qd = qd if sent.times[0] <= since < sent.times[-1] else 0 * qd
        position, rotation = pose(np.stack([q - h * qd, q + h * qd]))
        skew = (rotation[1] @ rotation[0].T - rotation[0] @ rotation[1].T) / (4 * h)
        angular = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
        got = [
            [getattr(part, axis) for axis in "xyz"] for part in (message.twist.linear, message.twist.angular)
        ]
        np.testing.assert_allclose(got, [(position[1] - position[0]) / (2 * h), angular], atol=1e-4)
    assert not any(got[0] + got[1])


def test_services_and_stop(tmp_path):
    """The arm's own e-stop refuses everything until it is released; the next episode begins at a reset.

    Slow motions and patient rules: a late message is none of this test's concern.
    """
    mapping = mapping_of("reach", expire=2.0)
    transport = ros2_transport(mapping)
    patient = ("--rules.max-age", "5", "--rules.watchdog", "5")
    speed = np.append(np.full(7, 0.005), -0.0005)
    with watching() as watch, arm(tmp_path / "arm.log", "reach", 5, *patient) as child:
        transport.connect(Handlers(lambda: (False, "no"), lambda: (True, "stopped")))
        try:
            wait(lambda: transport.connected() and len(transport.read()) == 3, START, "connected", child)
            assert call("/sim_arm/estop")[0] and call("/dfplan/arm") == (False, "no")
            here = joints_of(mapping, transport)

            def send() -> bool:
                return transport.send(steady(mapping, transport, here, speed, 10.0))

            refusals = ("refused_stopped", "refused_gripper stopped")
            wait(
                lambda: send() and all(watch.number(k) > 0 for k in refusals),
                START,
                "both controllers refuse",
            )
            watch.fresh(child)
            assert watch.values["state"] == "STOPPED" and watch.number("accepted") == 0
            assert watch.number("refused") == sum(watch.number(k) for k in refusals)
            assert call("/sim_arm/release")[0] and send()
            wait(
                lambda: watch.number("accepted") == watch.number("accepted_gripper") == 1,
                START,
                "accepted again",
            )
            transport.hold()
            wait(lambda: watch.number("accepted") == watch.number("accepted_gripper") == 2, START, "stopped")
            assert watch.number("refused") == sum(watch.number(k) for k in refusals)
            assert call("/sim_arm/reset") == (True, "episode of seed 6")
            said = []
            assert not transport.follow(
                steady(mapping, transport, here, np.zeros(8)), lambda *a: said.append(a)
            )
            assert "no action in the mapping" in said[0][1]
        finally:
            transport.close()


def test_simulated_time(tmp_path):
    """With /clock, readings and commands are stamped in the arm's own time; what is stamped otherwise is refused."""
    mapping = mapping_of("reach")
    simulated, real = ros2_transport(mapping, use_sim_time=True), ros2_transport(mapping, node="other")
    with watching() as watch, arm(tmp_path / "arm.log", "reach", 0, "--clock") as child:
        for transport in (simulated, real):
            transport.connect(Handlers(lambda: (False, "no"), lambda: (True, "stopped")))
        try:

            def age() -> float:
                return simulated.now() - next(r.stamp for r in simulated.read() if r.source == "joints")

            wait(
                lambda: simulated.connected() and simulated.read() and abs(age()) < 0.02,
                START,
                "connected",
                child,
            )
            begin, wall = simulated.now(), time.time()
            assert 1000 < begin < 1000 + 2 * START
            wait(lambda: simulated.now() - begin > 1, START, "time passes", child)
            assert simulated.now() - begin < time.time() - wall + 0.1
            here = joints_of(mapping, simulated)
            for transport, key in ((real, "refused_from the future"), (simulated, "accepted")):
                wait(
                    lambda t=transport, k=key: t.send(steady(mapping, t, here, np.zeros(8))) and watch.number(k) > 0,
                    START, f"{key}: {watch.values}", child,
                )  # fmt: skip
                assert key == "accepted" or watch.number("accepted") == 0
        finally:
            simulated.close()
            real.close()
