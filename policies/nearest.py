"""What needs no training: do as the demonstration did that looked most like now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.data import Episodes

Array = NDArray[np.float64]


class Nearest:
    """Looks up the nearest moment of all demonstrations and repeats what followed it: the floor of every table.

    Two readings, `apart` env steps from each other, are compared column by column, each in units of its standard
    deviation. Actions that are told relative to an observation column are repeated relative to it.

    Args:
        episodes: demonstrations with observations and actions.
        chunk: env steps repeated before it looks again.
        apart: env steps between the two readings.
        faithful: it looks only in the demonstration that it took first, and never back in time: a memory of a kind.
        limits: (low (A,), high (A,)) to which actions are clipped.
    """

    def __init__(
        self, episodes: Episodes, chunk: int = 4, apart: int = 4, faithful: bool = False,
        limits: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    ) -> None:  # fmt: skip
        if chunk < 1 or apart < 1:
            raise ValueError(f"got chunk={chunk}, apart={apart}, expected env steps, 1 or more")
        self.chunk, self.apart, self.faithful, self.limits = chunk, apart, faithful, limits
        if any(np.ndim(episodes.arrays.get(key, 0)) != 2 for key in ("observations", "actions")):
            found = {key: array.shape for key, array in episodes.arrays.items()}
            raise ValueError(
                f"{episodes.name}: got arrays {found}, expected observations (N, O) and actions (N, A)"
            )
        size, bounds = episodes.arrays["actions"].shape[1:], np.broadcast(*limits).shape
        if bounds not in ((), size):
            raise ValueError(
                f"{episodes.name}: got actions of shape {size}, expected {bounds}, as the limits are; give "
                "demonstrations of this task"
            )
        seen = np.asarray(episodes.arrays["observations"], np.float64)
        self._own = np.repeat(np.arange(len(episodes)), episodes.ends - episodes.starts)
        self._ends = episodes.ends
        before = np.maximum(np.arange(len(seen)) - apart, episodes.starts[self._own])
        scale = seen.std(0)
        self._scale = np.where(scale > 1e-9, scale, np.inf)  # what never changes tells nothing
        self._rows = np.concatenate([seen, seen[before]], 1) / np.tile(self._scale, 2)
        self._squares = np.square(self._rows).sum(1)
        self._reference = _references(episodes)
        self._actions = np.asarray(episodes.arrays["actions"], np.float64) - seen @ self._reference
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode; there is nothing random."""
        self._past: list[Array] = []
        self._queue: list[Array] = []
        self._at: int | None = None

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (O,) -> action (A,)."""
        now = np.asarray(observation, np.float64)
        if now.shape != self._scale.shape or not np.isfinite(now).all():
            raise ValueError(
                f"got observation of shape {now.shape}, expected {self._scale.shape}, as in the demonstrations, and finite"
            )
        self._past = [*self._past, now][-self.apart - 1 :]
        if not self._queue:
            self._queue = list(self.follow(np.array(self._past), self.chunk))
        return np.clip(self._queue.pop(0), *self.limits).astype(np.float32)

    def follow(self, seen: Array, chunk: int) -> Array:
        """What followed the moment nearest to the last of some observations (N, O): (chunk, A), fewer where it ended."""
        now, before = seen[-1], seen[max(0, len(seen) - 1 - self.apart)]
        at = self._at = self._find(np.concatenate([now, before]) / np.tile(self._scale, 2))
        return self._actions[at : min(at + chunk, int(self._ends[self._own[at]]))] + now @ self._reference

    def _find(self, row: Array) -> int:
        """Env step of the nearest moment."""
        among = slice(0, len(self._rows))
        if self.faithful and self._at is not None:
            among = slice(self._at, int(self._ends[self._own[self._at]]))
        return among.start + int(np.argmin(self._squares[among] - 2 * self._rows[among] @ row))


def _references(episodes: Episodes) -> Array:
    """(O, A) 1 where an action is told relative to an observation column."""
    names: Any = episodes.info.get("names") or {}
    seen, done = list(names.get("observations", ())), list(names.get("actions", ()))
    out = np.zeros((episodes.arrays["observations"].shape[1], episodes.arrays["actions"].shape[1]))
    for action, column in (episodes.info.get("relative") or {}).items():
        if action in done and column in seen:
            out[seen.index(column), done.index(action)] = 1.0
    return out
