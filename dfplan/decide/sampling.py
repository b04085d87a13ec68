"""How tokens come out of noise, as settings. Needs no torch until a schedule or a cost is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfplan.tools.errors import one_of
from dfplan.tools.named import named

if TYPE_CHECKING:
    from dfplan.costs import Cost
    from dfplan.schedules import ScheduleMatrix

PRECISIONS = ("fp32", "bf16")
_SCHEDULES = dict.fromkeys(("full", "pyramid", "autoregressive", "trapezoid"))
_STEPS = dict.fromkeys(("ddim", "ddpm", "dpm_solver_2m"))


@dataclass(frozen=True)
class Sampling:
    """How tokens come out of noise.

    Attributes:
        schedule: `full`, `pyramid`, `autoregressive`, `trapezoid`, or `module:Name` of one's own.
        steps: network calls each token takes from noise to clean.
        uncertainty: rows by which a step starts after the one before it (`pyramid`, `trapezoid`).
        step: step rule: `ddim`, `ddpm`, `dpm_solver_2m`, or `module:Name` of one's own.
        precision: `fp32`, or `bf16` in the network alone.
        cost: what to keep low where nobody gives a cost, as text: `obstacle(center={'x': 3, 'y': 2}, radius=0.4)`, a name
            of ours or `module:Name` of one's own, see `dfplan.guidance.written`; empty for none.
    """

    schedule: str = "full"
    steps: int = 4
    uncertainty: float = 0.5
    step: str = "ddim"
    precision: str = "fp32"
    cost: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes out of range."""
        named("schedule", self.schedule, _SCHEDULES)
        named("step rule", self.step, _STEPS)
        one_of("precision", self.precision, PRECISIONS)
        self.own_cost()
        for name, value in vars(self).items():
            if type(getattr(type(self), name, None)) is int and type(value) is not int:
                raise ValueError(f"got {name}={value!r}, expected a whole number")
        if self.steps < 1:
            raise ValueError(f"got steps={self.steps}, expected 1 or more")
        if not 0 <= self.uncertainty < float("inf"):
            raise ValueError(f"got uncertainty={self.uncertainty}, expected 0 or more")

    def own_cost(self) -> Cost | None:
        """The cost that `cost` names, or None."""
        if not self.cost:
            return None
        from dfplan.costs import written

        return written(self.cost)

    def matrix(self, steps: int) -> ScheduleMatrix:
        """Levels of `steps` steps, a column each."""
        from dfplan import schedules

        return schedules.make(self.schedule, steps, self.steps, self.uncertainty)
