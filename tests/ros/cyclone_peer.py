"""A robot by another vendor of DDS (Eclipse Cyclone DDS): runs in an environment without anything of ROS.

States of eight joints, moved by the trajectories that come: the newest one, straight between its points. Ends when its
standard input is closed.
"""

import json
import select
import sys
import time
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import float64, int32, sequence, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic


@final
@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@final
@dataclass
class Duration(IdlStruct, typename="builtin_interfaces::msg::dds_::Duration_"):
    sec: int32
    nanosec: uint32


@final
@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@final
@dataclass
class JointState(IdlStruct, typename="sensor_msgs::msg::dds_::JointState_"):
    header: Header
    name: sequence[str]
    position: sequence[float64]
    velocity: sequence[float64]
    effort: sequence[float64]


@final
@dataclass
class Point(IdlStruct, typename="trajectory_msgs::msg::dds_::JointTrajectoryPoint_"):
    positions: sequence[float64]
    velocities: sequence[float64]
    accelerations: sequence[float64]
    effort: sequence[float64]
    time_from_start: Duration


@final
@dataclass
class JointTrajectory(IdlStruct, typename="trajectory_msgs::msg::dds_::JointTrajectory_"):
    header: Header
    joint_names: sequence[str]
    points: sequence[Point]


def stamp(value: float) -> Time:
    return Time(int(value), int(value % 1 * 1e9))


def seconds(value: Time | Duration) -> float:
    return value.sec + 1e-9 * value.nanosec


def target(message: JointTrajectory, now: float) -> tuple[list[float], list[float]]:
    since = now - seconds(message.header.stamp)
    rows = message.points
    times = [seconds(p.time_from_start) for p in rows]
    if since >= times[-1]:
        return list(rows[-1].positions), [0.0] * len(rows[-1].positions)
    if since <= times[0]:
        return list(rows[0].positions), list(rows[0].velocities)
    i = next(k for k in range(1, len(times)) if times[k] > since)
    part = (since - times[i - 1]) / (times[i] - times[i - 1])
    mix = [a + part * (b - a) for a, b in zip(rows[i - 1].positions, rows[i].positions)]  # noqa: B905
    return mix, list(rows[i].velocities)


def main(domain: str, start: str) -> None:
    names = [f"q{i}" for i in range(1, 8)] + ["gripper"]
    place = dict(zip(names, json.loads(start)))  # noqa: B905
    speed = dict.fromkeys(names, 0.0)
    participant = DomainParticipant(int(domain))
    fast = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(1))
    sure = Qos(Policy.Reliability.Reliable(0), Policy.History.KeepLast(1))
    states = DataWriter(participant, Topic(participant, "rt/joint_states", JointState), qos=sure)
    topics = ("rt/arm_controller/joint_trajectory", "rt/gripper_controller/joint_trajectory")
    readers = [
        DataReader(participant, Topic(participant, name, JointTrajectory), qos=fast) for name in topics
    ]
    newest: list[JointTrajectory | None] = [None] * len(readers)
    count, oldest, due = 0, 0.0, time.perf_counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        now, clock = time.perf_counter(), time.time()
        for i, reader in enumerate(readers):
            for message in reader.take(8):
                if isinstance(message, JointTrajectory):
                    newest[i], count = message, count + 1
                    oldest = max(oldest, clock - seconds(message.header.stamp))
            if newest[i] is not None:
                rows = target(newest[i], clock)
                for k, name in enumerate(newest[i].joint_names):
                    place[name], speed[name] = rows[0][k], rows[1][k]
        order = ["extra", *reversed(names)]  # not the controller's order, and one that nobody asked for
        position = [0.5, *(place[n] for n in reversed(names))]
        velocity = [0.0, *(speed[n] for n in reversed(names))]
        states.write(JointState(Header(stamp(clock), "base"), order, position, velocity, []))
        due = max(due + 0.01, now)
        time.sleep(max(0.0, due - time.perf_counter()))
    answer = {"count": count, "oldest": oldest, "place": [place[n] for n in names]}
    print("ANSWER", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
