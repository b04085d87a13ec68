"""A scripted expert for gymnasium-robotics' Fetch arm: bring the block, or the hand alone, to the goal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.floating[Any]]


class Fetch:
    """Grasps the block where there is one, carries it to the goal and holds it there.

    Args:
        env: `FetchReach-v4` or `FetchPickAndPlace-v4`.
        rng: of its manner.
    """

    def __init__(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        self.gain = rng.uniform(8, 12)
        self.hover = rng.uniform(0.04, 0.06)

    def act(self, seen: Mapping[str, Row]) -> Row:
        """Dictionary observation -> action (4,) in [-1, 1]: a step of the hand, and the gripper's (below 0 closes)."""
        row, goal = seen["observation"], seen["desired_goal"]
        step, grip = (goal - row[:3], 0.0) if len(row) == 10 else self._carry(row, goal)
        return np.clip(np.append(self.gain * step, grip), -1, 1)

    def _carry(self, row: Row, goal: Row) -> tuple[Row, float]:
        """Step (3,) of the hand, m, and the gripper's, from an observation (25,) with a block."""
        ahead, opening = row[6:9], float(row[9] + row[10])
        if np.abs(ahead).max() < 0.015 and opening < 0.06:
            return goal - row[3:6], -1.0
        aside = float(np.hypot(*ahead[:2]))
        above = float(np.clip(4 * (aside - 0.008), 0, self.hover)) if opening > 0.06 else self.hover
        there = above == 0 and abs(ahead[2]) < 0.012
        return ahead + [0, 0, above], -1.0 if there else 1.0
