"""Trackers: follow a plan's path with the actuators there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Tracker(Protocol):
    """Turns a plan's path into actions."""

    def follow(self, path: Array) -> None:
        """Take a new path: (H, A) positions, the first near the present one."""
        ...

    def act(self, position: Array, velocity: Array) -> Array:
        """Position and velocity (A,) -> action (A,) in [-1, 1]."""
        ...

    @property
    def error(self) -> float:
        """Distance from the path at the last `act`."""
        ...


@dataclass(frozen=True)
class PointMass:
    """v' = keep * v + gain * action per env step, as fitted on the data.

    Attributes:
        keep: fraction of velocity kept per env step.
        gain: velocity (unit/s) that action 1 adds per env step.
        speed: velocity limit per axis (unit/s).
        dt: seconds per env step.
    """

    keep: float
    gain: float
    speed: float
    dt: float


class Path:
    """A polyline by arc length."""

    def __init__(self, points: Array) -> None:
        moved = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6])
        self.points = points[moved]
        self.lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    def at(self, length: Array) -> Array:
        """Positions (..., A) at arc lengths (...)."""
        return np.stack([np.interp(length, self.lengths, column) for column in self.points.T], -1)

    def project(self, position: Array, low: float, high: float) -> tuple[float, float]:
        """Arc length between `low` and `high` of the path's nearest point, and its distance."""
        grid = np.linspace(low, min(high, self.lengths[-1]), 33)
        away = np.linalg.norm(self.at(grid) - position, axis=-1)
        best = int(away.argmin())
        return float(grid[best]), float(away[best])
