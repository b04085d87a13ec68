"""Step rules and the one denoising loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dfplan.denoiser import Denoise
from dfplan.known import Known
from dfplan.noise import NoiseSchedule
from dfplan.schedules import ScheduleMatrix


@dataclass(frozen=True)
class Row:
    """One row of the loop, as a step rule sees it; levels (B, T, 1), tokens (B, T, D).

    `before_x0` and `before` are the estimate and levels of the row above, None on the first row.
    `noise()` draws standard normal noise of x's shape.
    """

    x: Tensor
    x0: Tensor
    level: Tensor
    next: Tensor
    schedule: NoiseSchedule
    before_x0: Tensor | None
    before: Tensor | None
    noise: Callable[[], Tensor]


class Step(Protocol):
    """Moves every token from `row.level` to `row.next`, elementwise per token."""

    def __call__(self, row: Row) -> Tensor:
        """-> x (B, T, D) at `row.next`."""
        ...


def ddim(row: Row) -> Tensor:
    """DDIM, eta 0 (Song et al. 2021, equation 12)."""
    s = row.schedule
    eps = (row.x - s.alpha(row.level) * row.x0) / s.sigma(row.level).clamp_min(1e-6)
    return s.alpha(row.next) * row.x0 + s.sigma(row.next) * eps


def ddpm(row: Row) -> Tensor:
    """Ancestral sampling: draws from q(x_next | x, x0) (Ho et al. 2020, equations 6 and 7)."""
    s = row.schedule
    a, a_next = s.alpha(row.level), s.alpha(row.next)
    var, var_next = (1 - a.square()).clamp_min(1e-12), 1 - a_next.square()
    ratio = a / a_next
    beta = (1 - ratio.square()).clamp_min(0)
    mean = (ratio * var_next * row.x + a_next * beta * row.x0) / var
    return mean + (beta * var_next / var).sqrt() * row.noise()


def dpm_solver_2m(row: Row) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), with a history per token.

    A token that did not move in the row above, or that moves to level 0, takes the first-order step.
    """
    s = row.schedule
    a, b = s.alpha(row.level), s.sigma(row.level).clamp_min(1e-6)
    a_next, b_next = s.alpha(row.next), s.sigma(row.next)
    estimate = row.x0
    if row.before is not None and row.before_x0 is not None:
        lam = (a / b).log()
        h = (a_next / b_next.clamp_min(1e-6)).log() - lam
        h_before = lam - (s.alpha(row.before) / s.sigma(row.before).clamp_min(1e-6)).log()
        second = (h_before > 1e-6) & (row.next > 0)
        ratio = h / (2 * torch.where(second, h_before, torch.ones_like(h)))
        estimate = torch.where(second, (1 + ratio) * row.x0 - ratio * row.before_x0, row.x0)
    return (b_next / b) * row.x + (a_next - a * b_next / b) * estimate


STEPS: dict[str, Step] = {"ddim": ddim, "ddpm": ddpm, "dpm_solver_2m": dpm_solver_2m}


Callback = Callable[[int, Tensor, Tensor], None]
Select = Callable[[int, Tensor], Tensor]
"""`(row, x0 (B, T, D)) -> (B,)`: which trajectories go on after a row, and in which places."""


def sample(
    denoiser: Denoise,
    schedule: NoiseSchedule,
    matrix: ScheduleMatrix,
    x: Tensor,
    *,
    known: Known | None = None,
    step: Step = ddim,
    noise: Callable[[], Tensor] | None = None,
    callback: Callback | None = None,
    select: Select | None = None,
) -> Tensor:
    """Denoise tokens down the rows of `matrix`; `descend` is the only denoising loop.

    A token whose level does not change in a row is left as it is; known tokens never rise above their own level.

    Args:
        denoiser: `(x, level) -> x0`, guided or not.
        schedule: the noise the denoiser was trained with.
        matrix: (M+1, T) levels.
        x: (B, T, D) tokens at the levels of the first row: standard normal noise, or a noised plan (warm start).
        known: tokens that are given.
        step: step rule.
        noise: draws (B, T, D) standard normal for stochastic steps; None: from torch's own generator.
        callback: called with (row, x, x0) after each network call; it gets clones.
        select: which trajectories go on, of those for which the same is known.

    Returns:
        (B, T, D) tokens at the levels of the last row.
    """
    if matrix.levels.shape[1] != x.shape[1]:
        raise ValueError(
            f"got a matrix for {matrix.levels.shape[1]} tokens and x of {x.shape[1]}; build it for x.shape[1] tokens"
        )
    return descend(
        denoiser, schedule, matrix.levels.to(x.device), x, known=known, step=step, noise=noise, callback=callback, select=select
    )  # fmt: skip


def descend(
    denoiser: Denoise,
    schedule: NoiseSchedule,
    rows: Tensor,
    x: Tensor,
    *,
    known: Known | None = None,
    step: Step = ddim,
    noise: Callable[[], Tensor] | None = None,
    callback: Callback | None = None,
    select: Select | None = None,
) -> Tensor:
    """As `sample`, down rows (M+1, T) that are not checked: their numbers need not be there yet, as in an export."""
    levels = rows[:, None].expand(-1, x.shape[0], -1)
    if known is not None:
        own = torch.zeros_like(levels[0]) if known.level is None else known.level
        levels = torch.where(known.mask, torch.minimum(levels, own), levels)
        x = torch.where(known.mask[..., None], schedule.alpha(levels[0])[..., None] * known.values, x)

    noise = noise or (lambda: torch.randn_like(x))
    before_x0: Tensor | None = None
    for m in range(len(rows) - 1):
        x0 = denoiser(x, levels[m])
        before = levels[m - 1][..., None] if m else None
        row = Row(x, x0, levels[m][..., None], levels[m + 1][..., None], schedule, before_x0, before, noise)
        x = torch.where(row.next < row.level, step(row), x)
        if select:
            kept = select(m, x0)
            x, x0 = x[kept], x0[kept]
        before_x0 = x0
        if callback:
            callback(m, x.clone(), x0.clone())
    return x
