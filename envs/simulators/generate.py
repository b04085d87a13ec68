"""Demonstrations of robosuite's tasks in robomimic's layout, recorded with scripted experts."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes, write_robomimic
from dfplan.data.files import refuse_existing
from dfplan.tools.errors import one_of
from dfplan.tools.progress import progress as progress_bar

from .experts import EXPERTS
from .suite import LOW_DIM, SHORT, STEPS, Robosuite

Row = NDArray[np.floating[Any]]
_HOLD = 5
"""Env steps that a demonstration goes on after success."""


class _Bumps:
    """Spells of a few env steps in which something else is done than the expert says; in half of the demonstrations none."""

    def __init__(self, rng: np.random.Generator, steps: int) -> None:
        self.spells: list[tuple[int, int, Row]] = []
        for begin in rng.integers(3, steps, rng.integers(0, 4) if rng.random() < 0.5 else 0):
            push = np.append(rng.uniform(-0.8, 0.8, 3), [0, 0, rng.uniform(-0.3, 0.3)])
            self.spells.append((int(begin), int(begin + rng.integers(2, 6)), push))

    def meddle(self, action: Row, step: int) -> Row:
        """What is executed (7,) instead of `action` (7,) in env step `step`; the gripper is left alone."""
        pushes = [push for begin, end, push in self.spells if begin <= step < end]
        return np.append(np.clip(action[:6] + sum(pushes), -1, 1), action[6])


def demonstrate(env: Robosuite, seed: int, usual: int) -> dict[str, Any] | None:
    """One demonstration, in half of the cases with bumps to recover from.

    Args:
        env: made with `terminate_on_success=False`.
        seed: of the episode.
        usual: env steps that it usually takes.

    Returns:
        `observations` (n, O), `actions` (n, 7) of the expert, `executed` (n, 7), `rewards` (n,), `dones` (n,), `states`
        (n, S) of the simulation, and `model` of it in MuJoCo's XML; None if the expert failed.
    """
    rng = np.random.default_rng(seed)
    seen, _ = env.reset(seed=int(rng.integers(2**31)))
    driver, bumps = EXPERTS[env.task](env, rng), _Bumps(rng, usual)
    rows: list[tuple[Any, ...]] = []
    lasted = 0
    model = env.suite.sim.model.get_xml()
    for step in range(STEPS):
        state = env.suite.sim.get_state().flatten()
        action = driver.act().astype(np.float32)
        executed = bumps.meddle(action, step).astype(np.float32)
        row = np.concatenate([seen[key] for key in LOW_DIM])
        seen, reward, _, _, info = env.step(executed)
        rows.append((row, action, executed, reward, info["success"], state))
        lasted = lasted + 1 if info["success"] else 0
        if lasted > _HOLD:
            keys = ("observations", "actions", "executed", "rewards", "dones", "states")
            parts = {key: np.array(part) for key, part in zip(keys, zip(*rows, strict=True), strict=True)}
            return parts | {"model": model}
    return None


def collect_robosuite(
    task: str, episodes: int, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Episodes:
    """Demonstrations of a task by its expert; only successful ones are kept.

    Args:
        task: `Lift` or `PickPlaceCan` (or `Can`).
        episodes: how many to return, exactly.
        seed: the same seed gives the same data.
        progress: called after each kept episode with the number kept so far.

    Returns:
        `observations` (N, O), `actions` (N, 7) of the expert, `executed` (N, 7) what was carried out, other than them
        where the demonstration was disturbed, `rewards`, `dones` and `states`. Their `info` has robomimic's `env_args`
        and what its playback needs.

    Raises:
        ImportError: without robosuite, with the line that installs it.
        ValueError: for an unknown task or episodes below 1.
    """
    task = one_of("robosuite task with an expert", SHORT.get(task, task), EXPERTS)
    if episodes < 1:
        raise ValueError(f"got episodes={episodes}, expected 1 or more")
    env, attempt = Robosuite(task, terminate_on_success=False), 0
    kept: list[dict[str, Any]] = []
    while len(kept) < episodes:
        child = np.random.SeedSequence([seed, attempt]).generate_state(1, np.uint64)[0]
        attempt += 1
        demo = demonstrate(env, int(child), 120 if task == "PickPlaceCan" else 40)
        if demo is not None:
            kept.append(demo)
            if progress is not None:
                progress(len(kept))
    arrays = {key: np.concatenate([demo[key] for demo in kept]) for key in kept[0] if key != "model"}
    info = _info(env, [demo["model"] for demo in kept])
    env.close()
    ends = np.cumsum([len(demo["rewards"]) for demo in kept])
    return Episodes(arrays, ends, 0.05, task, info)


def _info(env: Robosuite, models: list[str]) -> dict[str, Any]:
    """Columns, and what robomimic wants to know."""
    sizes = [env.observation_space[key].shape[0] for key in LOW_DIM]  # type: ignore[index]
    ends = np.cumsum(sizes).tolist()
    return {
        "groups": {key: [end - size, end] for key, size, end in zip(LOW_DIM, sizes, ends, strict=True)},
        "env_args": {
            "env_name": env.task, "env_version": version("robosuite"), "type": 1, "env_kwargs": env.kwargs,
        },
        "episodes": [{"name": f"demo_{i}", "attrs": {"model_file": xml}} for i, xml in enumerate(models)],
    }  # fmt: skip


def generate_robosuite(
    task: str, path: str | os.PathLike[str], episodes: int | None = None, seed: int = 0
) -> Path:
    """Write demonstrations in robomimic's layout; see `collect_robosuite`. The file appears whole or not at all.

    `episodes` None: 200, as robomimic's sets of one operator have.
    """
    episodes, target = 200 if episodes is None else episodes, Path(path)
    refuse_existing(target)
    with progress_bar(episodes, f"generate {task}", "episode") as bar:
        data = collect_robosuite(task, episodes, seed, lambda done: bar.update(done - bar.n))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_robomimic(data, target)
    return target
