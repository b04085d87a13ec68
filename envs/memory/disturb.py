"""Disturbances of an episode of a planar task: a thing that is moved, a sensor that fails for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

from ..arm.disturb import Disturbance
from ..arm.model import DT

Observation = NDArray[np.float32]

SENSOR_KINDS = ("freeze", "blank", "offset")


class Disturbed(Protocol):
    """What is disturbed: a `PlanarEnv`."""

    kinds: ClassVar[tuple[str, ...]]
    main_sensor: ClassVar[str]
    offset: ClassVar[tuple[float, float]]
    early: tuple[float, float]
    sensors: Mapping[str, slice]
    units: tuple[str, ...]

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move a thing by `distance` m if that is possible now; whether it was."""
        ...

    def shifted(self, sensor: str) -> list[int]:
        """Columns of a sensor that an offset moves, those of x and y in turn."""
        ...


class Episode:
    """A disturbance as it happens in one episode; all that is random in it is drawn here."""

    def __init__(self, what: Disturbance, env: Disturbed, rng: np.random.Generator) -> None:
        """Draw time, size and direction.

        Raises:
            ValueError: for a kind or a sensor that the task does not have.
        """
        self.kind, self._rng = one_of("disturbance", what.kind, env.kinds), rng
        self.begun = False
        start = rng.uniform(*env.early) if what.start is None else what.start
        self.first = round(start / DT)
        self.last = self.first + max(1, round((1.0 if what.span is None else what.span) / DT)) - 1
        low, high = env.offset if what.kind == "offset" else (0.05, 0.10)
        size = rng.uniform(low, high)
        self._size = size if what.size is None else what.size
        angle = rng.uniform(0.0, 2.0 * np.pi)
        self._vector = self._size * np.array([np.cos(angle), np.sin(angle)])
        self._sensor = ""
        if what.kind in SENSOR_KINDS:
            self._sensor = one_of("sensor of a disturbance", what.sensor or env.main_sensor, env.sensors)
        part = env.sensors.get(self._sensor, slice(0, 0))
        if what.kind == "offset" and "m" not in env.units[part]:
            raise ValueError(
                f"got an offset of '{self._sensor}', which shows no lengths; use blank or freeze"
            )
        self._kept: Observation | None = None

    def before(self, env: Disturbed, step: int) -> None:
        """Move a thing in env step `step` (0 is the first)."""
        if self.kind == "move" and step >= self.first and not self.begun:
            self.begun = env.displace(self._rng, self._size)

    def corrupt(self, env: Disturbed, observation: Observation, step: int) -> tuple[str, ...]:
        """Change the observation after `step` env steps in place; which sensors are doubtful now."""
        if not self._sensor:
            return ()
        part = env.sensors[self._sensor]
        if not self.first <= step <= self.last:
            self._kept = observation[part].copy()
            return ()
        self.begun = True
        if self.kind == "blank":
            observation[part] = 0.0
        elif self.kind == "offset":
            for i, column in enumerate(env.shifted(self._sensor)):
                observation[column] += self._vector[i % 2]
        else:
            self._kept = observation[part].copy() if self._kept is None else self._kept
            observation[part] = self._kept
        return (self._sensor,)
