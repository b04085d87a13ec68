"""The plain floor under planning in mazes: a graph over the recorded transitions, without a network."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from dfplan.data import Episodes
from dfplan.plan import Plan, PlannerConfig
from dfplan.plan.ways import plan_of, spread
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.calibrate import fit_point_mass

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Fitted:
    """What is read of a model."""

    calibration: dict[str, Any]


@dataclass
class Graph:
    """States spread over the data, an edge wherever a recorded transition joins two of them.

    Attributes:
        episodes: observations of positions, with or without velocities.
        count: states.
        stride: env steps of a transition.
        config: of which policies read `within` and `cost`.
        goal: none of its own.
    """

    episodes: Episodes
    count: int = 1500
    stride: int = 8
    config: PlannerConfig = field(default_factory=PlannerConfig)
    goal: None = None

    def __post_init__(self) -> None:
        """Build it.

        Raises:
            ValueError: the data show no positions that actions move.
        """
        episodes, dynamics = self.episodes, fit_point_mass(self.episodes)
        if dynamics is None:
            raise ValueError(f"{episodes.name}: got data for a graph, expected positions that actions move")
        self.model = _Fitted({"dynamics": dynamics})
        size = episodes.arrays["actions"].shape[1]
        names = tuple(f"p{i}" for i in range(size))
        self.spec = TrajectorySpec(
            tuple(Channel(n, "", index=i) for i, n in enumerate(names)), (Token("position", names),), episodes.dt,
            stride=self.stride, observation_size=episodes.arrays["observations"].shape[1], action_size=size,
        )  # fmt: skip
        places = np.asarray(episodes.arrays["observations"][:, :size], np.float64)
        self.states = spread(places, self.count, 0)
        self._tree = cKDTree(self.states)
        near = self._tree.query(places)[1]
        last = np.repeat(episodes.ends, np.diff(episodes.ends, prepend=0))
        first = np.flatnonzero(np.arange(episodes.steps) + self.stride < last)
        edges = np.unique(np.stack([near[first], near[first + self.stride]], 1), axis=0)
        edges = edges[edges[:, 0] != edges[:, 1]]
        times = np.abs(self.states[edges[:, 0]] - self.states[edges[:, 1]]).max(1)
        self._graph = csr_matrix((times, edges.T), (len(self.states),) * 2)

    def plan_batch(self, history: ArrayLike, goal: ArrayLike | None, **how: Any) -> list[Plan]:
        """The quickest way over the edges for B starts; see `dfplan.plan.Plans`."""
        past = np.asarray(history, np.float64)
        goals = np.broadcast_to(np.asarray(goal, np.float64), (len(past), self.states.shape[1]))
        return [self._plan(p[-1], g) for p, g in zip(past, goals, strict=True)]

    def _plan(self, state: Array, goal: Array) -> Plan:
        began, size = time.perf_counter(), self.states.shape[1]
        start, end = self._tree.query(np.stack([state[:size], goal]))[1]
        total, before = dijkstra(self._graph, indices=start, return_predecessors=True)
        way, at = [goal], int(end)
        while np.isfinite(total[end]) and at != start:
            way.append(self.states[at])
            at = int(before[at])
        path = np.stack([*way, state[:size]])[::-1]
        speed = self.model.calibration["dynamics"]["speed"]
        made = plan_of(path, self.spec, list(range(size)), speed, bool(np.isfinite(total[end])))
        return replace(made, seconds=time.perf_counter() - began)
