"""The arm's side of a joint trajectory topic: the joint_trajectory_controller's rules, and a watchdog. No ROS here.

Taken from the controller of ros2_control: all joints or none, in any order; times strictly increasing; the last velocity
0; nothing that ends in the past; from the state of now, a cubic to the first point. On top: a stamp that is too old is
refused, as is what leaves a limit or jumps, and a motion that is not renewed in time is stopped.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.motion.profile import Stop
from dfplan.deploy.robot.cubic import cubic
from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.ros.messages import numbers, seconds, take
from dfplan.tools.errors import finite_above_zero

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What a controller accepts.

    Attributes:
        max_age: a command stamped longer ago is refused, s.
        watchdog: a motion stops when no command has come for so long, s.
        jump: a command that is further than this from the setpoint when it begins is refused, rad (m: a tenth).
        slack: what speeds may exceed their limit by, as a share: the sender's limits are its own.
        stamped: refuse a command without a stamp, whose age cannot be known.
        empty_stops: an empty trajectory stops, as on ROS 1; else it is refused, as on ROS 2.
    """

    max_age: float = 0.15
    watchdog: float = 0.12
    jump: float = 0.05
    slack: float = 0.05
    stamped: bool = True
    empty_stops: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that would switch a check off.

        Raises:
            ValueError: naming the number.
        """
        finite_above_zero(self, "max_age", "watchdog", "jump")
        if not 0 <= self.slack < 1:
            raise ValueError(f"got slack={self.slack}, expected 0 or more, below 1")


@dataclass(frozen=True)
class Curve:
    """Positions (H, J) and velocities (H, J) at times (H,), s on the robot's clock: cubic between, at rest after."""

    times: Array
    positions: Array
    velocities: Array

    def at(self, time: float) -> tuple[Array, Array]:
        """Position and velocity (J,) at a time."""
        if time >= self.times[-1]:
            return self.positions[-1].copy(), np.zeros_like(self.positions[-1])
        i = max(0, int(np.searchsorted(self.times, time, "right")) - 1)
        if time <= self.times[0]:
            return self.positions[0].copy(), self.velocities[0].copy()
        q, v, begin = self.positions, self.velocities, float(self.times[i])
        h = float(self.times[i + 1]) - begin
        position, velocity, _ = cubic(q[i], q[i + 1], v[i], v[i + 1], h, (time - begin) / h)
        return position, velocity

    def fastest(self) -> Array:
        """(J,) highest speed between the points."""
        slopes = np.diff(self.positions, axis=0) / np.diff(self.times)[:, None]
        middle = 1.5 * slopes - 0.25 * (self.velocities[1:] + self.velocities[:-1])
        return np.abs(np.concatenate([self.velocities, middle])).max(0)


class TrajectoryController:
    """Accepts trajectories of some joints and gives their setpoints.

    Attributes:
        limits: of the J joints, in the order of the setpoints.
        measured: (J,) where the joints are, kept by whoever reads them.
        state: `IDLE`, `RUNNING`, `HOLD` (the watchdog stopped it) or `STOPPED` (until `release`).
        accepted: commands taken.
        refused: reason -> commands refused.
        holds: how often the watchdog stopped a motion.
        saturated: setpoints that were slowed to the velocity limit, as ros2_control's limiter does.
        last: when the last command was taken, s on the robot's clock.
        held: when the watchdog last stopped a motion, s on the robot's clock; NaN if never.
        oldest: greatest age of a command that was taken, s.
        join: greatest step of velocity where a command replaced another, as a share of the limit.
    """

    def __init__(self, limits: JointLimits, position: Array, rules: Rules | None = None) -> None:
        """Start at rest at `position` (J,)."""
        self.limits, self.rules = limits, rules or Rules()
        self.accepted, self.holds, self.saturated, self.oldest, self.join = 0, 0, 0, 0.0, 0.0
        self.refused: Counter[str] = Counter()
        self.reset(position)

    def reset(self, position: Array) -> None:
        """At rest at `position` (J,); counts go on."""
        rest = np.array(position, np.float64)
        self._curve = Curve(np.zeros(1), rest[None], np.zeros((1, len(rest))))
        self.state, self.last, self.held = "IDLE", math.nan, math.nan
        self.measured, self._last, self._due = rest, rest, math.nan

    def accept(self, message: Any, now: float) -> str:
        """Take a JointTrajectory message, or say why not; empty if it was taken."""
        try:
            reason = self._take(message, now)
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = "malformed"
        if reason:
            self.refused[reason] += 1
        return reason

    def _take(self, message: Any, now: float) -> str:
        if self.state == "STOPPED":
            return "stopped"
        names, points = list(take(message, "joint_names")), list(take(message, "points"))
        stamp = seconds(take(message, "header.stamp"))
        if stamp == 0 and self.rules.stamped and points:
            return "no stamp"
        stamp = stamp or now
        if abs(now - stamp) > self.rules.max_age:
            return "stale" if stamp < now else "from the future"
        if not points:
            if not self.rules.empty_stops:
                return "empty"
            self._stop(now)
            return ""
        if sorted(names) != sorted(self.limits.names):
            return "joint names"
        found = self._points(names, points)
        if isinstance(found, str):
            return found
        return self._begin(Curve(found.times + stamp, found.positions, found.velocities), stamp, now)

    def _points(self, names: list[str], points: list[Any]) -> Curve | str:
        """The points in the order of the setpoints, times from the stamp; or why not."""
        size, order = len(names), [names.index(n) for n in self.limits.names]
        times = np.array([seconds(take(p, "time_from_start")) for p in points])
        rows = [numbers(take(p, "positions")) for p in points]
        speeds = [numbers(take(p, "velocities")) for p in points]
        if {len(row) for row in rows} != {size} or {len(row) for row in speeds} not in ({0}, {size}):
            return "sizes"
        positions, given = np.stack(rows)[:, order], len(speeds[0]) == size
        velocities = np.stack(speeds)[:, order] if given else np.zeros_like(positions)
        if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            return "not finite"
        if times[0] < 0 or (np.diff(times) <= 0).any():
            return "times"
        if np.abs(velocities[-1]).max() > 1e-6:
            return "end velocity"
        return Curve(times, positions, velocities if given else _slopes(times, positions))

    def _begin(self, curve: Curve, stamp: float, now: float) -> str:
        """Join a curve to the present setpoint, or say why not."""
        if curve.times[-1] < now:
            return "ends in the past"
        if (curve.fastest() > (1 + self.rules.slack) * self.limits.velocity).any():
            return "velocity limit"
        # The next setpoint's own time: no part is repeated.
        due = self._due if abs(self._due - now) < 0.05 else now
        position, velocity = self._curve.at(due)
        if curve.times[0] > due:
            rows = np.vstack([position, curve.positions]), np.vstack([velocity, curve.velocities])
            curve = Curve(np.append(due, curve.times), *rows)
        low, high = self.limits.lower - 1e-6, self.limits.upper + 1e-6
        if (curve.positions[1:] < low).any() or (curve.positions[1:] > high).any():
            return "position limit"
        begin, speed = curve.at(due)
        away = np.abs(begin - position)
        if self.state != "RUNNING":  # a joint that is blocked stands elsewhere than it was told to
            away = np.minimum(away, np.abs(begin - self.measured))
        if (away > self.rules.jump * self.limits.scale).any():
            return "jump"
        if self.state == "RUNNING":
            self.join = max(self.join, float((np.abs(speed - velocity) / self.limits.velocity).max()))
        self._curve, self.state, self.last = curve, "RUNNING", now
        self.accepted, self.oldest = self.accepted + 1, max(self.oldest, now - stamp)
        return ""

    def setpoints(self, times: Array) -> Array:
        """Positions (S, J) at times (S,), s on the robot's clock, not before the last call; the watchdog acts here."""
        now = float(times[0])
        if self.state == "RUNNING":
            if now >= self._curve.times[-1]:
                self.state = "IDLE"
            elif now - self.last > self.rules.watchdog:
                self._stop(now)
                self.state, self.held, self.holds = "HOLD", now, self.holds + 1
        step = float(times[-1] - times[0]) / max(1, len(times) - 1)
        self._due = float(times[-1]) + step
        rows = np.stack([self._curve.at(float(t))[0] for t in times])
        most = (1 + self.rules.slack) * self.limits.velocity * step if step else np.inf
        for i, row in enumerate(rows):
            allowed = np.clip(row, self._last - most, self._last + most)
            self.saturated += int((np.abs(allowed - row) > 1e-9).any())
            self._last = rows[i] = allowed
        return rows

    def stop(self, now: float) -> None:
        """Emergency stop: slow down at once and refuse everything until `release`."""
        if self.state != "STOPPED":
            self._stop(now)
            self.state = "STOPPED"

    def release(self) -> None:
        """Accept commands again."""
        if self.state == "STOPPED":
            self.state = "IDLE"

    def halt(self, now: float) -> None:
        """Slow down at once, and accept what comes next."""
        self._stop(now)
        self.state = "HOLD"

    def moving(self, now: float) -> bool:
        """Whether the setpoint moves."""
        return bool(np.abs(self._curve.at(now)[1]).max() > 1e-9)

    def _stop(self, now: float) -> None:
        """Replace the curve by the quickest stop within the limits of acceleration and jerk."""
        position, velocity = self._curve.at(now)
        stop = Stop(velocity, np.zeros_like(velocity), self.limits.acceleration, self.limits.jerk)
        times = np.linspace(0.0, max(0.01, float(stop.seconds.max())), 21, dtype=np.float64)
        moved, speeds, _ = stop.at(times)
        rows = np.clip(position + moved, self.limits.lower, self.limits.upper)
        self._curve = Curve(now + times, rows, speeds)


def _slopes(times: Array, positions: Array) -> Array:
    """Velocities of a trajectory without any: the straight way's on average, 0 at the end."""
    slopes: Array = np.gradient(positions, times, axis=0) if len(times) > 1 else np.zeros_like(positions)
    slopes[-1] = 0.0
    return slopes
