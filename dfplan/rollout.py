"""Policy x Gymnasium environment -> results, seeded: one batched runner, one record, one summary."""

from __future__ import annotations

import inspect
import math
import multiprocessing
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan.tools.film import Frame, take
from dfplan.tools.hardware import hardware
from dfplan.tools.progress import progress
from dfplan.tools.references import normalized

Array = NDArray[np.float64]
Options = Callable[[int], "Mapping[str, Any] | None"]


class Policy(Protocol):
    """What acts: for one environment, or for B side by side where it says `batched = True`.

    `act` is all that is needed. `reset(seed=, goal=)` is called before each episode, with the `goal` of the
    environment's info or None; a batched policy is given a list of B seeds, and (B, G) goals. What is called is told
    as much of this as it takes: `act` may take `doubtful` (names of sensors that are wrong now) and `goal` (where to
    go now, or None), `reset` nothing.
    Where it has them, these are reported, since `reset`: `seconds` (of each decision; else each call of `act` counts as
    one), `calls` (of the network), `clipped` (fraction of action numbers clipped).
    """

    def act(self, observation: Any) -> NDArray[np.floating[Any]]:
        """Observation (O,) -> action (A,); batched, (B, O) -> (B, A)."""


@dataclass(frozen=True)
class Outcome:
    """How one episode went.

    Attributes:
        seed: of start and policy.
        total: undiscounted return.
        success: what the environment says at the end, where it tells `first_reach` itself; else whether it said
            `success` (or `is_success`) at any env step; None where it says neither.
        at_end: what it said at the last env step, or None.
        progress: largest progress, 0 to 1 (Push-T: largest target coverage over 0.95); None where not told.
        first_reach: env step of the first success, or None.
        steps: env steps.
        score: D4RL's normalised score as a fraction; None where there is no reference.
        collided: whether the robot touched what it must not; None where not told.
        calls: network calls; of robots side by side as many for each: those made together, or the mean.
        clipped: fraction of the policy's action numbers clipped, or None.
        seconds: wall time of each decision, divided by the number of robots it was made for.
        observations: (H+1, O).
        goal: of the environment's info, or None.
        part: which of the environment's tasks it was, where its info has several (`task`), or None.
        frames: of every second env step and the end, where they were asked for.
    """

    seed: int
    total: float
    success: bool | None
    at_end: bool | None
    progress: float | None
    first_reach: int | None
    steps: int
    score: float | None
    collided: bool | None
    calls: float
    clipped: float | None
    seconds: tuple[float, ...] = field(repr=False, compare=False)
    observations: Array = field(repr=False, compare=False)
    goal: Any = field(repr=False, compare=False)
    frames: list[Frame] = field(repr=False, compare=False)
    part: Any = None


class _Course:
    """An episode as it goes."""

    def __init__(self, env: Any, seed: int, options: Mapping[str, Any] | None, film: bool) -> None:
        self.env, self.seed, self.film = env, seed, film
        observation, self.info = env.reset(seed=seed, options=options)
        self.seen, self.total, self.over = [observation], 0.0, False
        self.first: int | None = None
        self.best, self.part = self.info.get("progress"), self.info.get("task")
        self.frames: list[Frame] = []

    def step(self, action: NDArray[np.floating[Any]]) -> None:
        """One env step, and a picture of every second."""
        if self.film and len(self.seen) % 2:
            self._take()
        observation, reward, terminated, truncated, self.info = self.env.step(action)
        self.total += float(reward)
        if self.best is not None:
            self.best = max(self.best, self.info["progress"])
        if self.first is None and self.success():
            self.first = len(self.seen)
        self.seen.append(observation)
        self.over = bool(terminated or truncated)
        if self.film and self.over:
            self._take()

    def _take(self) -> None:
        self.frames.append(take(self.env, len(self.seen) - 1, *self.reached(), self.best))

    def success(self) -> bool | None:
        """What the environment says now."""
        said = self.info.get("success", self.info.get("is_success"))
        return None if said is None else bool(said)

    def reached(self) -> tuple[int | None, bool | None]:
        """Env step of the first success, and whether there was one; None where it is not told."""
        if "first_reach" in self.info:
            return self.info["first_reach"], self.success()
        return self.first, None if self.success() is None else self.first is not None

    def outcome(self, calls: float, clipped: float | None, seconds: tuple[float, ...]) -> Outcome:
        """The record."""
        info, (first, success), now = self.info, self.reached(), self.success()
        score = info.get("normalized_score")
        return Outcome(
            self.seed, self.total, success, now, None if self.best is None else float(self.best), first,
            len(self.seen) - 1, normalized(self.env.spec, self.total, success) if score is None else float(score),
            info.get("collided"), calls, clipped, seconds, np.asarray(self.seen), info.get("goal"),
            self.frames, self.part,
        )  # fmt: skip


def run(
    make: Callable[[], Any],
    policy: Any,
    seeds: Sequence[int],
    options: Options | None = None,
    film: Container[int] = (),
    done: Callable[[int], object] | None = None,
) -> list[Outcome]:
    """An episode for each seed: all at once by a batched policy (or as many as its `beside` says), else one by one.

    Args:
        make: makes an environment; of its info `success` or `is_success`, `progress`, `first_reach`, `collided`,
            `goal`, `normalized_score` and `doubtful` are read, each where it is there.
        policy: see `Policy`.
        seeds: one per episode; the same seed gives the same episode, whatever runs beside it.
        options: seed -> options of the environment's reset.
        film: seeds of the episodes of which a frame is kept every second env step and at the end; only these are rendered.
        done: called with the number of episodes that ended, after each env step.
    """
    envs = [make()]
    most = getattr(getattr(envs[0], "unwrapped", None), "beside", len(seeds))
    try:
        envs += [make() for _ in range(min(most, len(seeds)) - 1 if getattr(policy, "batched", False) else 0)]
        out = []
        for i in range(0, len(seeds), len(envs)):
            courses = [
                _Course(env, int(s), None if options is None else options(int(s)), s in film)
                for env, s in zip(envs, seeds[i : i + len(envs)], strict=False)
            ]
            out += _play(courses, policy, done or (lambda ended: None))
        return out
    finally:
        for env in envs:
            env.close()


def _play(courses: list[_Course], policy: Any, done: Callable[[int], object]) -> list[Outcome]:
    batched, timed = getattr(policy, "batched", False), []
    if hasattr(policy, "reset"):
        begin = ["seed", "goal", *{"obstacles"}.intersection(courses[0].info)]
        policy.reset(**_told(courses, batched, _taken(policy.reset, begin)))
    hears = _taken(policy.act, ("doubtful", "goal"))
    while not all(c.over for c in courses):
        now, told = [c.seen[-1] for c in courses], _told(courses, batched, hears)
        began = time.perf_counter()
        action = policy.act(np.stack(now) if batched else now[0], **told)
        timed.append(time.perf_counter() - began)
        going = [(c, a) for c, a in zip(courses, action if batched else [action], strict=True) if not c.over]
        for course, own in going:
            course.step(own)
        done(sum(c.over for c, _ in going))
    seconds = tuple(s / len(courses) for s in getattr(policy, "seconds", timed))
    calls, clipped = getattr(policy, "calls", 0), getattr(policy, "clipped", None)
    return [c.outcome(calls, clipped, seconds) for c in courses]


def _told(courses: list[_Course], batched: bool, names: Sequence[str]) -> dict[str, Any]:
    """What a policy is told now, by name: a list of a batched one; None where not every environment says it."""
    infos = [{"seed": c.seed, "doubtful": (), **c.info} for c in courses] if names else []
    told: dict[str, Any] = {n: [i.get(n) for i in infos] for n in names}
    for n in {"goal", "obstacles"}.intersection(names):
        told[n] = told[n] if all(isinstance(x, np.ndarray) for x in told[n]) else None
    return told if batched else {n: None if v is None else v[0] for n, v in told.items()}


def _taken(function: Callable[..., Any], names: Sequence[str]) -> list[str]:
    """Of the named arguments those that a function takes."""
    parameters = inspect.signature(function).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return [name for name in names if every or name in parameters]


@dataclass(frozen=True)
class Job:
    """What to evaluate; with several workers `make`, `policy` and `options` are pickled.

    Attributes:
        task: name, for the report.
        make: makes an environment.
        policy: environment -> policy.
        threads: CPU threads of each process.
        film: seeds of the episodes of which frames are kept.
        options: seed -> options of the environment's reset.
    """

    task: str
    make: Callable[[], Any]
    policy: Callable[[Any], Any]
    threads: int = 1
    film: Sequence[int] = ()
    options: Options | None = None

    def actor(self) -> Any:
        """The policy, made for the environment; refuses one that does not fit."""
        torch.set_num_threads(self.threads)
        env = self.make()
        policy = self.policy(env)
        env.close()
        return policy

    def share(self, seeds: Sequence[int]) -> list[Outcome]:
        """Some of the episodes, in this process."""
        return run(self.make, self.actor(), seeds, self.options, self.film)


def evaluate(job: Job, seeds: Sequence[int], workers: int = 1) -> tuple[dict[str, Any], list[Outcome]]:
    """An episode for each seed, shared out over processes -> numbers of `summary`, episodes in the order of the seeds."""
    workers = min(workers, len(seeds))
    if workers == 1:
        policy = job.actor()  # refuses what does not fit before a bar is drawn
        with progress(len(seeds), f"eval {job.task}", "episode") as bar:
            outcomes = run(job.make, policy, seeds, job.options, job.film, bar.update)
    else:
        parts = [list(seeds[i::workers]) for i in range(workers)]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = sorted((o for s in pool.map(job.share, parts) for o in s), key=lambda o: o.seed)
    return summary(job.task, outcomes), outcomes


def wilson(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a success rate (Wilson 1927)."""
    p, n = successes / episodes, episodes
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and its standard error; None where one is not known."""
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known) or len(known) < len(values):
        return None, None
    return float(known.mean()), float(known.std() / len(known) ** 0.5)


def summary(task: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers that are reported; standard returns only, scores x100 as in the literature; None: not known."""
    count, wins = len(outcomes), [o.success for o in outcomes]
    score = _mean([None if o.score is None else 100 * o.score for o in outcomes])
    total, best = _mean([o.total for o in outcomes]), _mean([o.progress for o in outcomes])
    (success, _), reached = _mean(wins), [o.first_reach for o in outcomes if o.first_reach is not None]
    seconds = np.array([s for o in outcomes for s in o.seconds])
    p50, p99 = (float(1e3 * np.quantile(seconds, q)) if len(seconds) else None for q in (0.5, 0.99))
    return {
        "task": task, "episodes": count, "seed": min(o.seed for o in outcomes),
        "return_mean": total[0], "return_se": total[1], "score": score[0], "score_se": score[1],
        "success": success, "success_ci": None if success is None else list(wilson(sum(map(bool, wins)), count)),
        "success_at_end": _mean([o.at_end for o in outcomes])[0],
        "progress_mean": best[0], "progress_se": best[1], "first_reach_mean": _mean(reached)[0],
        "steps_mean": float(np.mean([o.steps for o in outcomes])), "collided": _mean([o.collided for o in outcomes])[0],
        "clipped": _mean([o.clipped for o in outcomes])[0], "network_calls_mean": float(np.mean([o.calls for o in outcomes])),
        "plan_ms_p50": p50, "plan_ms_p99": p99, "tasks": _tasks(outcomes), "hardware": hardware(),
    }  # fmt: skip


def _tasks(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """The same of each of the environment's tasks; None where it has but one."""
    out = {}
    for p in sorted({o.part for o in outcomes if o.part is not None}):
        own = [o for o in outcomes if o.part == p]
        at = _mean([o.first_reach for o in own if o.first_reach is not None])[0]
        out[str(p)] = {"episodes": len(own), "success": _mean([o.success for o in own])[0], "first_reach_mean": at}  # fmt: skip
    return out or None
