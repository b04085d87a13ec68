"""One arm has one master, with real processes and DDS: never two drive, whoever comes is named, a stop reaches all.

`--repeat 50` does each fifty times; the turn chooses names and the moment.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from peers import START, arm, bridge, drive, driven, free_port, wait
from ros_common import call, looping, mapping_of, person, run_until_moving, watching

from dfplan.deploy.robot.transport import Handlers
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.ros2 import Ros2Bus, ros2_transport

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]

SETTLE = "1.0"  # s, as a mapping has it if it does not say
LATE = 0.5  # s: a busy machine's readings come late, which would hold the arm before anybody comes


def before(turn: int) -> float:
    """s of motion before somebody comes; what is rehearsed lasts more than 2 s."""
    return 0.3 + 0.07 * turn % 1.4


def again(loop, *children) -> None:
    """Whoever came is gone: the loop drives again once it is armed, and goes on to."""

    def tried() -> bool:
        person(loop)
        return loop.machine.state == "RUNNING"

    wait(tried, START, "the loop runs again", *children)
    time.sleep(0.7)
    assert loop.machine.state == "RUNNING", loop.machine.reason


@pytest.mark.parametrize("kind", ["ros2", "rosbridge"])
def test_second_controller(kind, turn, tmp_path):
    """A second one, of the same name or another, natively or through rosbridge, arms itself whenever it may."""
    port, log = free_port(), tmp_path / "drive.log"
    server = bridge(tmp_path / "bridge.log", port) if kind == "rosbridge" else contextlib.nullcontext()
    with (
        server,
        watching() as watch,
        arm(tmp_path / "arm.log", "reach", 3) as hand,
        looping("ros2", max_age=LATE) as loop,
    ):
        run_until_moving(loop, watch, hand)
        time.sleep(before(turn))
        with drive(log, kind, port, "reach", 3, ("dfplan", "second")[turn % 2], SETTLE) as second:
            wait(lambda: loop.machine.state == "HOLD", START, "the first one holds", second, hand)
            reason = loop.machine.changes[-1].reason
            assert "at this arm" in reason or "one master" in reason, reason
            end = time.perf_counter() + 3
            while time.perf_counter() < end:  # both ask to be armed, again and again
                person(loop)
                assert loop.machine.state != "RUNNING"
                time.sleep(0.02)
            assert not driven(log)
        again(loop, hand)


def test_foreign_publisher(turn, tmp_path):
    """A node that only declares to write stops a running arm and is named; one of our own name is, once it writes."""
    with (
        watching() as watch,
        arm(tmp_path / "arm.log", "reach", 3) as hand,
        looping("ros2", max_age=LATE) as loop,
    ):
        run_until_moving(loop, watch, hand)
        time.sleep(before(turn))
        topic, named = loop.mapping.commands[0].topic, turn % 2 == 0
        stranger = Ros2Bus("stranger" if named else "dfplan")
        publish = stranger.advertise(topic, ros.JOINT_TRAJECTORY)
        stranger.open()
        try:
            old = {"header": ros.header(time.time() - 5), "joint_names": [], "points": []}

            def held() -> bool:
                if not named:
                    publish(old, float("inf"))  # the arm refuses it: it only must be heard
                time.sleep(0.05)
                return loop.machine.state == "HOLD"

            wait(held, 10, "the arm is held", hand)
            reason = loop.machine.changes[-1].reason
            assert topic in reason and "one master" in reason, reason
            said = "'/stranger'" if named else "one master"
            wait(lambda: held() and said in loop.arm()[1], 10, "it is named", hand)
        finally:
            stranger.close()
        again(loop, hand)


def test_stop_reaches_every_controller(turn):
    """`~/stop` of one is heard by all that are at the arm."""
    told, made = [], []
    for node in ("first", "second", "third"):
        transport = ros2_transport(mapping_of("reach"), node=node)
        halt = lambda why, node=node: told.append((node, why))  # noqa: E731
        transport.connect(Handlers(lambda: (False, "no"), lambda: (True, "stopped"), halt))
        made.append(transport)
    try:

        def seen() -> bool:
            """Each is asked, as its loop would: whoever is asked says that it is there."""
            return sum("another" in said for said in [t.others() for t in made]) == 3

        wait(seen, START, "they see each other")
        end = time.perf_counter() + 2
        while time.perf_counter() < end:  # each has heard both others by then
            assert seen()
            time.sleep(0.02)
        assert call("/second/stop") == (True, "stopped")
        wait(lambda: seen() and len(told) == 2, 10, "both others are told")
        time.sleep(0.3)
        assert {n for n, _ in told} == {"first", "third"} and all("'second'" in why for _, why in told)
    finally:
        for transport in made:
            transport.close()


def test_two_begin_at_once(turn, tmp_path):
    """Two controllers come up together, each of which arms itself as soon as it may: never both drive."""
    logs = tmp_path / "one.log", tmp_path / "two.log"
    with (
        arm(tmp_path / "arm.log", "reach", 3) as hand,
        drive(logs[0], "ros2", 0, "reach", 3, "one", SETTLE) as one,
        drive(logs[1], "ros2", 0, "reach", 3, ("one", "two")[turn % 2], SETTLE) as two,
    ):
        wait(lambda: all("up" in log.read_text() for log in logs), START, "both are up", one, two, hand)
        time.sleep(5)
    for begin, end in driven(logs[0]):
        assert not any(first < end and begin < last for first, last in driven(logs[1]))
