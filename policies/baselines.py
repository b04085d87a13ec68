"""What a model is held against: search on the map that it never saw, and random actions."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.planner import Planner

from .trackers import LookAhead, PointMass, Tracker

Array = NDArray[np.float64]


class Ways(Protocol):
    """A map."""

    def way(self, start: tuple[float, float], goal: tuple[float, float]) -> Array:
        """Points (n, 2) of a shortest way between two positions, both among them."""
        ...


class Search:
    """Follows the shortest way on the map with the tracker that plans are followed with: what no plan can well beat.

    Args:
        ways: the map, such as `dfplan.envs.GridPaths`.
        tracker: follows the way.
        goal: where to go, unless `reset` says so.
    """

    def __init__(self, ways: Ways, tracker: Tracker, goal: ArrayLike | None = None) -> None:
        self.ways, self.tracker, self._default = ways, tracker, goal
        self.reset()

    def reset(self, seed: int | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode; there is nothing random."""
        self.goal, self._under_way = self._default if goal is None else goal, False

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (4,) positions and velocities -> action (2,) in [-1, 1]."""
        state = np.asarray(observation, np.float64)
        if not self._under_way:
            if self.goal is None:
                raise ValueError("no goal: pass goal=... to reset(), or to search()")
            x, y, *_ = state.tolist()
            goal_x, goal_y = np.asarray(self.goal, np.float64).tolist()
            self.tracker.follow(self.ways.way((x, y), (goal_x, goal_y)))
            self._under_way = True
        return self.tracker.act(state[:2], state[2:]).astype(np.float32)


def search(robot: Planner | PointMass, ways: Ways, goal: ArrayLike | None = None) -> Search:
    """The search that goes with a planner: the same tracker, of the same point mass.

    Args:
        robot: a planner whose data have point-mass dynamics, or the point mass.
        ways: the map, such as `dfplan.envs.GridPaths("large")`.
        goal: where to go; None: the planner's own goal.
    """
    if isinstance(robot, PointMass):
        return Search(ways, LookAhead(robot), goal)
    return Search(ways, LookAhead(PointMass.fitted(robot)), robot.goal if goal is None else goal)


class Uniform:
    """Actions drawn uniformly from an environment's range, -1 to 1 where it has no bounds: what knowing nothing gives."""

    def __init__(self, env: Any) -> None:
        low, high = env.action_space.low, env.action_space.high
        bounded = np.isfinite(low) & np.isfinite(high)
        self.low, self.high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Any observation -> action (A,)."""
        return self._rng.uniform(self.low, self.high).astype(np.float32)
