"""Schedule matrices: which level each token has after each network call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dfplan.tools.named import named


@dataclass(frozen=True)
class ScheduleMatrix:
    """Levels (M+1, T): row m is what the network sees at call m, the last row is what comes out.

    Columns never rise and lie in [0, 1]. Known tokens are a mask beside the matrix, not part of it.
    """

    levels: Tensor

    def __post_init__(self) -> None:
        """Check the invariants.

        Raises:
            ValueError: naming the row and token that break one.
        """
        levels = self.levels
        if levels.ndim != 2 or levels.shape[0] < 2 or levels.shape[1] < 1:
            raise ValueError(
                f"got levels of shape {tuple(levels.shape)}, expected (M+1, T) with at least two rows and one token"
            )
        if not (torch.isfinite(levels).all() and (levels >= 0).all() and (levels <= 1).all()):
            raise ValueError(f"levels must lie in [0, 1]; got {levels.min():.3g} to {levels.max():.3g}")
        rise = (levels.diff(dim=0) > 1e-9).nonzero()
        if len(rise):
            m, t = rise[0].tolist()
            raise ValueError(
                f"level of token {t} rises from row {m} to {m + 1}: {levels[m, t]:.3g} to {levels[m + 1, t]:.3g}"
            )

    @property
    def calls(self) -> int:
        """M, network calls."""
        return self.levels.shape[0] - 1

    @property
    def finished(self) -> bool:
        """True when every token ends clean."""
        return bool((self.levels[-1] == 0).all())

    def scaled(self, level: float) -> ScheduleMatrix:
        """The same shape, started from `level` in (0, 1] instead of noise (warm start)."""
        if not 0 < level <= 1:
            raise ValueError(
                f"got a starting level of {level}, expected above 0 and at most 1 (1 is a cold start)"
            )
        return ScheduleMatrix(self.levels * level)

    def repeat(self, group: int) -> ScheduleMatrix:
        """One column per step -> one per token, `group` tokens a step."""
        return ScheduleMatrix(self.levels.repeat_interleave(group, 1))


def _from_delay(delay: Tensor, steps: int) -> ScheduleMatrix:
    """Token t starts `delay[t]` rows late and then takes `steps` rows from noise to clean."""
    if steps < 1:
        raise ValueError(f"got steps={steps}, expected 1 or more network calls per token")
    rows = torch.arange(steps + math.ceil(float(delay.max())) + 1, dtype=torch.float64)[:, None]
    return ScheduleMatrix(((steps + delay.double() - rows).clamp(0, steps) / steps).float())


def full(tokens: int, steps: int) -> ScheduleMatrix:
    """All tokens together: ordinary diffusion. M = steps."""
    return _from_delay(torch.zeros(tokens), steps)


def pyramid(tokens: int, steps: int, uncertainty: float = 1.0) -> ScheduleMatrix:
    """Near future cleaner than far future (Diffusion Forcing, section 3.3 and appendix B.1).

    Each token starts `uncertainty` rows after the one before it. M = steps + ceil(uncertainty * (T - 1)).
    """
    if uncertainty < 0:
        raise ValueError(f"got uncertainty={uncertainty}, expected 0 (all together) or more")
    return _from_delay(uncertainty * torch.arange(tokens), steps)


def autoregressive(tokens: int, steps: int) -> ScheduleMatrix:
    """One token after the other. M = steps * T."""
    return pyramid(tokens, steps, float(steps))


def trapezoid(tokens: int, steps: int, uncertainty: float = 1.0) -> ScheduleMatrix:
    """Both ends first, the middle last: for plans whose start and goal are known."""
    if uncertainty < 0:
        raise ValueError(f"got uncertainty={uncertainty}, expected 0 (all together) or more")
    index = torch.arange(tokens)
    return _from_delay(uncertainty * torch.minimum(index, tokens - 1 - index), steps)


def streaming(tokens: int) -> ScheduleMatrix:
    """One control tick: every token moves one notch down a ramp, the first becomes clean. M = 1.

    After the tick the caller drops the first token, shifts the rest and appends noise, which restores row 0.
    """
    ramp = torch.arange(tokens + 1) / tokens
    return ScheduleMatrix(torch.stack([ramp[1:], ramp[:-1]]))


SCHEDULES: dict[str, Callable[..., ScheduleMatrix]] = {
    "full": full,
    "pyramid": pyramid,
    "autoregressive": autoregressive,
    "trapezoid": trapezoid,
}


def make(name: str, tokens: int, steps: int, uncertainty: float) -> ScheduleMatrix:
    """Schedule by name; `uncertainty` is used by those that have it.

    Args:
        name: one of `SCHEDULES`, or `module:Name` of one's own: `(tokens, steps, uncertainty) -> ScheduleMatrix`.
        tokens: T, its columns.
        steps: network calls each token takes from noise to clean.
        uncertainty: rows by which a token starts after the one before it.

    Raises:
        ValueError: an unknown name, or one's own makes something else.
    """
    found = named("schedule", name, SCHEDULES)
    if name in SCHEDULES:
        return found(tokens, steps, uncertainty) if name in ("pyramid", "trapezoid") else found(tokens, steps)
    made = found(tokens, steps, uncertainty)
    if not isinstance(made, ScheduleMatrix) or made.levels.shape[1] != tokens:
        raise ValueError(f"schedule '{name}' made {made}, expected a ScheduleMatrix of {tokens} columns")
    return made
