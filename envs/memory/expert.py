"""How scripted experts of the planar tasks move, and what goes wrong in their demonstrations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import cos, hypot, sin, sqrt
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arm.model import DT
from .planar import TOP, PlanarEnv

Array = NDArray[np.float64]
Env = TypeVar("Env", bound=PlanarEnv)


class Expert(ABC, Generic[Env]):
    """Drives the hand by the true state, in a manner drawn for the episode; never by how long it has driven.

    Attributes:
        pace: share of the speed that is used.
        rng: of all that is drawn.
    """

    def __init__(self, env: Env, seed: int) -> None:
        """Draw pace, bend of the ways and braking.

        Args:
            env: already reset; the expert reads its true state.
            seed: of all that is drawn.
        """
        self.env, self.rng = env, np.random.default_rng(seed)
        self.pace = float(self.rng.uniform(0.6, 0.95))
        self._bend = float(self.rng.normal(0.0, 0.35))
        self._brake = float(self.rng.uniform(0.8, 2.6))  # m/s^2; the hand has 2: those above overshoot
        self._noise = (0.0, 0.0)
        self._go, self._rest = 0.0, 0

    @abstractmethod
    def act(self) -> Array:
        """(A,) action for the state the environment is in now."""

    def toward(self, x: float, y: float) -> tuple[float, float]:
        """Action (2) that moves the hand to a point (m), along a bend and with noise that both fade on arrival."""
        way = (x - self.env.x, y - self.env.y)
        left = max(hypot(*way), 1e-9)
        speed = min(self.pace * TOP, sqrt(2 * self._brake * left), left / (3 * DT))
        turn, go = self._bend * min(1.0, left / 0.15), self.going()
        ahead, aside = speed * cos(turn) / left, speed * sin(turn) / left
        noise = self.drift(0.03 * min(1.0, left / 0.06))
        vx, vy = way[0] * ahead - way[1] * aside, way[0] * aside + way[1] * ahead
        return (go * (vx + noise[0]) / TOP, go * (vy + noise[1]) / TOP)

    def going(self) -> float:
        """Share of the speed to use now: 0 in a hesitation, 1 outside, two steps between."""
        if self._rest == 0 and self.rng.random() < 0.01:
            self._rest = int(self.rng.integers(4, 8))
        resting = self._rest > 0
        self._rest -= resting
        self._go += min(max((not resting) - self._go, -0.5), 0.5)
        return self._go

    def drift(self, size: float) -> tuple[float, float]:
        """Slow noise (Ornstein-Uhlenbeck, 0.4 s) with a standard deviation of `size`, m/s."""
        share = DT / 0.4
        kick = self.rng.standard_normal(2) * sqrt(2 * share)
        self._noise = (
            (1 - share) * self._noise[0] + float(kick[0]),
            (1 - share) * self._noise[1] + float(kick[1]),
        )
        return (size * self._noise[0], size * self._noise[1])


class Mischief:
    """What goes wrong in a demonstration, so that it shows how to recover; more than half of them have some.

    The hand drifts off for short spells, things are moved, a closed gripper slips open and an open one closes for a
    moment, each up to twice. Nothing of it depends on what is to be remembered.
    """

    def __init__(
        self, rng: np.random.Generator, drifts: float = 0.03, moves: float = 0.0, slips: float = 0.0
    ) -> None:
        """Draw how often.

        Args:
            rng: of all that is drawn.
            drifts: chance that the hand begins to drift off, per env step.
            moves: chance that a thing is moved, per env step.
            slips: chance that the gripper does what was not asked of it, per env step.
        """
        self._rng = rng
        some = rng.random() < 0.7
        self._often = (drifts * some, moves * some, slips * some)
        self._spell, self._age, self._push = 0, 0, np.zeros(2)
        self._grip, self._last, self._left = 0.0, 0, {True: 2, False: 2}

    def meddle(self, env: PlanarEnv, command: Array, step: int) -> Array:
        """Disturb the scene; the action (A,) to execute instead of `command` (A,) in env step `step`."""
        drawn = self._rng.random(3)
        executed = np.array(command, np.float64)
        if self._age >= self._spell and drawn[0] < self._often[0]:
            angle, size = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(0.4, 1.2)
            self._push = size * np.array([np.cos(angle), np.sin(angle)])
            self._spell, self._age = int(self._rng.integers(5, 12)), 0
        if self._age < self._spell:
            executed[:2] += self._push * np.sin(np.pi * (self._age + 0.5) / self._spell)
            self._age += 1
        if drawn[1] < self._often[1]:
            env.displace(self._rng, float(self._rng.uniform(0.03, 0.10)))
        if drawn[2] < self._often[2] and step >= self._last:
            closing = bool(executed[2] > 0)
            if self._left[closing]:
                self._left[closing] -= 1
                self._grip, self._last = -float(executed[2]), step + int(self._rng.integers(2, 6))
        if step < self._last:
            executed[2] = self._grip
        return np.clip(executed, -1.0, 1.0)
