"""Policy x Gymnasium environment -> results, seeded: one batched runner, one record, one summary."""

from __future__ import annotations

import inspect
import multiprocessing
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan.cluster import mapped
from dfplan.outcome import Outcome as Outcome
from dfplan.outcome import summary as summary
from dfplan.outcome import wilson as wilson
from dfplan.tools.film import Frame, take
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


def evaluate(
    job: Job, seeds: Sequence[int], workers: int = 1, cluster: str = ""
) -> tuple[dict[str, Any], list[Outcome]]:
    """An episode for each seed, shared out over processes -> numbers of `summary`, episodes in the order of the seeds.

    With a `cluster` (see `dfplan.cluster`) these are processes of its machines, and what dies there is run anew.
    """
    workers = min(workers, len(seeds))
    if cluster:
        outcomes = _clustered(job, seeds, workers, cluster)
    elif workers == 1:
        policy = job.actor()  # refuses what does not fit before a bar is drawn
        with progress(len(seeds), f"eval {job.task}", "episode") as bar:
            outcomes = run(job.make, policy, seeds, job.options, job.film, bar.update)
    else:
        parts = [list(seeds[i::workers]) for i in range(workers)]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = sorted((o for s in pool.map(job.share, parts) for o in s), key=lambda o: o.seed)
    return summary(job.task, outcomes), outcomes


def _piece(of: tuple[Job, list[int]]) -> list[Outcome]:
    job, seeds = of
    return job.share(seeds)


def _clustered(job: Job, seeds: Sequence[int], workers: int, cluster: str) -> list[Outcome]:
    """Episodes in several parts for each worker, so that little is lost with one."""
    parts = np.array_split(np.array(seeds), min(len(seeds), 4 * workers))
    work = mapped(_piece, [(job, part.tolist()) for part in parts], cluster, workers)
    outcomes: list[Outcome] = []
    with progress(len(seeds), f"eval {job.task}", "episode") as bar:
        for _, made in work:
            if isinstance(made, Exception):
                raise made
            outcomes += made
            bar.update(len(made))
    return sorted(outcomes, key=lambda o: o.seed)
