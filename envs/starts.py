"""Start and goal sets of mazes that others published."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.formats.hdf5 import open_hdf5

Array = NDArray[np.float64]
_NAMES = ("start_state", "goal_pos")


@dataclass(frozen=True)
class Starts:
    """What episodes begin with, in order, and from the first again after the last.

    Attributes:
        states: (N, 4), or positions alone (N, 2).
        goals: (N, 2), or None.
        seed: of the episode that begins with the first.
    """

    states: Array
    goals: Array | None = None
    seed: int = 0

    @classmethod
    def read(cls, path: Path | str, seed: int = 0) -> Starts:
        """Read `start_state` and, where there is one, `goal_pos` from .npz or .hdf5.

        Raises:
            ValueError: on a missing array or shapes that differ, naming the file and the array.
        """
        path = Path(path)
        if not path.exists():
            raise ValueError(
                f"{path} does not exist; give an .npz or .hdf5 with 'start_state' (N, 4) and 'goal_pos' (N, 2)"
            )
        try:
            arrays = _read_arrays(path)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: cannot be read ({error}); expected an .npz or .hdf5 of plain arrays"
            ) from error
        if "start_state" not in arrays:
            raise ValueError(
                f"{path}: holds {sorted(arrays)}, expected 'start_state' (N, 4), and 'goal_pos' (N, 2)"
            )
        for key, array in arrays.items():
            if array.ndim != 2 or len(array) != len(arrays["start_state"]) or not np.isfinite(array).all():
                raise ValueError(
                    f"{path}: '{key}' has shape {array.shape}, expected finite numbers in (N, columns), the same N"
                )
        return cls(arrays["start_state"], arrays.get("goal_pos"), seed)

    def options(self, seed: int) -> dict[str, Any]:
        """Options of the maze's reset for the episode of that seed."""
        row = (seed - self.seed) % len(self.states)
        state, goal = self.states[row], {} if self.goals is None else {"goal": self.goals[row]}
        return {"qpos": state[:2], "qvel": state[2:] if len(state) > 2 else np.zeros(2)} | goal


def _read_arrays(path: Path) -> dict[str, Array]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {k: np.asarray(file[k], np.float64) for k in _NAMES if k in file}
    with open_hdf5(path) as file:
        found = {k: file.find(k) for k in _NAMES}
        return {k: np.asarray(node.item, np.float64) for k, node in found.items() if node is not None}
