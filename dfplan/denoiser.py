"""Denoiser: a backbone and what its output means, behind one contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dfplan.nets.memory import Memory, Recall
from dfplan.noise import NoiseSchedule
from dfplan.tools.errors import one_of

PARAMETERISATIONS = ("x0", "eps", "v")


class Denoise(Protocol):
    """The one contract: noisy tokens and their levels in, clean tokens out."""

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, T, D) at level (B, T) -> x0 (B, T, D)."""
        ...


class Denoiser(nn.Module):
    """Backbone and parameterisation -> x0.

    Args:
        backbone: `(x, level) -> (B, T, D)`. One whose attribute `causal` is True also has `step` and `cut`, as
            `nets/transformer.py` and `nets/recurrent.py` show them.
        schedule: the noise the backbone was trained with.
        parameterisation: what the backbone's output means: `x0`, `eps` (Ho et al. 2020) or `v` (Salimans & Ho 2022).
    """

    def __init__(self, backbone: nn.Module, schedule: NoiseSchedule, parameterisation: str = "x0") -> None:
        super().__init__()
        self.backbone, self.schedule = backbone, schedule
        self.parameterisation = one_of("parameterisation", parameterisation, PARAMETERISATIONS)

    @property
    def causal(self) -> bool:
        """True where a token depends on itself and on what is before it alone."""
        return bool(getattr(self.backbone, "causal", False))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, T, D) at level (B, T) -> x0 (B, T, D)."""
        return self._x0(x, level, self.backbone(x, level))

    @property
    def memory(self) -> Memory | None:
        """Of the steps before a window; None where the network has none."""
        return getattr(self.backbone, "memory", None)

    def recalling(self, recall: Recall | None) -> Denoise:
        """The same with what is remembered of the steps before the window."""
        if recall is None:
            return self
        return lambda x, level: self._x0(x, level, self.backbone(x, level, recall))

    def step(self, x: Tensor, level: Tensor, state: Any, keep: int) -> tuple[Tensor, Any]:
        """The tokens that follow those in `state` (causal networks).

        Args:
            x: (B, T, D).
            level: (B, T).
            state: of the tokens before; None: there are none.
            keep: how many of these tokens go into the state that comes out.

        Returns:
            x0 (B, T, D), and the state after `keep` more tokens.
        """
        network: Any = self.backbone
        out, state = network.step(x, level, state, keep)
        return self._x0(x, level, out), state

    def cut(self, state: Any, tokens: int, of: int) -> Any:
        """The state after the first `tokens` of its `of` tokens; None where that cannot be told any more."""
        network: Any = self.backbone
        return network.cut(state, tokens, of)

    def _x0(self, x: Tensor, level: Tensor, out: Tensor) -> Tensor:
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
    noise: Callable[[], Tensor],
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
        noise: draws (B, T, D) standard normal.
        draws: noise draws per level.
    """
    total = torch.zeros(x.shape[:2], device=x.device)
    for value in LEVELS:
        for _ in range(draws):
            level = torch.where(known, 0.0, value)
            total += (denoiser(schedule.add_noise(x, level, noise()), level) - x).square().mean(-1)
    return total.amax(1) / (len(LEVELS) * draws)
