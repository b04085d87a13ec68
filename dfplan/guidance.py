"""Denoisers that follow the gradient of a cost, and candidates that are weighed by it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dfplan.costs import COSTS, Cost, goal, limits, obstacle, returns, smoothness, total, written
from dfplan.denoiser import Denoise
from dfplan.nets.normalize import Normalizer
from dfplan.noise import NoiseSchedule
from dfplan.spec import TrajectorySpec

__all__ = [
    "COSTS",
    "Cost",
    "evaluate",
    "goal",
    "guide",
    "limits",
    "obstacle",
    "returns",
    "smoothness",
    "total",
    "written",
]


def evaluate(
    cost: Cost, x0: Tensor, spec: TrajectorySpec, normalizer: Normalizer, mask: Tensor | None = None
) -> Tensor:
    """Cost (B,) of normalised clean tokens (B, T, D); mask (B, S), all steps if None."""
    channels = {k: v.flatten(1) for k, v in spec.unpack(normalizer.unnormalize(x0)).items()}
    frames = next(iter(channels.values()))
    inside = (
        torch.ones_like(frames, dtype=torch.bool) if mask is None else mask.repeat_interleave(spec.stack, 1)
    )
    try:
        value = cost(channels, inside)
    except KeyError as error:
        raise ValueError(
            f"the cost asks for channel {error}, expected one of {', '.join(channels)}"
        ) from error
    if not isinstance(value, Tensor) or value.shape != (len(x0),):
        raise ValueError(
            f"got a cost of {value!r:.60}, expected a tensor ({len(x0)},), one number a trajectory"
        )
    return value


def guide(
    denoiser: Denoise,
    cost: Cost,
    scale: float,
    *,
    schedule: NoiseSchedule,
    spec: TrajectorySpec,
    normalizer: Normalizer,
    mask: Tensor | None = None,
    futures: int = 1,
    noise: Callable[[], Tensor] | None = None,
) -> Denoise:
    """A denoiser that samples from p(x) exp(-scale * cost): the gradient goes through the network.

    x0' = x0 - scale * sigma^2 / alpha * d cost(x0(x)) / dx (Dhariwal & Nichol 2021, section 4, in x0 form;
    the cost on the denoised estimate as in Chung et al. 2023). The cost is summed per sample, so the result for one
    trajectory depends neither on its batch nor on padding. With `futures` > 1 the gradient is averaged over that
    many draws of the tokens that are noisier than the cleanest unfinished one (Monte Carlo guidance,
    Diffusion Forcing, section 3.3): each is re-noised from the current estimate.

    Args:
        denoiser: what to guide.
        cost: in physical units.
        scale: nats per unit of cost.
        schedule: the denoiser's noise.
        spec: what the tokens mean.
        normalizer: physical <-> normalised.
        mask: (B, S) steps that count.
        futures: sampled futures per call, evaluated as one batch.
        noise: draws (B, T, D) standard normal for a future; None: from torch's own generator.
    """
    if futures < 1 or not scale >= 0:
        raise ValueError(f"got futures={futures}, scale={scale}; expected futures >= 1 and scale >= 0")

    def score(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().float().requires_grad_()
            x0 = denoiser(x, level)
            value = evaluate(cost, x0.float(), spec, normalizer, mask)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return x0.detach(), gradient

    def guided(x: Tensor, level: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(level)[..., None], schedule.sigma(level)[..., None]
        x0, gradient = score(x, level) if futures == 1 else average(x, level)
        return x0 - scale * sigma.square() / alpha * gradient

    def average(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        x0 = denoiser(x, level).detach()
        front = torch.where(level > 0, level, 2.0).amin(1, keepdim=True)
        far = (level > front)[..., None]
        many = [noise() if noise else torch.randn_like(x) for _ in range(futures)]
        copies = torch.cat([torch.where(far, schedule.add_noise(x0, level, n), x) for n in many])
        with torch.enable_grad():
            shift = torch.zeros_like(x).requires_grad_()
            out = denoiser(copies + shift.repeat(futures, 1, 1), level.repeat(futures, 1))
            rows = None if mask is None else mask.repeat(futures, 1)
            value = evaluate(cost, out.float(), spec, normalizer, rows).sum() / futures
            (gradient,) = torch.autograd.grad(value, shift)
        return x0, gradient

    return guided
