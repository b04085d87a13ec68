"""Residual perceptron over a whole window: for short windows of state, the most learning per second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfplan.nets.embeddings import LevelEmbedding
from dfplan.nets.memory import Memory, Read, Recall

LEVEL = 8
"""Numbers that tell a token's level."""


class Perceptron(nn.Module):
    """All tokens and their levels as one vector, through pre-norm residual blocks.

    Args:
        valid: (T, D) True where a token has a channel; the window has exactly these tokens.
        width: size of the vector inside; blocks widen it twice.
        layers: residual blocks.
        fine: where above 0, every number goes in a second time as asinh(fine * x) / 3, which tells small values apart:
            a centimetre beside a decimetre.
        memory: of the steps before the window, which every block reads; None: there is none.
    """

    where: Tensor

    def __init__(
        self, valid: Tensor, width: int, layers: int, fine: float = 0.0, memory: Memory | None = None
    ) -> None:
        super().__init__()
        self.fine, self.memory = fine, memory
        self.reads = nn.ModuleList(Read(width, memory) for _ in range(layers) if memory is not None)
        self.tokens, self.level = len(valid), LevelEmbedding(LEVEL)
        self.register_buffer("where", valid.flatten().nonzero()[:, 0], persistent=False)
        self.enter = nn.Linear(len(self.where) * (2 if fine else 1) + self.tokens * LEVEL, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )
            for _ in range(layers)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(self.where)))
        for block in self.blocks:
            nn.init.zeros_(block[-1].weight)  # type: ignore[index, arg-type]

    def forward(self, x: Tensor, level: Tensor, recall: Recall | None = None) -> Tensor:
        """x (B, T, D) at level (B, T), after what is recalled -> (B, T, D)."""
        if x.shape[1] != self.tokens:
            raise ValueError(f"got {x.shape[1]} tokens, this network was built for exactly {self.tokens}")
        seen = x.flatten(1)[:, self.where]
        if self.fine:
            seen = torch.cat([seen, torch.asinh(self.fine * seen) / 3], 1)
        h = self.enter(torch.cat([seen, self.level(level).flatten(1).to(x.dtype)], 1))
        for i, block in enumerate(self.blocks):
            if recall is not None:
                h = self.reads[i](h, recall)
            h = h + block(h)
        out: Tensor = self.leave(h)
        return out.new_zeros(len(x), x[0].numel()).index_copy(1, self.where, out).reshape(x.shape)
