"""What is known of a trajectory: producers of `Known`, and `|` that puts them together. It is told in arrays, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.spec import Token, TrajectorySpec
from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dfplan.noise import NoiseSchedule

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Known:
    """What is known of a trajectory. `a | b` knows what either does.

    Attributes:
        values: (B, T, D) float32, normalised, used where `mask` or `part` is True. An array, like all of these, until
            `to` makes tensors of them.
        mask: (B, T) True at tokens that are wholly known.
        level: (B, T) how noisy the known value is: 0 exact, above 0 a doubtful sensor. None: all exact.
        part: (B, T, D) True at single numbers that are known inside tokens that are not; None: nowhere.
    """

    values: Any
    mask: Any
    level: Any = None
    part: Any = None

    def __or__(self, other: Known) -> Known:
        """Both.

        Raises:
            ValueError: where both say something of the same number.
        """
        if self.values.shape[1:] != other.values.shape[1:]:
            raise ValueError(
                f"got what is known of {self.values.shape} and of {other.values.shape} tokens; make both for one window"
            )
        mine, yours = self._where(), other._where()
        twice = (mine & yours).any(-1)
        if twice.any():
            b, t = np.argwhere(twice)[0].tolist()
            raise ValueError(f"token {t} of trajectory {b} is known twice; leave one of the two out")
        level = None
        if self.level is not None or other.level is not None:
            level = np.where(self.mask, self.levels(), other.levels())
        part = None
        if self.part is not None or other.part is not None:
            part = (mine & ~self.mask[..., None]) | (yours & ~other.mask[..., None])
        return Known(np.where(mine, self.values, other.values), self.mask | other.mask, level, part)

    def _where(self) -> NDArray[np.bool_]:
        """(B, T, D) True at numbers that are known."""
        whole = np.broadcast_to(self.mask[..., None], self.values.shape)
        return whole if self.part is None else whole | self.part

    def levels(self) -> NDArray[np.float32]:
        """(B, T) `level`, zeros where it is None."""
        return np.zeros(self.mask.shape, np.float32) if self.level is None else self.level

    def to(self, device: torch.device) -> Known:
        """The same as tensors on a device."""
        import torch

        own = (self.values, self.mask, self.level, self.part)
        return Known(*(None if x is None else torch.as_tensor(x, device=device) for x in own))

    def repeat(self, count: int) -> Known:
        """Each trajectory `count` times, one after the other: (B, ...) -> (B * count, ...)."""
        own = (self.values, self.mask, self.level, self.part)
        return Known(*(None if x is None else np.repeat(x, count, 0) for x in own))


class Scaled(Protocol):
    """Such as `dfplan.nets.normalize.Normalizer`, on the CPU."""

    @property
    def mean(self) -> Any:
        """(G, D), physical units."""

    @property
    def scale(self) -> Any:
        """(G, D), physical units."""


@dataclass(frozen=True)
class Window:
    """What producers need to know of a model.

    Attributes:
        spec: what a token is.
        normalizer: physical <-> normalised, on the CPU.
        steps: S of the trajectories.
    """

    spec: TrajectorySpec
    normalizer: Scaled
    steps: int

    def token(self, name: str) -> tuple[int, Token]:
        """Place in a step, and the token called `name`."""
        names = [t.name for t in self.spec.tokens]
        g = names.index(one_of("token", name, names))
        return g, self.spec.tokens[g]

    def columns(self, token: Token) -> list[int]:
        """Columns of its source's array that a token shows."""
        return [self.spec.channel(c).index for c in token.channels]

    def normalized(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Frames of each token, see `TrajectorySpec.pack`, in physical units -> tokens (B, T, D)."""
        packed, mean = self.spec.pack(parts), np.asarray(self.normalizer.mean)
        steps = packed.reshape(len(packed), -1, *mean.shape)
        return ((steps - mean) / np.asarray(self.normalizer.scale)).reshape(packed.shape)

    def nothing(self, batch: int) -> Known:
        """Of `batch` trajectories nothing is known."""
        tokens = self.steps * self.spec.group_size
        return Known(np.zeros((batch, tokens, self.spec.width), np.float32), np.zeros((batch, tokens), bool))


def past(window: Window, seen: Array, done: Array | None = None) -> Known:
    """History: what was observed, and what was carried out in between.

    Args:
        window: of the model.
        seen: (B, h, stack, O) the frames of the first h steps, the present last.
        done: (B, h - 1, stack, A) the actions of the steps before the present; None: not known.
    """
    batch, count = seen.shape[:2]
    x, known = _packed(window, seen, done, seen[:, -1:])
    out, tokens = window.nothing(batch), count * window.spec.group_size
    out.mask[:, :tokens] = known.ravel()
    out.values[:, :tokens] = x
    return out


def steps(window: Window, seen: Array, done: Array) -> NDArray[np.float32]:
    """Steps that are over, as a memory takes them in: each told relative to itself, not to the present.

    Args:
        window: of the model.
        seen: (B, h, stack, O) the frames of each.
        done: (B, h, stack, A) the actions of each.

    Returns:
        (B, h, G, D) normalised.
    """
    x, _ = _packed(window, seen, done, seen)
    return x.reshape(*seen.shape[:2], window.spec.group_size, window.spec.width)


def _packed(
    window: Window, seen: Array, done: Array | None, own: Array
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Tokens (B, h * G, D) relative to the last frames of `own` (B, h or 1, stack, O), and which of (h, G) are known."""
    spec = window.spec
    batch, count = seen.shape[:2]
    parts: dict[str, NDArray[np.float32]] = {}
    known = np.zeros((count, spec.group_size), bool)
    for g, token in enumerate(spec.tokens):
        source, columns = spec.channel(token.channels[0]).source, window.columns(token)
        part: NDArray[np.float32] = np.zeros((batch, count, spec.stack, len(columns)), np.float32)
        if source == "observations":
            part, known[:, g] = seen[..., columns].astype(np.float32), True
        elif source == "actions" and done is not None:
            part[:, : done.shape[1]], known[: done.shape[1], g] = done[..., columns], True
        if token.name in spec.relative:
            part = part - spec.origin(token.name, own[:, :, -1])[:, :, None].astype(np.float32)
        parts[token.name] = part
    return window.normalized(parts) * np.tile(spec.valid, (count, 1)), known


def given(
    window: Window, name: str, values: ArrayLike, where: NDArray[np.bool_], level: float = 0.0
) -> Known:
    """One kind of token at some steps: a goal, a reward, a return to go, a sensor.

    Args:
        window: of the model.
        name: the token.
        values: (C,) or (B, C), the same at all of these steps and frames, or (B, S, stack, C); physical units.
        where: (B, S) True at the steps.
        level: 0 exact, above 0 doubtful.

    Raises:
        ValueError: for a token that the model does not have, or values that do not fit it.
    """
    spec, (g, token) = window.spec, window.token(name)
    rows = np.asarray(values, np.float64)
    size, mask = len(token.channels), np.asarray(where)
    if rows.shape[-1:] != (size,) or rows.ndim not in (1, 2, 4) or not np.isfinite(rows).all():
        raise ValueError(
            f"got {np.asarray(values).tolist()} for token '{name}', expected {size} finite numbers: "
            f"{', '.join(token.channels)}"
        )
    if token.name in spec.relative:
        raise ValueError(f"token '{name}' is told relative to the present; it cannot be given by itself")
    if rows.ndim < 4:
        rows = np.broadcast_to(rows.reshape(-1, 1, 1, size), (len(mask), window.steps, spec.stack, size))
    parts = {t.name: np.zeros((len(mask), window.steps, spec.stack, len(t.channels))) for t in spec.tokens}
    x, out = window.normalized({**parts, name: rows}), window.nothing(len(mask))
    places = np.arange(window.steps) * spec.group_size + g
    out.mask[:, places] = mask
    out.values[:, places] = np.where(mask[..., None], x[:, places], 0.0)
    return replace(out, level=np.where(out.mask, np.float32(level), np.float32(0))) if level else out


def asked(window: Window, returns: float, batch: int) -> Known:
    """Returns at every step: what should come out of what is done.

    Args:
        window: of the model.
        returns: in the units of its token of returns.
        batch: B.

    Raises:
        ValueError: the model has no such token.
    """
    spec = window.spec
    name = next((t.name for t in spec.tokens if spec.channel(t.channels[0]).source == "returns"), None)
    if name is None:
        raise ValueError(
            f"got returns={returns}, but no token of the model is one of returns (it has "
            f"{[t.name for t in spec.tokens]}); leave it out, or train with returns.discount"
        )
    return given(window, name, [returns], np.ones((batch, window.steps), bool))


def committed(window: Window, actions: Array, present: Array, first: int, clean: bool = True) -> Known:
    """Actions that will be carried out in any case, from the present on.

    Args:
        window: of the model, whose last token is the action.
        actions: (B, C, A) of consecutive env steps.
        present: (B, O) the present observation: what relative channels refer to.
        first: step that is the present.
        clean: whole tokens are known at level 0. Otherwise, and where they do not fill a token, they are single
            known numbers in it.
    """
    spec, token = window.spec, window.spec.tokens[-1]
    batch, number, stride, group = len(actions), actions.shape[1], spec.stride, spec.group_size
    out, columns = window.nothing(batch), window.columns(token)
    if not number:
        return out
    count, size = -(-number // stride), len(columns)
    rows = np.concatenate([actions, np.repeat(actions[:, -1:], count * stride - number, 1)], 1)
    rows = rows.reshape(batch, count, stride, -1)[..., columns]
    rows = (rows - spec.origin(token.name, present)[:, None, None]).astype(np.float32)
    parts = {
        t.name: np.zeros((batch, count, spec.stack, len(t.channels)), np.float32) for t in spec.tokens[:-1]
    }
    x = window.normalized({**parts, token.name: rows})[:, group - 1 :: group]
    part = np.zeros((batch, count, spec.width), bool)
    index = np.arange(count * stride).reshape(count, stride).repeat(size, 1)
    part[..., : size * stride] = index < number
    whole = np.asarray(part[..., : size * stride].all(-1)) & clean
    places = (first + np.arange(count)) * group + group - 1
    out.values[:, places] = np.where(part, x, 0.0)
    out.mask[:, places] = whole
    inside = np.zeros(out.values.shape, bool)
    inside[:, places] = part & ~whole[..., None]
    return replace(out, part=inside)


def doubt(known: Known, level: NDArray[np.float64]) -> Known:
    """The same with its first tokens at a level each; at level 1 they are not known at all.

    Args:
        known: of the past.
        level: (B, h, G) of the tokens of the first h steps; 0 believes them.
    """
    rows = level.reshape(len(level), -1)
    found = known.levels().copy()
    found[:, : rows.shape[1]] = rows
    return Known(known.values, known.mask & (found < 1), found, known.part)


def noised(known: Known, noise: Tensor, schedule: NoiseSchedule) -> Known:
    """The same as tensors, with the noise (B, T, D) of its level in each doubtful value."""
    known = known.to(noise.device)
    if known.level is None:
        return known
    level = known.level
    alpha, sigma = schedule.alpha(level)[..., None], schedule.sigma(level)[..., None]
    return replace(known, values=known.values + noise * sigma / alpha.clamp_min(1e-3))
