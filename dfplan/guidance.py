"""Denoisers that follow the gradient of a cost, and candidates that are weighed by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    "Particles",
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


class Particles:
    """Candidates of each start, weighed by their cost while they are denoised; the light ones make room for the heavy.

    After a row each is weighed by exp(scale * (cost before - cost now)) of the denoised estimate; where the effective
    sample size 1 / sum(w^2) of a start falls below half, its candidates are drawn anew by their weights (systematic
    resampling). Feynman-Kac steering (Singhal et al. 2025, section 3.2, the difference potential). Without a
    gradient the candidates and their weights then stand for p(x) exp(-scale * cost); a gradient moves the proposal, is
    not corrected for, and adds to the tilt. After the last row nothing is drawn: the choice among candidates follows.

    Args:
        cost: (B * K, T, D) normalised tokens -> (B * K,).
        scale: nats per unit of cost.
        count: K.
        rows: M, of the schedule.
        generators: one for each start, which draws for it alone.
    """

    def __init__(
        self, cost: Callable[[Tensor], Tensor], scale: float, count: int, rows: int,
        generators: Sequence[torch.Generator],
    ) -> None:  # fmt: skip
        self.cost, self.scale, self.count, self.rows, self.generators = cost, scale, count, rows, generators
        self._before: Tensor | None = None

    def __call__(self, row: int, x0: Tensor) -> Tensor:
        """Row and estimates (B * K, T, D) -> (B * K,) the candidates that go on."""
        starts, count = len(self.generators), self.count
        own = torch.arange(count, device=x0.device).expand(starts, -1)
        if self._before is None:
            self._before, self.ancestors, self.log_weights = (
                x0.new_zeros(starts, count), own, x0.new_zeros(starts, count)
            )  # fmt: skip
        now = self.cost(x0).unflatten(0, (starts, count))
        self.log_weights = self.log_weights + self.scale * (self._before - now)
        weights, index = self.log_weights.softmax(1), own
        if row < self.rows - 1:
            few = weights.square().sum(1, keepdim=True) > 2 / count
            first = torch.stack([torch.rand((), generator=g, device=g.device) for g in self.generators])
            ticks = (own + first.to(x0)[:, None]) / count
            drawn = torch.searchsorted(weights.cumsum(1), ticks).clamp_max(count - 1)
            index = torch.where(few, drawn, own)
            self.log_weights = self.log_weights.masked_fill(few, 0.0)
        self._before, self.ancestors = now.gather(1, index), self.ancestors.gather(1, index)
        return (index + count * torch.arange(starts, device=x0.device)[:, None]).flatten()

    def survivors(self) -> Tensor:
        """(B,) how many of the candidates that were there at the start have descendants now."""
        return 1 + (self.ancestors.sort(1).values.diff(dim=1) > 0).sum(1)
