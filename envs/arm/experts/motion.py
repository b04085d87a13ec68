"""How scripted experts move: toward a carrot, in a manner drawn for each episode, along smooth paths."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import inverse, panda, rotations
from dfplan.deploy.robot.panda import HOME, LIMITS

from ..control import LEAD
from ..model import DT

if TYPE_CHECKING:
    from ..base import ArmEnv

Array = NDArray[np.float64]

# Braking of the tool in m/s^2 and rad/s^2, its turning speed in rad/s, the most it speeds up in a step in
# m/s, and the part of the way to the home posture that the free joint goes in a step.
_BRAKE, _BRAKE_TURN, _SPIN, _EASE, _PULL = 0.5, 3.0, 1.3, 0.2, 0.06
_SWIFT = 0.55 * LIMITS.velocity
_LOWER, _UPPER = LIMITS.lower + 0.02, LIMITS.upper - 0.02


class ArmExpert:
    """Drives the tool toward a carrot that the task's expert names, in a manner drawn for the episode.

    The command is the joint angles now plus a bounded step, so it depends smoothly on the state alone, apart from a little
    slow noise. It never hesitates: who sees what was done would learn to stand still because it stands still.
    """

    def __init__(self, env: ArmEnv, seed: int) -> None:
        """Draw speed and noise of the episode.

        Args:
            env: already reset; the expert reads its true state.
            seed: of all that is drawn.
        """
        self.env, self.rng = env, np.random.default_rng(seed)
        self.pace = float(self.rng.uniform(0.8, 1.2))
        self._noise = np.zeros(6)

    def act(self) -> Array:
        """(8,) joint targets (rad) and gripper opening (m) for the state the environment is in now."""
        raise NotImplementedError

    def drive(self, carrot: Array, rotation: Array, remaining: float, top: float, opening: float) -> Array:
        """Command that moves the TCP toward a pose.

        Args:
            carrot: (3,) where to head for, m.
            rotation: (3, 3) to turn to.
            remaining: length of the way that is left, m; the speed falls with it.
            top: highest speed, m/s, before this episode's pace.
            opening: of the gripper, m.

        Returns:
            (8,) joint targets (rad) and gripper opening (m).
        """
        q = self.env.physics.q
        at, turned, jac = panda.look(q)
        going = float(np.linalg.norm(jac[:3] @ self.env.physics.qd))
        way, turn = carrot - at, rotations.rotation_vector(rotation @ turned.T)
        apart, angle = max(float(np.linalg.norm(way)), 1e-9), max(float(np.linalg.norm(turn)), 1e-9)
        # Close to the end the command is the end itself, so that arriving does not depend on small steps.
        speed = min(top * self.pace, sqrt(2 * _BRAKE * remaining), apart / LEAD, going + _EASE)
        spin = min(_SPIN * self.pace, sqrt(2 * _BRAKE_TURN * angle), angle / LEAD)
        twist = np.concatenate([way * (speed / apart), turn * (spin / angle)])
        twist += self._drift() * min(1.0, remaining / 0.08)
        step = inverse.joint_step(jac, q, LEAD * twist, HOME, _PULL)
        step *= min(1.0, float((LEAD * _SWIFT / np.maximum(np.abs(step), 1e-9)).min()))
        return np.append(np.clip(q + step, _LOWER, _UPPER), opening)

    def _drift(self) -> Array:
        """Slow noise (Ornstein-Uhlenbeck, 0.4 s): (6,) m/s and rad/s."""
        share = DT / 0.4
        kick = self.rng.standard_normal(6) * [0.01, 0.01, 0.01, 0.04, 0.04, 0.04]
        self._noise += -share * self._noise + np.sqrt(2 * share) * kick
        return self._noise


class Path:
    """A smooth way along corner points, as points 5 mm apart; remembers how far it has been followed."""

    def __init__(self, corners: Array) -> None:
        """Cut the corners (n, 3) three times (Chaikin) and space the points evenly."""
        points = corners
        for _ in range(3):
            first, second = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
            inner = np.stack([first, second], 1).reshape(-1, 3)
            points = np.concatenate([points[:1], inner, points[-1:]])
        lengths = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
        self.length = float(lengths[-1])
        self._count = max(2, int(self.length / 0.005) + 1)
        even = np.linspace(0.0, self.length, self._count)
        self._points = np.stack([np.interp(even, lengths, points[:, i]) for i in range(3)], 1)
        self._at = 0

    def at(self, part: float) -> Array:
        """(3,) point after `part` (0 to 1) of the way, m."""
        return np.array(self._points[round(part * (self._count - 1))])

    def follow(self, position: Array) -> float:
        """Move on to the point nearest to `position` (3,) within the next 10 cm; distance from it, m."""
        gaps = np.linalg.norm(self._points[self._at : self._at + 20] - position, axis=1)
        nearest = int(np.argmin(gaps))
        self._at += nearest
        return float(gaps[nearest])

    def ahead(self, distance: float) -> tuple[Array, float, float]:
        """Point `distance` m ahead (3,), which part of the way that is, and the way left from here, m."""
        index = min(self._count - 1, self._at + round(distance / 0.005))
        left = float(np.linalg.norm(self._points[index] - self._points[self._at]))
        left += (self._count - 1 - index) * 0.005
        return self._points[index], index / (self._count - 1), left
