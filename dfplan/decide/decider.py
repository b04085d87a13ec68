"""Runs a model. It keeps nothing: state goes in and comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfplan.decide.sampling import Sampling
from dfplan.denoiser import Denoise, Denoiser
from dfplan.known import Known, Window
from dfplan.nets.memory import Recall
from dfplan.sampling import STEPS, Callback, Select, sample
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.named import named, trusted
from dfplan.tools.serialize import from_dict
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
Noise = Callable[[], Tensor]


@dataclass(frozen=True)
class State:
    """What a causal network has made of the first tokens, for the next run.

    Attributes:
        tokens: (B, N, D) as the network saw them.
        level: (B, N).
        network: the network's own state after them.
    """

    tokens: Tensor
    level: Tensor
    network: Any = field(repr=False)


def noise_of(generators: Sequence[torch.Generator], *shape: int, device: torch.device) -> Noise:
    """Draws (sum over generators, T, D) normal numbers: `shape` (each, T, D) from every generator, in order.

    Numbers are drawn where the generator lives, the CPU by default: one seed gives the same noise on every device.
    """

    def draw() -> Tensor:
        drawn = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return torch.cat(drawn).to(device) if len(drawn) > 1 else drawn[0].to(device)

    return draw


def generator_of(seed: int | None) -> torch.Generator:
    """A generator on the CPU; None: seeded by torch's own."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())) if seed is None else int(seed))


S = TypeVar("S", bound=Sampling)


def asked(cls: type[S], model: Checkpoint, use: str, **settings: Any) -> S:
    """How a checkpoint says that it acts best as a `planner` or a `policy`, some of it changed by `settings`.

    Raises:
        ValueError: where the checkpoint names code that it cannot be trusted with, before any of it runs.
    """
    for key, value in model.act.get(use, {}).items():
        if key not in settings and isinstance(value, str):
            trusted(key, value)
    return from_dict(cls, {**model.act.get(use, {}), **settings}, use)


class Decider:
    """Runs a model: `known` and levels in, clean tokens out, and arrays in physical units out of these.

    Args:
        model: a checkpoint.
    """

    def __init__(self, model: Checkpoint) -> None:
        self.model, self.spec = model, model.config.spec
        self.denoiser: Denoiser = model.denoiser
        self.schedule = model.denoiser.schedule
        self.device = next(model.denoiser.parameters()).device
        self.normalizer = copy.deepcopy(model.normalizer).cpu()  # readings come on the CPU, answers go there

    def window(self, steps: int | None = None) -> Window:
        """What producers of `Known` ask for; `steps` None: all that the model was trained for."""
        return Window(self.spec, self.normalizer, steps or self.model.config.horizon)

    @torch.no_grad()
    def run(
        self,
        known: Known,
        matrix: ScheduleMatrix,
        x: Tensor,
        sampling: Sampling,
        *,
        noise: Noise | None = None,
        denoise: Denoise | None = None,
        recall: Recall | None = None,
        state: State | None = None,
        callback: Callback | None = None,
        select: Select | None = None,
    ) -> tuple[Tensor, State | None]:
        """Down the rows of `matrix`.

        Args:
            known: of (B, T) tokens, as arrays or on the CPU.
            matrix: (M+1, S) or (M+1, T) levels.
            x: (B, T, D) tokens at the first row's levels.
            sampling: step rule and precision.
            noise: of stochastic steps.
            denoise: instead of the model's own denoiser, such as a guided one.
            recall: what is remembered of the steps before, for the model's own denoiser.
            state: of an earlier run of this model: tokens that both know are not computed again.
            callback: see `sample`.
            select: see `sample`; a causal network then computes every token in every row.

        Returns:
            (B, T, D) on the device, and the state after the tokens that are known from the start (causal networks).
        """
        if matrix.levels.shape[1] != x.shape[1]:
            matrix = matrix.repeat(self.spec.group_size)
        cache, known = None, known.to(torch.device("cpu"))
        if denoise is None:
            denoise = self.denoiser.recalling(recall)
            if self.denoiser.causal and select is None:
                denoise = cache = _Cached(self.denoiser, known, matrix, state)
        elif sampling.precision != "fp32":
            raise ValueError(
                "got precision=bf16 with guidance, whose gradients need fp32; choose one of them"
            )
        part = known.part
        if part is not None and part.any():
            denoise = answering(denoise, part.to(self.device), known.values.to(self.device))
        half = (
            torch.autocast(self.device.type, torch.bfloat16)
            if sampling.precision == "bf16"
            else nullcontext()
        )
        with half:
            x0 = sample(
                denoise, self.schedule, matrix, x.to(self.device), known=replace(known, part=None).to(self.device),
                step=named("step rule", sampling.step, STEPS), noise=noise, callback=callback,
                select=select,
            )  # fmt: skip
        return x0, cache.state if cache else None

    def fetch(self, *parts: Tensor) -> list[Tensor]:
        """Tensors (B, ...) on the CPU, all in one copy.

        Raises:
            FloatingPointError: when a NaN or infinity is among them.
        """
        flat = torch.cat([p.reshape(len(p), -1).float() for p in parts], 1).cpu()
        if not torch.isfinite(flat).all():
            raise FloatingPointError(
                "the model's answer holds NaN or infinity: lower the guidance scale, and guide in fp32; without "
                "guidance the checkpoint is damaged"
            )
        sizes = [p[0].numel() for p in parts]
        return [f.reshape(p.shape) for f, p in zip(flat.split(sizes, 1), parts, strict=True)]

    def physical(self, x0: Tensor) -> Tensor:
        """Tokens (B, T, D) on the CPU -> physical units; relative channels are still relative."""
        return self.normalizer.unnormalize(x0)

    def read(self, x0: Tensor, source: str, present: Array) -> Array | None:
        """Clean tokens -> one array of the environment, in physical units.

        Args:
            x0: (B, T, D) on the CPU.
            source: `observations`, `actions`, `rewards`, ...
            present: (B, O) the present observation: origin of relative channels, and what is not modelled of others.

        Returns:
            (B, S * stack, C), or None where no channel comes from `source`.
        """
        fill = torch.from_numpy(present).float()[:, None, None] if source == "observations" else None
        out = self.spec.array(self.physical(x0), source, fill)
        if out is None:
            return None
        origin = self.spec.origins(source, present)
        if origin.any():
            out += torch.from_numpy(origin).to(out)[:, None]
        return out.double().numpy()


def answering(denoise: Denoise, where: Tensor, answer: Tensor) -> Denoise:
    """A denoiser that gives known numbers inside tokens that are not wholly known."""
    return lambda x, level: torch.where(where, answer, denoise(x, level))


class _Cached:
    """A causal denoiser that computes no token that is finished or has not begun.

    In each row it computes the tokens from the first one that can still change to the last one that moves; those
    that can no longer change go into the network's state.
    """

    def __init__(self, denoiser: Denoiser, known: Known, matrix: ScheduleMatrix, state: State | None) -> None:
        level = matrix.levels[:, None].expand(-1, len(known.mask), -1)
        own = torch.zeros_like(level[0]) if known.level is None else known.level
        level = torch.where(known.mask, torch.minimum(level, own), level)
        moving = (level[1:] < level[:-1]).any(1)
        index = torch.arange(moving.shape[1])
        later = moving.flip(0).cummax(0).values.flip(0)
        self.spans = [
            (int(torch.where(stays, index, len(index)).amin()), int(torch.where(now, index + 1, 0).amax()))
            for stays, now in zip(later, moving, strict=True)
        ]
        self.denoiser, self.row, self.done, self.network = denoiser, 0, 0, None
        self.first = self.spans[0][0]
        alpha = denoiser.schedule.alpha(level[0, :, : self.first])[..., None]
        self.tokens, self.level = alpha * known.values[:, : self.first], level[0, :, : self.first]
        self.state: State | None = None
        if state is not None and len(state.tokens) == len(self.tokens):
            self._resume(state)

    def _resume(self, state: State) -> None:
        """Take over what the last run and this one know alike."""
        count = min(state.tokens.shape[1], self.first)
        same = (state.tokens[:, :count] == self.tokens[:, :count]).all(-1).all(0)
        same &= (state.level[:, :count] == self.level[:, :count]).all(0)
        count = int(same.cumprod(0).sum())
        self.network = self.denoiser.cut(state.network, count, state.tokens.shape[1]) if count else None
        self.done = count if self.network is not None else 0

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """One row: x (B, T, D) at level (B, T) -> x0 (B, T, D); what does not move comes back as it is."""
        fixed, end = self.spans[self.row]
        self.row += 1
        if end <= fixed and self.row > 1:
            return x
        end = max(end, fixed)
        out, self.network = self.denoiser.step(
            x[:, self.done : end], level[:, self.done : end], self.network, fixed - self.done
        )
        out = torch.cat([x[:, : self.done], out, x[:, end:]], 1)
        self.done = fixed
        if self.row == 1 and self.network is not None:
            self.state = State(self.tokens, self.level, self.network)
        return out
