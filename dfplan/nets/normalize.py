"""Normaliser: per-channel z-score, fitted in one streaming pass, stored with the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dfplan.data.episodes import Episodes
from dfplan.data.rows import release
from dfplan.spec import TrajectorySpec


class Normalizer(nn.Module):
    """Maps tokens to zero mean and unit variance per channel, and exactly back.

    Attributes:
        mean: (G, D), physical units.
        scale: (G, D), physical units; 1 where a channel is constant or padding.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def identity(cls, spec: TrajectorySpec) -> Normalizer:
        """A normaliser of the right shape that changes nothing (a checkpoint's buffers replace it)."""
        shape = (spec.group_size, spec.width)
        return cls(torch.zeros(shape), torch.ones(shape))

    @classmethod
    def fit(cls, spec: TrajectorySpec, episodes: Episodes, block: int = 1 << 16) -> Normalizer:
        """Fit on every env step, reading `block` rows at a time (Chan et al., parallel variance)."""
        mean = torch.zeros(spec.group_size, spec.width)
        scale = torch.ones(spec.group_size, spec.width)
        for g, token in enumerate(spec.tokens):
            channels = [spec.channel(c) for c in token.channels]
            array = episodes.arrays[channels[0].source]
            columns = [c.index for c in channels]
            count, mu, m2 = (
                0,
                torch.zeros(len(columns), dtype=torch.float64),
                torch.zeros(len(columns), dtype=torch.float64),
            )
            for start in range(0, len(array), block):
                part = np.array(
                    array[start : start + block], np.float64
                )  # a mapped file is neither aligned nor writable
                rows = torch.from_numpy(part.reshape(len(part), -1))[:, columns]
                n, delta = len(rows), rows.mean(0) - mu
                m2 += (rows - rows.mean(0)).square().sum(0) + delta.square() * count * n / (count + n)
                mu += delta * n / (count + n)
                count += n
                release(array)
            std = (m2 / count).sqrt()
            std = torch.where(std > 1e-6 * (1 + mu.abs()), std, torch.ones_like(std))
            width = len(columns) * spec.stack
            mean[g, :width] = mu.float().repeat(spec.stack)
            scale[g, :width] = std.float().repeat(spec.stack)
        return cls(mean, scale)

    def _per_token(self, x: Tensor) -> tuple[Tensor, Tensor]:
        repeat = x.shape[-2] // self.mean.shape[0]
        return self.mean.repeat(repeat, 1), self.scale.repeat(repeat, 1)

    def normalize(self, x: Tensor) -> Tensor:
        """(B, T, D) physical -> normalised."""
        mean, scale = self._per_token(x)
        return (x - mean) / scale

    def unnormalize(self, x: Tensor) -> Tensor:
        """(B, T, D) normalised -> physical."""
        mean, scale = self._per_token(x)
        return x * scale + mean
