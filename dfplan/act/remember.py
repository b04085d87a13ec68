"""What an `Actor` remembers of the steps that have left its window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dfplan import known
from dfplan.act.records import History, ImitationConfig
from dfplan.decide import Decider, Noise
from dfplan.denoiser import Denoise, Denoiser
from dfplan.nets.memory import Recall, Remembered


@torch.no_grad()
def remember(
    decider: Decider, history: History, begin: int, before: Remembered | None, config: ImitationConfig, noise: Noise
) -> Remembered:  # fmt: skip
    """Take in the steps that are over before a window begins.

    What is not in the history any more is left out.

    Args:
        decider: of a model with a memory.
        history: of B robots up to the present.
        begin: env step, counted from the start of the episode, of the window's first observation.
        before: what was remembered at an earlier decision of this episode; None: nothing.
        config: the levels at which steps go in.
        noise: draws (B, T, D), once for each step that is taken in.
    """
    memory, spec = decider.denoiser.memory, decider.spec
    assert memory is not None
    stride, group, window = spec.stride, spec.group_size, decider.window()
    offset = history.elapsed - (history.observations.shape[1] - 1)  # env step of the history's first row
    now = before or Remembered(0, ())
    oldest = -(-(offset + spec.stack - 1) // stride) if offset else 0
    if oldest > now.steps:
        now = Remembered(oldest, now.kept)
    for step in range(now.steps, begin // stride):
        seen = np.maximum(step * stride + np.arange(1 - spec.stack, 1), 0) - offset
        done = step * stride + np.arange(stride) - offset
        x = known.steps(window, history.observations[:, seen][:, None], history.done[:, done][:, None])
        level = torch.from_numpy(history.levels(seen, config.doubt)).float().clamp_min(config.stabilise)
        noisy = decider.schedule.add_noise(x[:, 0], level, noise()[:, :group].cpu())
        now = memory.add(now, noisy.to(decider.device), level.to(decider.device))
    return now


def recalled(decider: Decider, what: Remembered | None) -> Recall | None:
    """What a window can read of it; None where there is nothing yet."""
    memory = decider.denoiser.memory
    return None if memory is None or what is None or not what.kept else memory.recall(what)


def emphasised(own: Denoiser, recall: Recall | None, more: float) -> Denoise:
    """A denoiser to which what is remembered counts 1 + `more` times as much as it does by itself."""
    remembering = own.recalling(recall)
    if not more or recall is None:
        return remembering

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        alone = own(x, level)
        return alone + (1 + more) * (remembering(x, level) - alone)

    return denoise
