"""Rollouts longer than any training window: the window rolls on over what it has made itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dfplan import known
from dfplan.decide import Decider, Sampling, noise_of
from dfplan.schedules import ScheduleMatrix

Array = NDArray[np.float64]


def roll(
    decider: Decider,
    sampling: Sampling,
    history: ArrayLike,
    steps: int,
    generators: Sequence[torch.Generator],
    keep: int = 1,
    advance: int = 8,
    stabilise: float = 0.0,
    doubt: Callable[[Array], Array] | None = None,
    tries: int = 8,
) -> Array:
    """What a model without a goal goes on to do, as long as one likes (Diffusion Forcing, section 3.3).

    Args:
        decider: of a model whose tokens show single env steps (stack 1).
        sampling: how each window comes out of noise.
        history: (B, h, O) at the model's stride, the present last.
        steps: S to add.
        generators: one for each of the B.
        keep: most steps shown to the next window; all the others of its horizon are its future.
        advance: steps taken over from each window.
        stabilise: level at which these are shown, with noise of that level: small errors of a long rollout then look like
            noise, which the model takes away, instead of like what was seen.
        doubt: (B, advance + 1, O) what a window adds, after the present -> (B,), above 1 what no record is like, see
            `dfplan.plan.evidence`: it is drawn anew. None: the first draw is taken.
        tries: most draws; the least doubtful is taken then.

    Returns:
        (B, h + S, O) in physical units; what is not modelled is as in the last of the history.

    Raises:
        ValueError: sizes that do not fit the model's window.
    """
    out, spec, horizon = np.asarray(history, np.float64), decider.spec, decider.model.config.horizon
    if not (0 < keep < horizon and 0 < advance <= horizon - keep and spec.stack == 1):
        raise ValueError(
            f"got keep={keep}, advance={advance}, stack={spec.stack}, expected steps that fit into {horizon}, and stack 1"
        )
    end = out.shape[1] + steps
    while out.shape[1] < end:
        open_ = np.arange(len(out))
        worst, made = np.full(len(out), np.inf), np.zeros((len(out), advance, spec.observation_size))
        for _ in range(tries):
            own = [generators[i] for i in open_.tolist()]
            found = _window(decider, sampling, out[open_, -keep:], own, stabilise)[:, :advance]
            now = np.zeros(len(open_))
            if doubt is not None:
                now = doubt(np.concatenate([out[open_, -1:], found], 1))
            better = now < worst[open_]
            made[open_[better]], worst[open_[better]] = found[better], now[better]
            open_ = np.flatnonzero(worst > 1)
            if not len(open_):
                break
        out = np.concatenate([out, made], 1)
    return out[:, :end]


def _window(
    decider: Decider, sampling: Sampling, past: Array, generators: Sequence[torch.Generator], level: float
) -> Array:
    """What follows the past (B, h, O) to the end of the window: (B, horizon - h, O)."""
    spec, (batch, count) = decider.spec, past.shape[:2]
    window = decider.window()
    noise = noise_of(generators, 1, window.steps * spec.group_size, spec.width, device=torch.device("cpu"))
    x, found = noise(), known.past(window, past[:, :, None])
    if level:
        found = known.doubt(found, np.full((batch, count, spec.group_size), level))
        found = known.noised(found, noise(), decider.schedule)
    ahead = sampling.matrix(window.steps - count).levels
    matrix = ScheduleMatrix(torch.cat([ahead[:, :1].expand(-1, count), ahead], 1))
    x0, _ = decider.run(found, matrix, x, sampling, noise=noise)
    made = decider.read(decider.fetch(x0)[0], "observations", past[:, -1])
    assert made is not None
    return made[:, count:]
