"""`dfplan eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from dfplan.cli.common import ARM_TASKS, POLICY_TASKS, app, at_least, load_planner, report, use_device
from dfplan.planner import PlannerConfig
from dfplan.policies import ImitationConfig

if TYPE_CHECKING:
    from dfplan.evaluate import Job
    from dfplan.rollout import Starts

PLANNER, POLICY = PlannerConfig(), ImitationConfig()


@app.command(name="eval")
def evaluate(
    task: tyro.conf.Positional[str],
    checkpoint: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    goal: Literal["fixed", "random"] = "fixed",
    starts: Path | None = None,
    tracker: Literal["look_ahead", "pd"] = "look_ahead",
    disturb: Literal["none", "push", "move", "freeze", "blank", "offset"] = "none",
    last: int = 0,
    workers: int = 1,
    video: Path | None = None,
    json: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    planner: PlannerConfig = PLANNER,
    policy: ImitationConfig = POLICY,
) -> None:
    """Measure a model in closed loop: return, success, first reach, latency; scores as the literature has them.

    dfplan eval maze2d-large --episodes 300 --seed 0 --json large.json

    dfplan eval maze2d-medium --goal random --checkpoint runs/medium --tracker pd --planner.schedule full

    dfplan eval arm-pick --episodes 200 --seed 1000 --disturb push --video videos

    dfplan eval pusht --checkpoint runs/pusht --last 5 --episodes 50 --seed 100000 --policy.chunk 8

    Args:
        task: environment, and the shipped model unless --checkpoint is given.
        checkpoint: run or checkpoint folder.
        episodes: how many; at least 300 to tell maze scores 5 points apart.
        seed: episode i has seed + i.
        goal: mazes: the task's own, or a random one each episode (Multi2D).
        starts: mazes: .npz or .hdf5 with start_state (N, 4) and goal_pos (N, 2) to run instead of random starts.
        tracker: mazes: look_ahead holds the robot's speed limit; pd is the official Diffusion Forcing law.
        disturb: arm: what happens in mid-run.
        last: policies: evaluate the run's last so many kept checkpoints, and report best and mean apart.
        workers: policies: processes that share the episodes.
        video: policies: folder for animations of the first six episodes.
        json: write the numbers there as well.
        device: cpu, cuda, ...
        threads: CPU threads, of each worker.
        planner: mazes: how plans are sampled and chosen.
        policy: policies: how much they remember, and how they act.
    """
    at_least(1, episodes=episodes, workers=workers)
    at_least(0, seed=seed, last=last)
    if task in POLICY_TASKS:
        only: dict[str, Any] = {"goal": goal != "fixed", "starts": starts, "tracker": tracker != "look_ahead"}
        _refuse(task, "mazes", only | {"planner": planner != PLANNER})
        if task not in ARM_TASKS:
            _refuse(task, "the arm", {"disturb": disturb != "none"})
        use_device(device, threads)
        from dfplan.evaluate import Job
        from dfplan.models import find, kept

        folders = kept(checkpoint or task, last) if last else [find(checkpoint or task)]
        seeds, disturbance = range(seed, seed + episodes), None if disturb == "none" else disturb
        film = () if video is None else seeds[:6]
        jobs = [Job(task, str(f), policy, disturbance, device, threads, film) for f in folders]
        _policy(jobs, seeds, last, workers, video, json)
        return
    only = {"disturb": disturb != "none", "last": last, "workers": workers > 1, "video": video}
    _refuse(task, "policies", only | {"policy": policy != POLICY})
    from dfplan import envs, policies, rollout
    from dfplan.tools.progress import progress

    given: Starts | None = None if starts is None else rollout.Starts.read(starts)
    env = envs.make(task, goal=goal)
    brain = load_planner(checkpoint or task, planner, device, threads)
    receding = policies.receding(brain, tracker=tracker)
    done = []
    with progress(episodes, f"eval {task}", "episode") as bar:
        for episode in rollout.run(env, receding, episodes, seed, given):
            done.append(episode)
            bar.set_postfix(reached=f"{sum(e.success for e in done)}/{len(done)}", refresh=False)
            bar.update()
    report(rollout.summary(task, seed, done), json)


def _refuse(task: str, kind: str, given: dict[str, Any]) -> None:
    """Raise where an option was given that only the other kind of task reads."""
    for name, value in given.items():
        if value:
            raise ValueError(f"got --{name}, which is for {kind}; leave it out with {task}")


def _policy(
    jobs: list[Job], seeds: range, last: int, workers: int, video: Path | None, json: Path | None
) -> None:
    from dfplan.evaluate import evaluate
    from dfplan.show.video import write_gif

    rows = []
    for job in jobs:
        numbers, outcomes = evaluate(job, seeds, workers)
        name = Path(job.folder).name
        rows.append({"checkpoint": name} | numbers)
        if video is not None:
            for outcome in outcomes[: len(job.film)]:
                print(write_gif(outcome.frames, video / f"{name}-{outcome.seed}.gif", 10))
    if not last:
        report(rows[0], json)
        return
    values: dict[str, Any] = {"task": jobs[0].task, "checkpoints": rows}
    for key in ("success", "progress_mean"):
        values[f"{key}_best"] = max(float(r[key]) for r in rows)
        values[f"{key}_mean_of_last_{len(rows)}"] = sum(float(r[key]) for r in rows) / len(rows)
    for row in rows:
        print(f"  {row['checkpoint']:<20} success {row['success']:.3f}  progress {row['progress_mean']:.3f}")
    report(values, json, hide=("checkpoints",))
