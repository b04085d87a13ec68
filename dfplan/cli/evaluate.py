"""`dfplan eval`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dfplan.act import ImitationConfig
from dfplan.cli.common import ARM_TASKS, CPU, FLAT, Compute, app, read_options, report
from dfplan.cli.eval_options import Actor, Episodes, Place
from dfplan.cli.judge import judge
from dfplan.cli.settings import given
from dfplan.cli.train import Data
from dfplan.decide import asked
from dfplan.planner import PlannerConfig

if TYPE_CHECKING:
    from dfplan.data import Episodes as Demonstrations
    from dfplan.rollout import Job
    from dfplan.spec import TrajectorySpec
    from dfplan.train.checkpoint import Checkpoint

SHOWN = ("graph", "nearest", "faithful")
"""Policies that act by demonstrations alone."""
HERE, ALL, MODEL = Place(), Episodes(), Actor()


@app.command(name="eval")
def evaluate(
    task: tyro.conf.Positional[str | None] = None,
    place: Annotated[Place, FLAT] = HERE,
    who: Annotated[Actor, FLAT] = MODEL,
    which: Annotated[Episodes, FLAT] = ALL,
    compute: Annotated[Compute, FLAT] = CPU,
) -> None:
    """Measure a model in closed loop: return, success, first reach, latency; scores as the literature has them.

    dfplan eval maze2d-large --episodes 300 --seed 0 --json large.json

    dfplan eval swap --episodes 100 --seed 1000 --disturb move --video videos --video-format mp4

    dfplan eval pusht --checkpoint runs/pusht --last 5 --episodes 50 --seed 100000 --policy.chunk 8

    dfplan eval maze2d-large --goal random --obstacles 1 --episodes 100 --seed 20000 --json obstacles.json

    dfplan eval --env Hopper-v5 --checkpoint runs/hopper --episodes 50 --json hopper.json

    dfplan eval --checkpoint runs/mine --data more.hdf5 (no simulator: as `dfplan judge`)

    Args:
        task: environment, and the shipped model unless --checkpoint is given; or pass --env.
        place: where it is measured.
        who: what acts.
        which: episodes.
        compute: where the network runs; threads are those of each worker.
    """
    from dfplan import rollout
    from dfplan.show.video import writer

    writer(which.video_format)  # refuses what is not installed
    name = task or place.env
    if name is None and who.checkpoint and who.data:  # no environment, but recordings
        judge(
            who.checkpoint,
            data=Data(who.data),
            seed=which.seed,
            json=which.json,
            compute=compute,
            policy=who.policy,
        )
        return
    if name is None or (task and place.env):
        raise ValueError(f"got task {task} and --env {place.env}, expected one: dfplan eval maze2d-large")
    compute.use()
    maze = _is_maze(name, place)
    jobs = [_job(name, maze, folder, place, who, which, compute) for folder in who.folders(name)]
    rows = [_row(label, job, which, bool(place.obstacles)) for label, job, _ in jobs]
    _, _, search = jobs[0]
    if search is not None and rows[0]["score"] is not None:
        ceiling, _ = rollout.evaluate(search, which.seeds, which.workers, which.cluster)  # about what a plan can reach
        rows = [row | {"ceiling": ceiling["score"], "ceiling_se": ceiling["score_se"]} for row in rows]
    if not who.last:
        report(rows[0], which.json, hide=tuple(k for k, v in rows[0].items() if v is None))
        return
    values: dict[str, Any] = {"task": name, "checkpoints": rows}
    for key in ("success", "progress_mean", "score", "return_mean"):
        each = [r[key] for r in rows if r[key] is not None]
        if each:
            values[f"{key}_best"] = max(each)
            values[f"{key}_mean_of_last_{len(rows)}"] = sum(each) / len(each)
            print(f"  {key:<20}", *(f"{r['checkpoint']} {r[key]:.3f} " for r in rows))
    report(values, which.json, hide=("checkpoints",))


def _is_maze(name: str, place: Place) -> bool:
    """Whether the environment is one of our mazes; refuses options that are for another."""
    from dfplan import envs

    with contextlib.closing(envs.make(name, **read_options(place.env_args))) as env:
        maze = hasattr(env.unwrapped, "maze")
        if place.obstacles:
            envs.Room.of(env)
    _refuse(name, "mazes", {} if maze else {"goal": place.goal != "fixed", "starts": place.starts})
    if not maze and name not in (*ARM_TASKS, *envs.MEMORY_IDS):
        _refuse(name, "Maze2D, the arm and tasks of memory", {"disturb": place.disturb != "none"})
    return maze


def _refuse(task: str, kind: str, options_given: dict[str, Any]) -> None:
    """Raise where an option was given that only another kind reads."""
    for name, value in options_given.items():
        if value:
            raise ValueError(f"got --{name}, which is for {kind}; leave it out with {task}")


def _job(
    task: str, maze: bool, folder: Path | None, place: Place, who: Actor, which: Episodes, compute: Compute
) -> tuple[str, Job, Job | None]:
    """Label and all that a worker needs, and the search on the same map, for a planner in a maze."""
    from dfplan import envs
    from dfplan.cli.common import demonstrations
    from dfplan.rollout import Job
    from dfplan.train import checkpoint

    film = () if which.video is None else which.seeds[:6]
    args = read_options(place.env_args) | ({"render_mode": "rgb_array"} if film else {})
    args |= {} if place.goal == "fixed" else {"goal": place.goal}
    args |= {} if place.disturb == "none" else {"disturb": place.disturb}
    starts = envs.Starts.read(place.starts, which.seed).options if place.starts else None
    model = None if folder is None else checkpoint.load(folder)
    shown = demonstrations(task, who.data or None) if who.actor in SHOWN else None
    size = model.config.spec.action_size if model else shown.arrays["actions"].shape[1] if shown else 0
    if task in ARM_TASKS and size == 10:
        args["action"] = "ee"  # 8 actions are joint targets, 10 the hand's pose
    rows = shown if who.actor != "graph" else None  # which asks for places, not rows
    make = partial(_environment, task, args, _seen(model, rows), place.keys)
    make = partial(_obstructed, make, place.obstacles, place.across) if place.obstacles else make
    policy = partial(_shown, who.actor, shown) if shown else _policy(task, maze, folder, model, who, compute)
    job = Job(task, make, policy, compute.threads, film, starts)
    if model is None or folder is None:
        return who.actor.replace(":", "."), job, None
    searched = (
        maze
        and not who.actor
        and not place.obstacles
        and not is_policy(model.config.spec)
        and "dynamics" in model.calibration
    )
    return folder.name, job, replace(job, policy=partial(_search, folder), film=()) if searched else None


def _seen(model: Checkpoint | None, shown: Demonstrations | None) -> tuple[int, int, dict[str, int]] | None:
    """Sizes of observation and action, and where in a row each sensor begins, for a model or demonstrations; None: neither."""
    if model is not None:
        spec = model.config.spec
        first = {t.name: spec.channel(t.channels[0]) for t in spec.tokens}
        begins = {name: c.index for name, c in first.items() if c.source == "observations"}
        return spec.observation_size, spec.action_size, begins
    if shown is None:
        return None
    size, actions = (math.prod(shown.arrays[key].shape[1:]) for key in ("observations", "actions"))
    return size, actions, {name: int(start) for name, (start, _) in shown.info.get("groups", {}).items()}


def _environment(
    task: str, args: dict[str, Any], seen: tuple[int, int, dict[str, int]] | None, keys: Sequence[str]
) -> Any:
    """The environment as who acts has `seen` it; None: as it is."""
    from dfplan import envs
    from dfplan.tools.spaces import flat

    env = envs.make(task, **args)
    return env if seen is None else flat(env, *seen, keys)


def _policy(
    task: str, maze: bool, folder: Path | None, model: Checkpoint | None, who: Actor, compute: Compute
) -> Callable[[Any], Any]:
    """Environment -> policy."""
    planner, policy = given(who.planner), given(who.policy)
    _refuse(who.actor or "a model", " and ".join(SHOWN), {"data": who.data})
    if model is None or folder is None:
        return partial(_other, who.actor)
    if who.actor == "search":
        _refuse(task, "planning models", {"tracker": who.tracker != "look_ahead", "policy search": not maze})
        return partial(_search, folder)
    if is_policy(model.config.spec):
        _refuse(task, "planning models", {"tracker": who.tracker != "look_ahead", "planner": planner})
        acting = asked(ImitationConfig, model, "policy", **policy)
        return partial(_imitation, task, folder, acting, compute.device)
    _refuse(task, "imitation models", {"policy": policy})
    planning = asked(PlannerConfig, model, "planner", **planner)
    follow = partial(_receding, folder, planning, who.tracker, compute.device)
    return partial(_detour, folder, planning, follow, compute.device) if model.evidence else follow


def is_policy(spec: TrajectorySpec) -> bool:
    """Whether a model of that spec acts by itself: the last token of a step is its actions."""
    last = spec.tokens[-1]
    return spec.channel(last.channels[0]).source == "actions" and last.lag == spec.stride - 1


def _imitation(task: str, folder: Path, config: ImitationConfig, device: str, env: Any) -> Any:
    from dfplan import envs, policies

    limits = env.action_space.low, env.action_space.high
    sensors = env.get_wrapper_attr("sensors") if env.has_wrapper_attr("sensors") else None
    cost = envs.cost(task) if config.guidance and not config.cost else None
    return policies.Imitation.load(folder, config, limits, device, sensors, cost)


def _receding(folder: Path, config: PlannerConfig, tracker: Any, device: str, env: Any) -> Any:
    from dfplan import models, policies

    return policies.following(models.load(folder, config, device), tracker=tracker)


def _obstructed(make: Callable[[], Any], count: int, across: bool) -> Any:
    from dfplan import envs

    return envs.Obstacles(make(), count, "across" if across else "beside")


def _detour(folder: Path, config: PlannerConfig, follow: Callable[[Any], Any], device: str, env: Any) -> Any:
    """Around what the environment's episodes are obstructed by; where they are not, as ever."""
    from dfplan import envs, models, policies

    if not isinstance(env, envs.Obstacles):
        return follow(env)
    if config.gather:
        raise ValueError(
            "got --obstacles for a model that gathers rewards, whose ways do not go around any; leave it out"
        )
    planner = models.load(folder, config, device)
    return policies.Detour(policies.Around(planner, env.room.robot), policies.PointMass.fitted(planner))


def _search(folder: Path, env: Any) -> Any:
    from dfplan import envs, models, policies

    return policies.search(models.load(folder), envs.GridPaths(env.unwrapped.maze))


def _shown(name: str, shown: Any, env: Any) -> Any:
    from dfplan.policies import Graph, Nearest, receding

    if name == "graph":
        return receding(Graph(shown))
    return Nearest(shown, 4, 4, name == "faithful", (env.action_space.low, env.action_space.high))


def _other(name: str, env: Any) -> Any:
    from dfplan.policies import Uniform
    from dfplan.tools.named import named

    return named("policy", name, dict.fromkeys(("search", *SHOWN, "random"), Uniform))(env)


def _row(label: str, job: Job, which: Episodes, obstructed: bool) -> dict[str, Any]:
    """The numbers of one checkpoint, its episodes filmed where that was asked for."""
    from dfplan.rollout import evaluate
    from dfplan.show.video import captioned, writer

    numbers, outcomes = evaluate(job, which.seeds, which.workers, which.cluster)
    for outcome in outcomes[: len(job.film)]:
        path = Path(which.video or ".") / f"{label}-{outcome.seed}.{which.video_format}"
        print(writer(which.video_format)(captioned(outcome.frames), path, 10))
    if obstructed:
        free = [bool(o.success and not o.collided) for o in outcomes]
        numbers |= {
            "collision_free": 1 - numbers["collided"],
            "success_collision_free": sum(free) / len(free),
        }
    return {"checkpoint": label} | numbers
