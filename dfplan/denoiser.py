"""Denoiser: a backbone and what its output means, behind one contract."""

from __future__ import annotations

from typing import Protocol

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
