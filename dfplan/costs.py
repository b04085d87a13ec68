"""Costs on plans, in physical units: goals, shapes to keep out of or in, speed, smoothness, actions, returns, sums.

What can be jumped over between two steps of a plan, such as an obstacle, is looked at along the straight line between
them, not at the steps alone.
"""

from __future__ import annotations

import ast
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dfplan.tools.named import named

Cost: TypeAlias = "Callable[[dict[str, Tensor], Tensor], Tensor]"
"""`(channels, mask) -> (B,)`: channel name -> (B, H) in physical units, mask (B, H) True inside the horizon."""
XY = ("x", "y")
BETWEEN = 8  # points looked at on the line between two steps, for shapes without a closed form


class Shape(ABC):
    """A region by its signed distance, over the channels `names`."""

    names: tuple[str, ...]

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """Points (..., C) -> signed distance (...) to the surface, negative inside (unit of the channels)."""

    def along(self, path: Tensor) -> Tensor:
        """Path (..., H, C) -> (..., H-1): the least distance on each straight line between two steps."""
        a, b = path[..., :-1, None, :], path[..., 1:, None, :]
        part = torch.linspace(0, 1, BETWEEN + 1, dtype=path.dtype, device=path.device)[:, None]
        return self.distance(torch.lerp(a, b, part)).amin(-1)


@dataclass(frozen=True)
class Ball(Shape):
    """A ball around `center` (C,)."""

    center: tuple[float, ...]
    radius: float
    names: tuple[str, ...] = XY

    def __post_init__(self) -> None:
        """Refuse a radius below 0, and a centre that does not fit the names."""
        if not self.radius >= 0 or len(self.center) != len(self.names):
            raise ValueError(
                f"got a ball of radius {self.radius} around {self.center}, expected 0 or more, and a value for each "
                f"of {self.names}"
            )

    def distance(self, points: Tensor) -> Tensor:
        """See `Shape`."""
        away = points - points.new_tensor(self.center)
        return (away.square().sum(-1) + 1e-10).sqrt() - self.radius

    def along(self, path: Tensor) -> Tensor:
        """See `Shape`; the nearest point of a segment in closed form."""
        a, way = path[..., :-1, :], path.diff(dim=-2)
        part = ((path.new_tensor(self.center) - a) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-12)
        return self.distance(a + part.clamp(0, 1)[..., None] * way)


@dataclass(frozen=True)
class Box(Shape):
    """All between `low` and `high` (C,)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...] = XY

    def __post_init__(self) -> None:
        """Refuse a box that is turned inside out, and sides that do not fit the names."""
        sizes = {len(self.low), len(self.high), len(self.names)}
        if len(sizes) > 1 or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"got a box from {self.low} to {self.high}, expected low below high, a value for each of {self.names}"
            )

    def distance(self, points: Tensor) -> Tensor:
        """See `Shape`."""
        gap = torch.maximum(points.new_tensor(self.low) - points, points - points.new_tensor(self.high))
        return (gap.clamp_min(0).square().sum(-1) + 1e-10).sqrt() + gap.amax(-1).clamp_max(0)


@dataclass(frozen=True)
class Polygon(Shape):
    """A polygon, convex or not, by its `corners` in order."""

    corners: tuple[tuple[float, float], ...]
    names: tuple[str, ...] = XY

    def __post_init__(self) -> None:
        """Refuse what has no inside."""
        if len(self.corners) < 3 or len(self.names) != 2 or any(len(c) != 2 for c in self.corners):
            raise ValueError(
                f"got corners {self.corners} over {self.names}, expected 3 or more of two values"
            )

    def distance(self, points: Tensor) -> Tensor:
        """See `Shape`: to the nearest side, inside where a ray crosses an odd number of sides."""
        a = points.new_tensor(self.corners)
        side, away = a.roll(-1, 0) - a, points[..., None, :] - a
        part = ((away * side).sum(-1) / side.square().sum(-1)).clamp(0, 1)
        near = ((away - part[..., None] * side).square().sum(-1) + 1e-10).sqrt().amin(-1)
        y, above, below = points[..., None, 1], a[:, 1], a.roll(-1, 0)[:, 1]
        right = a[:, 0] + (y - above) / (below - above) * side[:, 0] > points[..., None, 0]
        inside = (((above > y) != (below > y)) & right).sum(-1) % 2 == 1
        return torch.where(inside, -near, near)


@dataclass(frozen=True)
class Field(Shape):
    """Any signed distance: a function of points (..., C) that gives (...)."""

    function: Callable[[Tensor], Tensor]
    names: tuple[str, ...] = XY

    def distance(self, points: Tensor) -> Tensor:
        """See `Shape`."""
        return self.function(points)


def outside(shape: Shape) -> Field:
    """All that is not in a shape."""
    return Field(lambda points: -shape.distance(points), shape.names)


def keep_out(shapes: Sequence[Shape], margin: float = 0.0) -> Cost:
    """Stay `margin` away from shapes: squared depth (unit^2) of each line between two steps, summed over both."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        out = torch.zeros(len(mask), device=mask.device)
        both = mask[:, 1:] & mask[:, :-1] if mask.shape[1] > 1 else mask
        for shape in shapes:
            path = torch.stack([channels[name] for name in shape.names], -1)
            path = path if path.shape[1] > 1 else path.repeat(1, 2, 1)
            out = out + ((margin - shape.along(path)).clamp_min(0).square() * both).sum(-1)
        return out

    return cost


def keep_in(shape: Shape, margin: float = 0.0) -> Cost:
    """Stay in a shape, `margin` from its surface: squared excess (unit^2) of each line between two steps, summed."""
    return keep_out([outside(shape)], margin)


def obstacle(center: Mapping[str, float], radius: float) -> Cost:
    """Stay out of a ball around `center` (channel -> value, m)."""
    return keep_out([Ball(tuple(center.values()), radius, tuple(center))])


def box(low: Mapping[str, float], high: Mapping[str, float]) -> Cost:
    """Stay out of a box (channel -> value, m)."""
    if list(low) != list(high):
        raise ValueError(f"got channels {list(low)} and {list(high)}, expected the same for low and high")
    return keep_out([Box(tuple(low.values()), tuple(high.values()), tuple(low))])


def polygon(corners: Sequence[Sequence[float]], names: Sequence[str] = XY) -> Cost:
    """Stay out of a polygon (m)."""
    return keep_out([Polygon(tuple((float(x), float(y)) for x, y in corners), tuple(names))])


def goal(target: Mapping[str, float], within: float = 1.0) -> Cost:
    """Reach `target` (channel -> value) at any time: saturating squared distance summed over steps.

    `within` is the distance, in the channels' unit, at which the pull is half saturated.
    """

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        square = torch.stack([(channels[name] - value).square() for name, value in target.items()]).sum(0)
        return (square / (square + within**2) * mask).sum(-1)

    return cost


def speed(names: Sequence[str], most: float, dt: float) -> Cost:
    """Squared excess of speed over `most` (unit/s) between two steps `dt` seconds apart, summed."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        moved = torch.stack([channels[n].diff(dim=-1) for n in names]).square().sum(0)
        excess = ((moved + 1e-10).sqrt() / dt - most).clamp_min(0)
        return (excess.square() * (mask[:, 1:] & mask[:, :-1])).sum(-1)

    return cost


def smoothness(names: Sequence[str]) -> Cost:
    """Squared second difference of the named channels, summed over steps (unit^2)."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        both = mask[:, 2:] & mask[:, 1:-1] & mask[:, :-2]
        return torch.stack([(channels[n].diff(n=2, dim=-1).square() * both).sum(-1) for n in names]).sum(0)

    return cost


def actions(names: Sequence[str]) -> Cost:
    """Squared actions, or other channels, summed over steps (unit^2)."""
    return lambda channels, mask: torch.stack([(channels[n].square() * mask).sum(-1) for n in names]).sum(0)


def limits(low: Mapping[str, float], high: Mapping[str, float]) -> Cost:
    """Squared excess beyond limits per channel, summed over steps (unit^2)."""

    def cost(channels: dict[str, Tensor], mask: Tensor) -> Tensor:
        below = [((v - channels[n]).clamp_min(0).square() * mask).sum(-1) for n, v in low.items()]
        above = [((channels[n] - v).clamp_min(0).square() * mask).sum(-1) for n, v in high.items()]
        return torch.stack(below + above).sum(0)

    return cost


def returns(reward: str) -> Cost:
    """Minus the sum of a reward channel over the horizon."""
    return lambda channels, mask: -(channels[reward] * mask).sum(-1)


def total(*parts: tuple[float, Cost]) -> Cost:
    """Weighted sum of costs."""
    return lambda channels, mask: torch.stack([w * c(channels, mask) for w, c in parts]).sum(0)


COSTS: dict[str, Callable[..., Cost]] = {
    f.__name__: f for f in (goal, obstacle, box, polygon, speed, smoothness, actions, limits, returns)
}

_TERM = re.compile(
    r"\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*)?([\w.]+(?::[\w.]+)?)\s*(?:\(([^()]*)\))?\s*"
)


def written(text: str) -> Cost:
    """A cost from its text: names of `COSTS` or `module:Name`, with their parameters, weighted and summed.

    For example `obstacle(center={'x': 3, 'y': 2}, radius=0.4) + 0.1 * smoothness(names=['x', 'y'])`. Parameters are
    literals; nothing is evaluated.

    Raises:
        ValueError: on an unknown name, with the nearest one, or parameters that do not fit.
    """
    parts, at = [], 0
    while True:
        term = _TERM.match(text, at)
        if term is None:
            raise ValueError(f"got cost '{text}', expected such as obstacle(center={{'x': 3}}, radius=0.4)")
        weight, name, inside = term.groups()
        make = named("cost", name, COSTS)
        if not callable(make):
            raise ValueError(
                f"got cost '{name}', which cannot be called; expected a function that makes a cost"
            )
        try:
            call = ast.parse(f"f({inside or ''})", mode="eval").body
            assert isinstance(call, ast.Call)
            given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            parts.append((float(weight or 1), make(*map(ast.literal_eval, call.args), **given)))
        except (SyntaxError, ValueError, TypeError, AttributeError, KeyError) as error:
            known = ", ".join(inspect.signature(make).parameters)
            raise ValueError(
                f"got cost '{term.group().strip()}' ({error}), expected parameters as literals: {name}({known})"
            ) from error
        at = term.end()
        if at == len(text):
            return total(*parts) if len(parts) > 1 or parts[0][0] != 1 else parts[0][1]
        if text[at] != "+":
            raise ValueError(f"got cost '{text}', expected terms joined by +; '{text[at:]}' is none")
        at += 1
