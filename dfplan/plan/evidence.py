"""Evidence: whether a step of a plan is like one that was recorded. A wall shows as a step that nobody ever made."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.train.checkpoint import Checkpoint

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Array = NDArray[np.float64]
AWAY = 0.4
"""Steps from the nearest recorded place at which a point counts as doubtful as a step at its limit."""


class Evidence:
    """Recorded pairs of places one token apart, and how far from them a step may be.

    Args:
        pairs: (N, 2 C) place, and the one that followed, physical units.
        step: mean distance between the two.
        limit: distance up to which a step is familiar, in units of `step`.

    Attributes:
        step: see above.
        limit: see above.
        places: (N, C) the first of each pair: where the data have been.
    """

    def __init__(self, pairs: ArrayLike, step: float, limit: float) -> None:
        known = np.asarray(pairs, np.float64)
        if known.ndim != 2 or not len(known) or known.shape[1] % 2 or not step > 0:
            raise ValueError(
                f"got pairs of shape {known.shape} and step={step}, expected (N, 2 C), N of 1 or more, and a step above 0"
            )
        self.step, self.limit = float(step), float(limit)
        self.places, self._known = known[:, : known.shape[1] // 2], known

    @classmethod
    def of(cls, model: Checkpoint) -> Evidence | None:
        """What a checkpoint holds; None where it holds none."""
        found = model.evidence
        return cls(found["pairs"].numpy(), float(found["step"]), float(found["limit"])) if found else None

    def distance(self, path: ArrayLike) -> Array:
        """Distance of each step to the nearest recorded one, in units of the data's own step.

        Args:
            path: (..., S, C) places one token apart, physical units.

        Returns:
            (..., S-1). A step is familiar while this is at most `limit`.
        """
        points = np.asarray(path, np.float64)
        size = self.places.shape[1]
        if points.ndim < 2 or points.shape[-1] != size or points.shape[-2] < 2:
            raise ValueError(f"got a path of shape {points.shape}, expected (..., S, {size}), S of 2 or more")
        pairs = np.concatenate([points[..., :-1, :], points[..., 1:, :]], -1)
        return np.asarray(self._tree.query(pairs)[0]) / self.step

    def away(self, points: ArrayLike) -> Array:
        """Distance of points (..., C) to the nearest recorded place, in units of the data's own step: (...)."""
        return np.asarray(self._visited.query(np.asarray(points, np.float64))[0]) / self.step

    def doubt(self, path: ArrayLike) -> Array:
        """How unlike the recorded ones a path is at its worst, its steps and the lines between them: at most 1 is familiar.

        The lines show what steps do not: a corner that is cut through a thin part of a wall.

        Args:
            path: (..., S, C) places one token apart, physical units.

        Returns:
            (...).
        """
        return np.maximum(self.distance(path).max(-1) / self.limit, self.strange(path))

    def strange(self, path: ArrayLike) -> Array:
        """Of `doubt` the part of the lines: (..., S, C) -> (...)."""
        points, share = np.asarray(path, np.float64), np.linspace(0, 1, 9)[:, None]
        lines = points[..., :-1, None, :] + np.diff(points, axis=-2)[..., None, :] * share
        return np.asarray(self.away(lines).max((-2, -1)) / AWAY)

    @cached_property
    def _tree(self) -> cKDTree:
        return _tree_of(self._known)

    @cached_property
    def _visited(self) -> cKDTree:
        return _tree_of(self.places)


def _tree_of(points: Array) -> cKDTree:
    from scipy.spatial import cKDTree  # half a second that a plan with one candidate does not need

    return cKDTree(points)
