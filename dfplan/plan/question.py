"""What a planner is asked, checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dfplan.decide import generator_of
from dfplan.guidance import Cost
from dfplan.plan.answer import Plan
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A checked one, of B starts.

    Attributes:
        past: (B, h, O) history at the plan's stride, the present last.
        goal: (B, C), or None.
        returns: (B,), or None.
        cost: to be kept low, or None.
        steps: S.
        count: K candidates for each start.
        by: arrivals, dealt out over the candidates.
        level: of the history.
    """

    past: Array
    goal: Array | None
    returns: Array | None
    cost: Cost | None
    steps: int
    count: int
    by: Sequence[int]
    level: float


class Asks:
    """What a model can be asked.

    Attributes:
        place: columns of the observation that the goal token shows.
        returns: name of the token of returns, or None.
    """

    def __init__(self, model: Checkpoint) -> None:
        self.model, self.spec = model, model.config.spec
        self._token = next(t for t in self.spec.tokens if t.name == model.config.goal_token)
        self.place = [self.spec.channel(c).index for c in self._token.channels]
        self.returns = next(
            (t.name for t in self.spec.tokens if self.spec.channel(t.channels[0]).source == "returns"), None
        )

    def _goal_error(self, goal: object) -> str:
        names = self._token.channels
        return f"got goal {goal}, expected {len(names)} finite numbers: {', '.join(names)}"

    def one(self, history: ArrayLike, goal: ArrayLike | None) -> Array:
        """History (O,) or (h, O) and goal (C,) of one start -> (1, h, O).

        Raises:
            ValueError: where it is something else, such as several starts.
        """
        past, size = np.asarray(history, np.float64), self.spec.observation_size
        if past.ndim not in (1, 2) or past.shape[-1] != size:
            raise ValueError(
                f"got history of shape {past.shape}, expected ({size},) or (h, {size}) of one start; several starts go "
                "to plan_batch"
            )
        if goal is not None and np.ndim(goal) != 1:
            raise ValueError(self._goal_error(goal))
        return np.atleast_2d(past)[None]

    def question(
        self, history: ArrayLike, goal: ArrayLike | None, returns: ArrayLike | None, cost: Cost | None,
        horizon: int | None, count: int, arrivals: Sequence[int] | None, level: float,
    ) -> Question:  # fmt: skip
        """What `Planner.plan_batch` was given, for B starts.

        Raises:
            ValueError: on what does not fit, naming got, expected and the fix.
        """
        past = np.asarray(history, np.float64)
        size, longest = self.spec.observation_size, self.model.config.horizon
        if past.ndim != 3 or past.shape[2] != size or not past.size:
            raise ValueError(
                f"got history of shape {past.shape}, expected (B, h, {size}): one start is ({size},) or (h, {size}) in "
                "plan(), and B presents are observations[:, None] in plan_batch()"
            )
        if not np.isfinite(past).all():
            _, row, column = np.argwhere(~np.isfinite(past))[0]
            raise ValueError(
                f"history[{row}, {column}] is {past[~np.isfinite(past)][0]}; check the sensor, or plan without that row"
            )
        if goal is None and cost is None and returns is None:
            goal = self.model.config.goal
        aim = None if returns is None else self._aim(returns, len(past))
        steps = longest if horizon is None else horizon
        if not past.shape[1] < steps <= longest:
            raise ValueError(
                f"got horizon={steps} with {past.shape[1]} steps of history, expected {past.shape[1] + 1} to {longest}"
            )
        if count < 1:
            raise ValueError(f"got candidates={count}, expected 1 or more")
        by = [steps - 1] if arrivals is None else list(arrivals)
        if not by or not all(past.shape[1] <= n < steps for n in by):
            raise ValueError(f"got arrivals {by}, expected steps from {past.shape[1]} to {steps - 1}")
        if not 0 <= level <= 1:
            raise ValueError(f"got history_level={level}, expected 0 (exact) to 1 (unknown)")
        return Question(past, self._target(goal, len(past)), aim, cost, steps, count, by, level)

    def _target(self, goal: ArrayLike | None, batch: int) -> Array | None:
        if goal is None:
            return None
        target, size = np.asarray(goal, np.float64), len(self.place)
        if target.shape not in ((size,), (batch, size)) or not np.isfinite(target).all():
            raise ValueError(self._goal_error(goal))
        return np.broadcast_to(target, (batch, size))

    def _aim(self, returns: ArrayLike, batch: int) -> Array:
        if self.returns is None:
            raise ValueError(
                f"got returns={returns}, but no token of the model is one of returns (it has "
                f"{[t.name for t in self.spec.tokens]}); train with one, or guide by a cost"
            )
        aim = np.asarray(returns, np.float64)
        if aim.shape not in ((), (batch,)) or not np.isfinite(aim).all():
            raise ValueError(f"got returns={returns}, expected a finite number, or one for each of {batch}")
        return np.broadcast_to(aim, (batch,))

    def start(self, warm: Sequence[Plan] | None, elapsed: ArrayLike, batch: int) -> None:
        """Check what a plan is to start from.

        Raises:
            ValueError: on a time before 0, or plans of another planner.
        """
        passed = np.asarray(elapsed, np.float64)
        if passed.shape not in ((), (batch,)) or not ((passed >= 0) & (passed < np.inf)).all():
            raise ValueError(
                f"got elapsed={elapsed}, expected seconds of the warm plan that are over, 0 or more"
            )
        if warm is not None and len(warm) != batch:
            raise ValueError(f"got {len(warm)} warm plans for {batch} starts, expected one for each")
        for plan in warm or ():
            if plan.tokens.shape[-1] != self.spec.width or plan.tokens.shape[1] % self.spec.group_size:
                raise ValueError(
                    f"got a warm plan of tokens {tuple(plan.tokens.shape)}, expected one made by this planner"
                )


def drawn(
    seeds: Sequence[int] | None, generators: Sequence[torch.Generator] | None, starts: int
) -> tuple[list[int | None], Sequence[torch.Generator]]:
    """A seed, or None, and a generator for each start."""
    numbers: list[int | None]
    if generators is None:
        numbers = [int(s) for s in (torch.randint(2**31, (starts,)).tolist() if seeds is None else seeds)]
        generators = [generator_of(s) for s in numbers]
    else:
        numbers = [None] * len(generators)
    if len(generators) != starts:
        raise ValueError(f"got {len(generators)} seeds for {starts} starts, expected one for each")
    return numbers, generators
