"""What goes wrong in demonstrations by the scripted experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import inverse, panda

from ..control import LEAD

if TYPE_CHECKING:
    from ..base import ArmEnv

Array = NDArray[np.float64]

_DRIFTS = 6
"""Spells in each part of a task in which the tool drifts off; many, as to keep clear and to arrive are learned from ways back."""


class Mischief:
    """What goes wrong in a demonstration, so that it shows how to recover; drawn anew for each.

    The tool drifts off by a few cm for short spells, or hesitates; a closed gripper slips open once; an open one closes for a
    moment; the object or target is moved, up to twice in each part of a task; what is held is lost, or does not stay where
    it was put, up to twice.
    """

    def __init__(self, rng: np.random.Generator, parts: int) -> None:
        """Draw when; `parts` is how many times as long as to pick and place the task is."""
        self._rng = rng
        self._drifts = []
        for start in rng.integers(5, 120 * parts, _DRIFTS * parts):
            direction = rng.standard_normal(3)
            direction[2] = 0.6 * abs(direction[2])
            speed = rng.uniform(0.05, 0.14) / np.linalg.norm(direction)
            self._drifts.append((int(start), int(rng.integers(8, 15)), direction * speed))
        self._slips = sum(rng.random() < 0.3 for _ in range(parts))
        starts = rng.integers(0, 40 * parts, int(rng.random() < 0.5))
        self._fumbles = [(int(start), int(start + rng.integers(4, 11))) for start in starts]
        last = 40 + 130 * (parts - 1)
        moves = rng.choice(3, parts, p=[0.4, 0.35, 0.25]).sum()
        self._moves = set(rng.integers(3, last, moves).tolist())
        self._slip_until, self._losses, self._go = 0, 2, 1.0
        self._pauses = [
            (130 * part + start, 130 * part + start + int(rng.integers(4, 8)))
            for part in range(parts)
            for start in rng.integers(8, 120, rng.choice(3, p=[0.6, 0.3, 0.1])).tolist()
        ]

    def meddle(self, env: ArmEnv, command: Array, step: int) -> Array:
        """Disturb the scene; the command to execute instead of `command` (8,) in control step `step`."""
        if step in self._moves and not env.displace(self._rng, self._rng.uniform(0.03, 0.1)):
            self._moves.add(step + 1)  # not possible now, perhaps soon
        if self._losses and env.lose(self._rng):
            self._losses -= 1
        command = np.append(self._paused(env.physics.q, command[:7], step), command[7])
        for start, length, velocity in self._drifts:
            if start <= step < start + length:
                bump = np.sin(np.pi * (step - start + 0.5) / length)
                twist = np.append(LEAD * bump * velocity, np.zeros(3))
                q = env.physics.q
                command[:7] += inverse.joint_step(panda.look(q)[2], q, twist, None, 0.0)
        return np.append(command[:7], self._grip(env, float(command[7]), step))

    def _paused(self, q: Array, target: Array, step: int) -> Array:
        """Joint targets (7,) with hesitations: it stands still for a while, and takes two steps to stop and to go on."""
        resting = any(start <= step < end for start, end in self._pauses)
        self._go += float(np.clip((not resting) - self._go, -0.5, 0.5))
        return q + self._go * (target - q)

    def _grip(self, env: ArmEnv, opening: float, step: int) -> float:
        """Gripper opening to execute instead of `opening`, m."""
        closed = opening < 0.02 and env.physics.opening < 0.045
        if self._slips and closed and self._rng.random() < 0.04:
            self._slips, self._slip_until = self._slips - 1, step + int(self._rng.integers(3, 9))
        if step < self._slip_until:
            return 0.08
        fumbling = any(start <= step < end for start, end in self._fumbles)
        return 0.0 if fumbling and opening > 0.05 else opening
