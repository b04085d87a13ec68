"""Native ROS 2: the loop in this process, the arm in another, real Fast DDS between them."""

from __future__ import annotations

import pytest
from ros_common import solve

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    solve("ros2", task, tmp_path)
