"""How much reward is to be expected at a place, and plans that end where a model expects most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan import known
from dfplan.decide import Decider, Sampling, generator_of, noise_of
from dfplan.guidance import Cost
from dfplan.plan.answer import Plan, PlannerConfig, Plans
from dfplan.spec import Token, TrajectorySpec
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
BATCH, SOME, NEAREST = 1024, 20_000, 4
"""Places of one network call, most places that a network is asked of, and recorded rewards that are averaged."""


def token_of(spec: TrajectorySpec) -> Token:
    """The token of rewards.

    Raises:
        ValueError: there is none.
    """
    found = [t for t in spec.tokens if spec.channel(t.channels[0]).source == "rewards"]
    if not found:
        raise ValueError(
            f"got a model that is to gather rewards, but no token of it is one of rewards (it has "
            f"{[t.name for t in spec.tokens]}); train with one, see docs/rewards.md"
        )
    return found[0]


def goalless(config: PlannerConfig, spec: TrajectorySpec) -> PlannerConfig:
    """The same, saying what its plans keep low instead of a distance from a goal: minus the modelled reward."""
    return replace(config, cost=config.cost or f"returns({token_of(spec).channels[0]!r})")


def expected(model: Checkpoint, places: ArrayLike, seed: int = 0) -> Array:
    """Mean reward at places: a place is known at the first step, the reward beside it is filled in by one network call.

    Args:
        model: with a token of rewards.
        places: (N, C) values of the goal token; of more than `SOME` others get the reward of the nearest one asked of.
        seed: of the noise.

    Returns:
        (N,).
    """
    decider, spec, points = Decider(model), model.config.spec, np.asarray(places, np.float64)
    token_of(spec)
    if len(points) > SOME:
        from scipy.spatial import cKDTree

        some = points[np.random.default_rng(seed).permutation(len(points))[:SOME]]
        return expected(model, some, seed)[cKDTree(some).query(points)[1]]
    window, once = decider.window(), Sampling(steps=1)
    generator, out = generator_of(seed), [np.zeros(0)]
    for i in range(0, len(points), BATCH):
        part = points[i : i + BATCH]
        first = np.tile(np.arange(window.steps) == 0, (len(part), 1))
        found = known.given(window, model.config.goal_token, part, first)
        noise = noise_of([generator], len(part), *found.values.shape[1:], device=decider.device)
        x0, _ = decider.run(found, once.matrix(window.steps), noise(), once)
        rewards = decider.read(decider.fetch(x0)[0], "rewards", np.zeros((len(part), spec.observation_size)))
        assert rewards is not None
        out.append(rewards[:, spec.stack - 1, 0])
    return np.concatenate(out)


def recorded(model: Checkpoint, places: ArrayLike) -> Array:
    """Mean of the rewards that were recorded nearest to places (N, C), without a network: (N,).

    Raises:
        ValueError: the checkpoint keeps no recorded rewards.
    """
    from scipy.spatial import cKDTree

    if "rewards" not in model.evidence:
        raise ValueError(
            "got a checkpoint without recorded rewards; add them with scripts/evidence.py FOLDER DATA"
        )
    points, rewards = np.asarray(places, np.float64), model.evidence["rewards"].double().numpy()
    known_places = model.evidence["pairs"][:, : points.shape[1]].double().numpy()
    near = cKDTree(known_places).query(points, [*range(1, min(NEAREST, len(rewards)) + 1)])[1]
    return np.asarray(rewards[near].mean(1))


REWARDS: Mapping[str, Callable[[Checkpoint, ArrayLike], Array]] = {"recorded": recorded, "modelled": expected}


class Seeking:
    """A planner's plans without a goal, each cut where its modelled reward is greatest: that is where to stay.

    Args:
        planner: of a model with a token of rewards.
    """

    goal = None

    def __init__(self, planner: Plans) -> None:
        self.planner, self.model, self.spec = planner, planner.model, planner.spec
        self.config = goalless(planner.config, planner.spec)

    def plan_batch(
        self, history: ArrayLike, goal: ArrayLike | None = None, cost: Cost | None = None,
        seeds: Sequence[int] | None = None, **how: Any,
    ) -> list[Plan]:  # fmt: skip
        """As `Planner.plan_batch`: history (B, h, O)."""
        plans = self.planner.plan_batch(history, goal, cost=cost, seeds=seeds, **how)
        return [_cut(plan) for plan in plans]


def _cut(plan: Plan) -> Plan:
    """The same, its chosen candidate arrived at its greatest modelled reward."""
    assert plan.rewards is not None
    arrivals = plan.arrivals.copy()
    arrivals[plan.chosen] = max(1, int(plan.rewards[:, 0].argmax()))
    return replace(plan, arrivals=arrivals)
