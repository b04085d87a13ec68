"""Native ROS 2: the loop in this process, the arm in another, real Fast DDS between them."""

from __future__ import annotations

import pytest
from peers import arm
from ros_common import mapping_of, solve, transport_of, watching

from dfplan.deploy import home

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    solve("ros2", task, tmp_path)


def test_home(tmp_path):
    """From the start of an episode to the mapping's home, and at rest there."""
    with watching() as watch, arm(tmp_path / "arm.log", "reach", 3) as child:
        watch.fresh(child)
        # DDS may match the arm's states before its command topics: then the loop stops, and is asked again.
        went = [home(mapping_of("reach"), transport_of("ros2", 0, mapping_of("reach")), share=0.5)]
        while not went[-1][0] and len(went) < 5:
            went.append(home(mapping_of("reach"), transport_of("ros2", 0, mapping_of("reach")), share=0.5))
        watch.fresh(child)
        assert went[-1][0], [report.changes for _, report in went]
        assert watch.number("refused") == 0
