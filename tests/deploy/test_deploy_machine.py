"""Nothing but `arm` leads to RUNNING, and only while everything is fresh."""

import itertools
from dataclasses import replace

import pytest

from dfplan.deploy.loop.machine import DISARMED, FAULT, HOLD, READY, RUNNING, Machine
from dfplan.deploy.robot.transport import Status
from dfplan.deploy.run import status_line
from dfplan.tools.clock import FakeClock


def running():
    clock = FakeClock()
    machine = Machine(clock, 1.0)
    machine.update("")
    clock.advance(1.0)
    machine.update("")
    assert machine.state == READY and machine.arm() == (True, "running")
    return machine, clock


def test_ready_only_after_everything_was_fresh_for_a_while():
    clock = FakeClock()
    machine = Machine(clock, 1.0)
    for _ in range(3):
        machine.update("")
        clock.advance(0.6)
        assert machine.arm()[0] is (clock.now() >= 1.0 and machine.state == READY)
        machine.update("'joints' is 0.2 s old")
    assert machine.state == DISARMED and "joints" in machine.reason and "joints" in machine.arm()[1]


@pytest.mark.parametrize(
    "event, state",
    [
        (lambda m: m.stop(), HOLD), (lambda m: m.hold("late"), HOLD), (lambda m: m.update("old"), HOLD),
        (lambda m: m.fault("blocked"), FAULT), (lambda m: m.lost("gone"), DISARMED),
    ],
)  # fmt: skip
def test_everything_stops_it_and_nothing_but_arm_starts_it_again(event, state):
    machine, clock = running()
    event(machine)
    assert machine.state == state
    for _ in range(500):
        machine.update("")
        clock.advance(0.01)
        assert machine.state != RUNNING
    if state == FAULT:
        assert not machine.arm()[0]
        machine.stop()
        for _ in range(150):
            machine.update("")
            clock.advance(0.01)
    assert machine.arm()[0] and machine.run == 2


def test_every_story_of_three_events_keeps_the_rule():
    events = {
        "fresh": lambda m: m.update(""), "old": lambda m: m.update("old"), "stop": lambda m: m.stop(),
        "hold": lambda m: m.hold("x"), "fault": lambda m: m.fault("x"), "lost": lambda m: m.lost("x"),
    }  # fmt: skip
    for story in itertools.product(events, repeat=4):
        machine, clock = running()
        machine.stop()
        for name in story:
            events[name](machine)
            clock.advance(2.0)
            assert machine.state != RUNNING
        fresh = story[-1] == "fresh" and machine.state in (READY, HOLD)
        if not fresh and machine.state == FAULT:
            assert not machine.arm()[0]


def test_changes_are_kept_with_time_and_reason():
    machine, _ = running()
    machine.hold("the next chunk did not come in time")
    assert [(c.old, c.new) for c in machine.changes] == [(DISARMED, READY), (READY, RUNNING), (RUNNING, HOLD)]
    assert machine.changes[-1].reason == machine.reason and machine.changes[-1].time == 1.0


def test_the_status_line_fits_a_terminal_and_says_what_matters():
    driven = Status(
        "RUNNING", "armed", 0.0, 100.1, (0.01, 0.0114, 0.03), {"joints": 0.004, "object": 0.0123},
        (0.048, 0.124, 0.2), 12345, {"jump": 3}, 2,
    )  # fmt: skip
    line = status_line(driven)
    assert line == "RUNNING  100 Hz p99 11 ms, object 12 ms, chunk 124 ms, late 2, changed 3"
    assert status_line(replace(driven, doubtful=("object",))).startswith("RUNNING  doubtful: object, 100 Hz")
    held = replace(driven, state="HOLD", reason="readings unlike the demonstrations: " + "object " * 20)
    assert len(status_line(held)) == 79 and status_line(held).startswith("HOLD     readings unlike")
