"""What a checkpoint keeps of the recorded steps: pairs of places one token apart, spread evenly over all that was seen.

Kept as `evidence.safetensors` beside the weights; `dfplan.plan.evidence` judges plans by it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from dfplan.train import checkpoint

if TYPE_CHECKING:
    from dfplan.data.episodes import Episodes
    from dfplan.train.config import TrainConfig

Array = NDArray[np.float64]
ROWS, HELD_OUT, QUANTILE, SLACK = 1_000_000, 4096, 0.999, 0.7
"""Most pairs looked at; pairs that are set apart to see how far off a recorded one can be; which quantile of theirs; and
what a plan may be off beyond it, in steps (chosen on plans in the large maze, through walls and not)."""


def collect(config: TrainConfig, episodes: Episodes, count: int = 100_000) -> dict[str, Tensor]:
    """Pairs of the goal token's channels, `stride` env steps apart.

    Args:
        config: of a model with a goal token.
        episodes: what it was trained on.
        count: most pairs kept. Where there are more, space is cut into boxes just large enough that one pair in each
            is no more than that: seldom visited places are kept like others.

    Returns:
        `pairs` (N, 2 C) half precision, physical units: a place and the one that followed. `step` (): mean distance
        between the two. `limit` (): distance to the nearest pair, in units of `step`, up to which a step counts as
        familiar: 0.7 above the 99.9 % quantile of 4,096 recorded pairs that were set apart. `rewards` (N,): recorded at the
        first place of each, where the model has a token of rewards.
    """
    from scipy.spatial import cKDTree

    pairs, rows = _pairs(config, episodes)
    apart = min(HELD_OUT, len(pairs) // 8)
    held, kept = np.split(pairs, [apart])
    places, following = np.split(kept, 2, axis=1)
    step = max(float(np.linalg.norm(following - places, axis=1).mean()), 1e-6)
    some = _thinned(kept, count, step)
    kept = kept[some].astype(np.float16, order="C")
    away = cKDTree(kept.astype(np.float64)).query(held)[0] / step
    limit = SLACK + (float(np.quantile(away, QUANTILE)) if len(held) else 0.0)
    found = {"pairs": torch.from_numpy(kept), "step": torch.tensor(step), "limit": torch.tensor(limit)}
    if any(c.source == "rewards" for c in config.spec.channels):
        rewards = np.asarray(episodes.arrays["rewards"], np.float32).reshape(-1)[rows[apart:][some]]
        found["rewards"] = torch.from_numpy(rewards)
    return found


def add(folder: Path | str, episodes: Episodes, count: int = 100_000) -> Path:
    """Write the pairs of `episodes` into a checkpoint folder that has none, or others; returns the file."""
    target = Path(folder) / checkpoint.EVIDENCE
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    save_file(collect(checkpoint.settings(folder), episodes, count), str(part))
    part.chmod(0o644)
    os.replace(part, target)
    return target


def _pairs(config: TrainConfig, episodes: Episodes) -> tuple[Array, NDArray[np.int64]]:
    """(N, 2 C) in random order, none across two episodes, and the env step (N,) that each begins at."""
    spec, rng = config.spec, np.random.default_rng(config.seed)
    token = next(t for t in spec.tokens if t.name == config.goal_token)
    channels = [spec.channel(c) for c in token.channels]
    rows = episodes.arrays[channels[0].source]
    last = np.repeat(episodes.ends, np.diff(episodes.ends, prepend=0))
    first = np.flatnonzero(np.arange(episodes.steps) + spec.stride < last)
    first = rng.permutation(first)[:ROWS] if len(first) else np.arange(episodes.steps)[:1]
    then = np.minimum(first + spec.stride, episodes.steps - 1)
    columns = [c.index for c in channels]
    return np.concatenate([rows[first][:, columns], rows[then][:, columns]], 1).astype(np.float64), first


def _thinned(pairs: Array, count: int, step: float) -> NDArray[np.int64]:
    """Which pairs to keep, at most `count`, one in each box of space; the box is the smallest of some that does it."""
    size, first = 0.05 * step, np.arange(len(pairs))
    while len(first) > count:
        boxes = np.floor(pairs / size).astype(np.int64)
        first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
        size *= 1.1
    return first
