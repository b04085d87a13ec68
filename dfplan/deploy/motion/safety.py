"""The safety filter: whatever comes in, what goes out is within every limit, and a stop is always still possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.motion.profile import Stop
from dfplan.deploy.robot.limits import JointLimits, Safety, Setpoint, Target
from dfplan.tools.errors import optional_import

Array = NDArray[np.float64]
Forward = Callable[[Array], Array]
"""Joint positions (..., J) -> position of the tool (..., 3), m."""

_SAME = 1e-6  # rad or m: no difference worth counting
_INNER = 1.0 - 1e-6  # what is accepted keeps this share of a limit, so that rounding never passes it
_TINY, _NEAR = 1e-9, 0.01  # rad: kept from a limit; a joint so far outside when it starts is put on it
# Shares of the limits that a moving target may have; the rest is to catch up with.
_MOST_SPEED, _MOST_ACCELERATION = 0.98, 0.8


class SafetyFilter:
    """Moves a setpoint toward targets so that each tick keeps all limits and leaves a stop within them.

    At every tick: catch up with the target as quickly as the limits allow (ruckig); if from there a quickest stop
    would leave a limit, go for the target as if it stood still; if that does too, do the next part of the stop that
    was possible before. By induction a stop is possible at every tick, for joints and workspace alike.

    Attributes:
        state: the last setpoint, or None before `start`.
        counts: reason -> how often something was refused or changed.
        reason: of the last tick, empty where the target was taken as it is.
    """

    def __init__(
        self, limits: JointLimits, dt: float, settings: Safety | None = None, forward: Forward | None = None
    ) -> None:
        """Build a filter.

        Args:
            limits: of the J joints.
            dt: between two ticks, s.
            settings: None: the defaults. There is no way to have none.
            forward: of the tool; needed where there is a workspace.

        Raises:
            ValueError: a workspace without `forward`, or `dt` that is not above 0.
            ImportError: ruckig is not installed.
        """
        ruckig: Any = optional_import("ruckig", "deploy")
        self.limits, self.dt, self.settings = limits, dt, settings or Safety()
        if not 0 < dt < 1:
            raise ValueError(f"got dt={dt}, expected s between two ticks, above 0 and below 1")
        if self.settings.workspace is not None and forward is None:
            raise ValueError(
                "got a workspace without kinematics; give the robot's `urdf` and `tip`, or `model`, in the mapping"
            )
        self._forward, size = forward, len(limits.names)
        self._otg, self._input = ruckig.Ruckig(size), ruckig.InputParameter(size)
        self._path, self._input.synchronization = ruckig.Trajectory(size), ruckig.Synchronization.No
        self._working, self._dt = ruckig.Result.Working, np.array([dt])
        self._speed, self._push = _INNER * limits.velocity, _INNER * limits.acceleration
        self._jerk = _INNER * limits.jerk
        self._input.max_jerk = self._jerk * _INNER
        self.counts: Counter[str] = Counter()
        self.reason = ""
        self.state: Setpoint | None = None

    def start(self, position: ArrayLike) -> Setpoint:
        """Begin at rest at the measured position (J,); see `check`."""
        q = self.check(position)
        self.state = Setpoint(q, np.zeros_like(q), np.zeros_like(q))
        return self.state

    def check(self, position: ArrayLike) -> Array:
        """A measured position (J,) from which to begin, within the limits.

        Raises:
            ValueError: if that is not finite, outside a limit or outside the workspace, naming the joint.
        """
        limits = self.limits
        q, low, high = limits.check(position), limits.low, limits.high
        near = _NEAR * np.where(limits.sliding, 0.1, 1.0)
        outside = np.flatnonzero((q < low - near) | (q > high + near))
        if len(outside):
            i = int(outside[0])
            raise ValueError(
                f"joint '{limits.names[i]}' is at {q[i]:.4g}, expected {low[i]:.4g} to {high[i]:.4g} (limits less "
                "margin); move it inside by hand or with the robot's own controller, then arm again"
            )
        q, box = np.clip(q, low + _TINY, high - _TINY), self.settings.workspace
        if box is not None and self._forward is not None and not box.holds(self._forward(q)):
            raise ValueError(
                f"the tool is at {np.round(self._forward(q), 3).tolist()} m, outside the workspace {box.low} to "
                f"{box.high}; move it inside by hand, then arm again"
            )
        return q

    def rewind(self, state: Setpoint) -> None:
        """Go back to an earlier setpoint of this filter, which is not yet under way."""
        self.state = state

    def step(self, target: Target | None, measured: ArrayLike | None = None) -> Setpoint:
        """The setpoint of the next tick.

        Args:
            target: what is wanted; None: stop.
            measured: (J,) where the joints are, to refuse what is far from it.
        """
        now, self.reason = self._started(), ""
        aim = None if target is None else self._judge(target, measured)
        new = self._stopping(now) if aim is None else self._toward(now, *aim)
        self.state = new
        return new

    def stop(self) -> Stop:
        """The quickest stop from the last setpoint."""
        return self._stop(self._started())

    def _stop(self, now: Setpoint) -> Stop:
        return Stop(now.velocity, now.acceleration, self._push, self._jerk)

    def _started(self) -> Setpoint:
        if self.state is None:
            raise RuntimeError("the filter has no setpoint yet; call start() with the measured joints first")
        return self.state

    def _refuse(self, reason: str) -> None:
        self.counts[reason] += 1
        self.reason = reason

    def _judge(self, target: Target, measured: ArrayLike | None) -> tuple[Array, Array, Array] | None:
        """The target as numbers within limits, or None if it is refused."""
        limits = self.limits
        given = (target.position, target.velocity, target.acceleration)
        q, v, a = (limits.zeros() if value is None else np.asarray(value, np.float64) for value in given)
        flaw = self._flaw((q, v, a), target.age, measured)
        if flaw:
            self._refuse(flaw)
            return None
        inside = np.clip(q, limits.low + 10 * _TINY, limits.high - 10 * _TINY)  # an end itself can be reached
        if (inside != q).any():
            v, a = np.where(inside == q, v, 0.0), np.where(inside == q, a, 0.0)
        if (np.abs(inside - q) > _SAME).any():
            self._refuse("position")
        slower = np.clip(v, -_MOST_SPEED * limits.velocity, _MOST_SPEED * limits.velocity)
        if (slower != v).any():
            self._refuse("velocity")
            a = np.where(slower == v, a, 0.0)
        most = _MOST_ACCELERATION * limits.acceleration
        return inside, slower, np.clip(a, -most, most)

    def _flaw(self, rows: tuple[Array, Array, Array], age: float, measured: ArrayLike | None) -> str:
        """Why a target cannot be taken at all, or empty."""
        shape = self.limits.lower.shape
        if any(row.shape != shape for row in rows):
            return "shape"
        if not all(np.isfinite(row).all() for row in rows):
            return "not finite"
        if not 0 <= age <= self.settings.max_age:
            return "stale"
        if measured is None:
            return ""
        seen = np.asarray(measured, np.float64)
        if seen.shape != shape or not np.isfinite(seen).all():
            return "measured"
        return "jump" if (np.abs(rows[0] - seen) > self.settings.jump * self.limits.scale).any() else ""

    def _toward(self, now: Setpoint, q: Array, v: Array, a: Array) -> Setpoint:
        """The first of: catch up, go there and stop, stop; for each joint by itself, then for the workspace."""
        new, bad = self._solve(now, q, v, a)
        if bad.any():
            fast = (np.abs(new.velocity) > self.limits.velocity)[bad].any()
            self._refuse("velocity" if fast else "position")
            still, worse = self._solve(now, q, np.zeros_like(v), np.zeros_like(a))
            new = _choose(bad, still, new)
            bad &= worse
            new = _choose(bad, self._stopping(now), new)
        elif not self.reason and (np.abs(new.position - q) > _SAME).any():
            self._refuse("acceleration")
        if not self._in_workspace(new):
            self._refuse("workspace")
            new = self._stopping(now)
        return new

    def _solve(self, now: Setpoint, q: Array, v: Array, a: Array) -> tuple[Setpoint, NDArray[np.bool_]]:
        """One tick toward a target that moves with v and a, seen from the target; which joints must not take it."""
        i, limits, dt = self._input, self.limits, self.dt
        i.current_position = now.position - (q - v * dt + a * dt * dt / 2)
        i.current_velocity, i.current_acceleration = now.velocity - (v - a * dt), now.acceleration - a
        i.target_position = i.target_velocity = i.target_acceleration = limits.zeros()
        speed, push = self._speed * _INNER, self._push * _INNER
        i.max_velocity, i.min_velocity = speed - v, -speed - v
        i.max_acceleration, i.min_acceleration = push - a, -push - a
        try:
            done = self._otg.calculate(i, self._path) == self._working
            x, dx, ddx = (np.asarray(row, np.float64) for row in self._path.at_time(dt))
            new = Setpoint(x + q, dx + v, ddx + a)
            stop = self._stop(new)
        except Exception:  # a target that ruckig cannot solve is one that is not followed
            done = False
        if not done:
            return now, np.ones(len(q), bool)
        return new, ~self._safe(now, new, stop)

    def _safe(self, now: Setpoint, new: Setpoint, stop: Stop) -> NDArray[np.bool_]:
        """(J,) whether this tick and the quickest stop after it keep the joint's limits."""
        limits, dt, near = self.limits, self.dt, 1 + 1e-8
        ok = new.position + stop.low >= limits.low + _TINY
        ok &= new.position + stop.high <= limits.high - _TINY
        ok &= (stop.fastest <= self._speed) & (np.abs(new.acceleration) <= self._push)
        ok &= np.abs(new.position - now.position) <= self._speed * dt * near
        ok &= np.abs(new.velocity - now.velocity) <= self._push * dt * near
        ok &= np.abs(new.acceleration - now.acceleration) <= self._jerk * dt * near
        return np.asarray(ok)

    def _stopping(self, now: Setpoint) -> Setpoint:
        """The next tick of the quickest stop."""
        stop = self._stop(now)
        x, v, a = (row[0] for row in stop.at(self._dt))
        return Setpoint(now.position + x, v, a)

    def _in_workspace(self, new: Setpoint) -> bool:
        """Whether the tool stays in the workspace in this tick and in a quickest stop after it."""
        box = self.settings.workspace
        if box is None or self._forward is None:
            return True
        stop = self._stop(new)
        count = int(np.ceil(float(stop.seconds.max()) / self.dt))
        moves, _, _ = stop.at(np.arange(count + 1, dtype=np.float64) * self.dt)
        return box.holds(self._forward(new.position + moves))


def _choose(where: NDArray[np.bool_], one: Setpoint, other: Setpoint) -> Setpoint:
    """`one` at the joints where `where`, `other` elsewhere."""
    keys = ("position", "velocity", "acceleration")
    return Setpoint(*(np.where(where, getattr(one, key), getattr(other, key)) for key in keys))
