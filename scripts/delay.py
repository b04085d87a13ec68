"""Four ways to go on while the network is busy, at injected delays, in simulated time: python scripts/delay.py [--tasks pusht].

An answer that is asked for at env step t, from the observation at t, is there at t + delay; meanwhile the rest of the chunk
before is executed, and where there is none left the last action again. One answer is under way at a time. What was measured is
kept in --out and not done again; the table is printed, and the picture drawn, from what is there.
"""

import argparse
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from delayed import LIMIT, METHODS, PLACE, Cell, Delayed

from dfplan import envs, rollout
from dfplan.act import Actor, ImitationConfig
from dfplan.show.base import BLUE, ORANGE, PURPLE, VERMILLION, new_figure, plain, save

DELAYS = (0, 2, 4, 8, 12, 16, 20)
ACTING: dict[str, dict[str, Any]] = {
    "arm-pick": {"memory": 1, "temperature": 0.0},
    "pusht": {"memory": 1, "temperature": 0.0},
}
"""How a task's model acts, all four methods alike; chosen on seeds from 90000."""


def seams(policy: Delayed, steps: list[int]) -> float | None:
    """Mean squared second difference of executed places where an answer joins, over that elsewhere."""
    cell = policy.cell
    places = np.stack(policy.done, 1)[..., : PLACE[cell.task]]
    jumps = np.square(np.diff(places, n=2, axis=1)).sum(-1)
    index = np.arange(jumps.shape[1])
    join = np.isin(index + 1, policy.joins) | np.isin(index + 2, policy.joins)
    ran = (index < np.array(steps)[:, None] - 2) & (index >= cell.wait)
    at, else_where = jumps[:, join][ran[:, join]], jumps[:, ~join][ran[:, ~join]]
    return float(at.mean() / else_where.mean()) if at.size and else_where.size else None


class Again(gym.wrappers.TimeLimit):
    """An environment that the next cell uses again."""

    def close(self) -> None:
        """Leave it open."""


@cache
def scenes(task: str, count: int) -> list[Any]:
    """Environments side by side; their time limit is that of `Again`."""
    kind = {"action": "ee"} if task == "arm-pick" else {}
    return [envs.make(task, max_episode_steps=10 * LIMIT, **kind) for _ in range(count)]


def measured(cell: Cell, model: str, seeds: range) -> dict[str, Any]:
    """Success and smoothness of one cell."""
    actor = Actor.load(model, ImitationConfig(**ACTING[cell.task]))
    policy = Delayed(actor, cell)
    limited = iter([Again(env, LIMIT + cell.wait) for env in scenes(cell.task, len(seeds))])
    outcomes = rollout.run(limited.__next__, policy, seeds)
    found = rollout.summary(cell.task, outcomes)
    names = (
        "episodes",
        "seed",
        "success",
        "success_ci",
        "progress_mean",
        "progress_se",
        "steps_mean",
        "hardware",
    )
    return {**asdict(cell), **{n: found[n] for n in names}, "ahead": actor.ahead, "starved": policy.starved,
            "seams": seams(policy, [o.steps for o in outcomes])}  # fmt: skip


def every(chunk: int, delay: int, ahead: int) -> int:
    """Env steps between answers: a chunk as the window holds it, or the delay where that is longer."""
    return max(delay, min(chunk, ahead - delay))


def cells(task: str, ahead: int) -> list[Cell]:
    """What is measured: delays with chunks of 16, mishaps, then other lengths."""
    out = []
    for delay in DELAYS:
        out += [Cell(task, method, delay, every(16, delay, ahead)) for method in METHODS]
    for change in ({"error": -2}, {"error": 2}, {"first": 20}, {"lost": 0.2}):
        out += [Cell(task, method, 4, 8, **change) for method in METHODS]
    for chunk in (8, 24):
        for delay in DELAYS:
            out += [Cell(task, method, delay, every(chunk, delay, ahead)) for method in METHODS]
    return list(dict.fromkeys(out))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of what was measured, a row for each task, delay and chunk."""
    lines = ["| task | delay | chunk | | " + " | ".join(METHODS) + " |", "|---" * (4 + len(METHODS)) + "|"]
    keys = ("task", "delay", "chunk", "error", "first", "lost")
    for case in dict.fromkeys(tuple(r[k] for k in keys) for r in rows):
        own = {r["method"]: r for r in rows if tuple(r[k] for k in keys) == case}
        task, delay, chunk, error, first, lost = case
        mishap = (
            f"taken for {delay + error}" * bool(error)
            + f"first x{first}" * (first > 1)
            + f"lost {lost}" * bool(lost)
        )
        told = mishap or ("waits" if delay + chunk > next(iter(own.values()))["ahead"] else "")
        numbers = [" " if m not in own else _number(own[m]) for m in METHODS]
        lines.append(f"| {task} | {delay} | {chunk} | {told} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def _number(row: dict[str, Any]) -> str:
    low, high = (round(100 * x) for x in row["success_ci"])
    score = f", {100 * row['progress_mean']:.1f}" if row["task"] == "pusht" else ""
    seam = "" if row["seams"] is None else f"; {row['seams']:.1f}"
    return f"{100 * row['success']:.0f} [{low}, {high}]{score}{seam}"


def picture(rows: list[dict[str, Any]], path: Path, chunk: int = 16) -> None:
    """Success against delay, a line for each method, a panel for each task."""
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    figure = new_figure(4.6 * len(tasks), 3.6)
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), i + 1)
        for m, (method, colour) in enumerate(zip(METHODS, (VERMILLION, ORANGE, PURPLE, BLUE), strict=True)):
            own = [
                r for r in rows
                if (r["task"], r["method"], r["error"], r["first"], r["lost"]) == (task, method, 0, 1, 0.0)
                and r["chunk"] == every(chunk, r["delay"], r["ahead"])
            ]  # fmt: skip
            own.sort(key=lambda r: r["delay"])
            x = np.array([r["delay"] for r in own]) + 0.25 * (m - 1.5)
            y, ends = (
                np.array([100 * r["success"] for r in own]),
                100 * np.array([r["success_ci"] for r in own]),
            )
            if own:
                span = np.maximum(0, [y - ends[:, 0], ends[:, 1] - y])
                axes.errorbar(
                    x, y, span, color=colour, marker="o", ms=4, lw=1.5, elinewidth=0.8, label=method
                )
        ahead = next(r["ahead"] for r in rows if r["task"] == task)
        axes.axvspan(ahead / 2 + 1, max(DELAYS) + 1, color="#eceef1", lw=0, zorder=0)
        told = "longer than the\nwindow holds:\nthe robot waits"
        axes.text(ahead / 2 + 1.4, 100, told, fontsize=7.5, color="#555a62", va="top")
        axes.set(
            title=task, xlabel="delay, env steps", ylim=(0, 103), xlim=(-1, max(DELAYS) + 1), xticks=DELAYS
        )
        axes.set_ylabel("success, %")
        plain(axes)
        if not i:
            axes.legend(frameon=False, fontsize=8, loc="center left")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["arm-pick", "pusht"], choices=list(ACTING))
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="TASK=MODEL", help="instead of the shipped ones"
    )
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20000)
    parser.add_argument("--out", type=Path, default=Path("delay.json"))
    parser.add_argument("--picture", type=Path, default=Path("delay.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = dict(pair.split("=", 1) for pair in args.models)
    rows = json.loads(args.out.read_text()) if args.out.exists() else {}
    for task in args.tasks:
        model = models.get(task, task)
        for cell in cells(task, Actor.load(model, ImitationConfig(**ACTING[task])).ahead):
            if cell.name not in rows:
                rows[cell.name] = measured(cell, model, range(args.seed, args.seed + args.episodes))
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
                print(cell.name, f"{rows[cell.name]['success']:.3f}", flush=True)
    print(table(list(rows.values())))
    picture(list(rows.values()), args.picture)


if __name__ == "__main__":
    main()
