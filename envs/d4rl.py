"""D4RL's tasks beyond the mazes as environments, by their names."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import optional_import
from dfplan.tools.references import FAMILIES, d4rl_task

from .adroit import REWARDS

Row = NDArray[np.float64]
KITCHENS = {
    "complete": ["microwave", "kettle", "light switch", "slide cabinet"],
    "partial": ["microwave", "kettle", "light switch", "slide cabinet"],
    "mixed": ["microwave", "kettle", "bottom burner", "light switch"],
}
"""Kind of data -> the four tasks that its kitchen asks for (D4RL, `kitchen_envs.py`)."""

for _task in REWARDS:
    if FAMILIES[_task].env not in gym.registry:
        gym.register(
            id=FAMILIES[_task].env,
            entry_point="dfplan.envs.adroit:Adroit",
            max_episode_steps=FAMILIES[_task].steps,
            kwargs={"task": _task},
        )


def make_d4rl(name: str, **kwargs: Any) -> gym.Env[Any, Any] | None:
    """The environment of `hopper-medium-v2`, `pen-human-v1`, `kitchen-mixed-v0`, ... or of a robot alone, such as `hopper`.

    Returns:
        it, with D4RL's number of env steps; None where the name is not one of D4RL's.

    Raises:
        ValueError: for antmazes.
        ImportError: without the package that has it, with the line that installs it.
    """
    found = d4rl_task(name)
    if found is None:
        return None
    family, kind = found
    if not family.env:
        raise ValueError(
            f"got {name}, whose ant no installable package simulates: D4RL's steps every 0.1 s, Gymnasium's every 0.05 s. "
            "Its data can be trained on; gymnasium-robotics' own ant mazes are --env AntMaze_UMaze-v4 and the like"
        )
    if family.env.startswith("Franka"):
        optional_import("gymnasium_robotics", "robots")  # registers it
        kwargs.setdefault("tasks_to_complete", KITCHENS[kind or "mixed"])
    env = gym.make(family.env, **{"max_episode_steps": family.steps} | kwargs)
    return Kitchen(env) if family.env.startswith("Franka") else env


class Kitchen(gym.ObservationWrapper[Row, Any, Any]):
    """A kitchen as D4RL's files show it: 9 numbers of the arm, 21 of the objects, and the goal of each of these 30, or 0."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (60,), np.float64)
        package: Any = optional_import("gymnasium_robotics.envs.franka_kitchen.kitchen_env", "robots")
        self._goal = np.zeros(30)
        for task, where in env.unwrapped.goal.items():  # type: ignore[attr-defined]  # the package's
            self._goal[package.OBS_ELEMENT_INDICES[task]] = where

    def observation(self, observation: Any) -> Row:
        """Positions without the velocities, which the package has between and after them."""
        row = observation["observation"]
        return np.concatenate([row[:9], row[18:39], self._goal])
