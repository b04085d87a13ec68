"""A policy that gathers rewards, and is told no goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.plan import Plan, Plans
from dfplan.plan.rewards import Seeking
from dfplan.planner import Planner

from .receding import receding
from .trackers import Tracker


class Gathering:
    """Follows plans that gather rewards, for one robot or for B side by side.

    An environment may say where its goal is: `reset` does not take it.

    Args:
        planner: such as `dfplan.plan.rewards.Seeking` or `dfplan.plan.richest.Richest`.
        tracker: follows its plans, see `dfplan.policies.receding`.
    """

    batched = True

    def __init__(self, planner: Plans, tracker: Tracker | Literal["look_ahead", "pd"] = "look_ahead") -> None:
        self.planner, self._follows = planner, receding(planner, tracker=tracker)

    def reset(self, seed: int | Sequence[int] | None = None) -> None:
        """Begin an episode, or B with a seed each."""
        self._follows.reset(seed)

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> action (A,) or (B, A) in [-1, 1]."""
        return self._follows.act(observation)

    @property
    def plans(self) -> list[Plan]:
        """The plans since `reset`; of several robots, one robot's after the other's."""
        return self._follows.plans

    @property
    def seconds(self) -> list[float]:
        """Wall time of each decision since `reset`, as if it had been made for all robots."""
        return self._follows.seconds

    @property
    def calls(self) -> float:
        """Network calls since `reset` for each robot, on average."""
        return self._follows.calls


def gathering(
    planner: Planner, *, tracker: Tracker | Literal["look_ahead", "pd"] = "look_ahead"
) -> Gathering:
    """The policy that `config.gather` and `config.roadmap` of a planner ask for.

    Args:
        planner: of a model with a token of rewards. Without a roadmap its plans, unguided, guided or asked for returns as it
            is set, are followed to where they expect the greatest reward; with one, the richest way.
        tracker: see `dfplan.policies.receding`.

    Raises:
        ValueError: the model has no token of rewards.
    """
    config = planner.config
    if not config.roadmap:
        return Gathering(Seeking(planner), tracker)
    from dfplan.plan.kept import kept  # they need scipy
    from dfplan.plan.richest import Richest

    way = replace(
        config, candidates=1, cost="", returns=None, gather=0, rewards="recorded"
    )  # of a leg, which has a goal
    return Gathering(Richest(kept(Planner(planner.model, way)), config), tracker)
