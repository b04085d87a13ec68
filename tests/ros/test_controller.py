"""The arm's rules for trajectories, without ROS."""

from __future__ import annotations

import numpy as np
import pytest
from peers import diagnostics_values

from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.transport import JointTrajectory, Status
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.wire import as_json, ros1_fields
from dfplan.envs.arm.robot.controller import Rules, TrajectoryController

NAMES, NOW, STEP = ("a", "b"), 1000.0, 0.0025
ONE = np.ones(2)


def controller(**rules):
    limits = JointLimits(NAMES, -2 * ONE, 2 * ONE, ONE, 10 * ONE, 500 * ONE, 0 * ONE, np.zeros(2, bool))
    return TrajectoryController(limits, np.zeros(2), Rules(**rules))


def message(stamp=NOW, names=NAMES, times=(0.05, 0.1, 0.15), positions=None, velocities=None):
    rows = (
        np.outer([0.01, 0.02, 0.02], np.ones(len(names))) if positions is None else np.array(positions, float)
    )
    speeds = np.zeros_like(rows) if velocities is None else np.array(velocities, float)
    points = [
        {"positions": p, "velocities": v, "time_from_start": ros.time_fields(t)}
        for t, p, v in zip(times, rows, speeds, strict=True)
    ]
    return {"header": ros.header(stamp), "joint_names": list(names), "points": points}


def run(c, begin, seconds):
    """(N, 2) setpoints."""
    times = begin + STEP * np.arange(1, 1 + round(seconds / STEP))
    return np.concatenate([c.setpoints(times[i : i + 2]) for i in range(0, len(times), 2)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stamp": NOW - 0.2}, "stale"),
        ({"stamp": NOW + 0.2}, "from the future"),
        ({"stamp": 0.0}, "no stamp"),
        ({"names": ("a", "c")}, "joint names"),
        ({"names": ("a", "a")}, "joint names"),
        ({"names": ("a",), "positions": [[0.01]] * 3, "velocities": [[0.0]] * 3}, "joint names"),
        ({"times": (0.05, 0.05, 0.1)}, "times"),
        ({"times": (0.1, 0.05, 0.15)}, "times"),
        ({"velocities": [[0, 0], [0, 0], [0.1, 0]]}, "end velocity"),
        ({"positions": [[0, 0], [np.nan, 0], [0, 0]]}, "not finite"),
        ({"positions": [[0, 0], [1, 0], [0, 0]]}, "velocity limit"),
        ({"positions": [[2.1, 0]] * 3}, "position limit"),
        ({"positions": [[1, 0]] * 3}, "jump"),
        ({"stamp": NOW - 0.1, "times": (0.01, 0.02, 0.03)}, "ends in the past"),
    ],
)
def test_refused(changes, reason):
    c = controller()
    if reason == "jump":  # further away than the way to the first point allows
        changes = {**changes, "stamp": NOW - 0.06}
    assert c.accept(message(**changes), NOW) == reason
    assert c.refused == {reason: 1} and c.accepted == 0
    np.testing.assert_array_equal(run(c, NOW, 0.1), 0)


@pytest.mark.parametrize(
    "broken", [{}, {"joint_names": ["a"]}, None, {"header": 3, "points": 4, "joint_names": 5}]
)
def test_malformed(broken):
    c = controller()
    assert c.accept(broken, NOW) == "malformed"


def test_order_and_end():
    """Joints in another order are sorted; the motion ends where it says, at rest."""
    c = controller()
    swapped = message(names=("b", "a"), positions=[[0.01, 0.02], [0.02, 0.04], [0.02, 0.05]])
    assert c.accept(swapped, NOW) == ""
    rows = run(c, NOW, 0.1)
    c.last = NOW + 0.1
    np.testing.assert_allclose(np.concatenate([rows, run(c, NOW + 0.1, 0.2)])[-1], [0.05, 0.02])
    assert c.state == "IDLE" and c.holds == 0


def test_watchdog():
    """Without a new command the motion stops, within the limits of acceleration, after 0.12 s."""
    c = controller()
    times = np.arange(1, 21) * 0.1
    positions = np.outer(0.5 * times, ONE)
    velocities = np.full((20, 2), 0.5)
    velocities[-1] = 0
    rows = [c.accept(message(times=times, positions=positions, velocities=velocities), NOW)]
    assert rows == [""]
    path = run(c, NOW, 1.0)
    speed = np.diff(path, axis=0) / STEP
    assert c.state == "HOLD" and 0.12 <= c.held - NOW < 0.13
    assert np.abs(speed[round(0.25 / STEP) :]).max() < 1e-9
    assert np.abs(np.diff(speed[round(0.12 / STEP) :], axis=0) / STEP).max() < 11


def test_stop_and_empty():
    """An empty trajectory stops; an emergency stop refuses everything until it is released."""
    c = controller()
    assert c.accept(message(), NOW) == ""
    run(c, NOW, 0.03)
    empty = {"header": ros.header(0.0), "joint_names": [], "points": []}
    assert c.accept(empty, NOW + 0.03) == ""
    end = run(c, NOW + 0.03, 0.3)[-1]
    assert (end < 0.02).all() and not c.moving(NOW + 0.4)
    c.stop(NOW + 0.4)
    assert c.accept(message(NOW + 0.4), NOW + 0.4) == "stopped"
    c.release()
    assert c.accept(message(NOW + 0.4), NOW + 0.4) == ""
    assert controller(empty_stops=False).accept(empty, NOW) == "empty"


def test_stream():
    """A motion sent piece by piece, each a little late, is followed without a step of velocity."""
    c, path = controller(), []
    for k in range(40):
        begin = NOW + 0.02 * k
        times = 0.02 * np.arange(1, 12)
        t = begin + times - NOW
        positions = np.stack([0.3 * (1 - np.cos(2 * t)), 0.2 * np.sin(2 * t) ** 2], 1)
        velocities = np.stack([0.6 * np.sin(2 * t), 0.4 * np.sin(4 * t)], 1)
        velocities[-1] = 0
        assert (
            c.accept(message(begin, times=times, positions=positions, velocities=velocities), begin + 0.004)
            == ""
        )
        path.append(run(c, begin, 0.02))
    speed = np.diff(np.concatenate(path), axis=0) / STEP
    assert np.abs(np.diff(speed, axis=0)).max() < 0.02 and c.saturated == 0


def test_messages():
    """Times, ROS 1 names, JSON's null, and types that cannot be read."""
    for value in (0.0, 1e-9, 0.9999999999, 1.5, 1795248735.511429):
        assert abs(ros.seconds(ros.time_fields(value)) - value) < 1e-6
        assert ros.seconds(ros1_fields(ros.time_fields(value))) == ros.seconds(ros.time_fields(value))
    state = {
        "header": ros.header(0.0),
        "name": ["a", "b"],
        "position": [1, None],
        "velocity": [],
        "effort": [],
    }
    reading = ros.to_reading("joints", ros.JOINT_STATE, (), state, 5.0)
    assert (
        np.isnan(reading.stamp)
        and np.isnan(reading.values["position"][1])
        and set(reading.values) == {"position"}
    )
    with pytest.raises(ValueError, match="one number for each"):
        ros.to_reading("joints", ros.JOINT_STATE, (), {**state, "position": [1]}, 5.0)
    with pytest.raises(ValueError, match="JointState"):
        ros.message_type("joint_state", "sensor_msgs/JointStates")
    assert ros.message_type("pose", "geometry_msgs/Pose") == "geometry_msgs/msg/Pose"
    trajectory = JointTrajectory(NAMES, [0.1], [[1, 2]], [[0, 0]], NOW, NOW)
    assert '"positions": [1.0, 2.0]' in as_json(ros.trajectory_fields(trajectory))
    status = Status("HOLD", "why", NOW, refusals={"jump": 2}, ages={"joints": 0.01})
    fields = ros.status_fields("dfplan", status, {"transport: expired": 1})
    values = diagnostics_values(fields, "dfplan: control loop")
    assert values["refused_jump"] == "2" and values["refused_transport: expired"] == "1"
    assert fields["status"][0]["level"] == 1


class Bus:
    """A bus that keeps what is published."""

    def __init__(self):
        self.sent, self.number, self.time, self.up = [], 1, NOW, True

    def advertise(self, topic, message, **_):
        def publish(fields, expires):
            if self.up and self.time <= expires:
                self.sent.append((topic, fields))
            return self.up and self.time <= expires

        return publish

    def subscribe(self, *_, **__):
        pass

    serve = open = cancel = close = subscribe

    def connected(self):
        return self.up

    def connection(self):
        return self.number

    def now(self):
        return self.time


def test_hold_stops_only_what_is_under_way():
    """A hold, and so the end of a program, never moves an arm that stands, was moved by others, or came back."""
    from ros_common import mapping_of

    from dfplan.deploy.robot.panda import HOME
    from dfplan.deploy.robot.transport import Handlers
    from dfplan.deploy.ros.transport import RosTransport

    bus, mapping = Bus(), mapping_of("reach")
    transport = RosTransport(mapping, bus)
    transport.connect(Handlers(lambda: (True, ""), lambda: (True, "")))
    transport.hold()
    assert not bus.sent
    names, times = tuple(j.name for j in mapping.robot.joints), np.arange(1, 11) * 0.1
    speed = np.append(np.full(7, 0.3), 0.0)
    speeds = np.repeat(speed[None], 10, 0)
    speeds[-1] = 0
    positions = np.append(HOME, 0.04) + times[:, None] * speed

    def trajectory():
        return JointTrajectory(names, times, positions, speeds, bus.time, bus.time + 0.1)

    assert transport.send(trajectory()) and len(bus.sent) == 2
    bus.time += 0.25
    transport.hold()
    stop = bus.sent[2][1]["points"]
    assert 0 < np.abs(stop[-1]["positions"] - positions[1, :7] - 0.015).max() < 0.02
    assert not stop[-1]["velocities"].any() and not stop[-2]["velocities"].any()
    ends = [ros.seconds(point["time_from_start"]) for point in stop[-2:]]
    assert ends[0] < ends[1] == mapping.loop.expire  # one that comes late must not count as over
    for change in ("time", "connection"):
        bus.sent.clear()
        transport.send(trajectory())
        bus.time, bus.number = (
            (bus.time + 5, bus.number) if change == "time" else (bus.time + 0.1, bus.number + 1)
        )
        transport.hold()
        transport.close() if change == "connection" else None
        assert len(bus.sent) == 2
    assert not RosTransport(mapping, bus).send(JointTrajectory(names, times, positions, speeds, NOW, NOW))
