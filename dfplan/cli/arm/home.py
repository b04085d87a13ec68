"""`dfplan home`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from dfplan.cli.arm.link import LINK, Link
from dfplan.cli.common import FLAT, app


@app.command(name="home")
def home(
    transport: Literal["ros2", "rosbridge", "sim"],
    link: Annotated[Link, FLAT] = LINK,
    share: float = 0.2,
    seconds: float = 60.0,
) -> None:
    """Move an arm to the home of its mapping, slowly, and stay there. Ctrl-C stops it.

    dfplan home --transport ros2 --robot arm.yaml

    dfplan home --transport sim --robot ur5e (simulated from its URDF, from a posture nearby, as fast as the computer allows)

    Args:
        transport: how the arm is reached.
        link: which arm, and where.
        share: of the velocity and acceleration limits.
        seconds: after which it is given up.
    """
    from dfplan.deploy import FakeClock
    from dfplan.deploy import home as run
    from dfplan.deploy.run import summary

    clock = FakeClock() if transport == "sim" else None
    mapping, arm = link.connect(transport, clock)
    there, report = run(mapping, arm, share=share, seconds=seconds, clock=clock)
    for line in summary(report):
        print(f"  {line}")
    if not there:
        print("  the arm is not at its home", file=sys.stderr)
        raise SystemExit(1)
    print("  the arm is at its home")
