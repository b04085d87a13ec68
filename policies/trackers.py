"""Trackers: follow a plan's path with the actuators there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dfplan.plan import Plans

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

    @classmethod
    def fitted(cls, planner: Plans) -> PointMass:
        """What was fitted on the data of a planner.

        Raises:
            ValueError: their observations are neither positions and velocities nor positions that actions move.
        """
        dynamics = planner.model.calibration.get("dynamics")
        if dynamics is None:
            raise ValueError(
                "the checkpoint has no point-mass dynamics (observations are no positions that actions move); "
                "pass a tracker of your own"
            )
        return cls(**dynamics, dt=planner.spec.dt)


class Path:
    """A polyline by arc length."""

    def __init__(self, points: Array) -> None:
        moved = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6])
        self.points = points[moved]
        self.lengths = np.concatenate(
            [[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))]
        )

    def at(self, length: Array) -> Array:
        """Positions (..., A) at arc lengths (...)."""
        return np.stack([np.interp(length, self.lengths, column) for column in self.points.T], -1)

    def project(self, position: Array, low: float, high: float) -> tuple[float, float]:
        """Arc length between `low` and `high` of the path's nearest point, and its distance."""
        grid = np.linspace(low, min(high, self.lengths[-1]), 33)
        away = np.linalg.norm(self.at(grid) - position, axis=-1)
        best = int(away.argmin())
        return float(grid[best]), float(away[best])


class LookAhead:
    """Head for the point a fixed way ahead on the path, as fast as the speed limit allows; brake at the end.

    Pure pursuit (Coulter 1992) for a point mass: the velocity wanted points at the look-ahead point and has its
    largest component at the limit, so the plan gives the way and the robot its own pace.

    Args:
        robot: the point mass fitted on the data.
        distance: look-ahead along the path (unit of position).
    """

    def __init__(self, robot: PointMass, distance: float = 1.0) -> None:
        self.robot, self.distance = robot, distance
        self.error = 0.0

    def follow(self, path: Array) -> None:
        """Take a new path (H, A)."""
        self.path, self._done, self.error = Path(path), 0.0, 0.0

    def act(self, position: Array, velocity: Array) -> Array:
        """Position and velocity (A,) -> action (A,) in [-1, 1]."""
        robot, end = self.robot, self.path.lengths[-1]
        self._done, self.error = self.path.project(position, self._done, self._done + self.distance)
        if end - self._done > self.distance:
            ahead = self.path.at(np.asarray(self._done + self.distance)) - position
            wanted = robot.speed * ahead / max(np.abs(ahead).max(), 1e-9)
        else:  # the fastest approach that can still stop: v^2 = 2 a d per axis
            ahead = self.path.points[-1] - position
            brake = 0.8 * 2 * robot.gain / robot.dt * np.abs(ahead)
            wanted = np.sign(ahead) * np.minimum(np.sqrt(brake), robot.speed)
        return np.clip((wanted - robot.keep * velocity) / robot.gain, -1, 1)


class ProportionalDerivative:
    """The official Diffusion Forcing law: a = 12.5 (p_t - p) + 1.2 ((p_t+1 - p_t) - v), at the plan's own pace.

    p_t is the plan interpolated to env steps; its difference is per env step and not divided by dt, as in the
    original code, so the second term mostly damps.

    Args:
        stride: env steps between two points of the path.
    """

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self.error = 0.0

    def follow(self, path: Array) -> None:
        """Take a new path (H, A)."""
        steps = np.arange((len(path) - 1) * self.stride + 1) / self.stride
        self._fine = np.stack([np.interp(steps, np.arange(len(path)), column) for column in path.T], -1)
        self._step, self.error = 0, 0.0

    def act(self, position: Array, velocity: Array) -> Array:
        """Position and velocity (A,) -> action (A,) in [-1, 1]."""
        self._step = min(self._step + 1, len(self._fine) - 1)
        here, before = self._fine[self._step], self._fine[self._step - 1]
        self.error = float(np.linalg.norm(before - position))
        return np.clip(12.5 * (here - position) + 1.2 * ((here - before) - velocity), -1, 1)
