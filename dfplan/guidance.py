"""Costs on plans, and denoisers that follow their gradient."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from dfplan.denoiser import Denoise
from dfplan.nets.normalize import Normalizer
from dfplan.noise import NoiseSchedule
from dfplan.spec import TrajectorySpec
from dfplan.tools.named import named

Cost: TypeAlias = "Callable[[dict[str, Tensor], Tensor], Tensor]"
"""`(channels, mask) -> (B,)`: channel name -> (B, H) in physical units, mask (B, H) True inside the horizon."""


def goal(target: dict[str, float], within: float = 1.0) -> Cost:
    """Reach `target` (channel -> value) at any time: saturating squared distance summed over steps.

    `within` is the distance, in the channels' unit, at which the pull is half saturated.
    """

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        square = torch.stack([(channels[name] - value).square() for name, value in target.items()]).sum(0)
        return (square / (square + within**2) * mask).sum(-1)

    return cost


def obstacle(center: dict[str, float], radius: float) -> Cost:
    """Stay out of a ball around `center` (channel -> value, m): squared depth in m^2, summed over steps."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        square = torch.stack([(channels[name] - value).square() for name, value in center.items()]).sum(0)
        return ((radius - (square + 1e-8).sqrt()).clamp_min(0).square() * mask).sum(-1)

    return cost


def smoothness(names: Sequence[str]) -> Cost:
    """Squared second difference of the named channels, summed over steps (unit^2)."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        both = mask[:, 2:] & mask[:, 1:-1] & mask[:, :-2]
        return torch.stack([(channels[n].diff(n=2, dim=-1).square() * both).sum(-1) for n in names]).sum(0)

    return cost


def limits(low: dict[str, float], high: dict[str, float]) -> Cost:
    """Squared excess beyond limits per channel, summed over steps (unit^2)."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        below = [((v - channels[n]).clamp_min(0).square() * mask).sum(-1) for n, v in low.items()]
        above = [((channels[n] - v).clamp_min(0).square() * mask).sum(-1) for n, v in high.items()]
        return torch.stack(below + above).sum(0)

    return cost


def returns(reward: str) -> Cost:
    """Minus the sum of a reward channel over the horizon."""
    return lambda channels, mask: -(channels[reward] * mask).sum(-1)


def total(*parts: tuple[float, Cost]) -> Cost:
    """Weighted sum of costs."""
    return lambda channels, mask: torch.stack([w * c(channels, mask) for w, c in parts]).sum(0)


COSTS: dict[str, Callable[..., Cost]] = {
    "goal": goal,
    "obstacle": obstacle,
    "smoothness": smoothness,
    "limits": limits,
    "returns": returns,
}

_TERM = re.compile(
    r"\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?([\w.]+(?::[\w.]+)?)\s*(?:\(([^()]*)\))?\s*"
)


def written(text: str) -> Cost:
    """A cost from its text: names of `COSTS` or `module:Name`, with their parameters, weighted and summed.

    For example `obstacle(center={'x': 3, 'y': 2}, radius=0.4) + 0.1 * smoothness(names=['x', 'y'])`. Parameters are
    literals; nothing is evaluated.

    Raises:
        ValueError: on an unknown name, with the nearest one, or parameters that do not fit.
    """
    parts, at = [], 0
    while True:
        term = _TERM.match(text, at)
        if term is None:
            raise ValueError(f"got cost '{text}', expected such as obstacle(center={{'x': 3}}, radius=0.4)")
        weight, name, inside = term.groups()
        make = named("cost", name, COSTS)
        if not callable(make):
            raise ValueError(
                f"got cost '{name}', which cannot be called; expected a function that makes a cost"
            )
        try:
            call = ast.parse(f"f({inside or ''})", mode="eval").body
            assert isinstance(call, ast.Call)
            given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            parts.append((float(weight or 1), make(*map(ast.literal_eval, call.args), **given)))
        except (SyntaxError, ValueError, TypeError, AttributeError, KeyError) as error:
            known = ", ".join(inspect.signature(make).parameters)
            raise ValueError(
                f"got cost '{term.group().strip()}' ({error}), expected parameters as literals: {name}({known})"
            ) from error
        at = term.end()
        if at == len(text):
            return total(*parts) if len(parts) > 1 or parts[0][0] != 1 else parts[0][1]
        if text[at] != "+":
            raise ValueError(f"got cost '{text}', expected terms joined by +; '{text[at:]}' is none")
        at += 1


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
