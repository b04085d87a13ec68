"""Batches of a training run, drawn while the step before is still being computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfplan.train.config import TrainConfig
from dfplan.train.tokens import TokenWindows


class Past(NamedTuple):
    """What came before the windows of E episodes, for networks that remember.

    Attributes:
        x: (E, S, G, D) clean normalised steps from the episodes' beginning on.
        level: (E, S, G).
        noise: (E, S, G, D) standard normal.
        ends: (E, W) steps that are over when a window begins; 0 where it is to do without them.
        blocks: see `dfplan.nets.kept.BLOCKS`.
    """

    x: Tensor
    level: Tensor
    noise: Tensor
    ends: Tensor
    blocks: int


class Batch(NamedTuple):
    """What one step is trained on.

    Attributes:
        x: (B, T, D) clean normalised tokens.
        level: (B, T).
        noise: (B, T, D) standard normal.
        scored: (B, T, D) how much the error of each number counts.
        past: of the windows; None for networks without memory.
    """

    x: Tensor
    level: Tensor
    noise: Tensor
    scored: Tensor
    past: Past | None = None


@dataclass(frozen=True)
class Streams:
    """States of the random streams between two batches.

    Attributes:
        rng: of numpy's generator, which draws windows.
        generator: of torch's, which draws levels and noise.
    """

    rng: Mapping[str, Any]
    generator: Tensor


class Batches:
    """Draws one batch ahead, in a thread of its own.

    Args:
        config: the run.
        windows: what is drawn from.
        device: where batches go.

    Attributes:
        streams: what the batch after the last one handed out is drawn from, whatever was drawn ahead: what a
            checkpoint keeps.
    """

    def __init__(self, config: TrainConfig, windows: TokenWindows, device: str) -> None:
        self._config, self._windows, self._device = config, windows, torch.device(device)
        self._rng = np.random.default_rng(config.seed)
        self._generator = torch.Generator().manual_seed(config.seed)
        spec = config.spec
        self._padding = ~torch.from_numpy(spec.valid).repeat(config.horizon, 1)
        self._share = torch.from_numpy(spec.weight).repeat(config.horizon, 1)
        self._worker = ThreadPoolExecutor(1, "batches")
        self._ahead: Future[tuple[Batch, Streams]] | None = None
        self.streams = self._now()

    def restore(self, streams: Streams) -> None:
        """Go on from these states."""
        if self._ahead is not None:
            self._ahead.result()
        self._ahead, self.streams = None, streams
        self._rng.bit_generator.state = streams.rng
        self._generator.set_state(streams.generator)

    def draw(self) -> Batch:
        """The next batch, on the device."""
        ahead = self._ahead or self._worker.submit(self._prepare)
        batch, self.streams = ahead.result()
        self._ahead = self._worker.submit(self._prepare)
        return _each(batch, lambda part: part.to(self._device, non_blocking=True))

    def only(self) -> Batch:
        """A batch of its own, on the device, with none drawn ahead."""
        return _each(self._draw(), lambda part: part.to(self._device))

    def _now(self) -> Streams:
        return Streams(self._rng.bit_generator.state, self._generator.get_state())

    def _prepare(self) -> tuple[Batch, Streams]:
        batch = self._draw()
        if self._device.type == "cuda":
            batch = _each(batch, Tensor.pin_memory)
        return batch, self._now()

    def _draw(self) -> Batch:
        config, levels, generator = self._config, self._config.levels, self._generator
        group = config.spec.group_size
        present = levels.present(config.batch, config.horizon, generator)
        committed = levels.commit(present, config.horizon, generator)
        past = None
        if config.model.carrier:
            starts, steps, ends = self._windows.within(self._rng, config.units, present.numpy(), config.turns)
            x, inside, valid = self._windows.at(starts, present.numpy())
            past = self._past(steps, ends)
        else:
            x, inside, valid = self._windows.draw(self._rng, config.batch, config.longest_of, present.numpy())
        width = 1 if levels.next_token else group  # the next token is one token of a step
        level, scored = levels.sample(inside.repeat_interleave(group // width, 1), generator)
        noise = torch.randn(x.shape, generator=generator)
        level = levels.spread(level, width, generator)
        level = levels.remember(level, present, committed, group, generator)
        # Padding is trained to be 0, because sampling feeds it back.
        valid = valid | (self._padding & valid.any(-1, keepdim=True))
        counts = (valid & scored.repeat_interleave(width, 1)[..., None]) * self._share
        return Batch(x, level, noise, counts, past)

    def _past(self, steps: Tensor, ends: Tensor) -> Past:
        levels, generator = self._config.levels, self._generator
        forgot = torch.rand(ends.shape, generator=generator) < levels.forget
        level = levels.past(steps.shape[:3], generator)
        noise, blocks = torch.randn(steps.shape, generator=generator), 2 ** int(self._rng.integers(4))
        return Past(steps, level, noise, ends * ~forgot, blocks)


def part(batch: Batch, index: int, of: int) -> tuple[Batch, Tensor]:
    """One of several equal parts of a batch, windows of an episode together, and its share () of all that is scored.

    The loss of the batch is the sum of the losses of its parts, each times its share.
    """
    own = _each(batch, lambda whole: whole.chunk(of)[index])
    return own, own.scored.sum() / batch.scored.sum().clamp_min(1e-6)


def _each(batch: Batch, to: Callable[[Tensor], Tensor]) -> Batch:
    """The same with every tensor passed through `to`."""
    past = batch.past
    if past is not None:
        past = Past(to(past.x), to(past.level), to(past.noise), to(past.ends), past.blocks)
    return Batch(to(batch.x), to(batch.level), to(batch.noise), to(batch.scored), past)
