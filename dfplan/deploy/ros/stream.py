"""Setpoints of a trajectory, one at a time: for controllers that take positions or twists instead of trajectories."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dfplan.deploy.robot.inverse import Look
from dfplan.deploy.robot.transport import JointTrajectory
from dfplan.deploy.ros import messages as ros

_LOG = logging.getLogger(__name__)


def stream(tick: Callable[[], None], rate: float, over: threading.Event) -> threading.Thread:
    """Call `tick` `rate` times per second until `over`; what it raises is logged, and the next call comes."""

    def run() -> None:
        due = time.perf_counter()
        while not over.wait(max(0.0, due - time.perf_counter())):
            try:
                tick()
            except Exception:  # the next setpoint must come whatever happened to this one
                _LOG.exception("streaming a setpoint")
            due = max(due + 1.0 / rate, time.perf_counter())

    thread = threading.Thread(target=run, name="setpoints", daemon=True)
    thread.start()
    return thread


def twist_of(look: Look, part: JointTrajectory, since: float, now: float, frame: str) -> dict[str, Any]:
    """The tool's velocity due `since` s after the stamp of a trajectory of all joints, in the base `frame`."""
    q, qd = part.at(since)
    if not part.times[0] <= since < part.times[-1]:
        qd = np.zeros_like(qd)
    velocity = look(q)[2] @ qd
    return ros.twist_fields(velocity[:3], velocity[3:], now, frame)
