"""As many successes as asked for, out of as many attempts as it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def successes(
    attempt: Callable[[int], T | None],
    episodes: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[T]:
    """What attempts gave that did not fail, in their order.

    Args:
        attempt: the seed of an attempt -> what it gave, None where it failed.
        episodes: how many to return, exactly.
        seed: the same seed, the same attempts, whatever the number of episodes.
        progress: called after each success with their number so far.

    Raises:
        ValueError: episodes below 1, before the first attempt.
    """
    if episodes < 1:
        raise ValueError(f"got episodes={episodes}, expected 1 or more")
    kept: list[T] = []
    number = 0
    while len(kept) < episodes:
        made = attempt(int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]))
        number += 1
        if made is not None:
            kept.append(made)
            if progress is not None:
                progress(len(kept))
    return kept
