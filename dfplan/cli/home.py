"""`dfplan home`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from dfplan.cli.common import app
from dfplan.cli.deploy import connect


@app.command(name="home")
def home(
    transport: Literal["ros2", "rosbridge", "sim"],
    robot: Path | None = None,
    share: float = 0.2,
    seconds: float = 60.0,
    task: str = "arm-pick",
    seed: int = 0,
    host: str = "127.0.0.1",
    port: int = 9090,
    ros1: bool = False,
    sim_time: bool = False,
) -> None:
    """Move an arm to the home of its mapping, slowly, and stay there. Ctrl-C stops it.

    dfplan home --transport ros2 --robot arm.yaml

    Args:
        transport: how the arm is reached.
        robot: mapping file, see docs/deploy.md; the simulated arm has its own.
        share: of the velocity and acceleration limits.
        seconds: after which it is given up.
        task: the simulated arm's task.
        seed: of the simulated arm's start.
        host: of the rosbridge server.
        port: of the rosbridge server.
        ros1: the server is one of ROS 1.
        sim_time: take the time from /clock.
    """
    from dfplan.deploy import home as run
    from dfplan.deploy.loop.run import summary

    mapping, link = connect(transport, robot, task, seed, host, port, ros1, sim_time)
    there, report = run(mapping, link, share=share, seconds=seconds)
    for line in summary(report):
        print(f"  {line}")
    if not there:
        print("  the arm is not at its home", file=sys.stderr)
        raise SystemExit(1)
    print("  the arm is at its home")
