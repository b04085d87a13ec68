"""From commanded joint targets to targets the joints can follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.panda import GRIPPER_OPEN, GRIPPER_SPEED, LIMITS

from .model import DT, LAG, SUBSTEPS

Array = NDArray[np.float64]

LEASH = 0.12
"""The target never runs further ahead of a joint than this, rad: a blocked arm does not wind up."""
# The joints overshoot their targets a little: this much room keeps the joints themselves within limits.
_SPEED_SHARE, _MARGIN = 0.9, 0.01
LEAD = DT + LAG
"""A command is this far ahead of a joint that keeps moving, s: the control step and the servo's lag."""
_LOWER, _UPPER = LIMITS.lower + _MARGIN, LIMITS.upper - _MARGIN
_SPEED, _ACCELERATION = _SPEED_SHARE * LIMITS.velocity, LIMITS.acceleration
_RAMP = (np.arange(1, SUBSTEPS + 1) / SUBSTEPS)[:, None]


class Limiter:
    """Moves the servo targets toward the commanded ones within the velocity and acceleration limits.

    One straight piece of the way for each control step, so the servos see a steady target motion.
    """

    def __init__(self, q: Array, opening: float) -> None:
        """Start at rest at joint angles `q` (7,) rad and gripper opening (m)."""
        self.target = np.append(q, opening)
        self._step = np.zeros(7)

    def rows(self, q: Array, command: Array) -> Array:
        """Servo targets of the next control step.

        Args:
            q: (7,) joint angles now, rad.
            command: (8,) commanded joint angles (rad) and gripper opening (m), within limits.

        Returns:
            (S, 8) one row per physics step.
        """
        start = self.target.copy()
        leashed = np.clip(start[:7], q - LEASH, q + LEASH)
        gap = command[:7] - leashed
        change = _ACCELERATION * DT * DT
        # The longest step from which shorter and shorter ones, each by `change`, just use up the gap.
        most = change * (np.sqrt(0.25 + 2.0 * np.abs(gap) / change) - 0.5)
        step = np.clip(gap, -most, most)
        step = np.clip(step, self._step - change, self._step + change)
        step = np.clip(step, -_SPEED * DT, _SPEED * DT)
        end = np.clip(leashed + step, _LOWER, _UPPER)
        self._step = end - leashed
        most_opening = GRIPPER_SPEED * DT
        opening = start[7] + np.clip(command[7] - start[7], -most_opening, most_opening)
        self.target = np.append(end, np.clip(opening, 0.0, GRIPPER_OPEN))
        begin = np.append(leashed, start[7])
        return begin + _RAMP * (self.target - begin)
