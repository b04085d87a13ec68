"""The way of the greatest sum of rewards, over a roadmap: for rewards farther than a window, or a gradient, reaches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from dfplan.guidance import Cost
from dfplan.plan.answer import Plan, PlannerConfig
from dfplan.plan.evidence import AWAY
from dfplan.plan.rewards import REWARDS, goalless
from dfplan.plan.roadmap import Roadmap
from dfplan.plan.ways import cut, dense, divided, plan_of, travel

Array = NDArray[np.float64]
JOINS = 3
"""States of the roadmap that a way may begin with."""


class Richest:
    """Plans that gather the most reward within `config.gather` env steps, for whoever follows plans.

    From each state of the roadmap finite-horizon dynamic programming (Bellman 1957) takes a leg or stays: staying is worth
    the best recorded place that no other state is nearer to. Nobody is told a goal.

    Args:
        roadmap: of a planner whose model has a token of rewards.
        config: of which `gather` is read, and from where the `rewards` are.

    Attributes:
        places: (M, C) recorded ones, the states first.
        rewards: (M,) expected at each.
        rest: (N,) for each state of the roadmap the place where to stay, an index of `places`.
        worth: (gather + 1, N) the greatest sum of rewards in so many env steps from each state.
    """

    goal = None

    def __init__(self, roadmap: Roadmap, config: PlannerConfig) -> None:
        self.roadmap, self.model, self.spec = roadmap, roadmap.model, roadmap.spec
        self.config, states = goalless(config, roadmap.spec), roadmap.net.states
        self._place = roadmap.planner.place
        self.places = np.concatenate([states, roadmap.evidence.places])
        self.rewards = REWARDS[config.rewards](self.model, self.places)
        self._places, self._states = cKDTree(self.places), cKDTree(states)
        order = np.argsort(self.rewards)
        self.rest = np.zeros(len(states), np.int64)
        self.rest[self._states.query(self.places[order])[1]] = order  # the last one written is the best
        self._decide()

    def _decide(self) -> None:
        legs, times = self.roadmap.net.legs, self.roadmap.times / self.spec.dt
        self._steps = np.maximum(1, np.rint(times).astype(np.int64))
        self._gain = np.array([self.at(p).mean() for p in self.roadmap.net.paths]) * self._steps
        self.worth = np.zeros((self.config.gather + 1, len(self.rest)))
        for left in range(1, len(self.worth)):
            self.worth[left] = self.rewards[self.rest] + self.worth[left - 1]
            np.maximum.at(self.worth[left], legs[:, 0], self._leg(left))

    def _leg(self, left: int) -> Array:
        """(L,) what each leg and all after it bring in so many env steps."""
        after = left - self._steps
        onward = self.worth[after.clip(0), self.roadmap.net.legs[:, 1]]
        return np.where(after >= 0, self._gain + onward, -np.inf)

    def at(self, way: Array) -> Array:
        """Rewards (n,) along a way (S, C), in even steps."""
        return self.rewards[self._places.query(dense(way, self.roadmap.evidence.step / 8))[1]]

    def sum(self, way: Array) -> float:
        """What a way (S, C) brings, and staying at its end."""
        rewards, steps = self.at(way), min(self._length(way), self.config.gather)
        return float(steps * rewards.mean() + (self.config.gather - steps) * rewards[-1])

    def _length(self, way: Array) -> int:
        return round(travel(way) / self.roadmap.speed / self.spec.dt)

    def plan(self, start: ArrayLike, seed: int | None = 0) -> Plan:
        """The richest way from an observation (O,); `feasible` is False where it had to take an unfamiliar one."""
        began, calls = time.perf_counter(), self.roadmap.calls
        state, evidence, place = np.asarray(start, np.float64), self.roadmap.evidence, self._place
        near = self._states.query(state[place], min(JOINS, len(self.rest)))[1].reshape(-1)
        rest = np.stack([state[place], self.places[self.rest[near[0]]]])
        if self._stays(self.config.gather, int(near[0])) and self._seen(rest):  # as it is most of the time
            made = plan_of(rest, self.spec, place, self.roadmap.speed, True)
            return replace(made, seconds=time.perf_counter() - began, seed=seed)
        found = [self._over(state, int(first), seed) for first in near]
        good, way = max(found, key=self._better)
        direct = self.roadmap.plan(state, way[-1], seed=seed)
        ways = [(good, way), (good, cut(way, evidence)), (bool(direct.feasible[0]), direct.best()[:, place])]
        good, way = max(ways, key=self._better)
        made = plan_of(divided(way, evidence.step), self.spec, place, self.roadmap.speed, good)
        calls = self.roadmap.calls - calls
        return replace(made, network_calls=calls, seconds=time.perf_counter() - began, seed=seed)

    def _stays(self, left: int, at: int) -> bool:
        """Whether no leg from a state is better than to stay there."""
        return not left or bool(
            self.worth[left, at] <= self.rewards[self.rest[at]] + self.worth[left - 1, at]
        )

    def _seen(self, line: Array) -> bool:
        """Whether all of a line (2, C) is near recorded places."""
        evidence = self.roadmap.evidence
        return bool(evidence.away(dense(line, evidence.step / 8)).max() <= AWAY)

    def _better(self, found: tuple[bool, Array]) -> tuple[bool, float]:
        return found[0], self.sum(found[1])

    def _over(self, state: Array, first: int, seed: int | None) -> tuple[bool, Array]:
        """Whether all of it is familiar, and the way (S, C) to a state of the roadmap and on from there to the end."""
        net = self.roadmap.net
        begin = self.roadmap.plan(state, net.states[first], seed=seed)
        ways, at = [begin.best()[:, self._place]], first
        left = max(0, self.config.gather - self._length(ways[0]))
        while not self._stays(left, at):
            leg = int(np.where(net.legs[:, 0] == at, self._leg(left), -np.inf).argmax())
            ways.append(net.paths[leg])
            left, at = left - int(self._steps[leg]), int(net.legs[leg, 1])
        last = np.stack([net.states[at], self.places[self.rest[at]]])
        return bool(begin.feasible[0] and self._seen(last)), np.concatenate([*ways, last])

    def plan_batch(
        self, history: ArrayLike, goal: ArrayLike | None = None, cost: Cost | None = None,
        seeds: Sequence[int] | None = None, **other: Any,
    ) -> list[Plan]:  # fmt: skip
        """As `Planner.plan_batch`: history (B, h, O), without a goal and a cost of the caller's."""
        past = np.asarray(history, np.float64)
        numbers = range(len(past)) if seeds is None else seeds
        return [self.plan(p[-1], s) for p, s in zip(past, numbers, strict=True)]
