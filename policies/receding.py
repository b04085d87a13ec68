"""Receding horizon: plan, track, and plan again when it is time or when the plan no longer fits."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.planner import Plan, Planner

from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

Array = NDArray[np.float64]


class Receding:
    """A policy that follows plans to a goal.

    Observations are positions then velocities, (2 A,); the tracker turns the path into actions (A,).

    Args:
        planner: makes the plans.
        tracker: follows them.
        goal: where to go; None is the planner's own goal.
        every: env steps after which a new plan is made; 0 plans anew only when the present one fails.
        lost: distance from the path beyond which a new plan is made (unit of position).
        patience: env steps without coming closer to the goal along the path after which a new plan is made.
        warm: start a new plan from the present one.
    """

    def __init__(
        self,
        planner: Planner,
        tracker: Tracker,
        goal: ArrayLike | None,
        every: int,
        lost: float,
        patience: int,
        warm: bool,
    ) -> None:
        self.planner, self.tracker = planner, tracker
        self.every, self.lost, self.patience, self.warm = every, lost, patience, warm
        self._default_goal = None if goal is None else np.asarray(goal, np.float64)
        self.reset()

    def reset(self, seed: int | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode: forget the plan, set the goal and the seed of the plans to come."""
        chosen = self._default_goal if goal is None else np.asarray(goal, np.float64)
        self.goal = self.planner.goal if chosen is None else chosen
        if self.goal is None:
            raise ValueError("no goal: the planner has none of its own; pass goal=... here or to receding()")
        self._rng = np.random.default_rng(seed)
        self.plan: Plan | None = None
        self.plans: list[Plan] = []
        self._age = self._still = 0
        self._anchor: Array = np.zeros(0)

    @property
    def seconds(self) -> list[float]:
        """Wall time of each plan since `reset`."""
        return [plan.seconds for plan in self.plans]

    @property
    def calls(self) -> int:
        """Network calls since `reset`."""
        return sum(plan.network_calls for plan in self.plans)

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (2 A,) -> action (A,) in [-1, 1]."""
        state = np.asarray(observation, np.float64)
        if state.shape != (self.planner.spec.observation_size,):
            raise ValueError(
                f"got observation of shape {state.shape}, expected ({self.planner.spec.observation_size},)"
            )
        if not np.isfinite(state).all():
            raise ValueError(f"got observation {state.tolist()}, expected finite numbers; check the sensors")
        size = len(state) // 2
        position, velocity = state[:size], state[size:]
        if self._stale(position):
            self._replan(state)
        self._age += 1
        return self.tracker.act(position, velocity).astype(np.float32)

    def _stale(self, position: Array) -> bool:
        if self.plan is None:
            return True
        away = float(np.linalg.norm(position - np.asarray(self.goal)))
        arrived = away <= self.planner.config.within
        moved = float(np.linalg.norm(position - self._anchor)) > 0.3
        if moved:
            self._anchor, self._still = position.copy(), 0
        self._still += 1
        stuck = not arrived and self._still > self.patience
        return (0 < self.every <= self._age and not arrived) or self.tracker.error > self.lost or stuck

    def _replan(self, state: Array) -> None:
        elapsed = self._age * self.planner.spec.dt
        before = self.plan if self.warm else None
        self.plan = self.planner.plan(
            state, self.goal, warm=before, elapsed=elapsed, seed=int(self._rng.integers(2**31))
        )
        self.plans.append(self.plan)
        size = len(state) // 2
        path = self.plan.best()[:, :size].copy()
        path[0] = state[:size]
        if self.plan.arrivals[self.plan.chosen] < len(self.plan.times):
            path[-1] = np.asarray(self.goal)
        self.tracker.follow(path)
        self._anchor, self._age, self._still = state[:size].copy(), 0, 0


def receding(
    planner: Planner,
    *,
    goal: ArrayLike | None = None,
    tracker: Tracker | Literal["look_ahead", "pd"] = "look_ahead",
    every: int | None = None,
    lost: float = 0.8,
    patience: int = 60,
    warm: bool = False,
) -> Receding:
    """A receding-horizon policy for robots whose observation is positions and velocities.

    Args:
        planner: as from `dfplan.load`.
        goal: where to go; None is the planner's own goal.
        tracker: `look_ahead` (holds the robot's speed limit), `pd` (the official law, plans anew every 50 env
            steps), or a tracker of your own.
        every: env steps between plans; 0 plans anew only when the plan fails. None: 50 for `pd`, else 0.
        lost: distance from the path at which a new plan is made (unit of position).
        patience: env steps spent within 0.3 of one place, away from the goal, after which a new plan is made.
        warm: start a new plan from the present one.

    Raises:
        ValueError: when the planner's data have no point-mass dynamics, or the tracker's name is unknown.
    """
    if every is None:
        every = 50 if tracker == "pd" else 0
    if tracker == "pd":
        tracker = ProportionalDerivative(max(1, planner.spec.stride // planner.spec.stack))
    elif tracker == "look_ahead":
        tracker = LookAhead(PointMass.fitted(planner))
    elif isinstance(tracker, str):
        raise ValueError(f"got tracker '{tracker}', expected 'look_ahead', 'pd' or a Tracker")
    return Receding(planner, tracker, goal, every, lost, patience, warm)
