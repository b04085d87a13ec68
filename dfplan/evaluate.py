"""Closed-loop evaluation of imitation policies: many seeded episodes side by side."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan.rollout import hardware
from dfplan.tools.progress import progress

if TYPE_CHECKING:
    from dfplan.policies import ImitationConfig


class BatchPolicy(Protocol):
    """Acts for B robots at once."""

    seconds: list[float]
    calls: int

    @property
    def clipped(self) -> float:
        """Fraction of action numbers that had to be clipped."""
        ...

    def reset(self, seed: int | Sequence[int] | None = None) -> None:
        """Begin B episodes, one seed each."""
        ...

    def act(self, observation: Any, doubtful: Any = ()) -> NDArray[np.float32]:
        """Observations (B, O) -> actions (B, A); `doubtful` lists what is not to be trusted of each."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How one episode went.

    Attributes:
        seed: of start and policy.
        total: undiscounted return.
        success: at the last env step.
        progress: largest progress, 0 to 1 (Push-T: largest target coverage over 0.95).
        first_reach: env step of the first success, or None.
        steps: env steps.
        collided: whether the robot touched what it must not.
        frames: pictures (h, w, 3) uint8, where they were asked for.
    """

    seed: int
    total: float
    success: bool
    progress: float
    first_reach: int | None
    steps: int
    collided: bool
    frames: list[NDArray[np.uint8]] = field(repr=False, compare=False)


_Share = tuple[list[Outcome], list[float], int, float]


def run_together(
    make: Callable[[], Any],
    policy: BatchPolicy,
    seeds: Sequence[int],
    film: Container[int] = (),
    done: Callable[[int], object] | None = None,
) -> list[Outcome]:
    """One episode for each seed, all acted on by one batched policy.

    Args:
        make: makes an environment whose info carries `success`, `progress` and `first_reach`, and may carry
            `collided` and `doubtful`.
        policy: reset with the seeds.
        seeds: one per episode.
        film: seeds of the episodes of which a frame is kept every second env step; only these are rendered.
        done: called with the number of episodes that ended, after each env step.
    """
    envs = [make() for _ in seeds]
    started = [env.reset(seed=int(seed)) for env, seed in zip(envs, seeds, strict=True)]
    policy.reset(list(seeds))
    now, infos = [s[0] for s in started], [s[1] for s in started]
    count, over = np.zeros(len(seeds), int), np.zeros(len(seeds), bool)
    total, best = np.zeros(len(seeds)), np.array([float(i["progress"]) for i in infos])
    frames: list[list[NDArray[np.uint8]]] = [[] for _ in seeds]
    while not over.all():
        action = policy.act(np.stack(now), [i.get("doubtful", ()) for i in infos])
        ended = int(over.sum())
        for b in np.flatnonzero(~over).tolist():
            if seeds[b] in film and count[b] % 2 == 0:
                frames[b].append(envs[b].render())
            now[b], reward, terminated, truncated, infos[b] = envs[b].step(action[b])
            total[b] += reward
            best[b] = max(best[b], float(infos[b]["progress"]))
            count[b] += 1
            over[b] = terminated or truncated
        if done is not None:
            done(int(over.sum()) - ended)
    for env in envs:
        env.close()
    return [
        Outcome(
            int(seed), float(total[b]), bool(infos[b]["success"]), float(best[b]), infos[b]["first_reach"],
            int(count[b]), bool(infos[b].get("collided", False)), frames[b],
        )
        for b, seed in enumerate(seeds)
    ]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What to evaluate.

    Attributes:
        task: one of the policy tasks.
        folder: the checkpoint's.
        config: how the policy acts.
        disturb: the arm: what happens in mid-run, a kind or the fields of a `Disturbance`.
        device: `cpu`, `cuda`, ...
        threads: CPU threads of each process.
        film: seeds of the episodes of which frames are kept.
    """

    task: str
    folder: str
    config: ImitationConfig
    disturb: str | Mapping[str, Any] | None = None
    device: str = "cpu"
    threads: int = 1
    film: Sequence[int] = ()


def make_env(
    task: str, disturb: str | Mapping[str, Any] | None = None, render: bool = False, actions: int = 8
) -> Any:
    """The environment of a policy task; with the arm 8 actions are joint targets, 10 the hand's pose."""
    from dfplan import envs

    asked = {"disturb": disturb, "action": "ee" if actions == 10 else None}
    given = {key: value for key, value in asked.items() if value is not None}
    return envs.make(task, render_mode="rgb_array" if render else None, **given)


def _share(job: Job, seeds: Sequence[int], done: Callable[[int], object] | None = None) -> _Share:
    """Some of a job's episodes, all at once."""
    from dfplan import envs
    from dfplan.policies import Imitation
    from dfplan.train import checkpoint

    torch.set_num_threads(job.threads)
    cost = envs.cost(job.task) if job.config.guidance else None
    model = checkpoint.load(job.folder, job.device)

    def make() -> Any:
        return make_env(job.task, job.disturb, len(job.film) > 0, model.config.spec.action_size)

    probe = make()
    limits = (probe.action_space.low, probe.action_space.high)
    policy = Imitation(model, job.config, limits, probe.get_wrapper_attr("sensors"), cost)
    probe.close()
    outcomes = run_together(make, policy, seeds, job.film, done)
    return outcomes, [s / len(seeds) for s in policy.seconds], policy.calls, policy.clipped


def evaluate(job: Job, seeds: Sequence[int], workers: int = 1) -> tuple[dict[str, Any], list[Outcome]]:
    """Run an episode for each seed, shared out over processes.

    Returns:
        the numbers of `summary`, and the episodes in the order of the seeds.
    """
    workers = min(workers, len(seeds))
    if workers == 1:
        with progress(len(seeds), f"eval {job.task}", "episode") as bar:
            shares = [_share(job, seeds, bar.update)]
    else:
        parts = [list(seeds[i::workers]) for i in range(workers)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as pool:
            shares = list(pool.map(_share, [job] * workers, parts))
    outcomes = sorted((o for s in shares for o in s[0]), key=lambda o: o.seed)
    seconds = [t for s in shares for t in s[1]]
    calls = float(np.mean([s[2] for s in shares]))
    return summary(job.task, outcomes, seconds, calls, float(np.mean([s[3] for s in shares]))), outcomes


def wilson(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a success rate (Wilson 1927)."""
    p, n = successes / episodes, episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def summary(
    task: str, outcomes: Sequence[Outcome], seconds: Sequence[float], calls: float, clipped: float
) -> dict[str, Any]:
    """The numbers that are reported.

    Args:
        task: name.
        outcomes: the episodes.
        seconds: wall time of each decision, divided by the number of robots it was made for.
        calls: network calls for each episode.
        clipped: fraction of action numbers clipped.
    """
    total = np.array([o.total for o in outcomes])
    progress = np.array([o.progress for o in outcomes])
    reached = [o.first_reach for o in outcomes if o.first_reach is not None]
    wins, count = sum(o.success for o in outcomes), len(outcomes)
    return {
        "task": task,
        "episodes": count,
        "seed": min(o.seed for o in outcomes),
        "return_mean": float(total.mean()),
        "return_se": float(total.std() / count**0.5),
        "score": None,
        "score_se": None,
        "success": wins / count,
        "success_ci": list(wilson(wins, count)),
        "progress_mean": float(progress.mean()),
        "progress_se": float(progress.std() / count**0.5),
        "first_reach_mean": float(np.mean(reached)) if reached else None,
        "steps_mean": float(np.mean([o.steps for o in outcomes])),
        "collided": float(np.mean([o.collided for o in outcomes])),
        "clipped": clipped,
        "network_calls_mean": calls,
        "plan_ms_p50": float(1e3 * np.quantile(seconds, 0.5)) if len(seconds) else None,
        "plan_ms_p99": float(1e3 * np.quantile(seconds, 0.99)) if len(seconds) else None,
        "hardware": hardware(),
    }
