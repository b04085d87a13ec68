"""Meta-World's tasks by name, each episode given by its seed, with the scripted policies that the package ships."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of, optional_import

Row = NDArray[np.floating[Any]]
STEPS = 500
"""Env steps of an episode, as Meta-World has them."""
NAMES = [
    *(f"hand_{axis}" for axis in "xyz"), "gripper",
    *(f"{thing}_{axis}" for thing in ("first", "second") for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")),
    *(f"before_{i}" for i in range(18)),
    *(f"goal_{axis}" for axis in "xyz"),
]  # fmt: skip
"""Columns of an observation (39,): hand, two things, the same of the env step before, and the goal."""
GROUPS = {"hand": [0, 4], "things": [4, 18], "before": [18, 36], "goal": [36, 39]}
RELATIVE = {f"{part}_{axis}": f"hand_{axis}" for part in ("first", "goal") for axis in "xyz"}


class MetaWorld(gym.Wrapper[Row, Row, Row, Row]):
    """A task that is drawn by the seed of the episode, and ends where it is done.

    Meta-World's own environment draws one of 50 variants before it is told the seed.

    Args:
        task: such as `reach-v3`.
        terminate_on_success: end the episode when the task is done.
        **kwargs: of Meta-World's environment, such as `render_mode`.

    Raises:
        ImportError: without Meta-World, with the line that installs it.
        ValueError: for an unknown task, with the nearest one.
    """

    def __init__(self, task: str, terminate_on_success: bool = True, **kwargs: Any) -> None:
        package: Any = optional_import("metaworld", "robots")
        self.task = one_of("Meta-World task", task, package.ALL_V3_ENVIRONMENTS)
        super().__init__(
            gym.make("Meta-World/MT1", env_name=task, seed=0, disable_env_checker=True, **kwargs)
        )
        self.terminate_on_success = terminate_on_success

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Row, dict[str, Any]]:
        """Begin an episode."""
        if seed is not None:
            self.unwrapped.np_random = np.random.default_rng(seed)
        seen, info = self.env.reset(seed=seed, options=options)
        return seen, info | {"success": False}

    def step(self, action: Row) -> tuple[Row, float, bool, bool, dict[str, Any]]:
        """Advance by one env step, 0.0125 s."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        done = bool(info["success"])
        ends = done and self.terminate_on_success
        return seen, float(reward), bool(terminated) or ends, bool(truncated), info | {"success": done}


def make_metaworld(name: str, max_episode_steps: int = STEPS, **kwargs: Any) -> gym.Env[Any, Any]:
    """An environment with its time limit by `metaworld:reach-v3` and the like; see `MetaWorld`."""
    return gym.wrappers.TimeLimit(MetaWorld(name.partition(":")[2], **kwargs), max_episode_steps)


class Scripted:
    """The policy that Meta-World ships for a task.

    Args:
        env: of that task.
        rng: not used.
    """

    def __init__(self, env: MetaWorld, rng: np.random.Generator) -> None:
        policies: Any = optional_import("metaworld.policies", "robots")
        self.policy = policies.ENV_POLICY_MAP[env.task]()

    def act(self, seen: Row) -> Row:
        """Observation (39,) -> action (4,) in [-1, 1]."""
        with warnings.catch_warnings():  # it says so whenever an action leaves [-1, 1]
            warnings.simplefilter("ignore")
            return np.clip(self.policy.get_action(seen), -1, 1)
