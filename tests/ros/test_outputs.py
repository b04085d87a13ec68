"""Services, simulated time, and controllers that take positions or twists, with real Fast DDS."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from ros_common import arm, mapping_of, wait, watching

from dfplan.deploy import ros_messages as ros
from dfplan.deploy.tables import Command
from dfplan.deploy.transport import Handlers, JointTrajectory, Transport

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


def call(name: str) -> tuple[bool, str]:
    """Call a Trigger service the way a person would, from another node."""
    import rclpy
    from rclpy.context import Context

    from dfplan.deploy.ros2 import type_of

    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("caller", context=context)
    try:
        kind = type_of(ros.TRIGGER)
        client = node.create_client(kind, name)
        assert client.wait_for_service(10)
        future = client.call_async(kind.Request())
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        rclpy.spin_until_future_complete(node, future, executor, 10)
        return future.result().success, future.result().message
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def steady(mapping, transport, position, velocity, seconds=0.4) -> JointTrajectory:
    names = tuple(j.name for j in mapping.robot.joints)
    times = np.linspace(0, seconds, 9)[1:]
    speeds = np.repeat(velocity[None], 8, 0)
    speeds[-1] = 0
    now = transport.now()
    return JointTrajectory(names, times, position + times[:, None] * velocity, speeds, now, now + 0.1)


def test_position_and_twist():
    """Positions follow the trajectory at the loop's rate and in the controller's order; twists are the tool's speed."""
    from dfplan.deploy.robot import body
    from dfplan.deploy.ros2 import Ros2Bus, ros2_transport
    from dfplan.envs.arm.model import HOME

    mapping = mapping_of("reach")
    joints = tuple(j.name for j in mapping.robot.joints)
    arm_joints, backwards = joints[:7], joints[6::-1]
    got, both = {"position": [], "twist": []}, {}
    for kind, message in (("position", ros.ARRAY), ("twist", ros.TWIST)):
        commands = (Command("/servo", backwards, kind), Command("/gripper", joints[7:], "position"))
        one = replace(mapping, commands=commands)
        transport = ros2_transport(one, node=f"dfplan_{kind}")
        assert isinstance(transport, Transport)
        ear = Ros2Bus(f"ear_{kind}")
        ear.subscribe("/servo", message, lambda m, t, kind=kind: got[kind].append((t, m)))
        ear.subscribe("/gripper", ros.ARRAY, lambda m, t: None)
        ear.open()
        transport.connect(Handlers(lambda: (True, "armed"), lambda: (True, "stopped")))
        try:
            assert call(f"/dfplan_{kind}/arm") == (True, "armed")
            wait(transport.connected, 10, "connected")
            time.sleep(0.5)
            assert not got[kind]  # nothing before the first command
            start, speed = np.append(HOME, 0.05), np.append(np.linspace(0.1, 0.4, 7), 0.0)
            assert transport.send(steady(one, transport, start, speed))
            time.sleep(1.2)
            late = steady(one, transport, start, speed)
            assert not transport.send(replace(late, expires=late.stamp - 0.01))
            both[kind] = start, speed
        finally:
            transport.close()
            ear.close()
    rows = np.array([list(m.data) for _, m in got["position"]])
    assert len(arm_joints) == rows.shape[1] and 3 < len(rows) < 90
    start, speed = both["position"]
    np.testing.assert_allclose(rows[-1], (start + 0.4 * speed)[6::-1], atol=1e-9)
    linear = np.array([[m.twist.linear.x, m.twist.linear.y, m.twist.linear.z] for _, m in got["twist"]])
    forward = body(mapping.robot).forward
    wanted = (forward(start + 0.41 * speed / 2) - forward(start + 0.39 * speed / 2)) / 0.01
    middle = np.abs(linear - wanted).max(1).min()
    assert middle < 0.05 and not linear[-1].any()


def test_services_and_stop(tmp_path):
    """The arm's own e-stop refuses everything until it is released; the next episode begins at a reset."""
    from dfplan.deploy.ros2 import ros2_transport

    mapping = mapping_of("reach")
    transport = ros2_transport(mapping)
    with watching() as watch, arm(tmp_path / "arm.log", "reach", 5):
        transport.connect(Handlers(lambda: (False, "no"), lambda: (True, "stopped")))
        try:
            wait(
                lambda: transport.connected() and len(transport.read()) == 3 and watch.values, 20, "connected"
            )
            time.sleep(0.5)
            assert call("/sim_arm/estop")[0] and call("/dfplan/arm") == (False, "no")
            first = next(r for r in transport.read() if r.source == "joints")
            here = np.array(
                [first.values["position"][first.names.index(j.name)] for j in mapping.robot.joints]
            )
            transport.send(steady(mapping, transport, here, 0.05 * np.ones(8)))
            wait(lambda: watch.number("refused") == 2, 3, "both controllers refuse")
            assert watch.values["state"] == "STOPPED" and watch.number("refused_stopped") == 1
            assert call("/sim_arm/release")[0]
            transport.send(steady(mapping, transport, here, np.append(0.05 * np.ones(7), -0.05)))
            wait(lambda: watch.number("accepted") == 1, 3, "accepted again")
            transport.hold()
            wait(lambda: watch.number("accepted") == 2, 3, "the stop is accepted")
            assert call("/sim_arm/reset") == (True, "episode of seed 6")
            said = []
            assert not transport.follow(
                steady(mapping, transport, here, np.zeros(8)), lambda *a: said.append(a)
            )
            assert "no action in the mapping" in said[0][1]
        finally:
            transport.close()


def test_simulated_time(tmp_path):
    """With /clock, stamps and expiry are in the arm's own time."""
    from dfplan.deploy.ros2 import ros2_transport

    transport = ros2_transport(mapping_of("reach"), use_sim_time=True)
    with arm(tmp_path / "arm.log", "reach", 0, "--clock"):
        transport.connect(Handlers(lambda: (False, "no"), lambda: (True, "stopped")))
        try:
            wait(lambda: transport.connected() and transport.read(), 20, "connected")
            time.sleep(0.3)
            begin, wall = transport.now(), time.time()
            stamp = next(r.stamp for r in transport.read() if r.source == "joints")
            assert 1000 < stamp < 1100 and abs(begin - stamp) < 0.1
            time.sleep(1.0)
            assert abs((transport.now() - begin) - (time.time() - wall)) < 0.2
        finally:
            transport.close()
