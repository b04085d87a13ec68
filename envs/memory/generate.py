"""Demonstrations of the tasks that need memory, recorded with their experts."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes, write_robomimic
from dfplan.data.files import refuse_existing
from dfplan.tools.attempts import successes
from dfplan.tools.errors import one_of
from dfplan.tools.progress import progress as progress_bar

from ..arm.model import DT
from .planar import PlanarEnv
from .tasks import TASKS

Array = NDArray[np.float64]


def demonstrate(env: PlanarEnv, seed: int) -> dict[str, Array] | None:
    """One demonstration, in more than half of the cases with disturbances to recover from.

    Returns:
        `observations` (n, O), `actions` (n, A), `executed` (n, A), `rewards` (n,); None if the expert failed.
    """
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    driver, mischief = env.make_expert(int(rng.integers(2**31))), env.mischief(rng)
    rows: list[tuple[Any, Array, Array, float]] = []
    for step in range(env.limit):
        command = driver.act()
        executed = mischief.meddle(env, command, step)
        following, reward, terminated, _, info = env.step(executed)
        rows.append((observation, command, executed, reward))
        observation = following
        if terminated:
            if not info["success"]:
                return None
            keys = ("observations", "actions", "executed", "rewards")
            return {key: np.array(part) for key, part in zip(keys, zip(*rows, strict=True), strict=True)}
    return None


def collect_memory(
    task: str,
    episodes: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    **args: Any,
) -> Episodes:
    """Demonstrations of a task by its expert; only successful ones are kept.

    Args:
        task: a name in `TASKS`.
        episodes: how many to return, exactly.
        seed: the same seed gives the same data.
        progress: called after each kept episode with the number kept so far.
        **args: of the environment, instead of what `TASKS` says for demonstrations.

    Returns:
        `observations` (N, O), `actions` (N, A) the expert's commands, `executed` (N, A) what was carried out
        instead where the demonstration was disturbed, `rewards` (N,) of the step from there on; float32. Their
        `info` names sensors, columns and units, and says which column is told relative to which.

    Raises:
        ValueError: for an unknown task, episodes below 1, or arguments that the environment refuses.
    """
    row = TASKS[one_of("memory task", task, TASKS)]
    kwargs = {**row.args, **(args or row.demos)}
    env: PlanarEnv = gym.make(row.id, **kwargs).unwrapped  # type: ignore[assignment]
    kept = successes(partial(demonstrate, env), episodes, seed, progress)
    arrays = {key: np.concatenate([demo[key] for demo in kept]).astype(np.float32) for key in kept[0]}
    ends = np.cumsum([len(demo["rewards"]) for demo in kept])
    made = {"env_name": row.id, "type": 2, "env_kwargs": kwargs}
    return Episodes(arrays, ends, DT, task, {**env.describe(), "env_args": made})


def generate_memory(
    task: str, path: str | os.PathLike[str], episodes: int | None = None, seed: int = 0
) -> Path:
    """Write demonstrations in robomimic's layout; see `collect_memory`. The file appears whole or not at all.

    `episodes` None: as many as the task's row in `TASKS` says.
    """
    episodes = episodes or TASKS[one_of("memory task", task, TASKS)].episodes
    target = Path(path)
    refuse_existing(target)
    with progress_bar(episodes, f"generate {task}", "episode") as bar:
        data = collect_memory(task, episodes, seed, lambda done: bar.update(done - bar.n))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_robomimic(data, target, rescale=True)
    return target
