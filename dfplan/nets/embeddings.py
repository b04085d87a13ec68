"""Embeddings of a noise level, and the precision that networks share."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def exactly(device: torch.device) -> AbstractContextManager[object]:
    """No autocast: the last layer answers in its own precision, also on devices that have none."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


class LevelEmbedding(nn.Module):
    """Level in [0, 1], (B, T) -> (B, T, size): sinusoids (Vaswani et al. 2017) and a two-layer MLP."""

    frequency: Tensor

    def __init__(self, size: int, sinusoids: int = 64) -> None:
        super().__init__()
        self.register_buffer(
            "frequency", torch.exp(torch.linspace(0, math.log(1000.0), sinusoids // 2)), persistent=False
        )
        self.mlp = nn.Sequential(nn.Linear(sinusoids, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, level: Tensor) -> Tensor:
        """(B, T) -> (B, T, size)."""
        angle = level[..., None] * self.frequency
        out: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], -1))
        return out
