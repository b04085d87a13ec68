"""Noise schedules: how much signal and noise a level stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dfplan.tools.errors import one_of

KINDS = ("cosine", "linear", "sigmoid")


@dataclass(frozen=True)
class NoiseSchedule:
    """Variance-preserving noise: x_level = alpha(level) * x + sigma(level) * noise, alpha^2 + sigma^2 = 1.

    Level 0 is clean (alpha exactly 1) and level 1 is noise (alpha 0.005 to 0.01: nearly none, so that every
    parameterisation stays finite). Stateless; levels may have any shape.

    Attributes:
        kind: `cosine` (Nichol & Dhariwal 2021, continuous), `linear` (the continuous limit of beta from 1e-4 to
            0.02 in 1000 steps, Ho et al. 2020) or `sigmoid` (Jabri et al. 2023, -3 to 3).
    """

    kind: str = "cosine"

    def __post_init__(self) -> None:
        """Refuse unknown kinds."""
        one_of("noise schedule", self.kind, KINDS)

    def alpha(self, level: Tensor) -> Tensor:
        """Signal scale at `level`, same shape."""
        if self.kind == "cosine":
            return torch.cos(level * (math.pi / 2 - 0.01))
        if self.kind == "linear":
            return torch.exp(-0.05 * level - 0.25 * 19.9 * level.square())
        ends = [1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))]
        raw = (ends[1] - torch.sigmoid(6 * level - 3)) / (ends[1] - ends[0])
        return (1 - (1 - 5e-5) * (1 - raw)).sqrt()

    def sigma(self, level: Tensor) -> Tensor:
        """Noise scale at `level`, same shape."""
        return (1 - self.alpha(level).square()).clamp_min(0).sqrt()

    def snr(self, level: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 at `level`, same shape; infinite at level 0."""
        square = self.alpha(level).square()
        return square / (1 - square)

    def add_noise(self, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """x (B, T, D) at `level` (B, T)."""
        return self.alpha(level)[..., None] * x + self.sigma(level)[..., None] * noise
