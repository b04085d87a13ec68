"""Memory of the steps before a window: what carries it, and how a network reads it.

A step of history (its tokens and their levels) is embedded once. A *carrier* keeps embeddings in a `Remembered`:
all of them (`attention`), what a recurrent network makes of them (`recurrent`, arXiv 2407.01392, section 3.1), or one
for each stretch of time that doubles in length with its age (`compressed`). A window reads what is kept by attention,
so it does not matter to the network which carrier there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from dfplan.nets.embeddings import LevelEmbedding

LEVEL = 8
"""Numbers that tell a token's level."""
BUCKETS = 32
"""Ages that are told apart: two for each doubling."""
LIMIT = 4096
"""Most steps that `attention` keeps; older ones are dropped."""
BLOCKS = 8
"""Least blocks of each length that `compressed` keeps, once there are so many."""


@dataclass(frozen=True)
class Remembered:
    """What is kept of an episode so far.

    Attributes:
        steps: of the episode that are over.
        kept: the carrier's own: (B, ...) tensors; none where nothing went in.
    """

    steps: int
    kept: tuple[Tensor, ...]


@dataclass(frozen=True)
class Recall:
    """What W windows of each of E episodes can read.

    Attributes:
        keys: (E, heads, N, C).
        values: (E, heads, N, C).
        age: (1, 1, N) or (E, W, N) steps from an entry to the window; below 0 where a window does not see it.
    """

    keys: Tensor
    values: Tensor
    age: Tensor


class Carrier(nn.Module):
    """How embeddings (B, S, C) of steps are kept: all at once in training, one after the other in use.

    Args:
        size: C.

    Attributes:
        settled: an entry stays as it is once it is made, so that its key and value are kept instead of it.
    """

    settled = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def entries(self, embedded: Tensor, known: int) -> Tensor:
        """(E, S, C) -> (E, N, C); gradients stop before step `known`."""
        raise NotImplementedError

    def ages(self, steps: int) -> Tensor:
        """(S + 1, N) age of every entry after so many steps; -1 where it is not seen then."""
        raise NotImplementedError

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """What is kept after one more step (B, C)."""
        raise NotImplementedError

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """Entries (B, N, C) and their ages (N,)."""
        raise NotImplementedError


class Attention(Carrier):
    """Every step is kept, up to `LIMIT`."""

    settled = True

    def entries(self, embedded: Tensor, known: int) -> Tensor:
        """As they are."""
        return embedded

    def ages(self, steps: int) -> Tensor:
        """The last step before a window is 0 old."""
        age = torch.arange(steps + 1)[:, None] - 1 - torch.arange(steps)
        return torch.where(age < LIMIT, age, -1)

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """One more at the end, the oldest dropped where there are too many."""
        return (torch.cat([*kept, embedded[:, None]], 1)[:, -LIMIT:],)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """All of them."""
        count = kept[0].shape[1]
        return kept[0], torch.arange(count - 1, -1, -1, device=kept[0].device)


class Recurrent(Carrier):
    """A GRU's state is the whole memory (Diffusion Forcing's own network)."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.gru = nn.GRU(size, size, batch_first=True)

    def entries(self, embedded: Tensor, known: int) -> Tensor:
        """The state after each step."""
        state, parts = None, []
        if known:
            with torch.no_grad():
                out, state = self.gru(embedded[:, :known])
            parts.append(out)
        if known < embedded.shape[1]:
            parts.append(self.gru(embedded[:, known:], state)[0])
        return torch.cat(parts, 1)

    def ages(self, steps: int) -> Tensor:
        """Only the last state is seen, and it is of now."""
        return torch.eye(steps + 1, dtype=torch.long)[:, 1:] - 1

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """The next state."""
        return (self.gru(embedded[:, None], kept[0][None].contiguous() if kept else None)[0][:, 0],)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """The state."""
        return kept[0][:, None], torch.zeros(1, dtype=torch.long, device=kept[0].device)


@lru_cache(8)
def _blocks(steps: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """After 0, 1, ..., `steps` steps: how many blocks of each length there are, as (first block, count)."""
    out: list[tuple[tuple[int, int], ...]] = [()]
    now: list[tuple[int, int]] = []
    for _ in range(steps):
        arrived = True
        for k in range(len(now) + 1):
            if k == len(now):
                now.append((0, 0))
            first, count = now[k][0], now[k][1] + 1
            arrived = count > BLOCKS + 1
            now[k] = (first + 2, count - 2) if arrived else (first, count)
            if not arrived:
                break
        out.append(tuple(now))
    return tuple(out)


class Compressed(Carrier):
    """Older steps coarser: blocks of 1, 2, 4, ... steps, `BLOCKS` or one more of each length.

    A block is the elementwise maximum over its steps, so that what was seen once is never averaged away, whatever
    came after it. After n steps about `BLOCKS` log2(n) blocks are kept.
    """

    def entries(self, embedded: Tensor, known: int) -> Tensor:
        """Blocks of one step, then those of two, ..., for as long as whole ones are needed."""
        parts, now = [embedded], embedded
        while now.shape[1] > BLOCKS + 1:
            now = now[:, : now.shape[1] // 2 * 2].unflatten(1, (-1, 2)).amax(2)
            parts.append(now)
        return torch.cat(parts, 1)

    def ages(self, steps: int) -> Tensor:
        """Age of a block's last step."""
        sizes = [steps]
        while sizes[-1] > BLOCKS + 1:
            sizes.append(sizes[-1] // 2)
        out = torch.full((steps + 1, sum(sizes)), -1)
        for after, levels in enumerate(_blocks(steps)):
            for k, (first, count) in enumerate(levels):
                block = torch.arange(first, first + count)
                out[after, sum(sizes[:k]) + block] = after - (block + 1) * 2**k
        return out

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """One more of one step; where there are too many of a length, the oldest two become one."""
        levels, arrived = list(kept), embedded[:, None]
        for k in range(len(levels) + 1):
            levels[k:] = levels[k:] or [arrived[:, :0]]
            levels[k] = torch.cat([levels[k], arrived], 1)
            if levels[k].shape[1] <= BLOCKS + 1:
                break
            arrived, levels[k] = levels[k][:, :2].amax(1, keepdim=True), levels[k][:, 2:]
        return tuple(levels)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """All blocks, the youngest length first."""
        ages, end = [], steps
        for k, level in enumerate(kept):
            count = level.shape[1]
            ages.append(steps - end + torch.arange(count - 1, -1, -1) * 2**k)
            end -= count * 2**k
        return torch.cat(kept, 1), torch.cat(ages).to(kept[0].device)


CARRIERS: Mapping[str, type[Carrier]] = {
    "attention": Attention,
    "recurrent": Recurrent,
    "compressed": Compressed,
}


class Memory(nn.Module):
    """Embeds steps of history and keeps them in a carrier.

    Args:
        valid: (G, D) True where a token has a channel.
        carrier: one of `CARRIERS`.
        size: numbers of an entry.
        heads: attention heads of whatever reads it; divides `size`.
        fine: as the perceptron's.
    """

    where: Tensor

    def __init__(self, valid: Tensor, carrier: str, size: int, heads: int = 4, fine: float = 0.0) -> None:
        super().__init__()
        self.heads, self.fine, self.level = heads, fine, LevelEmbedding(LEVEL)
        self.register_buffer("where", valid.flatten().nonzero()[:, 0], persistent=False)
        numbers = len(self.where) * (2 if fine else 1) + len(valid) * LEVEL + 1
        self.enter = nn.Sequential(nn.Linear(numbers, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.carrier = CARRIERS[carrier](size)
        self.norm, self.pair = nn.LayerNorm(size), nn.Linear(size, 2 * size)

    def embed(self, x: Tensor, level: Tensor, first: int) -> Tensor:
        """Steps (B, S, G, D) at levels (B, S, G), the first of them step `first` of its episode -> (B, S, C)."""
        seen = x.flatten(2)[..., self.where]
        begins = (
            (torch.arange(first, first + x.shape[1], device=x.device) == 0).to(seen).expand(*seen.shape[:2])
        )
        parts = [seen, self.level(level).flatten(2).to(seen), begins[..., None]]
        if self.fine:
            parts.append(torch.asinh(self.fine * seen) / 3)
        out: Tensor = self.enter(torch.cat(parts, -1))
        return out

    def windows(self, x: Tensor, level: Tensor, ends: Tensor, known: int = 0) -> Recall:
        """All windows of whole episodes at once.

        Args:
            x: (E, S, G, D) noised steps.
            level: (E, S, G).
            ends: (E, W) steps that come before each window.
            known: steps through which gradients do not go.
        """
        with torch.no_grad():
            old = self.embed(x[:, :known], level[:, :known], 0)
        embedded = torch.cat([old, self.embed(x[:, known:], level[:, known:], known)], 1)
        ages = self.carrier.ages(x.shape[1]).to(x.device)
        return self._recall(self.pair(self.norm(self.carrier.entries(embedded, known))), ages[ends])

    def add(self, before: Remembered, x: Tensor, level: Tensor) -> Remembered:
        """One more step (B, G, D) at levels (B, G)."""
        embedded = self.embed(x[:, None], level[:, None], before.steps)[:, 0]
        if self.carrier.settled:
            embedded = self.pair(self.norm(embedded))
        return Remembered(before.steps + 1, self.carrier.add(before.kept, embedded))

    def recall(self, what: Remembered) -> Recall:
        """What one window of each of B robots can read now."""
        entries, age = self.carrier.now(what.kept, what.steps)
        return self._recall(
            entries if self.carrier.settled else self.pair(self.norm(entries)), age[None, None]
        )

    def _recall(self, pairs: Tensor, age: Tensor) -> Recall:
        keys, values = pairs.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return Recall(keys, values, age)


class Read(nn.Module):
    """Attention of a window's vector to a memory.

    Args:
        width: of the vector.
        memory: what is read.
        reach: most steps of history that training shows; older ones are read as if they were that old.
    """

    def __init__(self, width: int, memory: Memory, reach: int) -> None:
        super().__init__()
        size, self.reach = memory.carrier.size, max(reach, 1)
        self.norm, self.query, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, size),
            nn.Linear(size, width, False),
        )
        self.bias = nn.Parameter(torch.zeros(memory.heads, BUCKETS))
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor, recall: Recall) -> Tensor:
        """(E * W, width) -> (E * W, width); a window may also look at nothing."""
        episodes, heads, _, size = recall.keys.shape
        query = self.query(self.norm(h)).view(episodes, -1, heads, size).transpose(1, 2) * size**-0.5
        bucket = (2 * (recall.age.clamp(0, self.reach) + 1.0).log2()).long().clamp_max(BUCKETS - 1)
        score = query @ recall.keys.transpose(-1, -2) + self.bias[:, bucket].transpose(0, 1)
        score = score.masked_fill((recall.age < 0)[:, None], float("-inf"))
        weight = torch.cat([score, torch.zeros_like(score[..., :1])], -1).softmax(-1)[..., :-1]
        out: Tensor = self.out((weight.to(recall.values) @ recall.values).transpose(1, 2).reshape(len(h), -1))
        return out
