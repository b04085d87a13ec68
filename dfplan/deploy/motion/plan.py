"""The setpoints of the next ticks: they begin on what the arm is carrying out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dfplan.deploy.motion.course import Course
from dfplan.deploy.motion.safety import SafetyFilter
from dfplan.deploy.motion.under_way import UnderWay
from dfplan.deploy.robot.limits import Setpoint, Target


class Plan:
    """Setpoints of the ticks `tick`, `tick + 1`, ..., each one step of the safety filter after the one before.

    Attributes:
        setpoints: (lead,) of them; empty while nothing is planned.
        under_way: what the arm carries out, as far as is known.
        tick: of the first setpoint, the next that is due.
    """

    def __init__(self, guard: SafetyFilter, under_way: UnderWay, lead: int) -> None:
        """Nothing is planned; `lead` ticks will be."""
        self.filter, self.under_way, self.lead = guard, under_way, lead
        self.setpoints: list[Setpoint] = []
        self.tick = 0

    def clear(self) -> None:
        """Plan nothing; what is under way goes on."""
        self.setpoints = []

    def begin(self, position: ArrayLike, tick: int) -> Setpoint:
        """At rest at the measured position (J,), as if the arm had been told to stand there.

        Raises:
            ValueError: see `SafetyFilter.check`.
        """
        start = self.filter.start(position)
        self.setpoints, self.tick = [start] * self.lead, tick
        self.under_way.clear()
        self.under_way.add(self.course(0.0))
        return start

    def late(self, tick: int) -> int:
        """Ticks since the arm left the plan for the stop that was sent along; 0: it has not."""
        return max(0, tick - self.under_way.last)

    def move_on(self, tick: int) -> bool:
        """Drop what is due before `tick`; whether the arm has left the plan, which then begins anew where it is at `tick`."""
        late = self.late(tick) > 0
        if late:
            self.setpoints = [self.under_way.state(tick)]
            self.filter.rewind(self.setpoints[0])
        else:
            self.setpoints = self.setpoints[tick - self.tick :]
        self.tick = tick
        return late

    def brake(self) -> None:
        """Keep the first setpoint only: what follows it begins the quickest stop."""
        self.setpoints = self.setpoints[:1]
        self.filter.rewind(self.setpoints[0])

    def extend(self, target: Callable[[int], Target | None], measured: ArrayLike | None = None) -> None:
        """Fill up.

        Args:
            target: gives what is wanted so many ticks after the first setpoint's; None: stop.
            measured: (J,) where the joints are, to refuse what is far from it.
        """
        while len(self.setpoints) < self.lead:
            self.setpoints.append(self.filter.step(target(len(self.setpoints)), measured))

    def resting(self) -> bool:
        """Whether it ends at rest."""
        return not np.any(self.setpoints[-1].velocity)

    def course(self, time: float) -> Course:
        """The planned setpoints, then the quickest stop; `time` is the policy's at the last of them, s."""
        return Course(self.tick, tuple(self.setpoints), self.filter.stop(), self.filter.dt, time)
