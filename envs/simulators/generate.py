"""Demonstrations of other packages' tasks in robomimic's layout, recorded with scripted experts."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes, write_robomimic
from dfplan.data.files import refuse_existing
from dfplan.tools.attempts import successes
from dfplan.tools.progress import progress as progress_bar

from .shown import Shown, shown
from .suite import Robosuite

Row = NDArray[np.floating[Any]]
HOLD = 5
"""Env steps that a demonstration goes on after success."""


class _Mischief:
    """What is executed instead of what the expert says, so that the way back is shown from where a policy may come to be.

    Slow noise, of a strength drawn for each demonstration; and in two thirds of them spells of a few env steps in which the
    hand is moved aside, or the gripper does the opposite, so that grasps are missed and things slip.
    """

    def __init__(self, rng: np.random.Generator, usual: int) -> None:
        self.rng, self.strength, self.noise = rng, rng.uniform(0, 0.2), np.zeros(3)
        self.spells: list[tuple[int, int, Row, bool]] = []
        for begin in rng.integers(3, usual, rng.integers(1, 4) if rng.random() < 2 / 3 else 0):
            fumbles = bool(rng.random() < 0.4)
            push = rng.uniform(-1, 1, 3) * (0.2 if fumbles else 0.8)
            self.spells.append((int(begin), int(begin + rng.integers(2, 8)), push, fumbles))

    def meddle(self, action: Row, step: int) -> Row:
        """The action (A,) to execute instead of `action` (A,) in env step `step`; its first three move the hand."""
        out = action.copy()
        self.noise = 0.8 * self.noise + self.rng.normal(0, self.strength, 3)
        out[:3] += self.noise
        for begin, end, push, fumbles in self.spells:
            if begin <= step < end:
                out[:3] += push
                out[-1] = -action[-1] if fumbles else out[-1]
        return np.clip(out, -1, 1).astype(np.float32)


def demonstrate(task: Shown, seed: int) -> dict[str, Any] | None:
    """One demonstration, disturbed so that it has something to recover from.

    Returns:
        `observations` (n, O), `actions` (n, A) of the expert, `executed` (n, A), `rewards` (n,), `dones` (n,), and of
        robosuite `states` (n, S) of the simulation and its `model` as MuJoCo's XML; None if the expert failed.
    """
    rng, env = np.random.default_rng(seed), task.env
    seen, info = env.reset(seed=int(rng.integers(2**31)))
    driver, mischief = task.expert(env, rng), _Mischief(rng, task.usual)
    sim = env.suite.sim if isinstance(env, Robosuite) else None
    model = {} if sim is None else {"model": sim.model.get_xml()}
    rows: list[tuple[Any, ...]] = []
    lasted = 0
    while len(rows) < task.steps and (task.whole or lasted <= HOLD):
        state = () if sim is None else (sim.get_state().flatten(),)
        action = np.asarray(driver.act(seen), np.float32)
        executed = mischief.meddle(action, len(rows))
        row = np.concatenate([seen[key] for key in task.keys]) if task.keys else seen
        seen, reward, _, _, info = env.step(executed)
        done = bool(info.get("success", info.get("is_success")))
        rows.append((row, action, executed, reward, done, *state))
        lasted = lasted + 1 if done else 0
    if not lasted or (lasted <= HOLD and not task.whole):
        return None
    keys = ("observations", "actions", "executed", "rewards", "dones", "states")
    return {key: np.array(part) for key, part in zip(keys, zip(*rows, strict=True), strict=False)} | model


def collect_simulated(
    name: str, episodes: int, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Episodes:
    """Demonstrations of a task by its expert; only successful ones are kept.

    Args:
        name: see `shown`.
        episodes: how many to return, exactly.
        seed: the same seed gives the same data.
        progress: called after each kept episode with the number kept so far.

    Returns:
        `observations` (N, O), `actions` (N, A) of the expert, `executed` (N, A) what was carried out, other than them
        where the demonstration was disturbed, `rewards`, `dones`; of robosuite the `states` too, and in `info` the
        model of each, as robomimic's playback needs them.

    Raises:
        ImportError: without the package, with the line that installs it.
        ValueError: for an unknown task or episodes below 1.
    """
    return _collected(shown(name), name, episodes, seed, progress)


def _collected(
    task: Shown, name: str, episodes: int, seed: int, progress: Callable[[int], None] | None
) -> Episodes:
    kept = successes(partial(demonstrate, task), episodes, seed, progress)
    task.env.close()
    arrays = {key: np.concatenate([demo[key] for demo in kept]) for key in kept[0] if key != "model"}
    info = dict(task.info)
    if "model" in kept[0]:
        models = [{"model_file": demo["model"]} for demo in kept]
        info["episodes"] = [{"name": f"demo_{i}", "attrs": attrs} for i, attrs in enumerate(models)]
    ends = np.cumsum([len(demo["rewards"]) for demo in kept])
    return Episodes(arrays, ends, task.dt, name.rpartition(":")[2], info)


def generate_simulated(
    name: str, path: str | os.PathLike[str], episodes: int | None = None, seed: int = 0
) -> Path:
    """Write demonstrations in robomimic's layout; see `collect_simulated`. The file appears whole or not at all.

    `episodes` None: 200, as robomimic's sets of one operator have.
    """
    episodes, target = 200 if episodes is None else episodes, Path(path)
    refuse_existing(target)
    task = shown(name)
    with progress_bar(episodes, f"generate {name}", "episode") as bar:
        data = _collected(task, name, episodes, seed, lambda done: bar.update(done - bar.n))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_robomimic(data, target)
    return target
