"""D4RL's tasks beyond the mazes as environments, by their names.

Its hand tasks are gymnasium-robotics' hand under the rewards and endings that D4RL's scores are made of. That package
changed the sign of a term of three of these rewards without a new version (its pull request 220), lets a dropped pen lie,
and has longer episodes; under its own rewards a score is not D4RL's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import optional_import
from dfplan.tools.references import FAMILIES, d4rl_task

Row = NDArray[np.floating[Any]]
KITCHENS = {
    "complete": ["microwave", "kettle", "light switch", "slide cabinet"],
    "partial": ["microwave", "kettle", "light switch", "slide cabinet"],
    "mixed": ["microwave", "kettle", "bottom burner", "light switch"],
}
"""Kind of data -> the four tasks that its kitchen asks for (D4RL, `kitchen_envs.py`)."""


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


def _far(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.asarray(a.xpos) - np.asarray(b.xpos)))


def door(data: Any) -> float:
    """Reward of an env step from MuJoCo's state: hand to handle, door open (D4RL, `door_v0.py`)."""
    angle = float(data.joint("door_hinge").qpos[0])
    reward = -0.1 * _far(data.site("S_grasp"), data.site("S_handle")) - 0.1 * (angle - 1.57) ** 2
    reward -= 1e-5 * float(np.square(data.qvel).sum())
    return reward + 2 * (angle > 0.2) + 8 * (angle > 1.0) + 10 * (angle > 1.35)


def hammer(data: Any) -> float:
    """Hand to hammer, hammer's head to nail, nail driven in (D4RL, `hammer_v0.py`)."""
    held, head = data.body("Object"), data.site("tool")
    nail, left = data.site("S_target"), _far(data.site("S_target"), data.site("nail_goal"))
    reward = -0.1 * _far(data.site("S_grasp"), held) - _far(head, nail) - 10 * left
    reward -= 1e-2 * float(np.linalg.norm(data.qvel))
    lifted = held.xpos[2] > 0.04 and head.xpos[2] > 0.04
    return reward + 2 * lifted + 25 * (left < 0.020) + 75 * (left < 0.010)


def relocate(data: Any) -> float:
    """Hand to ball, ball off the table and to the target (D4RL, `relocate_v0.py`)."""
    ball, palm, target = data.body("Object"), data.site("S_grasp"), data.site("target")
    left, reward = _far(ball, target), -0.1 * _far(palm, ball)
    if ball.xpos[2] > 0.04:
        reward += 1 - 0.5 * _far(palm, target) - 0.5 * left
    return reward + 10 * (left < 0.1) + 20 * (left < 0.05)


def pen(data: Any) -> float:
    """Pen in place and turned as the target is; dropping it costs (D4RL, `pen_v0.py`)."""
    held = data.body("Object")
    turn = [
        np.asarray(data.site(f"{which}_top").xpos) - np.asarray(data.site(f"{which}_bottom").xpos)
        for which in ("object", "target")
    ]
    alike = float(turn[0] @ turn[1] / np.linalg.norm(turn[0]) / np.linalg.norm(turn[1]))
    off = _far(held, data.site("eps_ball"))
    here = off < 0.075
    return alike - off + 10 * (here and alike > 0.9) + 50 * (here and alike > 0.95) - 5 * dropped(data)


def dropped(data: Any) -> bool:
    """Whether the pen has fallen, which ends the episode."""
    return bool(data.body("Object").xpos[2] < 0.075)


REWARDS: Mapping[str, Callable[[Any], float]] = {
    "pen": pen,
    "hammer": hammer,
    "door": door,
    "relocate": relocate,
}


class Adroit(gym.Wrapper[Row, Row, Row, Row]):
    """One of D4RL's hand tasks: observations (O,) and actions (A,) in [-1, 1] as its files have them.

    Args:
        task: `pen`, `hammer`, `door` or `relocate`.
        **kwargs: of gymnasium-robotics' environment, such as `render_mode`.

    Raises:
        ImportError: without gymnasium-robotics, with the line that installs it.
    """

    def __init__(self, task: str, **kwargs: Any) -> None:
        optional_import("gymnasium_robotics", "robots")  # registers its environments
        hand = gym.make(f"AdroitHand{task.capitalize()}-v1", disable_env_checker=True, **kwargs).unwrapped
        super().__init__(hand)
        self.task = task

    def step(self, action: Row) -> tuple[Row, float, bool, bool, dict[str, Any]]:
        """Advance by one env step, 0.01 s."""
        observation, _, _, _, info = self.env.step(action)
        data = self.env.unwrapped.data  # type: ignore[attr-defined]  # MuJoCo's
        over = self.task == "pen" and dropped(data)
        return observation, REWARDS[self.task](data), over, False, info


for _task in REWARDS:
    if FAMILIES[_task].env not in gym.registry:
        gym.register(
            id=FAMILIES[_task].env,
            entry_point=f"{__name__}:Adroit",
            max_episode_steps=FAMILIES[_task].steps,
            kwargs={"task": _task},
        )
