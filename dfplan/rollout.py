"""Policy x Gymnasium environment -> results, seeded."""

from __future__ import annotations

import platform
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dfplan.planner import Plan

Array = NDArray[np.float64]


class Policy(Protocol):
    """What acts. One that plans keeps the plans of the episode so far in `plans`."""

    def reset(self, seed: int | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode."""
        ...

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (O,) -> action (A,)."""
        ...


@dataclass(frozen=True)
class Episode:
    """One episode: observations (H+1, O), goal, undiscounted return, success, first reach (env step or None), plans."""

    observations: Array
    goal: Array
    total: float
    success: bool
    first_reach: int | None
    score: float | None
    plans: list[Plan] = field(repr=False)


@dataclass(frozen=True)
class Starts:
    """Start and goal sets that others published: states (N, O), or positions alone, and goals (N, G) or None."""

    states: Array
    goals: Array | None

    @classmethod
    def read(cls, path: Path | str) -> Starts:
        """Read `start_state` (N, O) and, where there is one, `goal_pos` (N, G) from .npz or .hdf5.

        Raises:
            ValueError: on a missing array or shapes that differ, naming the file and the array.
        """
        path = Path(path)
        if not path.exists():
            raise ValueError(
                f"{path} does not exist; give an .npz or .hdf5 with 'start_state' (N, O) and 'goal_pos' (N, G)"
            )
        try:
            arrays = _read_arrays(path)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: cannot be read ({error}); expected an .npz or .hdf5 of plain arrays"
            ) from error
        if "start_state" not in arrays:
            raise ValueError(
                f"{path}: holds {sorted(arrays)}, expected 'start_state' (N, O), and 'goal_pos' (N, G)"
            )
        for key, array in arrays.items():
            if array.ndim != 2 or len(array) != len(arrays["start_state"]) or not np.isfinite(array).all():
                raise ValueError(
                    f"{path}: '{key}' has shape {array.shape}, expected finite numbers in (N, columns), the same N"
                )
        return cls(arrays["start_state"], arrays.get("goal_pos"))


def _read_arrays(path: Path) -> dict[str, Array]:
    names = ("start_state", "goal_pos")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {k: np.asarray(file[k], np.float64) for k in names if k in file}
    import h5py

    with h5py.File(path, "r") as file:
        return {k: np.asarray(file[k], np.float64) for k in names if k in file}


def run_episode(env: Any, policy: Policy, seed: int, options: dict[str, Any] | None = None) -> Episode:
    """One episode of `env`, whose info carries `goal`, `success` and `first_reach`."""
    observation, info = env.reset(seed=seed, options=options)
    policy.reset(seed=seed, goal=info["goal"])
    seen, total, over = [observation], 0.0, False
    while not over:
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total += float(reward)
        seen.append(observation)
        over = terminated or truncated
    return Episode(
        np.asarray(seen), np.asarray(info["goal"]), total, bool(info["success"]), info["first_reach"],
        info["normalized_score"], list(getattr(policy, "plans", ())),
    )  # fmt: skip


def run(
    env: Any, policy: Policy, episodes: int, seed: int, starts: Starts | None = None
) -> Iterator[Episode]:
    """Episodes seeded `seed`, `seed + 1`, ...; with `starts`, from those states and to those goals, in order."""
    for i in range(episodes):
        options = None
        if starts is not None:
            state = starts.states[i % len(starts.states)]
            size = env.observation_space.shape[0] // 2
            options = {"qpos": state[:size], "qvel": state[size:] if len(state) > size else np.zeros(size)}
            if starts.goals is not None:
                options["goal"] = starts.goals[i % len(starts.states)]
        yield run_episode(env, policy, seed + i, options)


def summary(task: str, seed: int, episodes: Sequence[Episode]) -> dict[str, Any]:
    """The numbers that are reported; standard returns only, scores x100 as in the literature."""
    total = np.array([e.total for e in episodes])
    score = np.array([np.nan if e.score is None else 100 * e.score for e in episodes])
    reached = [e.first_reach for e in episodes if e.first_reach is not None]
    calls = [sum(p.network_calls for p in e.plans) for e in episodes]
    seconds = np.array([p.seconds for e in episodes for p in e.plans])
    root = len(episodes) ** 0.5
    known = bool(np.isfinite(score).all())
    return {
        "task": task,
        "episodes": len(episodes),
        "seed": seed,
        "return_mean": float(total.mean()),
        "return_se": float(total.std() / root),
        "score": float(score.mean()) if known else None,
        "score_se": float(score.std() / root) if known else None,
        "success": float(np.mean([e.success for e in episodes])),
        "first_reach_mean": float(np.mean(reached)) if reached else None,
        "network_calls_mean": float(np.mean(calls)),
        "plan_ms_p50": float(1e3 * np.quantile(seconds, 0.5)) if len(seconds) else None,
        "plan_ms_p99": float(1e3 * np.quantile(seconds, 0.99)) if len(seconds) else None,
        "hardware": hardware(),
    }


def hardware() -> str:
    """Processor, threads and, where there is one, GPU."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} thread(s){gpu}, torch {torch.__version__}"
