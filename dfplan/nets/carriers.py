"""Carriers: how the embeddings of an episode's steps are kept, all at once in training, one by one in use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from dfplan.nets.kept import LIMIT, ages, appended, folded


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

    def entries(self, embedded: Tensor, known: int, blocks: int) -> Tensor:
        """(E, S, C) -> (E, N, C); gradients stop before step `known`, `blocks` instead of `BLOCKS`."""
        raise NotImplementedError

    def ages(self, steps: int, blocks: int) -> Tensor:
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

    def entries(self, embedded: Tensor, known: int, blocks: int) -> Tensor:
        """As they are."""
        return embedded

    def ages(self, steps: int, blocks: int) -> Tensor:
        """The last step before a window is 0 old."""
        age = torch.arange(steps + 1)[:, None] - 1 - torch.arange(steps)
        return torch.where(age < LIMIT, age, -1)

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """One more at the end, the oldest dropped where there are too many."""
        return appended(kept, embedded[:, None], torch.cat)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """All of them."""
        return kept[0], torch.from_numpy(ages(kept, steps, False)).to(kept[0].device)


class Recurrent(Carrier):
    """A GRU's state is the whole memory (Diffusion Forcing's own network)."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.gru = nn.GRU(size, size, batch_first=True)

    def entries(self, embedded: Tensor, known: int, blocks: int) -> Tensor:
        """The state after each step."""
        state, parts = None, []
        if known:
            with torch.no_grad():
                out, state = self.gru(embedded[:, :known])
            parts.append(out)
        if known < embedded.shape[1]:
            parts.append(self.gru(embedded[:, known:], state)[0])
        return torch.cat(parts, 1)

    def ages(self, steps: int, blocks: int) -> Tensor:
        """Only the last state is seen, and it is of now."""
        return torch.eye(steps + 1, dtype=torch.long)[:, 1:] - 1

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """The next state."""
        return (self.gru(embedded[:, None], kept[0][None].contiguous() if kept else None)[0][:, 0],)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """The state."""
        return kept[0][:, None], torch.zeros(1, dtype=torch.long, device=kept[0].device)


@lru_cache(64)
def _blocks(steps: int, blocks: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """After 0, 1, ..., `steps` steps: how many blocks of each length there are, as (first block, count)."""
    out: list[tuple[tuple[int, int], ...]] = [()]
    now: list[tuple[int, int]] = []
    for _ in range(steps):
        arrived = True
        for k in range(len(now) + 1):
            if k == len(now):
                now.append((0, 0))
            first, count = now[k][0], now[k][1] + 1
            arrived = count > blocks + 1
            now[k] = (first + 2, count - 2) if arrived else (first, count)
            if not arrived:
                break
        out.append(tuple(now))
    return tuple(out)


@lru_cache(8)
def _ages(steps: int, blocks: int) -> Tensor:
    """(S + 1, N) as `Compressed.ages` gives them."""
    sizes = [steps]
    while sizes[-1] > blocks + 1:
        sizes.append(sizes[-1] // 2)
    out = torch.full((steps + 1, sum(sizes)), -1)
    for k in range(len(sizes)):
        levels = torch.tensor([now[k] if k < len(now) else (0, 0) for now in _blocks(steps, blocks)])
        after, nth = (torch.arange(blocks + 1) < levels[:, 1:]).nonzero(as_tuple=True)
        block = levels[after, 0] + nth
        out[after, sum(sizes[:k]) + block] = after - (block + 1) * 2**k
    return out


class Compressed(Carrier):
    """Older steps coarser: blocks of 1, 2, 4, ... steps, `BLOCKS` or one more of each length.

    A block is the elementwise maximum over its steps, so that what was seen once is never averaged away, whatever
    came after it. After n steps about `BLOCKS` log2(n) blocks are kept.
    """

    def entries(self, embedded: Tensor, known: int, blocks: int) -> Tensor:
        """Blocks of one step, then those of two, ..., for as long as whole ones are needed."""
        parts, now = [embedded], embedded
        while now.shape[1] > blocks + 1:
            now = now[:, : now.shape[1] // 2 * 2].unflatten(1, (-1, 2)).amax(2)
            parts.append(now)
        return torch.cat(parts, 1)

    def ages(self, steps: int, blocks: int) -> Tensor:
        """Age of a block's last step."""
        return _ages(steps, blocks)

    def add(self, kept: tuple[Tensor, ...], embedded: Tensor) -> tuple[Tensor, ...]:
        """One more of one step; where there are too many of a length, the oldest two become one."""
        return folded(kept, embedded[:, None], torch.cat, torch.maximum)

    def now(self, kept: tuple[Tensor, ...], steps: int) -> tuple[Tensor, Tensor]:
        """All blocks, the youngest length first."""
        return torch.cat(kept, 1), torch.from_numpy(ages(kept, steps, True)).to(kept[0].device)


CARRIERS: Mapping[str, type[Carrier]] = {
    "attention": Attention,
    "recurrent": Recurrent,
    "compressed": Compressed,
}
