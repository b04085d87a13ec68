"""Distance between the arm and a box, from its capsules alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.panda import frames

from .model import CAPSULES, FINGERS

Array = NDArray[np.float64]

_SPACING = 0.015


def _points() -> tuple[Array, NDArray[np.intp], Array]:
    """Points along the capsules' axes in link frames (P, 3), index of their frame and radius (P,)."""
    points, links, radii = [], [], []
    for capsule in (*CAPSULES, FINGERS):
        start, end = np.array(capsule.start, dtype=np.float64), np.array(capsule.end, dtype=np.float64)
        count = 2 + int(np.linalg.norm(end - start) / _SPACING)
        points.append(start + np.linspace(0.0, 1.0, count)[:, None] * (end - start))
        links += [capsule.link - 1] * count
        radii += [capsule.radius] * count
    return np.concatenate(points), np.array(links, dtype=np.intp), np.array(radii)


_POINTS, _LINKS, _RADII = _points()


def clearance(q: ArrayLike, centre: ArrayLike, half: ArrayLike) -> Array:
    """Smallest distance of the arm (hand and fingers included) to an upright box.

    Args:
        q: (..., 7) rad.
        centre: (3,) centre of the box, m.
        half: (3,) its half sizes, m.

    Returns:
        (...,) m; below 0 where they overlap.
    """
    placed = frames(q)[..., _LINKS, :, :]
    points = (placed[..., :3, :3] @ _POINTS[:, :, None])[..., 0] + placed[..., :3, 3]
    gap = np.abs(points - np.asarray(centre)) - np.asarray(half)
    outside = np.linalg.norm(np.maximum(gap, 0.0), axis=-1)
    inside = np.minimum(gap.max(-1), 0.0)
    return np.asarray((outside + inside - _RADII).min(-1))


def crosses(start: ArrayLike, end: ArrayLike, centre: ArrayLike, half: ArrayLike) -> bool:
    """Whether the straight line from `start` to `end` (3,) m passes through an upright box."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    way = np.where(np.abs(end - start) < 1e-12, 1e-12, end - start)
    first = (np.asarray(centre) - np.asarray(half) - start) / way
    second = (np.asarray(centre) + np.asarray(half) - start) / way
    enter, leave = float(np.minimum(first, second).max()), float(np.maximum(first, second).min())
    return max(enter, 0.0) <= min(leave, 1.0)
