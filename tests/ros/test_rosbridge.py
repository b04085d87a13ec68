"""rosbridge: a real server (Jazzy) between this process and the arm, which is on native ROS 2 (Kilted)."""

from __future__ import annotations

import time

import pytest
from peers import START, bridge, free_port, wait
from ros_common import solve

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_task(task, tmp_path):
    port = free_port()
    with bridge(tmp_path / "bridge.log", port):
        solve("rosbridge", task, tmp_path, port=port)


def test_server_faster_than_us(monkeypatch, tmp_path):
    """The server may answer before the next line here is run: also then somebody listens to it."""
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    def slow(factory, *event) -> None:
        time.sleep(0.1)
        on(factory, *event)

    port = free_port()
    with bridge(tmp_path / "bridge.log", port) as server:
        for _ in range(2):  # the second finds the reactor running
            bus = RosbridgeBus("slow", port=port)
            bus.open()
            wait(bus.connected, START, "connected", server)
            bus.close()
            factory = type(bus._factory)
            on = factory.on
            monkeypatch.setattr(factory, "on", slow)
