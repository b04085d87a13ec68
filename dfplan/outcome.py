"""How episodes went, and the numbers that are made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.film import Frame
from dfplan.tools.hardware import hardware

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """How one episode went.

    Attributes:
        seed: of start and policy.
        total: undiscounted return.
        success: what the environment says at the end, where it tells `first_reach` itself; else whether it said
            `success` (or `is_success`) at any env step; None where it says neither.
        at_end: what it said at the last env step, or None.
        progress: largest progress, 0 to 1 (Push-T: largest target coverage over 0.95); None where not told.
        first_reach: env step of the first success, or None.
        steps: env steps.
        score: D4RL's normalised score as a fraction; None where there is no reference.
        collided: whether the robot touched what it must not; None where not told.
        calls: network calls; of robots side by side as many for each: those made together, or the mean.
        clipped: fraction of the policy's action numbers clipped, or None.
        seconds: wall time of each decision, divided by the number of robots it was made for.
        observations: (H+1, O).
        goal: of the environment's info, or None.
        part: which of the environment's tasks it was, where its info has several (`task`), or None.
        frames: of every second env step and the end, where they were asked for.
    """

    seed: int
    total: float
    success: bool | None
    at_end: bool | None
    progress: float | None
    first_reach: int | None
    steps: int
    score: float | None
    collided: bool | None
    calls: float
    clipped: float | None
    seconds: tuple[float, ...] = field(repr=False, compare=False)
    observations: Array = field(repr=False, compare=False)
    goal: Any = field(repr=False, compare=False)
    frames: list[Frame] = field(repr=False, compare=False)
    part: Any = None


def wilson(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a success rate (Wilson 1927)."""
    p, n = successes / episodes, episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and its standard error; None where one is not known."""
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known) or len(known) < len(values):
        return None, None
    return float(known.mean()), float(known.std() / len(known) ** 0.5)


def summary(task: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers that are reported; standard returns only, scores x100 as in the literature; None: not known."""
    count, wins = len(outcomes), [o.success for o in outcomes]
    score = _mean([None if o.score is None else 100 * o.score for o in outcomes])
    total, best = _mean([o.total for o in outcomes]), _mean([o.progress for o in outcomes])
    (success, _), reached = _mean(wins), [o.first_reach for o in outcomes if o.first_reach is not None]
    seconds = np.array([s for o in outcomes for s in o.seconds])
    p50, p99 = (float(1e3 * np.quantile(seconds, q)) if len(seconds) else None for q in (0.5, 0.99))
    return {
        "task": task, "episodes": count, "seed": min(o.seed for o in outcomes),
        "return_mean": total[0], "return_se": total[1], "score": score[0], "score_se": score[1],
        "success": success, "success_ci": None if success is None else list(wilson(sum(map(bool, wins)), count)),
        "success_at_end": _mean([o.at_end for o in outcomes])[0],
        "progress_mean": best[0], "progress_se": best[1], "first_reach_mean": _mean(reached)[0],
        "steps_mean": float(np.mean([o.steps for o in outcomes])), "collided": _mean([o.collided for o in outcomes])[0],
        "clipped": _mean([o.clipped for o in outcomes])[0], "network_calls_mean": float(np.mean([o.calls for o in outcomes])),
        "plan_ms_p50": p50, "plan_ms_p99": p99, "tasks": _tasks(outcomes), "hardware": hardware(),
    }  # fmt: skip


def _tasks(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """The same of each of the environment's tasks; None where it has but one."""
    out = {}
    for p in sorted({o.part for o in outcomes if o.part is not None}):
        own = [o for o in outcomes if o.part == p]
        at = _mean([o.first_reach for o in own if o.first_reach is not None])[0]
        out[str(p)] = {"episodes": len(own), "success": _mean([o.success for o in own])[0], "first_reach_mean": at}  # fmt: skip
    return out or None
