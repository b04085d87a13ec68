"""What acting is told, what it looks back on, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.decide.sampling import Sampling
from dfplan.known import Known, Scaled
from dfplan.nets.kept import Remembered
from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Doubt = Sequence[str]
Noise = Callable[[], Any]
"""Draws (B, T, D) standard normal numbers, as the network takes them."""


@dataclass(frozen=True)
class ImitationConfig(Sampling):
    """How a policy looks back and acts.

    Attributes:
        memory: steps of history that decisions follow from, the present included; 0: as many as the model was trained
            to look back on, which is the whole episode where it has a memory.
        recent: most of these that are in the window itself; 0: all, or 2 where the model has a memory for the others.
        chunk: env steps executed for each decision, a multiple of the model's stride; 0: two tokens.
        stream: decide every `stride` env steps with one network call, down a ramp of levels (`chunk` is not used).
        ramp: tokens of the future on that ramp; fewer follow the present more closely.
        steps: network calls for each token, not streaming.
        doubt: level at which tokens of a doubtful sensor enter: above 0 with what was last trusted, or left out (1);
            0 believes what it says.
        stabilise: level that steps have at least when they are remembered: they are noised anew, so that small errors
            of a long episode look like noise (Diffusion Forcing, section 3.3).
        history_guidance: w in x0 = x0(window) + (1 + w) (x0(window, memory) - x0(window)): how much more than learned
            what is remembered counts (history guidance, arXiv 2502.06764, section 3).
        guidance: nats per unit of the policy's `cost`; 0 does without.
        returns: what is asked for, in the units of the model's token of returns: 1 is the best action of all, where
            `dfplan.nets.returns` made them. None: as good as the demonstrations happen to be.
        temperature: standard deviation of the noise that decisions begin with: 1 draws from what was learned, 0 gives
            the same answer to the same readings, about the mean.
    """

    memory: int = 0
    recent: int = 0
    chunk: int = 0
    stream: bool = False
    ramp: int = 2
    steps: int = 5
    doubt: float = 1.0
    stabilise: float = 0.0
    history_guidance: float = 0.0
    guidance: float = 0.0
    returns: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        for name, low in (("memory", 0), ("recent", 0), ("chunk", 0), ("ramp", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"got {name}={getattr(self, name)}, expected {low} or more")
        if not self.guidance >= 0:
            raise ValueError(f"got guidance={self.guidance}, expected 0 or more nats per unit of cost")
        if not 0 <= self.temperature <= 1:
            raise ValueError(f"got temperature={self.temperature}, expected 0 (the mean) to 1 (a fair draw)")
        for name in ("doubt", "stabilise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"got {name}={getattr(self, name)}, expected a level from 0 (believed) to 1 (left out)"
                )
        if not 0 <= self.history_guidance < float("inf"):
            raise ValueError(f"got history_guidance={self.history_guidance}, expected 0 or more, such as 0.5")
        if self.history_guidance and self.precision != "fp32":
            raise ValueError(
                f"got history_guidance={self.history_guidance} with precision='{self.precision}', expected 'fp32': it is "
                "a difference of two answers of the network; choose one of them"
            )


def carried(rows: Array, trusted: Flags) -> Array:
    """(N, O) readings in which what is not trusted is the last that was.

    Before the first trusted one it is the reading itself, or 0 where that is no number.
    """
    out = np.where(np.isfinite(rows), rows, 0.0)
    for n in range(1, len(out)):
        out[n] = np.where(trusted[n], out[n], out[n - 1])
    return out


@dataclass(frozen=True)
class History:
    """What B robots saw and did up to the present.

    Attributes:
        observations: (B, N, O) one per env step, the present last; in the units of the demonstrations.
        doubtful: (B, N, G - 1) True where an observation token is not to be trusted.
        done: (B, N - 1, A) the action executed after each observation but the last.
        since: env steps from the start of the episode to the present, where older observations were left away; None:
            there are none.
        unknown: (B, N, G - 1) True where such a token has never been trusted so far; None: nowhere.
    """

    observations: Array
    doubtful: Flags
    done: Array
    since: int | None = None
    unknown: Flags | None = None

    def levels(self, rows: NDArray[np.int_], doubt: float) -> Array:
        """(B, *rows, G) levels of the tokens that end at these observations; what was never trusted is left out."""
        level = doubt * self.doubtful[:, rows].any(-2)
        if self.unknown is not None:
            level = np.where(self.unknown[:, rows].any(-2), 1.0, level)
        return np.pad(level, ((0, 0),) * (level.ndim - 1) + ((0, 1),))

    @property
    def elapsed(self) -> int:
        """Env steps from the start of the episode to the present."""
        return self.observations.shape[1] - 1 if self.since is None else self.since


@dataclass(frozen=True)
class Decision:
    """What an `Actor` answers.

    Attributes:
        actions: (B, M, A) the clean ones from the first free env step on, clipped to the limits.
        raw: (B, M, A) before clipping.
        calls: network calls that it took.
        ramp: (B, T', D) half-noisy future of a streaming policy, for its next decision; None otherwise.
        state: of the network, for the next decision; None where it keeps none.
    """

    actions: Array
    raw: Array
    calls: int
    ramp: Any = field(default=None, repr=False)
    state: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class About:
    """What acting needs to know of a model.

    Attributes:
        spec: what a token is; its last one is the action, with lag stride - 1 and stack = stride.
        normalizer: physical <-> normalised, on the CPU.
        horizon: S, steps of its window.
        longest: most steps of history, the present included, that it was trained to see in the window; 0: not told.
        remembers: whether it has a memory of the steps before.
        causal: whether a token depends on itself and on what is before it alone.
        goal: its own, or None.
        goal_token: name of the token that a goal fixes; empty for none.
        limits: low (A,) and high (A,) of the demonstrations' actions; None: not known.
    """

    spec: TrajectorySpec
    normalizer: Scaled
    horizon: int
    longest: int
    remembers: bool
    causal: bool
    goal: tuple[float, ...] | None
    goal_token: str
    limits: tuple[ArrayLike, ArrayLike] | None


@dataclass(frozen=True)
class Asked:
    """One decision that a network has to make.

    Attributes:
        found: what is known.
        steps: of history in the window, the present included.
        committed: env steps from the present on whose actions are known.
        present: (B, O) the present observation.
        start: (B, T, D) the noise that it begins with.
        noise: draws more.
        past: what is remembered of the steps before the window, or None.
        ramp: of the last decision, where the policy streams.
        state: of the last decision.
    """

    found: Known
    steps: int
    committed: int
    present: Array
    start: Any
    noise: Noise
    past: Remembered | None
    ramp: Any
    state: Any
