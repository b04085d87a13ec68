"""Limits of joints, settings of the safety filter, and what goes into and out of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import finite_above_zero

Array = NDArray[np.float64]

_TURNING = {"lower": 8 * math.pi, "upper": 8 * math.pi, "velocity": 30.0, "acceleration": 1e3, "jerk": 1e6}
_SLIDING = {"lower": 20.0, "upper": 20.0, "velocity": 10.0, "acceleration": 200.0, "jerk": 2e5}
"""More than any arm's joint does, in rad or m and s: what is beyond is a slip, such as degrees taken for rad."""
_ROOM = 20.0  # m


def fix(owner: object, key: str, value: ArrayLike) -> None:
    """Give a frozen object a copy of an array, read-only."""
    row = np.array(value)
    row.setflags(write=False)
    object.__setattr__(owner, key, row)


@dataclass(frozen=True)
class JointLimits:
    """What J joints may do. SI units: rad for turning joints, m for sliding ones.

    Attributes:
        names: (J,) joints.
        lower: (J,) lowest position.
        upper: (J,) highest position.
        velocity: (J,) per s.
        acceleration: (J,) per s^2.
        jerk: (J,) per s^3.
        margin: (J,) kept from both ends of the positions.
        sliding: (J,) True for a joint in m.
        low: (J,) `lower` + `margin`.
        high: (J,) `upper` - `margin`.
        grips: (J,) True for a joint that what it holds may stop: not compared with where it was told to be.
        scale: (J,) 1, 0.1 for sliding joints, infinite for those that grip: what a tolerance in rad is worth.
    """

    names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    margin: Array
    sliding: NDArray[np.bool_]
    grips: NDArray[np.bool_] | None = None
    low: Array = field(init=False, repr=False)
    high: Array = field(init=False, repr=False)
    scale: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Copy the numbers, read-only; ValueError names the joint and the field that do not fit together."""
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"got joints {list(self.names)}, expected names that differ, one at least")
        for key in ("lower", "upper", "velocity", "acceleration", "jerk", "margin"):
            fix(self, key, self.check(getattr(self, key), key))
        fix(self, "sliding", np.broadcast_to(np.asarray(self.sliding, bool), (len(self.names),)))
        grips = False if self.grips is None else self.grips
        fix(self, "grips", np.broadcast_to(np.asarray(grips, bool), (len(self.names),)))
        fix(self, "low", self.lower + self.margin)
        fix(self, "high", self.upper - self.margin)
        fix(self, "scale", np.where(grips, np.inf, np.where(self.sliding, 0.1, 1.0)))
        for i, name in enumerate(self.names):
            for key in ("velocity", "acceleration", "jerk"):
                if not getattr(self, key)[i] > 0:
                    raise ValueError(f"joint '{name}': got {key}={getattr(self, key)[i]}, expected above 0")
            if not (self.margin[i] >= 0 and self.low[i] < self.high[i]):
                raise ValueError(
                    f"joint '{name}': got lower={self.lower[i]}, upper={self.upper[i]}, margin={self.margin[i]}; expected "
                    "lower + margin < upper - margin, margin 0 or more"
                )
            self._plausible(i, name)
        if np.all(self.grips):
            raise ValueError(
                f"got grips for each of {list(self.names)}, expected it for those that hold something; the others are then "
                "compared with where they were told to be"
            )

    def _plausible(self, i: int, name: str) -> None:
        """Refuse a limit that no arm has: the filter would do nothing."""
        unit, most = ("m", _SLIDING) if self.sliding[i] else ("rad", _TURNING)
        for key, greatest in most.items():
            if abs(value := getattr(self, key)[i]) > greatest:
                raise ValueError(
                    f"joint '{name}': got {key}={value:g} in {unit} and s, expected at most {greatest:g}, which no arm exceeds; "
                    "give degrees or millimetres by `unit: deg` or `unit: mm`"
                )

    def check(self, values: ArrayLike, what: str = "positions") -> Array:
        """`values` as J finite numbers; ValueError if they are anything else."""
        try:
            row = np.array(values, np.float64)
        except (TypeError, ValueError):
            row = np.empty(0)
        if row.shape != (len(self.names),) or not np.isfinite(row).all():
            raise ValueError(
                f"got {what} {values!r}, expected a finite number for each joint of {list(self.names)}"
            )
        return row

    def columns(self, names: Iterable[str]) -> list[int]:
        """Where joints are among these."""
        return [self.names.index(name) for name in names]

    def zeros(self) -> Array:
        """(J,) zeros."""
        return np.zeros(len(self.names))


@dataclass(frozen=True)
class Box:
    """Where the tool may be: low and high corner (3,) m in the base frame."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        corners = np.array([self.low, self.high], object)
        ok = corners.shape == (2, 3) and np.isfinite(corners.astype(float)).all()
        if not ok or not (corners[0] < corners[1]).all() or (abs(corners) > _ROOM).any():
            raise ValueError(
                f"got workspace {self.low} to {self.high}, expected corners [x, y, z] in m, low < high, within {_ROOM:g} m"
            )

    def holds(self, points: Array) -> bool:
        """Whether all points (..., 3) are inside."""
        return bool(((points >= np.array(self.low)) & (points <= np.array(self.high))).all())


@dataclass(frozen=True)
class Safety:
    """Settings of the filter.

    Attributes:
        jump: a target further than this from the measured joint is refused, rad (m for sliding joints: a tenth).
        following: a joint further than this from what was commanded stops the arm, rad (m: a tenth).
        max_age: an action whose observation is older than this is refused, s.
        workspace: where the tool may be; None: anywhere the joints allow.
    """

    jump: float = 0.6
    following: float = 0.3
    max_age: float = 2.0
    workspace: Box | None = None

    def __post_init__(self) -> None:
        """Refuse what would switch a check off: a setting is at most what an arm can need."""
        finite_above_zero(self, "jump", most=math.pi, of=" of safety, in rad")
        finite_above_zero(self, "following", most=1.5, of=" of safety, in rad")
        finite_above_zero(self, "max_age", most=10.0, of=" of safety, in s")


@dataclass(frozen=True)
class Setpoint:
    """Where the joints are told to be at one tick: (J,) rad, rad/s, rad/s^2 (m for sliding joints)."""

    position: Array
    velocity: Array
    acceleration: Array


@dataclass(frozen=True)
class Target:
    """What is wanted at the next tick.

    Attributes:
        position: (J,) rad or m.
        velocity: (J,), or None for rest.
        acceleration: (J,), or None for 0.
        age: s since the action behind it was decided.
    """

    position: ArrayLike
    velocity: ArrayLike | None = None
    acceleration: ArrayLike | None = None
    age: float = 0.0
