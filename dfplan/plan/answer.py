"""What planning takes and gives: `PlannerConfig`, `Plan`, and how one candidate is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfplan.decide import Sampling
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.errors import one_of
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
Choice = Callable[[Array, Array, NDArray[np.int64], Array, NDArray[np.bool_]], int]
"""`(length (K,), costs (K,), arrivals (K,), errors (K,), feasible (K,)) -> index`."""


def earliest(
    length: Array, costs: Array, arrivals: NDArray[np.int64], errors: Array, feasible: NDArray[np.bool_]
) -> int:  # fmt: skip
    """The feasible one that arrives first; then the least cost, then the shortest."""
    order = np.lexsort((length, costs, arrivals, np.where(feasible, 0, errors), ~feasible))
    return int(order[0])


def first(
    length: Array, costs: Array, arrivals: NDArray[np.int64], errors: Array, feasible: NDArray[np.bool_]
) -> int:  # fmt: skip
    """The first feasible one of least cost, where none is the one that errs least: a fair draw of the possible.

    A rule that prefers the early or the short would prefer ways through walls wherever the model takes some of them
    for possible, and again at every new plan; a draw is another one each time.
    """
    return int(np.lexsort((costs, np.where(feasible, 0, errors), ~feasible))[0])


CHOICES: dict[str, Choice] = {"first": first, "earliest": earliest}


@dataclass(frozen=True)
class PlannerConfig(Sampling):
    """How plans are sampled and chosen.

    Attributes:
        candidates: K, plans sampled for each start as one batch.
        choice: how one of several is chosen: `first` (feasible, of least cost) or `earliest`.
        guidance: nats per unit of cost.
        particles: nats per unit of cost by which the candidates of a start are weighed, and drawn anew, between network
            calls (`dfplan.guidance.Particles`); 0: each goes its own way. Needs a step rule that draws, such as `ddpm`.
        futures: futures over which Monte Carlo guidance averages.
        warm_level: level to which a warm start re-noises the last plan; of a streaming one its far end, see `stream`.
        stream: env steps between the decisions of a policy that streams: each takes one network call, from the last plan
            re-noised along a ramp, or from noise where that plan is of no use; 0: every plan begins with noise.
        within: distance at which the goal counts as reached (unit of the goal token).
        tolerance: a plan is feasible while its doubt is at most this: by the recorded steps beside the checkpoint
            (`dfplan.plan.evidence`), or where it has none the model's own error over the data's 99 % quantile.
        roadmap: states of a roadmap for goals farther than one plan reaches (`dfplan.plan.roadmap`); 0: none.
        returns: what is to follow from the arrival on, in the units of the model's token of returns; None: anything.
        gather: env steps over which rewards are to be gathered, by who is told no goal (`dfplan.policies.gathering`): a plan
            ends where the model expects most, a roadmap takes the way of the greatest sum; 0: plans go to goals.
        rewards: where the roadmap has them from: `recorded` beside the checkpoint, or `modelled` by the network.
    """

    candidates: int = 1
    choice: str = "first"
    guidance: float = 1.0
    particles: float = 0.0
    futures: int = 1
    warm_level: float = 0.6
    stream: int = 0
    within: float = 0.5
    tolerance: float = 1.0
    roadmap: int = 0
    returns: float | None = None
    gather: int = 0
    rewards: str = "recorded"

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes out of range."""
        super().__post_init__()
        one_of("choice", self.choice, CHOICES)
        one_of("rewards", self.rewards, ("recorded", "modelled"))
        for name in ("candidates", "futures", "warm_level", "within", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"got {name}={getattr(self, name)}, expected a number above 0")
        if self.roadmap < 0 or self.gather < 0:
            raise ValueError(
                f"got roadmap={self.roadmap}, gather={self.gather}, expected a number of states or of env steps, or 0 for none"
            )
        if self.rewards != "recorded" and not self.gather:
            raise ValueError(
                f"got rewards='{self.rewards}' with gather=0, where no rewards are gathered; give gather, or leave it out"
            )
        if self.stream < 0 or (self.stream and self.roadmap):
            raise ValueError(
                f"got stream={self.stream}, roadmap={self.roadmap}, expected env steps between decisions, or 0 for plans "
                "from noise; the legs of a roadmap are not streamed: leave one of the two out"
            )
        for name in ("guidance", "particles"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"got {name}={getattr(self, name)}, expected 0 or more")
        if self.particles and self.step in ("ddim", "dpm_solver_2m"):
            raise ValueError(
                f"got particles={self.particles} with step='{self.step}', which draws nothing: copies would stay copies; "
                "use step='ddpm'"
            )
        if self.warm_level > 1:
            raise ValueError(f"got warm_level={self.warm_level}, expected at most 1 (1 is a cold start)")

    def levels(self, steps: int, warm: bool) -> ScheduleMatrix:
        """Levels of `steps` steps, a column each, down from noise, or from an earlier plan where the start is `warm`."""
        if not self.stream:
            return self.matrix(steps).scaled(self.warm_level) if warm else self.matrix(steps)
        ramp = self.warm_level * torch.arange(1, steps + 1) / steps if warm else torch.ones(steps)
        return ScheduleMatrix(torch.stack([ramp, torch.zeros(steps)]))


@dataclass(frozen=True)
class Plan:
    """A chosen plan and the candidates it was chosen from, in physical units, from the present on.

    Attributes:
        observations: (H, O) the chosen plan; columns that are not modelled are finite differences where they are
            the velocity of a modelled position, else the present value.
        actions: (H, A) diffused where modelled; else the mean action between steps by the dynamics fitted on the
            data; None where there are neither.
        times: (H,) seconds from the present.
        candidates: (K, H, O).
        chosen: index of the chosen candidate.
        feasible: (K,) True where the doubt is within tolerance and no step is too long.
        arrivals: (K,) first step from which the plan stays at the goal; H where it never does.
        errors: (K,) doubt, see `PlannerConfig.tolerance`; NaN for a single candidate, where none is chosen.
        costs: (K,) given cost; 0 without one.
        network_calls: network evaluations it took.
        seconds: wall time it took; in a batch, its share.
        tokens: (K, T, D) normalised, what a warm start begins from.
        history: steps of history in the tokens, the present included.
        seed: gives this plan again, from the same question; None where a generator was given.
        rewards: (H, R) where they are modelled.
        survivors: of the K particles that were there at first, how many have descendants among the candidates; None
            without particles.
    """

    observations: Array
    actions: Array | None
    times: Array
    candidates: Array
    chosen: int
    feasible: NDArray[np.bool_]
    arrivals: NDArray[np.int64]
    errors: Array
    costs: Array
    network_calls: int
    seconds: float
    tokens: Tensor = field(repr=False)
    history: int = 1
    seed: int | None = None
    rewards: Array | None = None
    survivors: int | None = None

    def __str__(self) -> str:
        """Four lines for a person."""
        way, count, arrival = self.best(), len(self.candidates), int(self.arrivals[self.chosen])
        here, there = (np.round(row, 2).tolist() for row in (way[0], way[-1]))
        arrives = f"arrives at step {arrival}" if arrival < len(self.times) else "arrives nowhere"
        fits = "feasible" if self.feasible[self.chosen] else "not feasible"
        return (
            f"plan of {len(self.times)} steps, {self.times[-1]:.2f} s; {arrives}, after {self.times[len(way) - 1]:.2f} s\n"
            f"from {here}\nto   {there}\n"
            f"candidate {self.chosen + 1} of {count}, {fits}, cost {self.costs[self.chosen]:.3g}; {self.network_calls} network "
            f"calls, {1e3 * self.seconds:.0f} ms, seed {self.seed}"
        )

    def best(self) -> Array:
        """(H, O): the chosen candidate, cut where it has arrived."""
        return self.observations[: int(self.arrivals[self.chosen]) + 1]


class Plans(Protocol):
    """Who makes plans for a policy to follow: a `Planner`, or what puts far ways together out of its plans.

    Attributes:
        model: of whose `calibration` the dynamics are read.
        spec: sizes of observation and action, and the time step.
        config: of which `within` and `cost` are read.
        goal: where to go unless somebody says so.
    """

    model: Any
    spec: Any
    config: Any
    goal: Any

    @property
    def plan_batch(self) -> Callable[..., list[Plan]]:
        """Plans for B starts: `(history (B, h, O), goal (C,) or (B, C), ...)`, more by name as in `Planner.plan_batch`."""
        ...


def inverse_dynamics(model: Checkpoint, times: Array, observations: Array, present: Array) -> Array | None:
    """Mean actions (K, H, A) between the times, by the dynamics fitted on the data; None where there are none.

    Velocities of `observations` (K, H, O) that are not modelled are filled in, in place, from `present` (K, O) on.
    """
    dynamics: dict[str, Any] | None = model.calibration.get("dynamics")
    spec = model.config.spec
    modelled, size = {c.index for c in spec.channels if c.source == "observations"}, spec.action_size
    if dynamics is None or modelled != set(range(size)) or observations.shape[-1] != 2 * size:
        return None
    observations[..., size:] = np.gradient(observations[..., :size], times, axis=1)
    observations[:, 0, size:] = present[:, size:]
    v, steps = observations[..., size:], np.rint(np.diff(times) / spec.dt)[:, None]
    keep = dynamics["keep"] ** steps  # n env steps of v' = keep v + gain a with one action
    gain = dynamics["gain"] * np.array(
        [[sum(dynamics["keep"] ** i for i in range(int(n)))] for n in steps[:, 0]]
    )
    actions = np.clip((v[:, 1:] - keep * v[:, :-1]) / gain, -1, 1)
    return np.concatenate([actions, np.zeros_like(v[:, :1])], 1)
