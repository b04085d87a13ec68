"""Episodes: demonstrations as flat arrays plus episode ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.data.rows import blocks


@dataclass(frozen=True)
class Episodes:
    """Demonstrations held once, end to end; windows are views into them, never copies of the set.

    Attributes:
        arrays: name -> (N, C) or (N,) array, N env steps over all episodes. `observations` is required;
            `actions[t]` is the action taken at `observations[t]`; `rewards[t]` belongs to `observations[t]`
            as its source records it (the readers say where that is the reward of the transition from t);
            `executed[t]`, where there is one, is what was carried out instead of `actions[t]`.
            Memory-mapped arrays are welcome.
        ends: (E,) int64, exclusive end of each episode; strictly increasing; the last one is N.
        dt: seconds between two env steps.
        name: what the data are called in messages and checkpoints.
        info: what else the source says, as JSON values. Readers set what they know of: `format`, `version`,
            `fps`, `names` {array: one name per column}, `units` (likewise), `groups` {source key: [start,
            stop] columns of `observations`}, `tasks` (texts that an array `task_index` counts), `masks`
            {name: episode names}, `episodes` (one mapping per episode: `name`, ...), `env_args`, `left_out`
            (keys of images and the like that were not read) and `notes` (sentences for the user).
    """

    arrays: Mapping[str, NDArray[np.generic]]
    ends: NDArray[np.int64]
    dt: float
    name: str = "episodes"
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be a set of episodes."""
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
        self._check_info()

    def _check_info(self) -> None:
        """Raise unless what `info` says about columns and episodes fits the arrays."""
        for kind in ("names", "units"):
            for key, words in self.info.get(kind, {}).items():
                columns = int(np.prod(self.arrays[key].shape[1:])) if key in self.arrays else len(words)
                if len(words) != columns:
                    raise ValueError(
                        f"{self.name}: info['{kind}']['{key}'] has {len(words)} entries, the array has {columns} columns"
                    )
        columns = int(np.prod(self.arrays["observations"].shape[1:]))
        for key, (start, stop) in self.info.get("groups", {}).items():
            if not 0 <= start < stop <= columns:
                raise ValueError(
                    f"{self.name}: info['groups']['{key}'] is [{start}, {stop}], expected a span of the "
                    f"{columns} columns of 'observations'"
                )
        described = self.info.get("episodes")
        if described is not None and len(described) != len(self.ends):
            raise ValueError(
                f"{self.name}: info['episodes'] describes {len(described)} episodes, there are {len(self.ends)}"
            )

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

    def select(self, episodes: ArrayLike) -> Episodes:
        """Some of the episodes, in the order given; what `info` says of single episodes and masks follows.

        Args:
            episodes: (K,) episode numbers, each once.

        Raises:
            ValueError: no number, one that is not there, or one given twice.
        """
        index = np.asarray(episodes)
        whole = index.ndim == 1 and len(index) > 0 and index.dtype.kind in "iu"
        if not whole or index.min() < 0 or index.max() >= len(self) or len(np.unique(index)) != len(index):
            raise ValueError(
                f"{self.name}: got episodes {str(index)[:80]}, expected different numbers from 0 to {len(self) - 1}"
            )
        starts, lengths = self.starts[index], (self.ends - self.starts)[index]
        rows: Any = slice(starts[0], starts[0] + lengths.sum())  # neighbours are a view, not a copy
        if (np.diff(index) != 1).any():
            rows = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
        arrays = {key: np.asarray(array)[rows] for key, array in self.arrays.items()}
        info = dict(self.info)
        if "episodes" in info:
            info["episodes"] = [info["episodes"][i] for i in index]
            kept = {episode.get("name") for episode in info["episodes"]}
            masks = {key: [n for n in names if n in kept] for key, names in info.get("masks", {}).items()}
            info |= {"masks": masks} if masks else {}
        return replace(self, arrays=arrays, ends=np.cumsum(lengths), info=info)

    def split(self, share: float, seed: int = 0) -> tuple[Episodes, Episodes]:
        """Two sets with no episode in common, the second a random `share` of the episodes, at least one.

        Raises:
            ValueError: a share that is not between 0 and 1, or fewer than two episodes.
        """
        if not 0 < share < 1 or len(self) < 2:
            raise ValueError(
                f"{self.name}: got a share of {share} of {len(self)} episodes, expected one between 0 and 1, such as 0.1, of "
                "two or more"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        held = min(max(1, round(share * len(self))), len(self) - 1)
        return self.select(np.sort(order[held:])), self.select(np.sort(order[:held]))

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
            if array.dtype.kind == "f":
                mean = sum(block.sum(0, np.float64) for _, block in blocks(array)) / len(array)
                square = sum(np.square(block - mean).sum(0) for _, block in blocks(array)) / len(array)
                out[key] = f"mean {np.round(mean, 4).tolist()} std {np.round(np.sqrt(square), 4).tolist()}"
        return out
