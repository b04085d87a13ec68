"""The three slots of `Swap`: where they are, and on which one a cube is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SLOTS = np.array([[0.42, -0.12], [0.42, 0.12], [0.42 + 0.24 * np.sqrt(0.75), 0.0]])
"""(3, 2) where the slots are, m: a triangle 0.24 m on a side, its own mirror image in y = 0."""
NEAR = 0.03
"""A cube is on a slot within this many m of its centre."""


def nearest(place: Array) -> int:
    """The slot nearest to a place (2,) m."""
    return int(np.argmin(np.linalg.norm(SLOTS - place, axis=1)))


def nearest_is(slot: int, place: Array) -> bool:
    """Whether that is the slot nearest to a place (2,) m."""
    return nearest(place) == slot


def beside(place: Array) -> bool:
    """Whether a place (2,) m is on no slot."""
    return bool((np.linalg.norm(SLOTS - place, axis=1) > NEAR).all())


def different(slots: Array, given: Any) -> NDArray[np.intp]:
    """Two slots, as indices; refuses the same twice, and what is not 0, 1 or 2."""
    if not set(slots.tolist()) <= {0, 1, 2} or slots[0] == slots[1]:
        raise ValueError(f"got {given!r}, expected two different slots of 0, 1 and 2 for red and blue")
    return slots.astype(np.intp)
