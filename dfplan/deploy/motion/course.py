"""What one message makes the arm do: setpoints, then the stop that is sent along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.motion.profile import Stop
from dfplan.deploy.robot.cubic import cubic
from dfplan.deploy.robot.limits import Setpoint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Setpoints at consecutive ticks, then the quickest stop.

    Attributes:
        begin: tick of the first setpoint.
        setpoints: (H,) at `begin`, `begin + 1` and so on; one at least.
        stop: from the last of them.
        dt: s between two ticks.
        time: the policy's, at the last of them, s.
    """

    begin: int
    setpoints: tuple[Setpoint, ...]
    stop: Stop
    dt: float
    time: float = 0.0

    @property
    def last(self) -> int:
        """Tick of the last setpoint; the stop begins there."""
        return self.begin + len(self.setpoints) - 1

    @property
    def over(self) -> int:
        """Tick from which the arm rests."""
        return self.last + int(np.ceil(float(self.stop.seconds.max()) / self.dt - 1e-9))

    def state(self, tick: float) -> Setpoint:
        """The setpoint at a tick, or between two; not before `begin`."""
        after = tick - self.last
        if after >= 0:
            x, v, a = (row[0] for row in self.stop.at(np.array([after * self.dt])))
            return Setpoint(self.setpoints[-1].position + x, v, a)
        i = max(0, int(tick) - self.begin)
        one = self.setpoints[i]
        if tick <= self.begin + i:
            return one
        two = self.setpoints[i + 1]
        share = tick - self.begin - i
        return Setpoint(*cubic(one.position, two.position, one.velocity, two.velocity, self.dt, share))

    def points(self) -> tuple[Array, Array, Array]:
        """Ticks (P,), positions (P, J) and velocities (P, J) to send, at rest at the end.

        Where the jerk of the stop does not change, cubics follow it exactly: only the ticks beside its changes are points.
        """
        rest = max(1, self.over - self.last)
        changes = self.stop.changes() / self.dt
        ticks = np.concatenate([np.floor(changes).ravel(), np.ceil(changes).ravel(), [1, rest]])
        after = np.unique(np.clip(ticks, 1, rest))
        moves, speeds, _ = self.stop.at(after * self.dt)
        speeds[-1] = 0.0
        return (
            np.concatenate([np.arange(self.begin, self.last + 1), self.last + after]),
            np.concatenate(
                [np.stack([s.position for s in self.setpoints]), self.setpoints[-1].position + moves]
            ),
            np.concatenate([np.stack([s.velocity for s in self.setpoints]), speeds]),
        )
