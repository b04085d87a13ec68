"""What carriers keep in use, for tensors and for arrays alike. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 4096
"""Most steps that `attention` keeps; older ones are dropped."""
BLOCKS = 8
"""Least blocks of each length that `compressed` keeps in use, once there are so many. In training there are as few as 1,
so that a network sees blocks of half its history, as it will in episodes that are much longer."""
Kept = tuple[Any, ...]


@dataclass(frozen=True)
class Remembered:
    """What is kept of an episode so far.

    Attributes:
        steps: of the episode that are over.
        kept: the carrier's own: (B, ...) tensors or arrays; none where nothing went in.
    """

    steps: int
    kept: Kept


def appended(kept: Kept, arrived: Any, join: Callable[..., Any]) -> Kept:
    """One more step (B, 1, C) at the end, the oldest dropped where there are too many; `join`: `torch.cat` or numpy's."""
    return (join([*kept, arrived], 1)[:, -LIMIT:],)


def folded(kept: Kept, arrived: Any, join: Callable[..., Any], larger: Callable[..., Any]) -> Kept:
    """One more block of one step (B, 1, C); where there are too many of a length, the oldest two become one.

    A block is the elementwise maximum over its steps: `larger` is `torch.maximum` or numpy's.
    """
    levels = list(kept)
    for k in range(len(levels) + 1):
        levels[k:] = levels[k:] or [arrived[:, :0]]
        levels[k] = join([levels[k], arrived], 1)
        if levels[k].shape[1] <= BLOCKS + 1:
            break
        arrived, levels[k] = larger(levels[k][:, :1], levels[k][:, 1:2]), levels[k][:, 2:]
    return tuple(levels)


def ages(kept: Kept, steps: int, doubling: bool) -> NDArray[np.int64]:
    """(N,) age in steps of all that is kept; `doubling`: each level holds blocks of twice the length of those before it."""
    found, end = [np.zeros(0, np.int64)], steps
    for k, level in enumerate(kept):
        count, length = level.shape[1], 2**k if doubling else 1
        found.append(steps - end + np.arange(count - 1, -1, -1) * length)
        end -= count * length
    return np.concatenate(found)
