"""A robot by another vendor of DDS, and the bytes of what is published."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peers import end, interpreter, other_environment
from ros_common import STARVED, make_loop, mapping_of, perform, running

from dfplan.deploy.robot.transport import JointTrajectory
from dfplan.deploy.ros import messages as ros

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]
CYCLONE = """<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo" multicast="true"/></Interfaces>
</General></Domain></CycloneDDS>"""


def test_cyclone(tmp_path):
    """The loop drives a robot on Cyclone DDS whose joints come shuffled and with one more."""
    from dfplan.deploy.robot.panda import GRIPPER_OPEN, HOME
    from dfplan.deploy.ros.ros2 import ros2_transport

    python = interpreter("DFPLAN_CYCLONE_PYTHON", "cyclonedds")
    mapping = joints_alone(mapping_of("reach"))
    start, goal = np.append(HOME, GRIPPER_OPEN), np.append(HOME + 0.2, 0.05)
    loop = make_loop(mapping, ros2_transport(mapping), np.linspace(start, goal, 40)[1:])
    script, domain = str(Path(__file__).with_name("cyclone_peer.py")), os.environ["ROS_DOMAIN_ID"]
    log = (tmp_path / "peer.log").open("w+")
    peer = subprocess.Popen(
        [python, script, domain, json.dumps(start.tolist())],
        env=other_environment(CYCLONEDDS_URI=CYCLONE), stdin=subprocess.PIPE, stdout=log, stderr=log,
    )  # fmt: skip

    def there() -> bool:
        here = loop.assembler.measured(loop.clock.now(), loop.transport.now())
        return here is not None and np.abs(here.position - goal).max() < 1e-3

    try:
        with running(loop):
            stops, worst = perform(loop, there, peer)
            sent = loop.stats.sent
            peer.stdin.close()
            peer.wait(10)
    finally:
        end(peer)
        text = (tmp_path / "peer.log").read_text()
        print(text)
    answer = json.loads(text.split("ANSWER ")[1])
    print(f"FIGURE sent {sent}, stops {stops}, longest without a processor: {1e3 * worst:.0f} ms")
    np.testing.assert_allclose(answer["place"], goal, atol=1e-3)
    assert answer["count"] > sent / 2 and answer["oldest"] < 0.15  # its readers may match ours a little later
    assert not stops or worst > STARVED


def joints_alone(mapping):
    """The mapping without the task's sensors, which this robot does not have."""
    keep = tuple(s for s in mapping.policy.observation if s.source == "joints")
    return replace(mapping, sources=mapping.sources[:1], policy=replace(mapping.policy, observation=keep))


def test_bytes():
    """The CDR bytes of a trajectory are those of an independent serialiser."""
    stores = pytest.importorskip("rosbags.typesys", reason="rosbags is not installed")
    from rclpy.serialization import serialize_message

    from dfplan.deploy.ros.ros2 import fill, type_of

    rng = np.random.default_rng(0)
    trajectory = JointTrajectory(
        tuple(f"q{i}" for i in range(7)), np.arange(1, 17) * 0.05, rng.normal(size=(16, 7)), rng.normal(size=(16, 7)),
        time.time(), np.inf,
    )  # fmt: skip
    message = fill(type_of(ros.JOINT_TRAJECTORY)(), ros.trajectory_fields(trajectory))
    ours = serialize_message(message)
    store = stores.get_typestore(stores.Stores.ROS2_JAZZY)
    t, empty = store.types, np.zeros(0)
    stamp = t["builtin_interfaces/msg/Time"](**ros.time_fields(trajectory.stamp))
    points = [
        t["trajectory_msgs/msg/JointTrajectoryPoint"](
            trajectory.positions[i], trajectory.velocities[i], empty, empty,
            t["builtin_interfaces/msg/Duration"](**ros.time_fields(float(trajectory.times[i]))),
        )
        for i in range(16)
    ]  # fmt: skip
    header = t["std_msgs/msg/Header"](stamp, "")
    theirs = bytes(
        store.serialize_cdr(
            t[ros.JOINT_TRAJECTORY](header, list(trajectory.names), points), ros.JOINT_TRAJECTORY
        )
    )
    # rclpy leaves what was in memory in the gaps of alignment and after the end: neither is data.
    assert len(ours) >= len(theirs)
    assert sum(a != b for a, b in zip(ours, theirs, strict=False)) < 4 * (5 * 16 + 10)
    again = store.deserialize_cdr(ours[: len(theirs)], ros.JOINT_TRAJECTORY)
    assert bytes(store.serialize_cdr(again, ros.JOINT_TRAJECTORY)) == theirs
