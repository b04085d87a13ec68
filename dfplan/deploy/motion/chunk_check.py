"""Is a whole chunk of joint targets one that the arm can follow? Asked before any of it is executed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.motion.safety import Forward
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.limits import JointLimits, Safety
from dfplan.deploy.robot.tables import Robot

Array = NDArray[np.float64]

_NEAR, _SAME = 1 + 1e-4, 1e-5  # what float32 rounds: of a limit, and rad or m


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a chunk first; true where nothing is.

    Attributes:
        reason: `not finite`, `jump`, `position`, `velocity`, `acceleration`, `jerk` or `workspace`; empty: it passes.
        step: of the chunk, 0 first.
        joint: its name; of the workspace `tool x`, `tool y` or `tool z`.
        value: what was wanted, in the chunk's units and s (m for the tool).
        limit: what is allowed.
    """

    reason: str = ""
    step: int = 0
    joint: str = ""
    value: float = 0.0
    limit: float = 0.0

    def __bool__(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        if self:
            return "passes"
        where = f"step {self.step}, {self.joint}"
        if self.reason == "not finite":
            return f"{where}: got {self.value}, expected a finite number"
        bound = "or more" if self.value < self.limit else "at most"
        return f"{where}: got {self.reason} {self.value:.4g}, expected {self.limit:.4g} {bound}"


PASSES = Verdict()


class ChunkCheck:
    """Judges chunks; it changes nothing and remembers nothing.

    Any smooth motion through targets `dt` apart has somewhere a velocity, an acceleration and a jerk as large as their
    first, second and third differences (mean value theorem). So what is refused no controller could follow within the
    limits. What passes may still exceed them between two targets: that is the safety filter's work, where there is one.
    """

    def __init__(
        self,
        limits: JointLimits,
        dt: float,
        settings: Safety | None = None,
        forward: Forward | None = None,
        unit: ArrayLike = 1.0,
        offset: ArrayLike = 0.0,
    ) -> None:
        """Build a check.

        Args:
            limits: of the J joints.
            dt: between two targets, s.
            settings: `jump` and `workspace` are used; None: the defaults.
            forward: joints (..., J) -> position of the tool (..., 3), m; needed where there is a workspace.
            unit: (J,) factor from the chunk's units to rad or m.
            offset: (J,) rad or m where the chunk's number is 0.

        Raises:
            ValueError: a workspace without `forward`, or numbers out of range.
        """
        self.limits, self.dt, self.settings = limits, dt, settings or Safety()
        self._forward, shape = forward, limits.lower.shape
        self._unit, self._offset = (np.broadcast_to(np.asarray(x, np.float64), shape) for x in (unit, offset))
        if not 0 < dt < 10:
            raise ValueError(f"got dt={dt}, expected s between two targets, such as 0.05")
        if self.settings.workspace is not None and forward is None:
            raise ValueError(
                "got a workspace without kinematics; give `forward`, or a robot with urdf and tip"
            )

    @classmethod
    def of(cls, robot: Robot, dt: float, settings: Safety | None = None) -> ChunkCheck:
        """For the robot of a mapping, in the policy's numbers where it says what they are, else in the robot's units."""
        found = body(robot)
        forward, (scale, offset) = found.forward if found.pose else None, found.affine(found.limits.names)
        unit = np.where([joint.scaled for joint in robot.joints], scale, found.unit)
        return cls(found.limits, dt, settings, forward, unit, offset)

    def judge(
        self, chunk: ArrayLike, before: ArrayLike | None = None, measured: ArrayLike | None = None
    ) -> Verdict:
        """What is wrong with a chunk first: at its earliest step, in the order of `Verdict.reason`.

        Args:
            chunk: (T, J) targets, `dt` apart.
            before: (N, J) what was commanded last, the newest last, `dt` apart; three are enough. None: nothing, so the
                arm stands where it was measured.
            measured: (J,) where the joints are; None: not known, and the jump is that from the last command.
        """
        size = len(self.limits.names)
        rows = self._rows(chunk, "chunk", size)
        if not np.isfinite(rows).all():
            step, joint = np.argwhere(~np.isfinite(rows))[0]
            return self._verdict("not finite", step, joint, rows[step, joint], np.nan)
        here = None
        if measured is not None:
            here = self.limits.check(np.asarray(measured) * self._unit + self._offset, "measured")
        past = np.zeros((0, size)) if before is None else self._rows(before, "before", size)[-3:]
        if not len(past) and here is not None:
            past = np.tile(here, (3, 1))
        here = past[-1] if here is None and len(past) else here
        found = [*self._wrong(rows, past, here)]
        return min(found, key=lambda verdict: verdict.step, default=PASSES)

    def _rows(self, values: ArrayLike, what: str, size: int) -> Array:
        rows: Array = np.asarray(values, np.float64)
        if rows.ndim != 2 or rows.shape[1] != size:
            raise ValueError(
                f"got {what} of shape {rows.shape}, expected (steps, {size}): a column for each joint of "
                f"{list(self.limits.names)}"
            )
        return rows * self._unit + self._offset

    def _wrong(self, rows: Array, past: Array, here: Array | None) -> Iterator[Verdict]:
        """The first of each kind."""
        limits = self.limits
        if here is not None:
            jump = self.settings.jump * limits.scale
            yield from self._first("jump", (rows[:1] - here), jump, 0)
        bound = np.where(rows < limits.low, limits.low, limits.high)
        for step, joint in np.argwhere((rows < limits.low - _SAME) | (rows > limits.high + _SAME))[:1]:
            yield self._verdict("position", step, joint, rows[step, joint], bound[step, joint])
        whole = np.concatenate([past, rows])
        for order, what in enumerate(("velocity", "acceleration", "jerk"), 1):
            begin = max(0, len(past) - order)  # of the first difference that ends in the chunk
            change = np.diff(whole, n=order, axis=0)[begin:] / self.dt**order
            yield from self._first(what, change, getattr(limits, what), begin + order - len(past))
        box = self.settings.workspace
        if box is not None and self._forward is not None:
            points, low, high = self._forward(rows), np.array(box.low), np.array(box.high)
            for step, axis in np.argwhere((points < low) | (points > high))[:1]:
                value = points[step, axis]
                edge = low[axis] if value < low[axis] else high[axis]
                yield Verdict("workspace", int(step), f"tool {'xyz'[axis]}", float(value), float(edge))

    def _first(self, what: str, values: Array, most: Array, begin: int) -> Iterator[Verdict]:
        """The first of values (R, J), whose row 0 is step `begin`, that is larger than `most` (J,)."""
        for row, joint in np.argwhere(np.abs(values) > most * _NEAR)[:1]:
            yield self._verdict(what, row + begin, joint, abs(values[row, joint]), most[joint])

    def _verdict(self, what: str, step: int, joint: int, value: float, limit: float) -> Verdict:
        place = what == "position"  # the others are differences
        zero, unit = (self._offset[joint], self._unit[joint]) if place else (0.0, abs(self._unit[joint]))
        value, limit = float((value - zero) / unit), float((limit - zero) / unit)
        return Verdict(what, int(step), self.limits.names[joint], value, limit)
