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


class Stream:
    """Calls a function at a fixed rate in a daemon thread; what it raises is logged, and the next call comes."""

    def __init__(self, tick: Callable[[], None], rate: float) -> None:
        self._tick, self._period, self._stop = tick, 1.0 / rate, threading.Event()
        self._thread = threading.Thread(target=self._run, name="setpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            try:
                self._tick()
            except Exception:  # the next setpoint must come whatever happened to this one
                _LOG.exception("streaming a setpoint")
            due = max(due + self._period, time.perf_counter())


def twist_of(look: Look, part: JointTrajectory, since: float, now: float, frame: str) -> dict[str, Any]:
    """The tool's velocity due `since` s after the stamp of a trajectory of all joints, in the base `frame`."""
    q, qd = part.at(since)
    if not part.times[0] <= since < part.times[-1]:
        qd = np.zeros_like(qd)
    velocity = look(q)[2] @ qd
    return ros.twist_fields(velocity[:3], velocity[3:], now, frame)
