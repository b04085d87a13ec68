"""Pictures of planar scenes in plain numpy: no OpenGL, no figure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
TABLE, WALL, HAND, MARK = (245, 245, 240), (70, 74, 82), (31, 99, 196), (200, 205, 200)


class Sketch:
    """A picture of a piece of the plane; x goes to the right and y upwards."""

    def __init__(self, centre: tuple[float, float], half: float, pixels: int = 240) -> None:
        """An empty picture of the square `centre` +- `half` (m) with `pixels` a side."""
        self.image: NDArray[np.uint8] = np.full((pixels, pixels, 3), TABLE, np.uint8)
        self._x = (centre[0] - half) + (np.arange(pixels) + 0.5) * (2 * half / pixels)
        self._y = ((centre[1] + half) - (np.arange(pixels) + 0.5) * (2 * half / pixels))[:, None]

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled disc; m."""
        self.image[np.hypot(self._x - x, self._y - y) <= radius] = colour

    def box(self, x: float, y: float, half: tuple[float, float], colour: Colour) -> None:
        """A filled rectangle around a point, `half` its sides long; m."""
        self.image[(abs(self._x - x) <= half[0]) & (abs(self._y - y) <= half[1])] = colour
