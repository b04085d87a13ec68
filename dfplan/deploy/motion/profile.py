"""The quickest stop of joints with limited acceleration and jerk, in closed form.

From velocity v and acceleration a the stop is: jerk until the acceleration is -p, hold it, jerk back to 0, where
p^2 = J |v| + a^2 / 2 (in the direction of motion), at most A. Any state on the way has the rest of the way as its own
quickest stop, which is what makes "a stop is still possible" an invariant that one step can keep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Stop:
    """Quickest stop of J joints, each by itself.

    Attributes:
        seconds: (J,) until each is at rest.
        end: (J,) displacement when at rest, rad or m.
    """

    def __init__(self, velocity: Array, acceleration: Array, most: Array, jerk: Array) -> None:
        """Plan the stop.

        Args:
            velocity: (J,) now, rad/s.
            acceleration: (J,) now, within `most`, rad/s^2.
            most: (J,) acceleration limit.
            jerk: (J,) jerk limit, rad/s^3.
        """
        free = velocity + acceleration * np.abs(acceleration) / (2 * jerk)  # velocity once a has come to 0
        self._sign = np.where(free < 0, -1.0, 1.0)
        v, a = velocity * self._sign, acceleration * self._sign
        peak = np.sqrt(np.maximum(jerk * v + a * a / 2, 0.0))
        self._peak = peak = np.maximum(np.minimum(peak, most), np.maximum(-a, 0.0))
        self._v, self._a, self._jerk = v, a, jerk
        self._t1 = (a + peak) / jerk
        self._v1 = v + (a * a - peak * peak) / (2 * jerk)
        rest = np.maximum(self._v1 - peak * peak / (2 * jerk), 0.0)
        self._t2 = np.divide(rest, peak, out=np.zeros_like(rest), where=peak > 0)
        self._t3 = peak / jerk
        self._x1 = self._x(self._t1)
        self._v2 = self._v1 - peak * self._t2
        self._x2 = self._x1 + self._v1 * self._t2 - peak * self._t2**2 / 2
        self.seconds = self._t1 + self._t2 + self._t3
        end = self._x2 + self._v2 * self._t3 - peak * self._t3**2 / 2 + jerk * self._t3**3 / 6
        self._end = end
        self.end: Array = end * self._sign

    def _x(self, t: Array) -> Array:
        return self._v * t + self._a * t**2 / 2 - self._jerk * t**3 / 6

    def extremes(self) -> tuple[Array, Array]:
        """Lowest and highest displacement on the way, (J,) each, the present 0 included."""
        a, v = self._a, np.minimum(self._v, 0.0)  # it first moves backward where v < 0 here
        turn = (a - np.sqrt(np.maximum(a * a + 2 * self._jerk * v, 0.0))) / self._jerk
        back = np.where(self._v < 0, self._x(np.maximum(turn, 0.0)), 0.0)
        low, high = np.minimum(np.minimum(back, self._end), 0.0), np.maximum(self._end, 0.0)
        up = self._sign > 0
        return np.where(up, low, -high), np.where(up, high, -low)

    def fastest(self) -> Array:
        """(J,) highest speed on the way, rad/s."""
        free = self._v + np.maximum(self._a, 0.0) ** 2 / (2 * self._jerk)
        return np.maximum(np.abs(self._v), np.abs(free))

    def changes(self) -> Array:
        """(3, J) s after which the jerk changes; the last is the end."""
        return np.stack([self._t1, self._t1 + self._t2, self.seconds])

    def at(self, times: Array) -> tuple[Array, Array, Array]:
        """Displacement, velocity and acceleration after `times` (H,) s: (H, J) each."""
        t = np.asarray(times, np.float64)[:, None]
        j, p = self._jerk, self._peak
        a1 = np.clip(t, 0.0, self._t1)
        a2 = np.clip(t - self._t1, 0.0, self._t2)
        a3 = np.clip(t - self._t1 - self._t2, 0.0, self._t3)
        x = self._x(a1) + self._v1 * a2 - p * a2**2 / 2 + self._v2 * a3 - p * a3**2 / 2 + j * a3**3 / 6
        v = self._v + self._a * a1 - j * a1**2 / 2 - p * a2 - p * a3 + j * a3**2 / 2
        a = self._a - j * a1 + j * a3
        rest = t >= self.seconds
        x, v, a = np.where(rest, self._end, x), np.where(rest, 0.0, v), np.where(rest, 0.0, a)
        return x * self._sign, v * self._sign, a * self._sign
