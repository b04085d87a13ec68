"""The main job in one call: plan, act, score, draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dfplan import rollout, schedules
from dfplan.planner import Planner


def demo(
    task: str,
    planner: Planner,
    start: Sequence[float] | None,
    goal: Sequence[float] | None,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Plan and act one episode of a maze task; write `plan.png` and `denoise.gif` into `out`.

    Args:
        task: environment name.
        planner: its model.
        start: (2,) m, or None for a random one.
        goal: (2,) m, or None for the task's own.
        seed: of start and plan.
        out: folder of the pictures; made if absent.

    Returns:
        what happened: start, goal, plan, score, files.
    """
    from dfplan import envs, policies
    from dfplan.show import plot

    env = envs.make(task)
    options: dict[str, Any] = {}
    if start is not None:
        options |= {"qpos": start, "qvel": (0.0, 0.0)}
    if goal is not None:
        options["goal"] = goal
    policy = policies.receding(planner)
    episode = rollout.run_episode(env, policy, seed, options)
    plan = episode.plans[0]
    frames = _denoising(planner, episode.observations[0], episode.goal, plan.seed)
    walls = np.array([[tile == "#" for tile in row] for row in envs.get_maze(task).rows])
    out.mkdir(parents=True, exist_ok=True)
    score = None if episode.score is None else 100 * episode.score
    title = (
        f"{task}: reached after {episode.first_reach} steps"
        if episode.success
        else f"{task}: goal not reached"
    )
    plot.save(
        plot.plan_figure(plan, walls, episode.goal, episode.observations[:, :2], title), out / "plan.png"
    )
    config = planner.config
    matrix = schedules.make(config.schedule, planner.model.config.horizon, config.steps, config.uncertainty)
    begin = episode.observations[0, :2]
    levels = matrix.levels[1:].clone()
    levels[:, [0, -1]] = 0.0  # start and goal are known
    plot.denoise_gif(out / "denoise.gif", frames, levels, walls, episode.goal, begin, chosen=plan.chosen)
    return {
        "start": str(np.round(episode.observations[0, :2], 2).tolist()),
        "goal": str(np.round(episode.goal, 2).tolist()),
        "plan": f"{int(plan.arrivals[plan.chosen])} steps of {planner.spec.stride * planner.spec.dt:.2f} s, "
        f"{int(plan.feasible.sum())} of {len(plan.feasible)} candidates feasible",
        "plan_ms": 1e3 * plan.seconds,
        "plans": len(episode.plans),
        "reached_goal_after": f"{episode.first_reach} env steps" if episode.success else "never",
        "return": episode.total,
        "score": score,
        "pictures": f"{out / 'plan.png'}, {out / 'denoise.gif'}",
    }


def _denoising(planner: Planner, observation: Any, goal: Any, seed: int | None) -> list[Any]:
    """Positions (K, S, 2) of all candidates after each network call of the plan that `seed` gives."""
    frames = []

    def keep(_row: int, x: Tensor, _x0: Tensor) -> None:
        frames.append(planner.goal_values(planner.model.normalizer.unnormalize(x)))

    planner.plan(observation, goal, seed=seed, callback=keep)
    return frames
