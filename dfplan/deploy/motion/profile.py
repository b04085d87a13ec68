"""The quickest stop of joints with limited acceleration and jerk, by ruckig.

Any state on the way has the rest of the way as its own quickest stop, which is what makes "a stop is still possible" an
invariant that one step can keep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import optional_import

Array = NDArray[np.float64]


class Stop:
    """Quickest stop of J joints, each by itself.

    Attributes:
        seconds: (J,) until each is at rest.
        end: (J,) displacement when at rest, rad or m.
        low: (J,) lowest displacement on the way, the present 0 included.
        high: (J,) highest displacement on the way.
        fastest: (J,) highest speed on the way, rad/s.
    """

    def __init__(self, velocity: Array, acceleration: Array, most: Array, jerk: Array) -> None:
        """Plan the stop.

        Args:
            velocity: (J,) now, rad/s.
            acceleration: (J,) now, within `most`, rad/s^2.
            most: (J,) acceleration limit.
            jerk: (J,) jerk limit, rad/s^3.

        Raises:
            ruckig.RuckigError: for a state that is not finite.
            ImportError: ruckig is not installed.
        """
        ruckig: Any = optional_import("ruckig", "deploy")
        size = len(velocity)
        task, self._path = ruckig.InputParameter(size), ruckig.Trajectory(size)
        task.control_interface = ruckig.ControlInterface.Velocity
        task.synchronization = ruckig.Synchronization.No
        task.current_velocity, task.current_acceleration = velocity, acceleration
        task.max_acceleration, task.max_jerk = most, jerk
        ruckig.Ruckig(size).calculate(task, self._path)
        self.seconds: Array = np.array(self._path.independent_min_durations)
        self.end: Array = np.array(self._path.at_time(self._path.duration)[0])
        extrema = self._path.position_extrema
        self.low: Array = np.array([e.min for e in extrema])
        self.high: Array = np.array([e.max for e in extrema])
        free = velocity + acceleration * np.abs(acceleration) / (2 * jerk)  # velocity once a has come to 0
        self.fastest: Array = np.maximum(np.abs(velocity), np.abs(free))

    def changes(self) -> Array:
        """(C, J) s after which the jerk changes; the last is the end."""
        profiles = self._path.profiles[0]
        return np.cumsum([[*p.brake.t, *p.t] for p in profiles], 1).T

    def at(self, times: Array) -> tuple[Array, Array, Array]:
        """Displacement, velocity and acceleration after `times` (H,) s: (H, J) each."""
        rows = np.array([self._path.at_time(float(t)) for t in times])
        rest = np.asarray(times)[:, None] >= self.seconds
        x, v, a = rows.swapaxes(0, 1)
        return np.where(rest, self.end, x), np.where(rest, 0.0, v), np.where(rest, 0.0, a)
