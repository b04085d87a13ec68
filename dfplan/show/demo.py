"""The main job in one call: plan, act, score, draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfplan import rollout, schedules
from dfplan.costs import Ball
from dfplan.planner import Plan, Planner


def demo(
    task: str,
    env: Any,
    room: Any,
    policy: Any,
    start: Sequence[float] | None,
    goal: Sequence[float] | None,
    seed: int,
    out: Path,
    obstacles: Sequence[Sequence[float]] = (),
) -> dict[str, Any]:
    """Plan and act one episode of a maze task; write `plan.png` and `denoise.gif` into `out`.

    Args:
        task: name.
        env: the maze; closed at the end.
        room: its `walls`, `cell`, `origin` and `robot`, see `dfplan.envs.Room`.
        policy: acts on plans of its `planner`, and keeps them in `plans`.
        start: (2,) m, or None for a random one.
        goal: (2,) m, or None for the task's own.
        seed: of start and plan.
        out: folder of the pictures; made if absent.
        obstacles: x, y, radius in m of each ball that the policy keeps off. There is no `denoise.gif` then: the way is put
            together from several plans, as it is on a roadmap.

    Returns:
        what happened: start, goal, plan, score, files; with obstacles whether the way driven is free of them.
    """
    options: dict[str, Any] = {} if goal is None else {"goal": goal}
    if start is not None:
        options |= {"qpos": start, "qvel": (0.0, 0.0)}
    (episode,) = rollout.run(lambda: env, policy, [seed], lambda _: options)
    reached = f"reached after {episode.first_reach} steps" if episode.success else "goal not reached"
    planner, plan = policy.planner, policy.plans[0]
    out.mkdir(parents=True, exist_ok=True)
    written = _pictures(room, episode, planner, plan, f"{task}: {reached}", out, obstacles)
    driven = torch.from_numpy(episode.observations[:, :2])
    away = [float(Ball((x, y), radius).along(driven).amin()) for x, y, radius in obstacles]
    return {
        "start": str(np.round(episode.observations[0, :2], 2).tolist()),
        "goal": str(np.round(episode.goal, 2).tolist()),
        "plan": f"{int(plan.arrivals[plan.chosen])} steps of {planner.spec.stride * planner.spec.dt:.2f} s, "
        f"{int(plan.feasible.sum())} of {len(plan.feasible)} candidates feasible",
        "plan_ms": 1e3 * plan.seconds,
        "plans": len(policy.plans),
        **({"collision_free": min(away) > room.robot} if obstacles else {}),
        "reached_goal_after": f"{episode.first_reach} env steps" if episode.success else "never",
        "return": episode.total,
        "score": None if episode.score is None else 100 * episode.score,
        "pictures": ", ".join(map(str, written)),
    }


def _pictures(
    room: Any, episode: Any, planner: Any, plan: Plan, title: str, out: Path, obstacles: Sequence[Sequence[float]]
) -> list[Path]:  # fmt: skip
    from dfplan.show import plot

    def shown(points: Any) -> Any:
        """In units of a cell, m in Maze2D."""
        return (np.asarray(points)[..., :2] - room.origin + room.origin[0]) / room.cell

    offset, unit = room.origin[0] / room.cell, "m" if room.cell == 1 else f"units of {room.cell:g} m"
    goal, places = shown(episode.goal), shown(episode.observations)
    drawn = replace(plan, observations=shown(plan.observations), candidates=shown(plan.candidates))
    balls = [(*shown(b), b[2] / room.cell) for b in obstacles]
    figure = plot.plan_figure(drawn, room.walls, goal, places, title, offset, balls, unit)
    written = [plot.save(figure, out / "plan.png")]
    if isinstance(planner, Planner) and not obstacles:
        frames = [shown(f) for f in _denoising(planner, episode.observations[0], episode.goal, plan.seed)]
        moving = frames, _levels(planner), room.walls, goal, places[0]
        named = {"chosen": plan.chosen, "offset": offset, "unit": unit}
        written.append(plot.denoise_gif(out / "denoise.gif", *moving, **named))
    return written


def _levels(planner: Planner) -> Tensor:
    """(M, S) levels after each network call; start and goal are known."""
    config = planner.config
    matrix = schedules.make(config.schedule, planner.model.config.horizon, config.steps, config.uncertainty)
    levels = matrix.levels[1:].clone()
    levels[:, [0, -1]] = 0.0
    return levels


def _denoising(planner: Planner, observation: Any, goal: Any, seed: int | None) -> list[Any]:
    """Positions (K, S, 2) of all candidates after each network call of the plan that `seed` gives."""
    frames = []

    def keep(_row: int, x: Tensor, _x0: Tensor) -> None:
        frames.append(planner.goal_values(planner.model.normalizer.unnormalize(x)))

    planner.plan(observation, goal, seed=seed, callback=keep)
    return frames
