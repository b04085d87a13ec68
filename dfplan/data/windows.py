"""Windows: what a trainer draws from episodes, gathered by index and never copied ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.data.episodes import Episodes


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of S steps, each step made of F env-step frames.

    Attributes:
        arrays: key -> (B, S, F, C) float32 in the episodes' own units; zeros where `valid` is False.
        valid: key -> (B, S, F) bool, False where the lag reaches out of the segment.
        inside: (B, S) bool, True while the step's last frame is at or before the last env step of the
            segment; later steps hold that last env step.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    valid: Mapping[str, NDArray[np.bool_]]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Windows:
    """Every window over a set of episodes: one starts at each env step, none crosses a segment's end.

    A frame reads env step `start + max(offset, 0)`: a stack that reaches before the window repeats its
    first env step. A frame past the segment's end is held at the segment's last env step. A positive lag is
    added to the offset before that, so lag 3 of `actions` in a stack of 4 is the action at the stack's first
    frame and the three after it. A negative lag is added after that, so lag -1 of `actions` is the action that
    led to the frame's observation (for a held frame: to the last observation); what it pushes out of the
    segment is zero and not `valid`. Zero is in the data's units: a caller that wants zero after normalisation
    masks with `valid`.

    Attributes:
        episodes: what is read.
        frames: (S, F) int64, env-step offset of each step's frames from the window start; never falling
            within a step.
        keys: arrays to gather, e.g. `("observations", "actions")`; (N, C) or (N,), the latter read as C = 1.
        lags: per key, env steps added to the frame's index.
    """

    episodes: Episodes
    frames: NDArray[np.int64]
    keys: tuple[str, ...]
    lags: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse frames, keys and lags that cannot be read."""
        name = self.episodes.name
        frames = np.asarray(self.frames)
        if frames.ndim != 2 or frames.size == 0 or frames.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: frames has shape {frames.shape} and dtype {frames.dtype}, expected (steps, frames "
                "per step) of integer env-step offsets"
            )
        falling = np.flatnonzero((np.diff(frames, axis=1) < 0).any(1))
        if len(falling):
            row = falling[0]
            raise ValueError(f"{name}: frames[{row}] is {frames[row]}, expected rising offsets: sort them")
        if len(self.keys) != len(self.lags) or len(set(self.keys)) != len(self.keys) or not self.keys:
            raise ValueError(
                f"{name}: got keys {self.keys} and lags {self.lags}, expected different keys, one lag each"
            )
        for key in self.keys:
            if key not in self.episodes.arrays:
                raise ValueError(f"{name}: no array '{key}' to gather; it has {sorted(self.episodes.arrays)}")
            array = self.episodes.arrays[key]
            if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
                raise ValueError(
                    f"{name}: '{key}' has shape {array.shape} and dtype {array.dtype}, expected numbers in "
                    "(N, C) or (N,); flatten it before making windows"
                )
        object.__setattr__(self, "frames", frames.astype(np.int64))

    def __len__(self) -> int:
        """Number of start positions: every env step is one."""
        return self.episodes.steps

    def gather(self, starts: ArrayLike) -> Batch:
        """Read the windows that begin at `starts`.

        Args:
            starts: (B,) int64 env steps in [0, len(self)).

        Returns:
            the batch; its arrays are new and may be written.

        Raises:
            ValueError: `starts` is not a vector of env steps in range.
        """
        first = self._check_starts(starts)
        segment = np.searchsorted(self.episodes.ends, first, side="right")
        begin = self.episodes.starts[segment][:, None, None]
        last = self.episodes.ends[segment][:, None, None] - 1
        inside = first[:, None] + np.maximum(self.frames[:, -1], 0) <= last[:, :, 0]
        arrays: dict[str, NDArray[np.float32]] = {}
        valid: dict[str, NDArray[np.bool_]] = {}
        for key, lag in zip(self.keys, self.lags, strict=True):
            ahead = np.maximum(self.frames + max(lag, 0), 0)
            index = np.minimum(first[:, None, None] + ahead, last) + min(lag, 0)
            valid[key] = (index >= begin) & (index <= last)
            arrays[key] = _read(self.episodes.arrays[key], index, valid[key])
        return Batch(arrays, valid, inside)

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Read `batch` windows whose starts are uniform over all env steps.

        Raises:
            ValueError: `batch` is below 1.
        """
        if batch < 1:
            raise ValueError(f"{self.episodes.name}: got batch {batch}, expected at least 1 window")
        return self.gather(rng.integers(0, len(self), size=batch))

    def _check_starts(self, starts: ArrayLike) -> NDArray[np.int64]:
        """`starts` as (B,) int64, or an error that names the first one out of range."""
        first = np.asarray(starts)
        if first.ndim != 1 or first.dtype.kind not in "iu":
            raise ValueError(
                f"{self.episodes.name}: starts has shape {first.shape} and dtype {first.dtype}, "
                "expected (B,) integers"
            )
        outside = (first < 0) | (first >= len(self))
        if outside.any():
            raise ValueError(
                f"{self.episodes.name}: start {first[outside][0]} is outside the {len(self)} env steps, "
                f"expected 0 to {len(self) - 1}"
            )
        return first.astype(np.int64)


def _read(
    array: NDArray[np.generic], index: NDArray[np.int64], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(B, S, F, C) float32 rows of `array` at `index` (B, S, F), zeros where not `valid`."""
    flat = np.asarray(array).reshape(len(array), -1)
    if flat.flags.aligned:
        taken = flat.take(index, axis=0, mode="clip")
    else:  # as a file is mapped; of these `take` would copy all, of their bytes it does not
        taken = flat.view(np.uint8).take(index, axis=0, mode="clip").view(flat.dtype)
    rows = taken.astype(np.float32, copy=False)
    if not valid.all():
        rows[~valid] = 0.0
    return rows
