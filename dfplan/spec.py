"""TrajectorySpec: which channels share a token, and which env step each token stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Channel:
    """One number of an env step.

    Attributes:
        name: unique name, such as `x`.
        unit: physical unit, such as `m`.
        source: array of `Episodes` it comes from.
        index: column in that array.
        reference: name of the observation channel that it is told relative to: values are differences from that
            channel in the present (the last frame of the last known step). A commanded position relative to the
            measured one, or an object relative to the hand, is small and precise. Empty: absolute.
    """

    name: str
    unit: str = ""
    source: str = "observations"
    index: int = 0
    reference: str = ""


@dataclass(frozen=True)
class Token:
    """Channels that share one token, and so one noise level.

    Attributes:
        name: unique name, such as `position`.
        channels: names of the channels, in order.
        lag: env steps added to the step's index; -1 on actions gives the action that led to the observation.
        weight: how much its error counts in the loss; a token counts the same however many channels it has.
    """

    name: str
    channels: tuple[str, ...]
    lag: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class TrajectorySpec:
    """How arrays become tokens and back.

    A *step* is every `stride` env steps and holds `stack` frames (env steps) that end there: step s has the
    frames `s*stride - stack + 1 .. s*stride`, so step 0 is the present, repeated. Each step has one token for
    each entry of `tokens`, in that order: T = S * G. D is the widest token; narrower ones are zero-padded.

    Attributes:
        channels: every channel that is modelled.
        tokens: how channels are grouped.
        dt: seconds between env steps.
        stride: env steps between two steps of the plan.
        stack: env steps in one token.
        observation_size: O, the width of the environment's observation.
        action_size: A, the width of the environment's action.
    """

    channels: tuple[Channel, ...]
    tokens: tuple[Token, ...]
    dt: float
    stride: int = 1
    stack: int = 1
    observation_size: int = 0
    action_size: int = 0
    _where: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that every channel sits in exactly one token.

        Raises:
            ValueError: naming the channel or field, with the fix.
        """
        names = [c.name for c in self.channels]
        used = [name for token in self.tokens for name in token.channels]
        if len(set(names)) != len(names):
            raise ValueError(f"channel names must differ; got {names}")
        if sorted(used) != sorted(names):
            raise ValueError(
                f"each channel belongs in exactly one token; channels are {sorted(names)}, tokens use {sorted(used)}"
            )
        if len({t.name for t in self.tokens}) != len(self.tokens):
            raise ValueError(f"token names must differ; got {[t.name for t in self.tokens]}")
        for name, value in (("stride", self.stride), ("stack", self.stack)):
            if value < 1:
                raise ValueError(f"got {name}={value}, expected a number of env steps of 1 or more")
        if not self.dt > 0:
            raise ValueError(f"got dt={self.dt}, expected seconds above 0")
        for token in self.tokens:
            if not token.weight > 0:
                raise ValueError(f"token '{token.name}' has weight {token.weight}, expected a number above 0")
            if len({self.channel(c).source for c in token.channels}) != 1:
                raise ValueError(
                    f"token '{token.name}' mixes sources; put observations and actions in tokens of their own"
                )
        for c in self.channels:
            size = {"observations": self.observation_size, "actions": self.action_size}.get(c.source)
            if size is not None and c.index >= size:
                raise ValueError(
                    f"channel '{c.name}' is column {c.index} of {c.source}, which has {size} columns"
                )
            if c.reference and (self.channel(c.reference).source != "observations" or c.reference == c.name):
                raise ValueError(
                    f"channel '{c.name}' is relative to '{c.reference}'; a channel can be relative only to another one, "
                    "of the observations"
                )
        self._where.update(
            {name: (g, i) for g, t in enumerate(self.tokens) for i, name in enumerate(t.channels)}
        )

    def channel(self, name: str) -> Channel:
        """The channel called `name`."""
        for c in self.channels:
            if c.name == name:
                return c
        raise ValueError(f"got channel '{name}', expected one of {[c.name for c in self.channels]}")

    @cached_property
    def group_size(self) -> int:
        """G, tokens per step."""
        return len(self.tokens)

    @cached_property
    def width(self) -> int:
        """D, channels of the widest token."""
        return max(len(t.channels) for t in self.tokens) * self.stack

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(G, D) True where a token really has a channel."""
        rows = [np.arange(self.width) < len(t.channels) * self.stack for t in self.tokens]
        return np.stack(rows)

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """(G, D) share of each number in the loss: a token's weight over its channels, and again over its padding."""
        count = np.where(self.valid, self.valid.sum(1, keepdims=True), self.width)
        return (np.array([[t.weight] for t in self.tokens]) / count).astype(np.float32)

    def origin(self, token: str, observation: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """What a token's values are relative to: present observations (..., O) -> (..., C), 0 where absolute."""
        channels = [self.channel(c) for c in next(t for t in self.tokens if t.name == token).channels]
        columns = [self.channel(c.reference).index if c.reference else 0 for c in channels]
        return observation[..., columns] * np.array([bool(c.reference) for c in channels])

    def origins(self, source: str, observation: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """What an array's columns are told relative to: present observations (B, O) -> (B, C), 0 where absolute."""
        mine = [c for c in self.channels if c.source == source]
        size = {"observations": self.observation_size, "actions": self.action_size}.get(source, len(mine))
        out = np.zeros((len(observation), size))
        for c in mine:
            if c.reference:
                out[:, c.index] = observation[:, self.channel(c.reference).index]
        return out

    @cached_property
    def relative(self) -> tuple[str, ...]:
        """Names of the tokens that have a relative channel."""
        return tuple(t.name for t in self.tokens if any(self.channel(c).reference for c in t.channels))

    def frames(self, steps: int) -> NDArray[np.int64]:
        """(S, stack) env-step offset of each frame, 0 the start; negative where a stack reaches before it."""
        return np.arange(steps)[:, None] * self.stride + np.arange(1 - self.stack, 1)[None]

    def pack(self, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """Frames of each token -> tokens.

        Args:
            arrays: token name -> (B, S, stack, C) in the order of that token's channels.

        Returns:
            (B, T, D) float32.
        """
        first = arrays[self.tokens[0].name]
        batch, steps = first.shape[:2]
        out = np.zeros((batch, steps, self.group_size, self.width), np.float32)
        for g, token in enumerate(self.tokens):
            flat = arrays[token.name].reshape(batch, steps, -1)
            out[:, :, g, : flat.shape[-1]] = flat
        return out.reshape(batch, steps * self.group_size, self.width)

    def unpack(self, x: Tensor) -> dict[str, Tensor]:
        """Tokens -> channels: (B, T, D) -> channel name -> (B, S, stack)."""
        batch, tokens, width = x.shape
        if tokens % self.group_size or width != self.width:
            raise ValueError(
                f"got tokens of shape {tuple(x.shape)}, expected (B, S*{self.group_size}, {self.width})"
            )
        x = x.reshape(batch, tokens // self.group_size, self.group_size, width)
        out = {}
        for g, token in enumerate(self.tokens):
            size = len(token.channels)
            part = x[:, :, g, : size * self.stack].unflatten(-1, (self.stack, size))
            out.update({name: part[..., i] for i, name in enumerate(token.channels)})
        return out

    def array(self, x: Tensor, source: str, present: Tensor | None = None) -> Tensor | None:
        """Tokens -> one env array: (B, T, D) -> (B, S*stack, C), or None where no channel comes from `source`.

        Columns that are not modelled are taken from `present`, (C,) or (B, 1, 1, C), or are 0.
        """
        mine = [c for c in self.channels if c.source == source]
        if not mine:
            return None
        size = {"observations": self.observation_size, "actions": self.action_size}.get(source)
        channels = self.unpack(x)
        sample = channels[mine[0].name]
        out = sample.new_zeros(*sample.shape, size or len(mine))
        if present is not None:
            out += present
        for c in mine:
            out[..., c.index] = channels[c.name]
        return out.flatten(1, 2)

    def token_mask(self, name: str) -> Tensor:
        """(G,) True at the token called `name`."""
        names = [t.name for t in self.tokens]
        if name not in names:
            raise ValueError(f"got token '{name}', expected one of {names}")
        import torch  # specs are read where there is no torch too

        return torch.tensor([n == name for n in names])
