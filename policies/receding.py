"""Receding horizon: plan, track, and plan again when it is time or when the plan no longer fits; from noise, or streaming."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.guidance import Cost
from dfplan.plan import Plan, Plans

from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

Array = NDArray[np.float64]
Due = Literal["no", "on", "anew"]
"""Whether a plan is due, and whether it may go on with the present one."""
AHEAD = 8
"""Env steps at the speed limit that the tracker looks ahead, where that is more than its usual way."""


def passed(plan: Plan, place: Array) -> float:
    """Seconds of a plan that are over for who is at a place (A,): the time of the nearest point on its way."""
    points = plan.observations[:, : len(place)]
    along = np.diff(points, axis=0)
    part = ((place - points[:-1]) * along).sum(-1) / np.maximum(np.square(along).sum(-1), 1e-12)
    part = part.clip(0, 1)
    nearest = int(np.linalg.norm(points[:-1] + part[:, None] * along - place, axis=-1).argmin())
    return float(plan.times[nearest] + part[nearest] * (plan.times[nearest + 1] - plan.times[nearest]))


@dataclass
class _Robot:
    """What one robot follows: plan, tracker, and whether it gets on."""

    tracker: Tracker
    goal: Array | None
    rng: np.random.Generator
    plans: list[Plan] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    step: int = 0
    age: int = 0
    still: int = 0
    moved: bool = False
    anchor: Array = field(default_factory=lambda: np.zeros(0))

    def due(self, position: Array, every: int, lost: float, patience: int, within: float) -> Due:
        """Whether a plan is due: it is made anew where there is none, or the present one leads nowhere any more."""
        if not self.plans:
            return "anew"
        arrived = self.goal is not None and float(np.linalg.norm(position - self.goal)) <= within
        if float(np.linalg.norm(position - self.anchor)) > 0.3:
            self.anchor, self.still = position.copy(), 0
        self.still += 1
        if self.moved or self.tracker.error > lost or (not arrived and self.still > patience):
            return "anew"
        return "on" if 0 < every <= self.age and not arrived else "no"

    def follow(self, plan: Plan, place: Array) -> None:
        """Go along a new plan from the present place (A,)."""
        self.plans.append(plan)
        self.made.append(self.step)
        path = plan.best()[:, : len(place)].copy()
        path[0] = place
        if self.goal is not None and plan.arrivals[plan.chosen] < len(plan.times):
            path[-1] = self.goal
        self.tracker.follow(path)
        self.anchor, self.age, self.still, self.moved = place.copy(), 0, 0, False

    def head_for(self, goal: Array) -> None:
        """Where to go from now on, for who goes anywhere."""
        if self.goal is not None:
            self.moved |= not np.array_equal(goal, self.goal)
            self.goal = goal


class Receding:
    """A policy that follows plans: to a goal, at little cost, or both; for one robot or for B side by side.

    Observations are positions then velocities, (2 A,), or positions alone; the tracker turns the path into actions
    (A,). Plans that are due at one time are made in one batch.

    Args:
        planner: makes the plans: a `Planner`, or a `Roadmap` of one.
        tracker: follows them; each robot gets a copy.
        goal: where to go; None is the planner's own goal, or none where there is a cost.
        cost: what plans should keep low.
        every: env steps after which a new plan is made; 0 plans anew only when the present one fails.
        lost: distance from the path beyond which a new plan is made (unit of position).
        patience: env steps without coming closer to the goal along the path after which a new plan is made.
        warm: go on with the present plan where it still fits: it is where the next one starts from, less what is over.
    """

    batched = True

    def __init__(
        self, planner: Plans, tracker: Tracker, goal: ArrayLike | None, cost: Cost | None, every: int, lost: float,
        patience: int, warm: bool,
    ) -> None:  # fmt: skip
        self.planner, self.tracker, self.cost = planner, tracker, cost
        self._costly = cost is not None or bool(planner.config.cost)
        self.every, self.lost, self.patience, self.warm = every, lost, patience, warm
        self._default_goal = None if goal is None else np.asarray(goal, np.float64)
        self._robots: list[_Robot] = []
        if goal is not None or planner.goal is not None or self._costly:
            self.reset()  # else an episode begins with the goal that it is told

    def reset(self, seed: int | Sequence[int] | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode, or B with a seed each: forget the plans, set the goal and the seed of the plans to come.

        Args:
            seed: of the plans; a list for B robots.
            goal: (G,) for all, or (B, G).
        """
        seeds = [seed] if seed is None or isinstance(seed, (int, np.integer)) else list(seed)
        chosen = self._default_goal if goal is None else np.asarray(goal, np.float64)
        if chosen is None and not self._costly and self.planner.goal is not None:
            chosen = np.asarray(self.planner.goal, np.float64)
        if chosen is None and not self._costly:
            raise ValueError(
                "no goal: the planner has none of its own; pass goal=... here or to receding(), or a cost"
            )
        if not seeds or (chosen is not None and chosen.shape[:-1] not in ((), (len(seeds),))):
            raise ValueError(
                f"got {len(seeds)} seeds and goal {goal}, expected a seed and a goal for each robot"
            )
        if chosen is not None and chosen.ndim == 0:
            raise ValueError(f"got goal {goal}, expected its coordinates, such as (1.0, 2.0)")
        goals = (
            [None] * len(seeds)
            if chosen is None
            else [*np.broadcast_to(chosen, (len(seeds), chosen.shape[-1]))]
        )
        self._robots = [
            _Robot(copy.deepcopy(self.tracker), g, np.random.default_rng(s))
            for s, g in zip(seeds, goals, strict=True)
        ]

    @property
    def plans(self) -> list[Plan]:
        """The plans since `reset`; of several robots, one robot's after the other's."""
        return [plan for robot in self._robots for plan in robot.plans]

    @property
    def seconds(self) -> list[float]:
        """Wall time of each decision since `reset`, as if it had been made for all robots."""
        return [plan.seconds * len(self._robots) for plan in self.plans]

    @property
    def made(self) -> list[list[int]]:
        """Of each robot the env steps at which its plans were made."""
        return [robot.made for robot in self._robots]

    @property
    def trackers(self) -> list[Tracker]:
        """What follows the plans, one for each robot."""
        return [robot.tracker for robot in self._robots]

    @property
    def calls(self) -> float:
        """Network calls since `reset` for each robot, on average."""
        return sum(plan.network_calls for plan in self.plans) / len(self._robots)

    def act(self, observation: ArrayLike, goal: ArrayLike | None = None) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> action (A,) or (B, A) in [-1, 1].

        Args:
            observation: of each robot.
            goal: (G,) or (B, G) where to go from now on; a moved one makes a new plan at once. None: as before.
        """
        if not self._robots:
            self.reset()
        given, size = np.asarray(observation, np.float64), self.planner.spec.observation_size
        states = np.atleast_2d(given)
        if given.ndim > 2 or states.shape != (len(self._robots), size):
            many = f" or ({len(self._robots)}, {size})" if len(self._robots) > 1 else ""
            raise ValueError(
                f"got observation of shape {given.shape}, expected ({size},){many}; several robots are reset with a seed each"
            )
        if not np.isfinite(states).all():
            raise ValueError(f"got observation {given.tolist()}, expected finite numbers; check the sensors")
        half, within = self.planner.spec.action_size, self.planner.config.within
        if goal is not None:
            goals = np.asarray(goal, np.float64)
            for robot, own in zip(
                self._robots, np.broadcast_to(goals, (len(states), goals.shape[-1])), strict=True
            ):
                robot.head_for(own)
        due = [
            r.due(s[:half], self.every, self.lost, self.patience, within)
            for r, s in zip(self._robots, states, strict=True)
        ]
        for kind in ("anew", "on"):
            if pick := [i for i, d in enumerate(due) if d == kind]:
                self._replan([self._robots[i] for i in pick], states[pick], self.warm and kind == "on")
        out = []
        for robot, state in zip(self._robots, states, strict=True):
            robot.age, robot.step = robot.age + 1, robot.step + 1
            out.append(robot.tracker.act(state[:half], state[half:] if size > half else np.zeros(half)))
        actions = np.stack(out).astype(np.float32)
        return actions if given.ndim == 2 else actions[0]

    def _replan(self, robots: list[_Robot], states: Array, warm: bool) -> None:
        """New plans, one batch: from noise, or from the present ones less what of them is over."""
        half = self.planner.spec.action_size
        goal = None if robots[0].goal is None else np.stack([r.goal for r in robots if r.goal is not None])
        old = [r.plans[-1] for r in robots] if warm else None
        plans = self.planner.plan_batch(
            states[:, None], goal, cost=self.cost, warm=old,
            elapsed=[passed(p, s[:half]) for p, s in zip(old, states, strict=True)] if old else 0.0,
            seeds=[int(r.rng.integers(2**31)) for r in robots],
        )  # fmt: skip
        for robot, plan, state in zip(robots, plans, states, strict=True):
            robot.follow(plan, state[:half])


def receding(
    planner: Plans,
    *,
    goal: ArrayLike | None = None,
    cost: Cost | None = None,
    tracker: Tracker | Literal["look_ahead", "pd"] = "look_ahead",
    every: int | None = None,
    lost: float = 0.8,
    patience: int = 60,
    warm: bool | None = None,
) -> Receding:
    """A receding-horizon policy for robots whose observation is positions and velocities, or positions alone.

    Args:
        planner: as from `dfplan.load`, or another that makes plans, such as `dfplan.plan.roadmap.Roadmap`.
        goal: where to go; None is the planner's own goal, or none where a cost is given.
        cost: what plans should keep low, with or without a goal.
        tracker: `look_ahead` (holds the robot's speed limit), `pd` (the official law, plans anew every 50 env
            steps), or a tracker of your own.
        every: env steps between plans; 0 plans anew only when the plan fails. None: those of the planner's `stream`, else
            50 for `pd`, else 0.
        lost: distance from the path at which a new plan is made (unit of position).
        patience: env steps spent within 0.3 of one place, away from the goal, after which a new plan is made.
        warm: go on with the present plan where it still fits. None: where the planner streams.

    Raises:
        ValueError: when the planner's data have no point-mass dynamics, or the tracker's name is unknown.
    """
    stream = planner.config.stream
    every = stream or (50 if tracker == "pd" else 0) if every is None else every
    if tracker == "pd":
        tracker = ProportionalDerivative(max(1, planner.spec.stride // planner.spec.stack))
    elif tracker == "look_ahead":
        robot = PointMass.fitted(planner)
        tracker = LookAhead(robot, max(1.0, AHEAD * robot.speed * robot.dt))
    elif isinstance(tracker, str):
        raise ValueError(f"got tracker '{tracker}', expected 'look_ahead', 'pd' or a Tracker")
    return Receding(
        planner, tracker, goal, cost, every, lost, patience, bool(stream) if warm is None else warm
    )
