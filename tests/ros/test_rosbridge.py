"""rosbridge: a real server (Jazzy) between this process and the arm, which is on native ROS 2 (Kilted)."""

from __future__ import annotations

import pytest
from peers import START, bridge, free_port, wait
from ros_common import solve

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    port = free_port()
    with bridge(tmp_path / "bridge.log", port):
        solve("rosbridge", task, tmp_path, port=port)


def test_again(tmp_path):
    """A bus that was closed stays closed; another one is served."""
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    port = free_port()
    with bridge(tmp_path / "bridge.log", port) as server:
        for _ in range(2):
            bus = RosbridgeBus("again", port=port)
            bus.open()
            wait(bus.connected, START, "connected", server)
            bus.close()
            assert not bus.connected() and bus.connection() == 1
