"""Episodes: demonstrations as flat arrays plus episode ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Episodes:
    """Demonstrations held once, end to end; windows are views into them, never copies of the set.

    Attributes:
        arrays: name -> (N, C) or (N,) array, N env steps over all episodes. `observations` is required;
            `actions[t]` is the action taken at `observations[t]`; `rewards[t]` belongs to `observations[t]`
            as its source records it (the readers say where that is the reward of the transition from t).
            Memory-mapped arrays are welcome.
        ends: (E,) int64, exclusive end of each episode; strictly increasing; the last one is N.
        dt: seconds between two env steps.
        name: what the data are called in messages and checkpoints.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    ends: NDArray[np.int64]
    dt: float
    name: str = "episodes"

    def __post_init__(self) -> None:
        """Refuse what cannot be a set of episodes.

        Raises:
            ValueError: naming the array, what it is and what it should be.
        """
        if "observations" not in self.arrays:
            raise ValueError(
                f"{self.name}: got arrays {sorted(self.arrays)}, expected 'observations' among them"
            )
        steps = len(self.arrays["observations"])
        for key, array in self.arrays.items():
            if len(array) != steps:
                raise ValueError(
                    f"{self.name}: '{key}' has {len(array)} rows, 'observations' has {steps}; "
                    "every array needs one row per env step"
                )
        ends = np.asarray(self.ends)
        rising = ends.dtype.kind in "iu" and ends.ndim == 1 and len(ends) > 0 and ends[-1] == steps
        if not rising or (np.diff(ends.astype(np.int64), prepend=0) <= 0).any():
            raise ValueError(
                f"{self.name}: episode ends must rise strictly from above 0 to {steps} (the number of env "
                f"steps); got {str(ends)[:80]}"
            )
        if not 0 < self.dt < float("inf"):
            raise ValueError(f"{self.name}: got dt={self.dt}, expected seconds between env steps, above 0")
        object.__setattr__(self, "ends", ends.astype(np.int64))

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.ends)

    @property
    def steps(self) -> int:
        """Number of env steps N."""
        return int(self.ends[-1])

    @property
    def starts(self) -> NDArray[np.int64]:
        """(E,) first env step of each episode."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    def summary(self) -> dict[str, Any]:
        """Sizes, episode lengths, and mean and standard deviation of each column, for printing."""
        lengths = np.diff(self.ends, prepend=0)
        out: dict[str, Any] = {
            "name": self.name,
            "steps": self.steps,
            "episodes": len(self),
            "dt": self.dt,
            "episode_steps": f"min {lengths.min()}, mean {lengths.mean():.1f}, max {lengths.max()}",
        }
        for key, array in self.arrays.items():
            flat = np.asarray(array).reshape(len(array), -1)
            if flat.dtype.kind == "f":
                out[key] = (
                    f"mean {np.round(flat.mean(0), 4).tolist()} std {np.round(flat.std(0), 4).tolist()}"
                )
        return out
