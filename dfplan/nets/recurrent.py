"""The Diffusion Forcing paper's network: a recurrent latent that carries the history (arXiv 2407.01392, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dfplan.nets.embeddings import LevelEmbedding, exactly


class Recurrent(nn.Module):
    """Backbone `(x, level) -> output`; z_t = GRU(z_{t-1}, x_t, level_t), output_t from z_t.

    The state after the past is the whole memory, so history needs no window.

    Args:
        channels: D.
        width: size of the latent z.
        layers: residual MLP layers of the read-out.
    """

    causal = True

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

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, T, D), (B, T) -> (B, T, D)."""
        return self.step(x, level, None, 0)[0]

    def step(self, x: Tensor, level: Tensor, state: Tensor | None, keep: int) -> tuple[Tensor, Tensor | None]:
        """Tokens x (B, T, D) after those in `state` (B, width) -> (B, T, D), and the state after `keep` of them."""
        inputs = self._inputs(x, level)
        hidden = self.gru(inputs, None if state is None else state[None])[0]
        h = inputs + hidden
        for mlp in self.mlps:
            h = h + mlp(h)
        with exactly(x.device):
            return self.head(h.to(self.head.weight.dtype)), hidden[:, keep - 1] if keep else state

    def cut(self, state: Tensor, tokens: int, of: int) -> Tensor | None:
        """The state is a summary: it is whole, or of no use."""
        return state if tokens == of else None
