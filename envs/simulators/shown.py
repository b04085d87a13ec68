"""Tasks of other packages that can be demonstrated here: their environments, experts and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np

from dfplan.tools.errors import one_of, optional_import

from . import experts, fetch, suite, world

FETCH = ("FetchReach-v4", "FetchPickAndPlace-v4")


@dataclass(frozen=True)
class Shown:
    """How a task is demonstrated.

    Attributes:
        env: the environment, which does not end at success.
        expert: (environment, random numbers) -> an object with `act(observation)`.
        keys: entries of a dictionary observation, in the order of the columns; none: it is a row.
        steps: most env steps.
        usual: env steps that it usually takes.
        dt: of an env step, s.
        info: of the episodes: `env_args`, `groups`, and what else is known of the columns.
        whole: whether a demonstration has all `steps` and the task has to be done at the last, as in Fetch.
    """

    env: Any
    expert: Callable[[Any, np.random.Generator], Any]
    keys: tuple[str, ...]
    steps: int
    usual: int
    dt: float
    info: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False


def simulated(name: str) -> bool:
    """Whether a name is of the form of one that `shown` takes."""
    return name in FETCH or name.partition(":")[0] in ("robosuite", "metaworld")


def shown(name: str) -> Shown:
    """How to demonstrate `robosuite:Lift`, `robosuite:Can`, `metaworld:reach-v3` (and its others), or a task in `FETCH`.

    Raises:
        ImportError: without the package, with the line that installs it.
        ValueError: for an unknown task, or one without an expert.
    """
    package, _, task = name.rpartition(":")
    if package == "robosuite":
        return _robosuite(task)
    if package == "metaworld":
        return _metaworld(task)
    return _fetch(one_of("task with an expert", name, FETCH))


def _robosuite(task: str) -> Shown:
    task = one_of("robosuite task with an expert", suite.SHORT.get(task, task), experts.EXPERTS)
    env = suite.Robosuite(task, terminate_on_success=False)
    made = {"env_name": task, "env_version": version("robosuite"), "type": 1, "env_kwargs": env.kwargs}
    info = {"env_args": made, "groups": _groups(env, suite.LOW_DIM)}
    usual = 110 if task == "PickPlaceCan" else 30
    return Shown(env, experts.EXPERTS[task], suite.LOW_DIM, suite.STEPS, usual, 0.05, info)


def _metaworld(task: str) -> Shown:
    env = world.MetaWorld(task, terminate_on_success=False)
    made = {"env_name": "Meta-World/MT1", "type": 2, "env_kwargs": {"env_name": task}}
    names = {"observations": world.NAMES, "actions": ["dx", "dy", "dz", "grip"]}
    info = {"env_args": made, "groups": world.GROUPS, "names": names, "relative": world.RELATIVE}
    return Shown(env, world.Scripted, (), world.STEPS, 60, 0.0125, info)


def _fetch(task: str) -> Shown:
    optional_import("gymnasium_robotics", "robots")  # registers it
    env, keys = gym.make(task), ("observation", "desired_goal")
    groups = _groups(env, keys)
    columns = [f"{key}_{i}" for key, (begin, end) in groups.items() for i in range(end - begin)]
    carried = 0 if task == "FetchReach-v4" else 3  # the hand or the block
    info = {
        "env_args": {"env_name": task, "type": 2, "env_kwargs": {}}, "groups": groups,
        "names": {"observations": columns, "actions": ["dx", "dy", "dz", "grip"]},
        "relative": {f"desired_goal_{i}": f"observation_{carried + i}" for i in range(3)},
    }  # fmt: skip
    return Shown(env, fetch.Fetch, keys, 50, 30, 0.04, info, whole=True)


def _groups(env: gym.Env[Any, Any], keys: tuple[str, ...]) -> dict[str, list[int]]:
    sizes = [int(np.prod(env.observation_space[key].shape)) for key in keys]  # type: ignore[index]
    ends = np.cumsum(sizes).tolist()
    return {key: [end - size, end] for key, size, end in zip(keys, sizes, ends, strict=True)}
