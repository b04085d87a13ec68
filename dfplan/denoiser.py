"""Denoiser: a backbone and what its output means, behind one contract."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dfplan.noise import NoiseSchedule
from dfplan.tools.errors import one_of

PARAMETERISATIONS = ("x0", "eps", "v")


class Denoise(Protocol):
    """The one contract: noisy tokens and their levels in, clean tokens out."""

    def __call__(self, x: Tensor, level: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, T, D) at level (B, T) -> x0 (B, T, D)."""
        ...


class Denoiser(nn.Module):
    """Backbone and parameterisation -> x0.

    Args:
        backbone: `(x, level, cond) -> (B, T, D)`.
        schedule: the noise the backbone was trained with.
        parameterisation: what the backbone's output means: `x0`, `eps` (Ho et al. 2020) or `v` (Salimans & Ho 2022).
    """

    def __init__(self, backbone: nn.Module, schedule: NoiseSchedule, parameterisation: str = "x0") -> None:
        super().__init__()
        self.backbone, self.schedule = backbone, schedule
        self.parameterisation = one_of("parameterisation", parameterisation, PARAMETERISATIONS)

    def forward(self, x: Tensor, level: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, T, D) at level (B, T) -> x0 (B, T, D)."""
        out: Tensor = self.backbone(x, level, cond)
        alpha, sigma = self.schedule.alpha(level)[..., None], self.schedule.sigma(level)[..., None]
        if self.parameterisation == "eps":
            return (x - sigma * out) / alpha
        if self.parameterisation == "v":
            return alpha * x - sigma * out
        return out


LEVELS = (0.3, 0.5, 0.7)
"""Levels at which `self_error` looks."""


def self_error(
    denoiser: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    known: Tensor,
    generator: torch.Generator,
    draws: int = 2,
) -> Tensor:
    """How badly the model reconstructs a trajectory from its noised self: (B, T, D) -> (B,).

    Mean over levels and draws of the squared error, then the worst token: what the training data never do stands
    out, such as a step through a wall.

    Args:
        denoiser: the model.
        schedule: its noise.
        x: normalised tokens.
        known: (B, T) True at tokens shown clean.
        generator: of the noise.
        draws: noise draws per level.
    """
    total = torch.zeros(x.shape[:2], device=x.device)
    for value in LEVELS:
        for _ in range(draws):
            level = torch.where(known, 0.0, value)
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            total += (denoiser(schedule.add_noise(x, level, noise), level) - x).square().mean(-1)
    return total.amax(1) / (len(LEVELS) * draws)
