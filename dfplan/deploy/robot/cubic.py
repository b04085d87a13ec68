"""The cubic between two points, which is how controllers of trajectories move from one to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cubic(
    begin: Array, end: Array, leave: Array, arrive: Array, seconds: float, share: float
) -> tuple[Array, Array, Array]:
    """Position, velocity and acceleration (J,) when a `share` of the `seconds` has passed, 0 to 1 of more than 0.

    From `begin` to `end` (J,), rad or m; velocities `leave` there and `arrive` here (J,), per s.
    """
    step, v0, v1 = end - begin, leave * seconds, arrive * seconds
    c, d = 3 * step - 2 * v0 - v1, v0 + v1 - 2 * step
    return (
        begin + share * (v0 + share * (c + share * d)),
        (v0 + share * (2 * c + 3 * share * d)) / seconds,
        (2 * c + 6 * share * d) / seconds**2,
    )
