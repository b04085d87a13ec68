"""Are these readings like those of the demonstrations? Wrong units and a wrong order are seen before the arm moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dfplan.runtime import Exported
    from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]

_BEYOND = 0.5
"""of the range seen in training: a reading may lie so far beyond it,"""
_ROOM = {"rad": 0.3, "m": 0.5, "deg": 20.0}
"""and so much more, by unit: few demonstrations show few places."""
_OTHER = 2.0
_SPREAD, _LOOSE = 8.0, 1.5
"""Standard deviations, and times that room, where a checkpoint has no ranges (before 0.2): some columns have long tails."""
_SLIPS = (
    ("rad", np.pi / 180, "degrees for radians"),
    ("deg", 180 / np.pi, "radians for degrees"),
    ("m", 1e-3, "millimetres for metres"),
    ("m", 1e-2, "centimetres for metres"),
)


class Familiar:
    """What each column of the observation was in training.

    Attributes:
        names: of the columns that are judged.
        low, high: (C,) in the units of the demonstrations; beyond these a reading is unlike all of them.
    """

    def __init__(self, model: Checkpoint | Exported) -> None:
        """Take it from a model: the ranges it was calibrated with, or mean and spread of columns that are not relative."""
        spec, ranges = model.config.spec, model.calibration.get("observations")
        rows = []
        for g, token in enumerate(spec.tokens[:-1]):
            for i, channel in enumerate(map(spec.channel, token.channels)):
                if channel.source != "observations" or not (ranges or not channel.reference):
                    continue
                room = _ROOM.get(channel.unit, _OTHER)
                if ranges:
                    low, high = float(ranges["low"][channel.index]), float(ranges["high"][channel.index])
                    more = _BEYOND * (high - low) + room
                else:
                    low = high = float(model.normalizer.mean[g, i])
                    more = _SPREAD * float(model.normalizer.scale[g, i]) + _LOOSE * room
                rows.append((channel.name, channel.unit, channel.index, low - more, high + more))
        self.names = [str(row[0]) for row in rows]
        self._unit = np.array([row[1] for row in rows], object)
        self._index = np.array([row[2] for row in rows], np.int64)
        self.low, self.high = np.array([row[3:] for row in rows], np.float64).reshape(-1, 2).T

    def unlike(self, observation: Array) -> str:
        """What of an observation (O,) the demonstrations never came near, and what it may be; empty where it is all like them.

        What is not finite is not judged: a sensor that is not there is doubtful by itself.
        """
        x = observation[self._index]
        bad = (x < self.low) | (x > self.high)
        if not bad.any():
            return ""
        far = np.maximum(self.low - x, x - self.high) / (self.high - self.low)
        worst = int(np.argmax(np.where(bad, far, 0.0)))
        return (
            f"'{self.names[worst]}' is {x[worst]:.4g}, which is far from all demonstrations ({self.low[worst]:.3g} to "
            f"{self.high[worst]:.3g} is near them): {self._why(x, bad, worst)}"
        )

    def _why(self, x: Array, bad: NDArray[np.bool_], worst: int) -> str:
        """The slip that would explain it."""
        for unit, factor, words in _SLIPS:
            scaled = factor * x[bad]
            if (self._unit[bad] == unit).all() and (
                (scaled >= self.low[bad]) & (scaled <= self.high[bad])
            ).all():
                return f"{words}?"
        here = (x[worst] >= self.low) & (x[worst] <= self.high)
        there = (x >= self.low[worst]) & (x <= self.high[worst])
        swaps = np.flatnonzero(here & there & bad)
        if len(swaps):
            return f"is it exchanged with '{self.names[int(swaps[0])]}'?"
        return "are units and order those of the demonstrations?"
