"""Memory of the steps before a window: what carries it, and how a network reads it.

A step of history (its tokens and their levels) is embedded once. A *carrier* keeps embeddings in a `Remembered`:
all of them (`attention`), what a recurrent network makes of them (`recurrent`, arXiv 2407.01392, section 3.1), or one
for each stretch of time that doubles in length with its age (`compressed`). A window reads what is kept by attention,
so it does not matter to the network which carrier there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfplan.nets.carriers import CARRIERS
from dfplan.nets.embeddings import LevelEmbedding
from dfplan.nets.kept import BLOCKS, Remembered

LEVEL = 8
"""Numbers that tell a token's level."""
BUCKETS = 32
"""Ages that are told apart: two for each doubling."""


@dataclass(frozen=True)
class Recall:
    """What W windows of each of E episodes can read.

    Attributes:
        keys: (E, heads, N, C).
        values: (E, heads, N, C).
        age: (1, 1, N) or (E, W, N) how old an entry is for a window, as one of `BUCKETS`.
        hidden: (1, 1, N) or (E, W, N) True where a window does not see an entry.
    """

    keys: Tensor
    values: Tensor
    age: Tensor
    hidden: Tensor


class Memory(nn.Module):
    """Embeds steps of history and keeps them in a carrier.

    Args:
        valid: (G, D) True where a token has a channel.
        carrier: one of `CARRIERS`.
        size: numbers of an entry.
        heads: attention heads of whatever reads it; divides `size`.
        fine: as the perceptron's.
        reach: most steps of history that training shows; older ones are read as if they were that old.
    """

    where: Tensor

    def __init__(
        self, valid: Tensor, carrier: str, size: int, heads: int = 4, fine: float = 0.0, reach: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.fine, self.reach = heads, fine, max(reach, 1)
        self.level = LevelEmbedding(LEVEL)
        self.register_buffer("where", valid.flatten().nonzero()[:, 0], persistent=False)
        numbers = len(self.where) * (2 if fine else 1) + len(valid) * LEVEL + 1
        self.enter = nn.Sequential(
            nn.Linear(numbers, 2 * size), nn.GELU(), nn.Linear(2 * size, size), nn.Tanh()
        )
        self.carrier = CARRIERS[carrier](size)
        self.norm, self.pair = nn.LayerNorm(size), nn.Linear(size, 2 * size)

    def embed(self, x: Tensor, level: Tensor, first: int) -> Tensor:
        """Steps (B, S, G, D) at levels (B, S, G), the first of them step `first` of its episode -> (B, S, C)."""
        begins = torch.arange(first, first + x.shape[1], device=x.device) == 0
        return self.entered(x, level, begins.to(x).expand(*x.shape[:2]))

    def entered(self, x: Tensor, level: Tensor, begins: Tensor) -> Tensor:
        """As `embed`; begins (B, S) is 1 at the first step of an episode, else 0."""
        seen = x.flatten(2)[..., self.where]
        parts = [seen, self.level(level).flatten(2).to(seen), begins[..., None]]
        if self.fine:
            parts.append(torch.asinh(self.fine * seen) / 3)
        out: Tensor = self.enter(torch.cat(parts, -1))
        return out

    def windows(self, x: Tensor, level: Tensor, ends: Tensor, known: int = 0, blocks: int = BLOCKS) -> Recall:
        """All windows of whole episodes at once.

        Args:
            x: (E, S, G, D) noised steps.
            level: (E, S, G).
            ends: (E, W) steps that come before each window.
            known: steps through which gradients do not go.
            blocks: see `dfplan.nets.kept.BLOCKS`.
        """
        with torch.no_grad():
            old = self.embed(x[:, :known], level[:, :known], 0)
        embedded = torch.cat([old, self.embed(x[:, known:], level[:, known:], known)], 1)
        ages = self.carrier.ages(x.shape[1], blocks).to(x.device)
        return self._recall(self.pair(self.norm(self.carrier.entries(embedded, known, blocks))), ages[ends])

    def add(self, before: Remembered, x: Tensor, level: Tensor) -> Remembered:
        """One more step (B, G, D) at levels (B, G)."""
        embedded = self.embed(x[:, None], level[:, None], before.steps)[:, 0]
        if self.carrier.settled:
            embedded = self.pair(self.norm(embedded))
        return Remembered(before.steps + 1, self.carrier.add(before.kept, embedded))

    def recall(self, what: Remembered) -> Recall:
        """What one window of each of B robots can read now."""
        return self.shown(*self.carrier.now(what.kept, what.steps))

    def shown(self, entries: Tensor, age: Tensor) -> Recall:
        """What one window of each of B robots can read of a carrier's entries (B, N, C) and their ages (N,)."""
        pairs = entries if self.carrier.settled else self.pair(self.norm(entries))
        return self._recall(pairs, age[None, None])

    def _recall(self, pairs: Tensor, age: Tensor) -> Recall:
        """Pairs (E, N, 2C) of key and value, their ages in steps, below 0 where they are not seen."""
        keys, values = pairs.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bucket = (2 * (age.clamp(0, self.reach) + 1.0).log2()).long().clamp_max(BUCKETS - 1)
        return Recall(keys, values, bucket, age < 0)


class Read(nn.Module):
    """Attention of a window's vector to a memory.

    What is found scales the vector as well as shifting it (FiLM, Perez et al. 2018): which of the things that are seen now
    is the one that was remembered is a product, which sums are slow to learn.

    Args:
        width: of the vector.
        memory: what is read.
    """

    def __init__(self, width: int, memory: Memory) -> None:
        super().__init__()
        size = memory.carrier.size
        self.norm, self.query = nn.LayerNorm(width), nn.Linear(width, size)
        self.out = nn.Linear(size, 2 * width, False)
        self.bias = nn.Parameter(torch.zeros(memory.heads, BUCKETS))
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor, recall: Recall) -> Tensor:
        """h (E * W, width) -> h scaled and shifted by what was found; a window may also look at nothing."""
        episodes, heads, _, size = recall.keys.shape
        query = self.query(self.norm(h)).view(episodes, -1, heads, size).transpose(1, 2) * size**-0.5
        score = query @ recall.keys.transpose(-1, -2) + self.bias[:, recall.age].transpose(0, 1)
        score = score.masked_fill(recall.hidden[:, None], float("-inf"))
        weight = torch.cat([score, torch.zeros_like(score[..., :1])], -1).softmax(-1)[..., :-1]
        found = (weight.to(recall.values) @ recall.values).transpose(1, 2).reshape(len(h), -1)
        scale, shift = self.out(found).chunk(2, -1)
        return h * (1 + scale) + shift
