"""What an `Actor` remembers of the steps that have left its window."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfplan.decide import Decider
from dfplan.denoiser import Denoise, Denoiser
from dfplan.nets.kept import Remembered
from dfplan.nets.memory import Recall


@torch.no_grad()
def taken(
    decider: Decider, now: Remembered, x: NDArray[np.float32], level: NDArray[np.float32], noise: Tensor
) -> Remembered:
    """What is remembered after one more step (B, G, D), noised to levels (B, G) by the first of the noise (B, T, D)."""
    memory = decider.denoiser.memory
    assert memory is not None
    own, rows = torch.from_numpy(level), torch.from_numpy(x)
    noisy = decider.schedule.add_noise(rows, own, noise[:, : decider.spec.group_size].cpu())
    return memory.add(now, noisy.to(decider.device), own.to(decider.device))


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
