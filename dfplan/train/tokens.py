"""Windows of episodes as the tokens that a network is trained on."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfplan.data.episodes import Episodes
from dfplan.data.windows import Batch, Windows
from dfplan.nets.normalize import Normalizer
from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]


class TokenWindows:
    """Windows of episodes as normalised tokens, by a copy of the normaliser."""

    def __init__(
        self, spec: TrajectorySpec, horizon: int, episodes: Episodes, normalizer: Normalizer
    ) -> None:
        self.spec, self.episodes = spec, episodes
        self.normalizer = copy.deepcopy(normalizer).cpu()
        self.sources = [spec.channel(t.channels[0]).source for t in spec.tokens]
        self.columns = [[spec.channel(c).index for c in t.channels] for t in spec.tokens]
        lags: dict[str, int] = {}
        for token, source in zip(spec.tokens, self.sources, strict=True):
            if lags.setdefault(source, token.lag) != token.lag:
                raise ValueError(
                    f"tokens from '{source}' have lags {lags[source]} and {token.lag}; give them one lag"
                )
        if "actions" in lags and "executed" in episodes.arrays:
            lags["executed"] = lags["actions"]  # where another command was carried out than the expert gave
        self.windows = Windows(episodes, spec.frames(horizon), tuple(lags), tuple(lags.values()))

    def fit_relative(self) -> Normalizer:
        """Fit relative tokens, whose values depend on the window, on 16,384 of them; a copy of the result."""
        rng, spec = np.random.default_rng(0), self.spec
        steps = len(self.windows.frames)
        got = self.windows.gather(rng.integers(0, len(self.windows), 16384))
        parts, _ = self._parts(got, rng.integers(0, steps, 16384))
        for g, token in enumerate(spec.tokens):
            if token.name in spec.relative:
                values = parts[token.name].reshape(-1, len(token.channels))
                mean, std = values.mean(0), values.std(0)
                if self.sources[g] == "observations":
                    # Relative ones are measured from 0: that is where they matter.
                    here = np.array([bool(spec.channel(c).reference) for c in token.channels])
                    mean, std = np.where(here, 0, mean), np.where(here, np.hypot(mean, std), std)
                std = np.maximum(std, 1e-6).astype(np.float32)
                n, valid = self.normalizer, spec.valid[g]
                n.mean[g, valid] = torch.from_numpy(np.tile(mean, spec.stack)).to(n.mean)
                n.scale[g, valid] = torch.from_numpy(np.tile(std, spec.stack)).to(n.scale)
        return copy.deepcopy(self.normalizer)

    def _parts(
        self, got: Batch, present: NDArray[np.integer[Any]] | int | None
    ) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.bool_]]]:
        """Values (B, S, F, C) of each token, relative ones as differences from step `present`, and where valid.

        Actions before the present are the ones that were executed, as they are when a policy looks back. Where
        `present` is None all steps are past, and each is told relative to itself.
        """
        parts: dict[str, NDArray[np.float32]] = {}
        valid: list[NDArray[np.bool_]] = []
        for token, source, columns in zip(self.spec.tokens, self.sources, self.columns, strict=True):
            parts[token.name] = got.arrays[source][..., columns]
            if source == "actions" and "executed" in got.arrays:
                last = np.inf if present is None else present
                past = np.arange(parts[token.name].shape[1]) < np.reshape(last, (-1, 1))
                executed = got.arrays["executed"][..., columns]
                parts[token.name] = np.where(past[..., None, None], executed, parts[token.name])
            valid.append(np.asarray(got.valid[source].all(-1)))
            if token.name in self.spec.relative:
                seen = got.arrays["observations"]
                own = seen if present is None else seen[np.arange(len(seen)), present][:, None]
                parts[token.name] -= self.spec.origin(token.name, own[:, :, -1])[:, :, None]
        return parts, valid

    def draw(
        self,
        rng: np.random.Generator,
        batch: int,
        longest_of: int = 1,
        present: NDArray[np.integer[Any]] | int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens x (B, T, D) normalised, inside (B, S), valid (B, T, D) where a value was recorded.

        `present` (B,) is the step that relative channels refer to.
        """
        starts = rng.integers(0, len(self.windows), size=(longest_of, batch))
        left = self.episodes.ends[np.searchsorted(self.episodes.ends, starts, side="right")] - starts
        return self.at(np.take_along_axis(starts, left.argmax(0)[None], 0)[0], present)

    def at(
        self, starts: NDArray[np.int64], present: NDArray[np.integer[Any]] | int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The windows that begin at `starts` (B,) env steps of the whole set; see `draw`."""
        got = self.windows.gather(starts)
        x, mask = self._packed(got, present)
        return x, torch.from_numpy(got.inside), mask

    def within(
        self, rng: np.random.Generator, count: int, present: NDArray[np.integer[Any]], turns: float
    ) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        """Windows of whole episodes, and all that came before them.

        An episode is drawn as often as it is long; in it the present anywhere, or where the action changes: elsewhere
        what is right follows from what was just done, and nothing is learned of what was seen before.

        Args:
            rng: draws.
            count: E episodes.
            present: (E * W,) step of each window that is its present; those of one episode together.
            turns: share of the windows whose present is drawn in proportion to the change of the action there
                (keyframes, arXiv 2106.06452, section 4).

        Returns:
            starts (E * W,) of the windows; steps (E, S, G, D) from each episode's beginning on, normalised, relative
            channels told relative to their own step; and ends (E, W), how many of these steps are over when a window
            begins.
        """
        stride = self.spec.stride
        own = np.searchsorted(self.episodes.ends, rng.integers(0, len(self.windows), count), side="right")
        begin, end = self.episodes.starts[own][:, None], self.episodes.ends[own][:, None]
        draw = rng.random((2, count, len(present) // count))
        now = begin + (draw[0] * (end - begin)).astype(np.int64)
        total = self._change[begin], self._change[end]
        turn = np.searchsorted(self._change, total[0] + draw[0] * (total[1] - total[0]), side="right") - 1
        now = np.clip(np.where(draw[1] < turns, turn, now), begin, end - 1)
        starts = np.maximum(now - present.reshape(now.shape) * stride, begin)
        ends = (starts - begin) // stride
        steps = max(16, -(-int(ends.max()) // 16) * 16)  # few sizes, so that what depends on the size is kept
        windows = replace(self.windows, frames=self.spec.frames(steps))
        x, _ = self._packed(windows.gather(begin[:, 0]), None)
        return starts.ravel(), x.unflatten(1, (steps, self.spec.group_size)), torch.from_numpy(ends)

    @cached_property
    def _change(self) -> Array:
        """(N + 1,) running sum over env steps of how much the actions change in the token that begins there."""
        rows = len(self.episodes.arrays["observations"])
        done = np.asarray(self.episodes.arrays.get("actions", np.zeros(rows)), np.float64).reshape(rows, -1)
        change = np.zeros(len(done) + self.spec.stride)
        scale = np.maximum(done.std(0), 1e-9)
        change[1 : len(done)] = np.square(np.diff(done, axis=0) / scale).sum(1)
        change[self.episodes.starts] = 0.0
        change = np.minimum(change, 50 * change.mean())  # a gripper's jump is not all there is
        within = np.convolve(change, np.ones(self.spec.stride))[self.spec.stride - 1 :][: len(done)]
        return np.append(0.0, np.cumsum(within + 1e-6))

    def _packed(self, got: Batch, present: NDArray[np.integer[Any]] | int | None) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) normalised, and where a value was recorded."""
        parts, valid = self._parts(got, present)
        x = self.normalizer.normalize(torch.from_numpy(self.spec.pack(parts)))
        mask = torch.from_numpy(np.stack(valid, 2))[..., None] & torch.from_numpy(self.spec.valid)
        mask = mask.flatten(1, 2)
        return x * mask, mask
