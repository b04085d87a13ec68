"""The masked, weighted denoising loss, and when it no longer falls on what is held out."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfplan.denoiser import Denoiser
from dfplan.nets.memory import Recall
from dfplan.noise import NoiseSchedule
from dfplan.tools.errors import one_of

WEIGHTS = ("uniform", "min_snr", "fused_snr")


def weight(
    kind: str,
    level: Tensor,
    schedule: NoiseSchedule,
    parameterisation: str,
    clip: float = 5.0,
    decay: float = 0.9,
) -> Tensor:
    """Weight of the squared x0 error at each token, (B, T) -> (B, T).

    `uniform` weighs the backbone's own output evenly; `min_snr` is min(SNR, clip) (Hang et al. 2023); `fused_snr`
    also counts how clean the past is (Diffusion Forcing, appendix B): S' = 1 - (1 - S)(1 - mean of past S).
    """
    one_of("loss weight", kind, WEIGHTS)
    snr = schedule.snr(level).clamp_max(1e4)
    if kind == "uniform":
        return {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}[parameterisation]
    own = snr.clamp_max(clip) / clip
    if kind == "fused_snr":
        past, fused = own[:, 0], [own[:, 0]]
        for t in range(1, own.shape[1]):
            fused.append(1 - (1 - own[:, t]) * (1 - past))
            past = decay * past + (1 - decay) * own[:, t]
        own = torch.stack(fused, 1)
    return own * clip


def denoising_loss(
    denoiser: Denoiser, x: Tensor, level: Tensor, noise: Tensor, scored: Tensor, kind: str = "uniform",
    recall: Recall | None = None,
) -> Tensor:  # fmt: skip
    """Mean weighted squared error of x0 over what is scored.

    Args:
        denoiser: the model.
        x: (B, T, D) clean normalised tokens.
        level: (B, T).
        noise: (B, T, D) standard normal.
        scored: (B, T, D) how much the error of each number counts, 0 not at all.
        kind: one of `WEIGHTS`.
        recall: what the windows can read of the steps before them.
    """
    x0 = denoiser.recalling(recall)(denoiser.schedule.add_noise(x, level, noise), level)
    w = weight(kind, level, denoiser.schedule, denoiser.parameterisation)[..., None] * scored
    return (w * (x0.float() - x).square()).sum() / scored.sum().clamp_min(1e-6)


class Patience:
    """The weights of the lowest loss on what is held out, and whether it is long ago.

    Args:
        saves: in a row without a lower loss after which to stop; 0: never, and the last weights are the best.
        average: the averaged weights of the run.

    Attributes:
        best: what is to be used: the average as it was at the lowest loss.
        worse: saves since then.
    """

    def __init__(self, saves: int, average: Denoiser) -> None:
        self._saves, self._average = saves, average
        self.best, self._lowest, self.worse = average, math.inf, 0

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return 0 < self._saves <= self.worse

    def weigh(self, held: float) -> None:
        """Take note of the loss of the average as it is now."""
        self.worse += 1
        if self._saves and held < self._lowest:
            self._lowest, self.worse, self.best = held, 0, copy.deepcopy(self._average)

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Tensors and numbers to go on from; none where the last weights are the best."""
        if self.best is self._average:
            return {}, {}
        tensors = {f"average.{k}": v for k, v in self._average.state_dict().items()}
        return tensors, {"lowest": self._lowest, "worse": self.worse}

    def restore(
        self, best: Mapping[str, Tensor], state: Mapping[str, Tensor], numbers: Mapping[str, Any]
    ) -> None:
        """Go on from weights for use, and from what `state` gave."""
        last = {k[8:]: v for k, v in state.items() if k.startswith("average.")}
        self._average.load_state_dict(last or best)
        if last and self._saves:
            self.best = copy.deepcopy(self._average)
            self.best.load_state_dict(best)
            self._lowest, self.worse = numbers["lowest"], int(numbers["worse"])
