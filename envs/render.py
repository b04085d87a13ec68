"""Pictures of a maze in plain numpy: no OpenGL, no figure.

Image rows are maze rows (x grows downwards) and image columns are maze columns (y grows to the right), so a
picture looks like the maze's text. The ball is drawn where it touches walls in the simulation: at qpos
plus 0.2 m.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mazes import OFFSET, Maze

PIXELS_PER_CELL = 40
FREE, WALL = (245, 245, 240), (70, 74, 82)
BALL, GOAL, GOAL_AREA, START = (31, 99, 196), (196, 45, 45), (246, 205, 196), (60, 150, 80)
# Radii in m: the ball's own, the marks', and the area that pays the sparse reward.
_BALL_RADIUS, _MARK_RADIUS, _AREA_RADIUS = 0.1, 0.08, 0.5

Image = NDArray[np.uint8]


class MazePicture:
    """A maze drawn once, with what moves drawn over a copy."""

    def __init__(self, maze: Maze) -> None:
        """Draw the walls."""
        walls = np.array([[tile == "#" for tile in row] for row in maze.rows])
        walls = walls.repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)
        self._walls: NDArray[np.bool_] = walls
        self._empty: Image = np.where(walls[..., None], np.array(WALL), np.array(FREE)).astype(np.uint8)

    def scene(self, goal: tuple[float, float], start: tuple[float, float]) -> Image:
        """Walls, goal and start of one episode.

        Args:
            goal: qpos of the goal, m.
            start: qpos at reset, m.

        Returns:
            (H, W, 3) uint8, H and W 40 pixels per maze row and column.
        """
        image = self._empty.copy()
        _disc(image, goal, _AREA_RADIUS, GOAL_AREA)
        image[self._walls] = WALL
        _disc(image, goal, _MARK_RADIUS, GOAL)
        _disc(image, start, _MARK_RADIUS, START)
        return image

    def frame(self, scene: Image, ball: tuple[float, float]) -> Image:
        """A copy of a scene with the ball at a qpos, m."""
        image = scene.copy()
        _disc(image, ball, _BALL_RADIUS, BALL)
        return image


def _disc(image: Image, centre: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    """A disc of so many m at a qpos, m."""
    row, column = ((value + OFFSET + 0.5) * PIXELS_PER_CELL for value in centre)
    disc(image, row, column, radius * PIXELS_PER_CELL, colour)


def disc(image: Image, row: float, column: float, size: float, colour: tuple[int, int, int]) -> None:
    """Draw a filled, smoothed disc in place, pixels from the corner of the image; the part outside it is cut."""
    row, column = row - 0.5, column - 0.5
    r0, r1 = max(0, int(row - size - 1)), max(0, int(row + size + 3))
    c0, c1 = max(0, int(column - size - 1)), max(0, int(column + size + 3))
    patch = image[r0:r1, c0:c1]
    rows, columns = np.ogrid[r0 : r0 + patch.shape[0], c0 : c0 + patch.shape[1]]
    cover = np.clip(size + 0.5 - np.hypot(rows - row, columns - column), 0.0, 1.0)[..., None]
    patch[:] = np.rint(patch * (1.0 - cover) + np.array(colour) * cover).astype(np.uint8)
