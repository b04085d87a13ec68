"""The Diffusion Forcing paper's network: a recurrent latent that carries the history (arXiv 2407.01392, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfplan.nets.embeddings import LevelEmbedding


class Recurrent(nn.Module):
    """Backbone `(x, level, state) -> output`; z_t = GRU(z_{t-1}, x_t, level_t), output_t from z_t.

    The state after the past is the whole memory: `advance` moves it on, and a plan starts from it, so history
    needs no window.

    Args:
        channels: D.
        width: size of the latent z.
        layers: residual MLP layers of the read-out.
    """

    def __init__(self, channels: int, width: int = 256, layers: int = 4) -> None:
        super().__init__()
        self.embed, self.level = nn.Linear(channels, width), LevelEmbedding(width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.mlps = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, channels)

    def _inputs(self, x: Tensor, level: Tensor) -> Tensor:
        return F.silu(self.embed(x) + self.level(level))

    def forward(self, x: Tensor, level: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, T, D), (B, T), state (B, width) or None -> (B, T, D)."""
        inputs = self._inputs(x, level)
        h = inputs + self.gru(inputs, None if cond is None else cond[None])[0]
        for mlp in self.mlps:
            h = h + mlp(h)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(h.to(self.head.weight.dtype))

    def advance(self, x: Tensor, level: Tensor, state: Tensor | None = None) -> Tensor:
        """State (B, width) after seeing tokens x (B, T, D) at `level` (B, T), from `state` or from nothing."""
        out: Tensor = self.gru(self._inputs(x, level), None if state is None else state[None])[1][0]
        return out
