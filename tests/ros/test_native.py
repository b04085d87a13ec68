"""Native ROS 2: the loop in this process, the arm in another, real Fast DDS between them."""

from __future__ import annotations

import pytest
from ros_common import arm, looping, rehearse, wait, watching

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    """What succeeds in simulation succeeds through ROS, and the arm refuses nothing."""
    seconds = 2 + 0.06 * len(rehearse(task, 3))
    with watching() as watch, arm(tmp_path / "arm.log", task, 3), looping("ros2", task=task) as loop:
        wait(lambda: loop.machine.state == "READY", 25, "ready")
        assert loop.arm()[0]
        wait(lambda: watch.values.get("success") == "1", seconds, "success")
        status = loop.status()
        print(watch.values, status)
        wait(lambda: watch.loop.get("state") == "RUNNING", 2, "diagnostics of the loop")
        assert watch.number("refused") == watch.number("holds") == 0 and watch.number("accepted") > 50
