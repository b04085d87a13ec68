"""What planning takes and gives: `PlannerConfig` and `Plan`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dfplan import schedules
from dfplan.sampling import STEPS
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlannerConfig:
    """How plans are sampled and chosen.

    Attributes:
        schedule: `full`, `pyramid`, `autoregressive` or `trapezoid`.
        steps: network calls each token takes from noise to clean.
        uncertainty: rows by which a token starts after the one before it (`pyramid`, `trapezoid`).
        step: step rule: `ddim`, `ddpm` or `dpm_solver_2m`.
        candidates: K, plans sampled as one batch.
        guidance: nats per unit of cost.
        futures: futures over which Monte Carlo guidance averages.
        warm_level: level to which a warm start re-noises the last plan.
        within: distance at which the goal counts as reached (unit of the goal token).
        tolerance: a plan is feasible while the model's own error is at most this multiple of the data's 99 % quantile.
    """

    schedule: str = "full"
    steps: int = 10
    uncertainty: float = 0.5
    step: str = "ddim"
    candidates: int = 16
    guidance: float = 1.0
    futures: int = 1
    warm_level: float = 0.6
    within: float = 0.5
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes out of range."""
        one_of("schedule", self.schedule, schedules.SCHEDULES)
        one_of("step rule", self.step, STEPS)
        for name in ("steps", "candidates", "futures", "warm_level", "within", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"got {name}={getattr(self, name)}, expected a number above 0")
        for name in ("uncertainty", "guidance"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"got {name}={getattr(self, name)}, expected 0 or more")
        if self.warm_level > 1:
            raise ValueError(f"got warm_level={self.warm_level}, expected at most 1 (1 is a cold start)")


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
        feasible: (K,) True where the model's own error is within what the data show and no step is too long.
        arrivals: (K,) first step from which the plan stays at the goal; H where it never does.
        errors: (K,) the model's own error over the data's quantile.
        costs: (K,) given cost; 0 without one.
        network_calls: network evaluations it took.
        seconds: wall time it took.
        tokens: (K, T, D) normalised, what a warm start begins from.
        history: steps of history in the tokens, the present included.
        seed: gives this plan again, from the same question; None where a generator was given.
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

    def best(self) -> Array:
        """(H, O): the chosen candidate, cut where it has arrived."""
        return self.observations[: int(self.arrivals[self.chosen]) + 1]
