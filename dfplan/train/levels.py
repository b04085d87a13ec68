"""Levels of noise at training: how they are drawn, and what is shown clean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def independent(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S) levels, i.i.d. uniform (Diffusion Forcing, arXiv 2407.01392, algorithm 1)."""
    return torch.rand(shape, generator=generator)


def shared(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S) levels, one for the whole sequence (full-sequence diffusion; Diffuser, arXiv 2205.09991)."""
    return torch.rand(shape[0], 1, generator=generator).expand(shape)


def pyramid(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S) levels that rise with time at a random slope and phase: what causal-uncertainty sampling visits."""
    slope = 3 * torch.rand(shape[0], 1, generator=generator)
    phase = torch.rand(shape[0], 1, generator=generator) * (1 + slope) - slope
    return (phase + slope * torch.linspace(0, 1, shape[1])).clamp(0, 1)


def next_token(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S) levels: clean past, one noisy step, the rest masked (teacher forcing)."""
    current = torch.randint(shape[1], (shape[0], 1), generator=generator)
    level = torch.rand(shape[0], 1, generator=generator)
    index = torch.arange(shape[1])
    return torch.where(index < current, 0.0, torch.where(index == current, level, 1.0))


def masked(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S) levels of 1: nothing but what is known is shown (regression; with `history`, behaviour cloning)."""
    return torch.ones(shape)


SAMPLERS = {
    "independent": independent,
    "shared": shared,
    "pyramid": pyramid,
    "next_token": next_token,
    "masked": masked,
}


@dataclass(frozen=True)
class Levels:
    """How levels are drawn at training: a mixture of samplers, then what is known.

    `Levels()` is Diffusion Forcing; `Levels(independent=0, shared=1)` full-sequence diffusion;
    `Levels(independent=0, next_token=1)` teacher forcing. With `history=1`, `shared` is Diffusion Policy
    (arXiv 2303.04137) and `masked` behaviour cloning.

    Attributes:
        independent: weight of i.i.d. levels in the mixture.
        shared: weight of one level for the whole sequence.
        pyramid: weight of levels rising with time.
        next_token: weight of clean past, one noisy step (token, where a step has several), masked future.
        masked: weight of level 1 everywhere.
        start_known: probability that the first step is shown clean.
        goal_known: probability that the last step is shown clean; half of these show a random part of the held
            tail as well, so that a plan can be asked to arrive by a given step.
        masked_tail: probability that all steps from a random one on are masked (level 1) and not scored, so that
            shorter horizons can be asked for.
        history: probability that everything up to a random step is shown clean, that step's last token (the action,
            which the policy is to find) excepted.
        memory: most steps so shown; 0 is any number.
        doubt: probability that, in such a window, the history of one kind of token is noisy over a random span: a
            sensor that is not to be trusted.
        forget: probability that a window does without what came before it (networks with a memory).
        committed: probability that, in such a window, the actions of the present and some further steps are shown
            clean: the next ones are then decided while these are carried out.
    """

    independent: float = 1.0
    shared: float = 0.0
    pyramid: float = 0.0
    next_token: float = 0.0
    masked: float = 0.0
    start_known: float = 0.5
    goal_known: float = 0.0
    masked_tail: float = 0.0
    history: float = 0.0
    memory: int = 0
    doubt: float = 0.0
    forget: float = 0.0
    committed: float = 0.0

    def __post_init__(self) -> None:
        """Refuse weights and probabilities out of range."""
        weights = [getattr(self, name) for name in SAMPLERS]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"got mixture weights {dict(zip(SAMPLERS, weights, strict=True))}, expected some above 0, none below"
            )
        for name in ("start_known", "goal_known", "masked_tail", "history", "doubt", "forget", "committed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"got {name}={getattr(self, name)}, expected a probability from 0 to 1")
        if self.memory < 0:
            raise ValueError(f"got memory={self.memory}, expected steps, or 0 for any number")

    def sample(self, inside: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw levels for a batch.

        Args:
            inside: (B, S) True where a step lies in the episode, False where its last step is held.
            generator: CPU generator.

        Returns:
            level (B, S) in [0, 1] and scored (B, S), True where the loss counts.
        """
        batch, steps = inside.shape
        weights = torch.tensor([float(getattr(self, name)) for name in SAMPLERS])
        choice = torch.multinomial(weights, batch, replacement=True, generator=generator)[:, None]
        level = torch.zeros(batch, steps)
        for i, sampler in enumerate(SAMPLERS.values()):
            if weights[i] > 0:
                level = torch.where(choice == i, sampler((batch, steps), generator), level)
        index = torch.arange(steps)
        draw = torch.rand(6, batch, 1, generator=generator)
        scored = torch.ones(batch, steps, dtype=torch.bool)
        if self.masked_tail:
            cut = 1 + (draw[0] * (steps - 1)).long()
            tail = (draw[1] < self.masked_tail) & (index >= cut)
            level, scored = torch.where(tail, 1.0, level), scored & ~tail
        if self.goal_known:
            held = (~inside).sum(1, keepdim=True) * (draw[2] * (draw[3] < 0.5))
            level = torch.where((draw[4] < self.goal_known) & (index >= steps - 1 - held), 0.0, level)
        level = torch.where((draw[5] < self.start_known) & (index == 0), 0.0, level)
        if self.next_token:
            scored = scored & ((choice != list(SAMPLERS).index("next_token")) | (level < 1) & (level > 0))
        return level, scored

    def present(self, batch: int, steps: int, generator: torch.Generator) -> Tensor:
        """(B,) the step that is the present: the last one `history` shows; the first one where it is not used."""
        if not self.history:
            return torch.zeros(batch, dtype=torch.long)
        return torch.randint(min(self.memory or steps, steps), (batch,), generator=generator)

    def past(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """(E, S, G) levels of what came before the windows.

        With probability `doubt` some kinds of token are noisy over a random span, at one level or left out; in a
        seventh of these episodes all else is a little noisy as well.
        """
        episodes, steps, group = shape
        level = torch.zeros(episodes, steps, group)
        if not self.doubt:
            return level
        draw = torch.rand(6, episodes, 1, 1, generator=generator)
        kinds = torch.rand(episodes, 1, group, generator=generator) < 0.5
        index, span = torch.arange(steps)[:, None], draw[:2].sort(0).values * steps
        inside = (draw[2] < self.doubt) & (index >= span[0]) & (index < span[1]) & kinds
        value = torch.where(draw[3] < 0.4, 1.0, draw[3])
        level = torch.where(inside, value, level)
        return torch.where(draw[4] < self.doubt / 7, torch.maximum(level, 0.5 * draw[5]), level)

    def commit(self, present: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """(B,) steps from the present on whose actions are shown; the last step is always left to decide."""
        if not (self.history and self.committed):
            return torch.zeros_like(present)
        draw = torch.rand(2, len(present), generator=generator)
        return ((draw[0] < self.committed) * draw[1] * (steps - present)).long()

    def spread(self, level: Tensor, group: int, generator: torch.Generator) -> Tensor:
        """Levels of steps (B, S) -> of their tokens (B, S*G): half the steps get a fresh level for each token.

        Masked steps stay masked; a token of a known step stays known half the time, so that any part of a step can
        be given: a goal's position without its velocity, an observation without its action. Without `independent`
        levels the tokens of a step share one.
        """
        if group == 1 or not self.independent:
            return level.repeat_interleave(group, 1)
        wide = level[..., None].expand(*level.shape, group)
        fresh = torch.rand(wide.shape, generator=generator)
        stays = (wide == 1) | ((wide == 0) & (torch.rand(wide.shape, generator=generator) < 0.5))
        pick = (torch.rand(*level.shape, 1, generator=generator) < 0.5) & ~stays
        return torch.where(pick, fresh, wide).flatten(1)

    def remember(
        self, level: Tensor, present: Tensor, committed: Tensor, group: int, generator: torch.Generator
    ) -> Tensor:
        """Show the past: levels (B, S*G) -> the same with `history`, `doubt` and `committed` applied."""
        if not self.history:
            return level
        batch, tokens = level.shape
        draw = torch.rand(6, batch, 1, generator=generator)
        now, index = present[:, None], torch.arange(tokens)
        known = (draw[0] < self.history) & (index < now * group + max(1, group - 1))
        span = draw[1:3].sort(0).values * (now + 1)
        inside = (index // group + 1 > span[0]) & (index // group < span[1])
        kind = index % group == (draw[3] * group).long()
        doubt = (draw[4] < self.doubt) & inside & kind
        step, action = index // group, index % group == group - 1
        ahead = (draw[0] < self.history) & action & (step >= now) & (step < now + committed[:, None])
        return torch.where(known, torch.where(doubt, draw[5], 0.0), torch.where(ahead, 0.0, level))
