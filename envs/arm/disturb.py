"""Disturbances of an episode: a push, a moved object, a sensor that fails for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

from .model import DT

if TYPE_CHECKING:
    from .physics import Physics

Array = NDArray[np.float64]

KINDS = ("push", "move", "freeze", "blank", "offset")
_SENSOR_KINDS = ("freeze", "blank", "offset")
_SIZES = {"push": (30.0, 60.0), "move": (0.05, 0.10), "offset": (0.05, 0.10)}


@dataclass(frozen=True)
class Disturbance:
    """One disturbance of an episode; what is None is drawn anew in every episode.

    Attributes:
        kind: `push` (a force on the hand), `move` (the object, or the target, jumps elsewhere; never while
            the object is held), or a sensor that repeats its last value (`freeze`), gives zeros (`blank`) or
            is shifted (`offset`).
        sensor: which sensor fails; None is the task's own (`object`, `target`).
        start: s from the start of the episode; None is early in it, at random.
        span: s; None is 0.2 for a push, and for a sensor as long as the task says: 1.0, in a long task more. A `move` has none.
        size: N for a push (30 to 60), m for `move` and `offset` (0.05 to 0.10).
    """

    kind: str
    sensor: str | None = None
    start: float | None = None
    span: float | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            ValueError: for an unknown kind, a field the kind does not have, or a number out of range.
        """
        one_of("disturbance", self.kind, KINDS)
        unused = {
            "sensor": self.kind not in _SENSOR_KINDS,
            "span": self.kind == "move",
            "size": self.kind not in _SIZES,
        }
        for field, refused in unused.items():
            if refused and getattr(self, field) is not None:
                raise ValueError(
                    f"got {field}={getattr(self, field)!r} for '{self.kind}', which has no {field}"
                )
        for field in ("start", "span", "size"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"got {field}={value!r}, expected a finite number >= 0")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | Disturbance) -> Disturbance:
        """A disturbance from its kind alone, or from a mapping of the fields.

        Raises:
            ValueError: for an unknown kind or field, or a value that is none of these.
        """
        if isinstance(value, Disturbance):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or "kind" not in value:
            raise ValueError(
                f"got disturbance {value!r}, expected a kind ({', '.join(KINDS)}), a mapping with 'kind', or "
                "a Disturbance"
            )
        for key in value:
            one_of("field of a disturbance", key, [field.name for field in fields(cls)])
        return cls(**value)


class Disturbed(Protocol):
    """What is disturbed: an `ArmEnv`."""

    early: ClassVar[tuple[float, float]]
    failure: ClassVar[float]
    main_sensor: ClassVar[str]
    sensors: Mapping[str, slice]
    channel_names: tuple[str, ...]
    physics: Physics

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move the object, or the target, by `distance` m; whether that was possible."""


class Episode:
    """A disturbance as it happens in one episode; all that is random in it is drawn here."""

    def __init__(self, what: Disturbance, env: Disturbed, rng: np.random.Generator) -> None:
        """Draw the time, size and direction.

        Raises:
            ValueError: if the sensor is not one of the environment's.
        """
        self.kind, self._rng = what.kind, rng
        self.begun = False
        drawn = rng.uniform(*env.early)
        start = drawn if what.start is None else what.start
        span = (0.2 if what.kind == "push" else env.failure) if what.span is None else what.span
        self.first = round(start / DT)
        self.last = self.first + max(1, round(span / DT)) - 1
        size = rng.uniform(*_SIZES.get(what.kind, (0.0, 0.0)))
        self.size = size if what.size is None else what.size
        direction = rng.standard_normal(3)
        direction[2] = abs(direction[2])
        self.vector: Array = self.size * direction / np.linalg.norm(direction)
        self.sensor = ""
        if what.kind in _SENSOR_KINDS:
            options = [name for name in env.sensors if name != "joints"]
            self.sensor = one_of("sensor of a disturbance", what.sensor or env.main_sensor, options)
            part = env.sensors[self.sensor]
            ends = [i for i in range(part.start, part.stop) if env.channel_names[i].endswith("_x")]
            self._positions = ends or [part.start]
        self._kept: NDArray[np.float32] | None = None

    def before(self, env: Disturbed, step: int) -> None:
        """Apply force or movement in control step `step` (0 is the first)."""
        if self.kind == "push":
            active = self.first <= step <= self.last
            env.physics.data.xfrc_applied[env.physics.hand, :3] = self.vector if active else 0.0
            self.begun |= active
        elif self.kind == "move" and step >= self.first and not self.begun:
            self.begun = env.displace(self._rng, self.size)

    def corrupt(self, env: Disturbed, observation: NDArray[np.float32], step: int) -> tuple[str, ...]:
        """Change the observation after `step` control steps in place; which sensors are doubtful now."""
        if not self.sensor:
            return ()
        part = env.sensors[self.sensor]
        if not self.first <= step <= self.last:
            self._kept = observation[part].copy()
            return ()
        self.begun = True
        if self.kind == "blank":
            observation[part] = 0.0
        elif self.kind == "offset":
            for start in self._positions:  # of all things that the sensor shows
                observation[start : start + 3] += self.vector.astype(np.float32)
        else:
            self._kept = observation[part].copy() if self._kept is None else self._kept
            observation[part] = self._kept
        return (self.sensor,)
