"""rosbridge: a real server (Jazzy) between this process and the arm, which is on native ROS 2 (Kilted)."""

from __future__ import annotations

import pytest
from ros_common import arm, bridge, free_port, looping, rehearse, wait, watching

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    """The same as native."""
    seconds, port = 2 + 0.06 * len(rehearse(task, 3)), free_port()
    with (
        bridge(tmp_path / "bridge.log", port),
        watching() as watch,
        arm(tmp_path / "arm.log", task, 3),
        looping("rosbridge", port, task) as loop,
    ):
        wait(lambda: loop.machine.state == "READY", 25, "ready")
        assert loop.arm()[0]
        wait(lambda: watch.values.get("success") == "1", seconds, "success")
        print(watch.values, loop.status())
        wait(lambda: watch.loop.get("state") == "RUNNING", 2, "diagnostics of the loop")
        assert watch.number("refused") == watch.number("holds") == 0 and watch.number("accepted") > 50
