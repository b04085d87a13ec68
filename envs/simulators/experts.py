"""Scripted experts for robosuite's Lift and Can, in a manner drawn for each episode.

What they do follows from the state alone, so that it can be learned from one observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .suite import Robosuite

Array = NDArray[np.float64]
OPEN, CLOSE = -1.0, 1.0
_DOWN = np.diag([1.0, -1.0, -1.0])
"""The hand's axes (columns) in the world where it points down."""


class Expert:
    """Drives the hand toward where the task's expert says it should be now.

    Args:
        env: already reset.
        rng: of the episode's manner.
    """

    def __init__(self, env: Robosuite, rng: np.random.Generator) -> None:
        self.env = env
        self.pace = rng.uniform(0.7, 1.0)
        self.gain = rng.uniform(18, 26)
        self.hover = rng.uniform(0.05, 0.09)
        self.home = self.yaw

    def act(self, seen: object = None) -> Array:
        """(7,) action in [-1, 1] for the state that the environment is in now, which says more than what is `seen`."""
        place, turn, grip = self.decide()
        step = self.gain * (place - self.hand)
        step *= min(1.0, self.pace / max(1e-9, float(np.abs(step).max())))
        spin = np.clip(4 * turn, -0.5, 0.5)
        return np.clip(np.concatenate([step, spin, [grip]]), -1, 1)

    def decide(self) -> tuple[Array, Array, float]:
        """Where the hand should be (3,), how it should be turned from now on (3,) (axis times rad), and the gripper."""
        raise NotImplementedError

    @property
    def hand(self) -> Array:
        """Where the hand's grip is (3,), m."""
        return np.array(self._site("site_xpos"))

    @property
    def opening(self) -> float:
        """Between the fingers, m."""
        suite = self.env.suite
        return sum(
            abs(float(suite.sim.data.get_joint_qpos(j))) for j in suite.robots[0].gripper["right"].joints
        )

    def turned(self, yaw: float) -> Array:
        """Rotation (3,) from the hand's to one that points down, turned about z by `yaw`."""
        c, s = np.cos(yaw), np.sin(yaw)
        wanted = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ _DOWN
        now = np.array(self._site("site_xmat")).reshape(3, 3)
        return np.asarray(0.5 * np.cross(now, wanted, axis=0).sum(1))

    @property
    def yaw(self) -> float:
        """The hand's turn about z, rad."""
        x = np.array(self._site("site_xmat")).reshape(3, 3)[:, 0]
        return float(np.arctan2(x[1], x[0]))

    def thing(self, name: str) -> tuple[Array, Array]:
        """Position (3,) and axes (3, 3) of a body."""
        suite = self.env.suite
        at = suite.sim.model.body_name2id(name)
        return np.array(suite.sim.data.body_xpos[at]), np.array(suite.sim.data.body_xmat[at]).reshape(3, 3)

    def approach(self, thing: Array, turn: Array) -> tuple[Array, float]:
        """Where the hand should be to grasp what is at `thing` (3,), above it or, open and right above, down; the gripper."""
        aside = float(np.hypot(*(self.hand - thing)[:2])) + 0.05 * abs(float(turn[2]))
        open_enough = self.opening > 0.06 or bool(np.abs(self.hand - thing).max() < 0.02)
        above = float(np.clip(4 * (aside - 0.01), 0, self.hover)) if open_enough else self.hover
        there = above == 0 and abs(self.hand[2] - thing[2]) < 0.012
        return thing + [0, 0, above], CLOSE if there else OPEN

    def _site(self, what: str) -> Any:
        suite = self.env.suite
        return getattr(suite.sim.data, what)[suite.robots[0].eef_site_id["right"]]


class Lift(Expert):
    """Grasps the cube along two of its faces and lifts it."""

    def decide(self) -> tuple[Array, Array, float]:
        """See `Expert`."""
        cube, axes = self.thing(self.env.suite.cube.root_body)
        faces = np.arctan2(axes[1, 0], axes[0, 0])
        quarter = np.pi / 2
        turn = self.turned(self.yaw + (faces - self.yaw + quarter / 2) % quarter - quarter / 2)
        near = bool(np.abs(self.hand - cube).max() < 0.02)
        if near and 0.02 < self.opening < 0.05:
            return self.hand + [0, 0, 0.05], turn, CLOSE
        place, grip = self.approach(cube, turn)
        return place, turn, grip


class Can(Expert):
    """Grasps the can, carries it over the walls and lets go of it in its compartment."""

    def __init__(self, env: Robosuite, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        self.high = rng.uniform(1.04, 1.08)
        suite = env.suite
        middle = np.array(suite.target_bin_placements[suite.object_id])  # nearly out of the arm's reach
        self.goal = middle - [0.04, 0.05, 0] + [*rng.uniform(-0.015, 0.015, 2), 0]

    def decide(self) -> tuple[Array, Array, float]:
        """See `Expert`."""
        suite = self.env.suite
        can, _ = self.thing(suite.objects[suite.object_id].root_body)
        turn = self.turned(self.home)
        near = bool(np.abs(self.hand - can).max() < 0.03)
        left = float(np.hypot(*(self.goal - can)[:2]))
        if left < 0.06 and can[2] < (0.91 if near else 0.95):
            held = near and self.opening < 0.065
            return self.hand + [0, 0, 0 if held else 0.05], turn, OPEN
        if near and 0.02 < self.opening < 0.07:
            over = float(np.clip((left - 0.02) / 0.04, 0, 1)) * (self.high - 0.87) + 0.87
            sideways = float(np.clip((self.hand[2] - 0.98) / 0.04, 0, 1)) if left > 0.06 else 1.0
            place = self.hand + sideways * (self.goal - self.hand)
            return np.array([place[0], place[1], over]), turn, CLOSE
        place, grip = self.approach(can, turn)
        return place, turn, grip


EXPERTS: Mapping[str, Callable[[Robosuite, np.random.Generator], Expert]] = {
    "Lift": Lift,
    "PickPlaceCan": Can,
}
"""robosuite's task -> its expert."""
