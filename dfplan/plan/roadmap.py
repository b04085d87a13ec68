"""A roadmap: far goals by legs that the model fills in and the evidence believes, put together by shortest paths.

States are spread over the data; the model in-fills legs between near ones, once; legs that hold a step unlike any
recorded one are dropped. A plan joins start and goal to it in the same way, takes the quickest way (Dijkstra 1959) and
cuts corners as far as the evidence goes. Probabilistic roadmaps (Kavraki et al. 1996), with a learned local planner.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from dfplan.guidance import Cost
from dfplan.plan.answer import Plan, Plans
from dfplan.plan.evidence import AWAY, Evidence
from dfplan.plan.ways import Forbidden, clear, cut, dense, divided, plan_of, spread, travel
from dfplan.tools.progress import progress

Array = NDArray[np.float64]
NEAR, JOINS, BATCH = 12, 6, 256
"""States that a state is joined to, start and goal are joined to, and legs that are filled in as one batch."""
STRANGE = 2.0
"""Doubt that a start or a goal may have itself."""
UNFAMILIAR = 1e6
"""Seconds that a leg which is twice as unfamiliar as the limit, or forbidden, costs more: it is taken where there is no
other, and the plan says so."""


class Legs(Plans, Protocol):
    """What fills legs in, such as a `Planner`; `place`: the columns of the observation that its goal shows."""

    place: list[int]


@dataclass(frozen=True)
class Net:
    """What a roadmap is made of.

    Attributes:
        states: (N, C) places.
        legs: (L, 2) of each leg: the states it joins.
        paths: of each leg, (S, C) places.
    """

    states: Array
    legs: NDArray[np.int64]
    paths: list[Array]


class Roadmap:
    """Plans over a roadmap, for whoever follows plans of a `Planner`.

    Args:
        planner: fills legs in; its `config.roadmap` is the number of states.
        seed: of the legs: the same seed, the same roadmap.
        net: one that was built before, of the same planner and seed; None: it is built.

    Attributes:
        net: states and legs.
        times: seconds of each leg at the robot's speed limit, (L,).
        built: seconds it took.
        calls: network calls it took.

    Raises:
        ValueError: the checkpoint has no recorded steps, or its goal token not the first columns of the observation.
    """

    def __init__(self, planner: Legs, seed: int = 0, net: Net | None = None) -> None:
        evidence = Evidence.of(planner.model)
        if evidence is None:
            raise ValueError(
                "got roadmap for a checkpoint without evidence.safetensors; add it with scripts/evidence.py FOLDER DATA"
            )
        if planner.config.roadmap < 2:
            raise ValueError(
                f"got roadmap={planner.config.roadmap} for a roadmap, expected states to join, 2 or more, such as 200"
            )
        began = time.perf_counter()
        self.planner, self.evidence = planner, evidence
        self.spec, self.config, self.goal, self.model = (
            planner.spec,
            planner.config,
            planner.goal,
            planner.model,
        )
        dynamics = planner.model.calibration.get("dynamics")
        self.speed = (
            float(dynamics["speed"]) if dynamics else evidence.step / (self.spec.dt * self.spec.stride)
        )
        self.reach = 0.4 * (planner.model.config.horizon - 1) * evidence.step
        self.calls = 0
        self.net = self._built(seed) if net is None else net
        self.times = self._times(self.net.paths)
        points = [dense(p, evidence.step / 8) for p in self.net.paths]
        self._points = np.concatenate(points) if points else np.zeros_like(self.net.states[:0])
        self._of = np.repeat(np.arange(len(points)), [len(p) for p in points])
        self.built = time.perf_counter() - began

    def _built(self, seed: int) -> Net:
        """Near states joined by straight lines where these are familiar, else by what the model fills in."""
        states = spread(self.evidence.places, self.planner.config.roadmap, seed)
        pairs = self._near(states, np.arange(len(states)))
        straight = clear(states[pairs[:, 0]], states[pairs[:, 1]], self.evidence)
        kept, paths = [pairs[straight]], list(states[pairs[straight]])
        pairs = pairs[~straight]
        with progress(len(pairs), "roadmap", "leg") as bar:
            for i in range(0, len(pairs), BATCH):
                ends = states[pairs[i : i + BATCH]]
                filled, worst = self._fill(ends[:, 0], ends[:, 1], np.arange(len(ends)) + seed + i)
                kept.append(pairs[i : i + BATCH][worst <= 1])
                paths += [cut(p, self.evidence) for p, w in zip(filled, worst, strict=True) if w <= 1]
                bar.update(len(ends))
        return Net(states, np.concatenate(kept), paths)

    def _near(self, states: Array, of: NDArray[np.int64]) -> NDArray[np.int64]:
        """(L, 2) pairs of states, both ways: some of them, and the nearest of each."""
        away, near = cKDTree(states).query(states[of], min(NEAR + 1, len(states)))
        pairs = np.stack([np.repeat(of, near.shape[1] - 1), near[:, 1:].ravel()], 1)
        pairs = pairs[away[:, 1:].ravel() <= self.reach]
        return np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)

    def _fill(self, starts: Array, goals: Array, seeds: ArrayLike) -> tuple[list[Array], Array]:
        """Legs between B places, and how unfamiliar the worst step of each is: 1 is the limit."""
        place = self.planner.place
        now = np.zeros((len(starts), 1, self.spec.observation_size))
        now[:, 0, place] = starts
        plans = self.planner.plan_batch(now, goals, candidates=1, seeds=np.asarray(seeds).tolist())
        self.calls += plans[0].network_calls
        whole = np.stack([p.observations[:, place] for p in plans])
        paths, worst = [], []
        for plan, places, goal in zip(plans, whole, goals, strict=True):
            path = places[: int(plan.arrivals[0]) + 1].copy()
            if plan.arrivals[0] == len(places) or len(path) < 2:
                path = np.stack([places[0], goal])
            path[-1] = goal
            paths.append(path)
            worst.append(float(self.evidence.doubt(path)))
        return paths, np.array(worst)

    def plan(
        self, start: ArrayLike, goal: ArrayLike, forbidden: Forbidden | None = None, seed: int | None = 0,
        more: Array | None = None,
    ) -> Plan:  # fmt: skip
        """The quickest way that the roadmap has.

        Args:
            start: (O,) the present observation.
            goal: (C,) values of the goal token.
            forbidden: `(N, C) places -> (N,) bool`, asked of places close together along the legs; a leg with one that
                is forbidden is not taken.
            seed: of the legs that join start and goal.
            more: (E, C) states of this plan alone, such as around what is forbidden, joined by straight familiar lines.

        Returns:
            a plan whose steps are as long as the data's own; `feasible` is False where it had to take a leg that is
            unfamiliar or forbidden.
        """
        began, calls = time.perf_counter(), self.calls
        state, goal = np.asarray(start, np.float64), np.asarray(goal, np.float64)
        here = state[self.planner.place]
        net, times = self._open(forbidden, more)
        path, certain = self._way(net, times, here, goal, forbidden, 0 if seed is None else seed)
        path = divided(
            cut(path, self.evidence, forbidden), self.evidence.step
        )  # corners stay: they are allowed
        made = plan_of(path, self.spec, self.planner.place, self.speed, certain)
        return replace(made, network_calls=self.calls - calls, seconds=time.perf_counter() - began, seed=seed)

    def plan_batch(
        self, history: ArrayLike, goal: ArrayLike, cost: Cost | None = None, seeds: Sequence[int] | None = None,
        forbidden: Forbidden | None = None, **other: Any,
    ) -> list[Plan]:  # fmt: skip
        """As `Planner.plan_batch`: history (B, h, O), goal (C,) or (B, C).

        Raises:
            ValueError: on a cost: say what is forbidden instead.
        """
        if cost is not None:
            raise ValueError(
                "got a cost for a roadmap, which takes forbidden=, a function of places, instead"
            )
        past = np.asarray(history, np.float64)
        goals = np.broadcast_to(np.asarray(goal, np.float64), (len(past), len(self.planner.place)))
        numbers = range(len(past)) if seeds is None else seeds
        return [self.plan(p[-1], g, forbidden, s) for p, g, s in zip(past, goals, numbers, strict=True)]

    def _times(self, paths: list[Array]) -> Array:
        return np.array([travel(p) for p in paths], np.float64) / self.speed

    def _open(self, forbidden: Forbidden | None, more: Array | None) -> tuple[Net, Array]:
        """What of the net is allowed, with more states, and the time of each leg."""
        net, allowed = self.net, np.ones(len(self.net.legs), bool)
        if forbidden is not None and len(allowed):
            allowed[self._of[forbidden(self._points)]] = False
        states, legs, times = net.states, net.legs[allowed], self.times[allowed]
        paths = [net.paths[i] for i in np.flatnonzero(allowed)]
        if more is not None and len(more):
            states = np.concatenate([states, more])
            pairs = self._near(states, np.arange(len(net.states), len(states)))
            good = pairs[clear(states[pairs[:, 0]], states[pairs[:, 1]], self.evidence, forbidden)]
            legs, paths = np.concatenate([legs, good]), [*paths, *states[good]]
            times = np.concatenate([times, self._times(list(states[good]))])
        return Net(states, legs, paths), times

    def _joins(
        self, begins: Array, ends: Array, forbidden: Forbidden | None, seed: int
    ) -> tuple[list[Array], Array]:
        """As `_fill`: straight where that is familiar and allowed, else by the model; what is forbidden is doubted more.

        A start or a goal is asked for: that it is a little strange itself does not count, and lines tell of walls.
        """
        straight = clear(begins, ends, self.evidence, forbidden)
        paths, worst = list(np.stack([begins, ends], 1)), np.zeros(len(begins))
        rest = np.flatnonzero(~straight)
        if len(rest):
            filled, worst[rest] = self._fill(begins[rest], ends[rest], rest + seed)
            for i, path in zip(rest, filled, strict=True):
                paths[i] = path
            own = np.maximum(self.evidence.away(begins), self.evidence.away(ends))[rest] / AWAY
            lines = np.array([float(self.evidence.strange(p)) for p in filled])
            asked = lines <= 1.01 * own.clip(1, STRANGE)
            worst[rest] = np.where(asked, np.minimum(worst[rest], 1.0), worst[rest])
            if forbidden is not None:
                worst[rest] += [forbidden(dense(p, self.evidence.step / 8)).any() for p in filled]
        return paths, worst

    def _way(
        self, net: Net, times: Array, start: Array, goal: Array, forbidden: Forbidden | None, seed: int
    ) -> tuple[Array, bool]:
        """Places from start to goal, and whether every leg is familiar and allowed."""
        count = len(net.states)
        near = cKDTree(net.states)
        first, last = (near.query(p, min(JOINS, count))[1].reshape(-1) for p in (start, goal))
        begins = np.concatenate([np.repeat(start[None], len(first) + 1, 0), net.states[last]])
        ends = np.concatenate([net.states[first], np.repeat(goal[None], len(last) + 1, 0)])
        joins, worst = self._joins(begins, ends, forbidden, seed)
        paths = [*net.paths, *joins]
        rows = np.concatenate([net.legs[:, 0], np.full(len(first) + 1, count), last])
        columns = np.concatenate([net.legs[:, 1], first, np.full(len(last) + 1, count + 1)])
        extra = self._times(joins) + UNFAMILIAR * np.where(worst > 1, worst - 1, 0)
        weights = np.concatenate([times, extra])
        graph = csr_matrix((weights, (rows, columns)), (count + 2, count + 2))
        before = dijkstra(graph, indices=count, return_predecessors=True)[1]
        which = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(rows, columns, strict=True))}
        at, way, certain = count + 1, [], True
        while at != count:
            leg = which[int(before[at]), at]
            way.append(paths[leg])
            certain &= leg < len(net.paths) or bool(worst[leg - len(net.paths)] <= 1)
            at = int(before[at])
        return np.concatenate(way[::-1]), certain
