"""Recorded actions: what controllers are told, by messages as they are on ROS."""

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from guided import Guided, path, plan
from robots import Fake, mapping

from dfplan.deploy import FakeClock, Status, body, record
from dfplan.deploy.recording.commanded import Setpoints
from dfplan.deploy.robot.observe import Measured
from dfplan.deploy.robot.transport import JointTrajectory
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.transport import RosTransport


def trajectory(names, times, positions, velocities=None, stamp=0.0):
    points = [
        {"positions": p, "time_from_start": ros.time_fields(t), "velocities": []}
        for t, p in zip(times, positions, strict=True)
    ]
    for point, row in zip(points, velocities or (), strict=False):
        point["velocities"] = row
    return {"header": ros.header(stamp), "joint_names": list(names), "points": points}


def setpoints(m=None):
    m = m or mapping()
    return Setpoints(m, body(m.robot)), m.commands[0]


MEASURED = Measured(np.array([0.1, 0.2]), np.zeros(2), 0.0, np.ones(2))


def test_a_commanded_trajectory_is_followed_as_its_controller_does():
    s, command = setpoints()
    assert np.isnan(s.at(5.0)).all()
    s.hear((command, trajectory("cba", [0.1, 0.3], [[9, 10, 0.5], [9, 20, 0.5]]), 5.0), MEASURED)
    np.testing.assert_allclose(s.at(5.0), [0.1, 0.2])  # from where it was measured, by name, in its units
    np.testing.assert_allclose(s.at(5.05), [0.3, (0.2 + np.deg2rad(10)) / 2])
    np.testing.assert_allclose(s.at(5.2), [0.5, np.deg2rad(15)])
    s.hear((command, trajectory("ab", [1.0], [[1.5, 20]], [[0, 0]], stamp=5.2), 5.21), MEASURED)
    np.testing.assert_allclose(
        s.at(5.2), [0.5, np.deg2rad(15)]
    )  # from the setpoint under way, which moves in b
    slope = np.deg2rad(5) / 0.1
    np.testing.assert_allclose(s.at(5.7)[0], 1.0)
    np.testing.assert_allclose(s.at(5.7)[1], np.deg2rad(17.5) + slope / 8, rtol=1e-6)
    np.testing.assert_allclose(s.at(9.0), [1.5, np.deg2rad(20)])
    s.hear((command, {"header": ros.header(0.0), "joint_names": ["a", "b"], "points": []}, 5.7), MEASURED)
    np.testing.assert_allclose(s.at(9.0), s.at(5.7))  # ROS 1 stops so
    assert not s.counts


def test_commands_that_a_controller_refuses_have_no_effect_and_are_counted():
    s, command = setpoints()
    for message in (
        trajectory("a", [0.1], [[1]]),  # a joint is missing
        trajectory("ab", [0.1], [[1, 1]], stamp=4.0),  # over
        trajectory("ab", [0.2, 0.1], [[1, 1], [1, 1]]),
        trajectory("ab", [0.1], [[1, np.nan]]),
        {"data": [1.0, 2.0]},
    ):
        s.hear((command, message, 5.0), MEASURED)
        s.hear((command, trajectory("xy", [0.1], [[1, 1]]), 5.0), MEASURED)  # somebody else's
    assert np.isnan(s.at(6.0)).all() and sum(s.counts.values()) == 5
    assert any("without joint 'b'" in key for key in s.counts) and any(
        "in the past" in key for key in s.counts
    )


def test_single_positions_are_valid_at_once():
    m = mapping(commands=[{"topic": "/p", "joints": ["b", "a"], "kind": "position"}])
    s, command = setpoints(m)
    s.hear((command, {"data": [90.0, 1.0]}, 5.0), None)
    np.testing.assert_allclose(s.at(5.0), [1.0, np.pi / 2])
    s.hear((command, {"data": [90.0]}, 5.0), None)
    np.testing.assert_allclose(s.at(6.0), [1.0, np.pi / 2])
    assert list(s.counts.values()) == [1]


def test_recorded_actions_are_what_is_commanded_joint_by_joint():
    m = mapping(
        commands=[{"topic": "/a", "joints": ["a"], "kind": "position"}, {"topic": "/b", "joints": ["b"]}]
    )
    clock, told = FakeClock(), []

    def commands():  # a is told to be 0.1 rad further, b is moved by hand
        return [(m.commands[0], {"data": [path(clock.now())[0] + 0.1]}, clock.now() + 1000)]

    made = record(
        m,
        Guided(clock),
        control=plan(clock, (0.1, "start"), (1.1, "stop")),
        commands=commands,
        clock=clock,
        tell=told.append,
    )
    t = 0.1 + 0.05 * np.arange(1, 21)
    q = np.stack([path(x) * [1, np.pi / 180] for x in t])
    np.testing.assert_allclose(made.arrays["actions"], q + [0.1, 0], atol=1e-6)
    assert made.info["episodes"][0]["commanded"] == ["a"] and "actions: commanded a" in told[1]


def test_an_arm_that_is_not_where_it_was_told_to_be_ends_the_episode_and_what_was_told_is_forgotten():
    m, clock, told = mapping(), FakeClock(), []
    first = [(m.commands[0], trajectory("ab", [0.01], [[-0.1, 20.0]]), 1000.0)]

    def commands():
        return [first.pop()] if first and clock.now() > 0.05 else []

    control = plan(clock, (0.1, "start"), (2.0, "start"), (2.5, "stop"))
    made = record(m, Guided(clock), control=control, commands=commands, clock=clock, tell=told.append)
    assert "joint 'a' is 0.30" in told[1] and "controller off" in told[1]
    np.testing.assert_allclose(
        made.arrays["actions"][:, 0], np.sin(2.05 + 0.05 * np.arange(10)) * 0.4, atol=1e-6
    )


class FakeBus(Fake):
    """A connection to ROS that notes what is declared."""

    def __init__(self, clock):
        super().__init__(clock)
        self.heard, self.declared = {}, []

    def subscribe(self, topic, message, heard, **_):
        self.heard[topic] = (message, heard)

    def advertise(self, topic, *_, **__):
        self.declared.append(topic)

    def serve(self, name, _):
        self.declared.append(name)

    def open(self):
        pass

    close = cancel = open


def test_on_ros_it_listens_to_sources_and_commands_and_declares_nothing():
    m, clock = mapping(), FakeClock()
    bus = FakeBus(clock)
    transport = RosTransport(m, bus)
    ask = plan(clock, (0.1, "start"), (1.1, "stop"))

    def control(recording):
        now = clock.now()
        stamp, q = ros.header(now + 1000.0), path(now)
        state = {"header": stamp, "name": ["a", "b"], "position": q, "velocity": [], "effort": []}
        bus.heard["/joint_states"][1](state, now)
        bus.heard["/lamp"][1]({"data": [0.5]}, now)
        bus.heard["/arm/joint_trajectory"][1](trajectory("ab", [0.01], [q + [0.1, 0.0]]), now)
        return ask(recording)

    made = record(m, transport, control=control, clock=clock, tell=lambda _: None)
    assert bus.declared == [] and bus.heard["/arm/joint_trajectory"][0] == ros.JOINT_TRAJECTORY
    assert made.info["episodes"][0]["commanded"] == ["a", "b"]
    off = made.arrays["actions"][:, 0] - 0.4 * np.sin(0.15 + 0.05 * np.arange(20))
    np.testing.assert_allclose(off, 0.1, atol=0.01)  # the setpoint is a tick behind
    still, said = JointTrajectory(("a", "b"), [0.1], [[0, 0]], [[0, 0]], 0.0, 1e9), []
    assert not transport.send(still) and not transport.follow(still, lambda *row: said.append(row))
    assert said and not said[0][0]
    transport.hold()
    transport.publish_status(Status("HOLD", "", 0.0))
