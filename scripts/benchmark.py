"""Print the table of scores and speeds: python scripts/benchmark.py [--episodes 300] [--json out.json] [--picture scores.png]."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfplan import envs, rollout
from dfplan.data import Episodes
from dfplan.models import load
from dfplan.planner import PlannerConfig
from dfplan.policies import Imitation, ImitationConfig, receding, search
from dfplan.show import plot
from dfplan.tools.progress import progress
from dfplan.train import Levels
from dfplan.train.trainer import Trainer

# D4RL-normalised score x100, standard return: (umaze, medium, large), fixed goal and random goal (Multi2D).
PUBLISHED = {
    "Diffuser (2205.09991)": ((113.9, 121.5, 123.0), (128.9, 127.2, 132.1)),
    "Diffusion Forcing (2407.01392), unit unclear": ((116.7, 149.4, 159.0), (119.1, 152.3, 167.1)),
    "HorizonFlow (2026 preprint)": ((137.5, 154.8, 205.2), (145.1, 170.5, 216.5)),
}
EXPERT = "D4RL's controller, new path each episode"
SEARCH = "search on the map, same tracker (ceiling)"
MAZES = ("umaze", "medium", "large")


def scores(maze: str, episodes: int, seed: int) -> list[dict[str, Any]]:
    """Evaluate D4RL's controller, the search and a shipped model, fixed and random goals; nothing for 0 episodes."""
    task, rows = f"maze2d-{maze}", []
    actors: dict[str, Any] = {
        EXPERT: envs.WaypointExpert(maze),
        SEARCH: search(load(task), envs.GridPaths(maze)),
        "dfplan": receding(load(task)),
    }
    for goal in ("fixed", "random") if episodes else ():
        for name, policy in actors.items():
            make = partial(envs.make, task, goal=goal)
            with progress(episodes, f"{name}, {task}, {goal} goal", "episode") as bar:
                done = rollout.run(make, policy, range(seed, seed + episodes), done=bar.update)
            rows.append(rollout.summary(task, done) | {"goal": goal, "method": name})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: published scores, D4RL's controller, then ours, with reach rate."""
    lines = ["| method | goal | umaze | medium | large |", "|---|---|---|---|---|"]
    for i, goal in enumerate(("fixed", "random")):
        for name, values in PUBLISHED.items():
            lines.append(f"| {name} | {goal} | " + " | ".join(f"{v:.1f}" for v in values[i]) + " |")
        for method in (EXPERT, SEARCH, "dfplan"):
            ours = {r["task"]: r for r in rows if r["goal"] == goal and r["method"] == method}
            cells = [_cell(ours.get(f"maze2d-{maze}")) for maze in MAZES]
            name = f"**{method}**" if method == "dfplan" else f"{method}, run here"
            lines.append(f"| {name} | {goal} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['score']:.1f} ± {row['score_se']:.1f} ({100 * row['success']:.1f} % reach)"


def bars(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Fixed-goal scores, method -> maze -> score, published and ours, for a picture."""
    out = {name.split(" (")[0]: dict(zip(MAZES, v[0], strict=True)) for name, v in PUBLISHED.items()}
    out["dfplan"] = {
        r["task"].removeprefix("maze2d-"): r["score"]
        for r in rows
        if r["goal"] == "fixed" and r["method"] == "dfplan"
    }
    return out


def _median(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def speeds() -> list[tuple[str, float, str]]:
    """Environment, planning and training speed: (what, value, unit)."""
    return environment() + planning() + acting() + training()


def environment(steps: int = 20_000) -> list[tuple[str, float, str]]:
    """Raw steps per second of maze2d-large, and the time of 20 episodes with its time limit."""
    raw = envs.Maze2DEnv("large")
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2)).astype(np.float32)
    raw.reset(seed=0)

    def run() -> None:
        for action in actions:
            raw.step(action)

    env = envs.make("maze2d-large")

    def episodes() -> None:
        for i in range(20):
            env.reset(seed=i)
            for action in actions[:800]:
                env.step(action)

    return [
        ("environment, raw", steps / _median(run, 3), "steps/s"),
        ("environment, 20 episodes of 800 steps", _median(episodes, 3), "s"),
    ]


def planning(repeats: int = 7) -> list[tuple[str, float, str]]:
    """Milliseconds of one plan of maze2d-large, 16 candidates, one start, for each schedule, selection included."""
    out = []
    for schedule, uncertainty in (
        ("full", 0.0),
        ("pyramid", 0.25),
        ("pyramid", 0.5),
        ("pyramid", 1.0),
        ("trapezoid", 0.5),
        ("autoregressive", 0.0),
    ):
        planner = load("maze2d-large", PlannerConfig(schedule=schedule, uncertainty=uncertainty))
        plan = planner.plan([1.0, 1.0, 0.0, 0.0], seed=0)
        slow = schedule == "autoregressive"
        value = _median(partial(planner.plan, [1.0, 1.0, 0.0, 0.0], seed=0), 1 if slow else repeats)
        name = f"plan, {schedule}" + (f" {uncertainty}" if uncertainty else "")
        out.append((f"{name}, {plan.network_calls} network calls", 1e3 * value, "ms"))
    return out


def acting(decisions: int = 40) -> list[tuple[str, float, str]]:
    """Milliseconds of one decision of each policy that ships, one robot: in chunks, per env step, and streamed."""
    out = []
    for task in ("arm-reach", "arm-pick", "pusht"):
        for name, stream in (("chunk", False), ("streaming", True)):
            policy = Imitation.load(task, ImitationConfig(stream=stream))
            policy.reset(seed=0)
            still = policy.model.normalizer.mean[:-1].cpu()
            now = np.zeros(policy.spec.observation_size)
            for g, token in enumerate(policy.spec.tokens[:-1]):
                for i, channel in enumerate(token.channels):
                    if not policy.spec.channel(channel).reference:
                        now[policy.spec.channel(channel).index] = still[g, i]
            while len(policy.seconds) < decisions:
                policy.act(now)
            each = 1e3 * np.array(policy.seconds[5:])
            steps = policy.spec.stride if stream else policy.actor.chunk
            for q in (0.5, 0.99):
                out.append(
                    (f"{task}, {name}, one decision, p{100 * q:.0f}", float(np.quantile(each, q)), "ms")
                )
            out.append((f"{task}, {name}, per env step", float(np.median(each)) / steps, "ms"))
    return out


def training(rounds: int = 12) -> list[tuple[str, float, str]]:
    """One training step of the large model with per-token noise, and its cost against one shared level."""
    config = load("maze2d-large").model.config
    rng = np.random.default_rng(0)
    walk = {
        "observations": rng.normal(size=(50_000, 4)).astype(np.float32),
        "actions": rng.normal(size=(50_000, 2)).astype(np.float32),
    }
    episodes = Episodes(walk, np.arange(250, 50_001, 250), 0.01)
    per_token = replace(config, levels=Levels(start_known=0))
    shared = replace(config, levels=Levels(independent=0, shared=1, start_known=0))
    with tempfile.TemporaryDirectory() as folder:
        trainers = [Trainer(c, episodes, f"{folder}/{i}") for i, c in enumerate((per_token, shared))]
        times: list[list[float]] = [[], []]
        for i in range(rounds + 2):
            for k in (0, 1) if i % 2 else (1, 0):
                began = time.perf_counter()
                trainers[k].train_step()
                times[k].append(time.perf_counter() - began)
    a, b = (np.array(t[2:]) for t in times)
    return [
        ("training step, batch 256, per-token noise", 1e3 * float(np.median(a)), "ms"),
        ("per-token noise / one shared level, median ratio", float(np.median(a / b)), ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300, help="per maze; 0 measures speed alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="bars of the fixed-goal scores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row for maze in MAZES for row in scores(maze, args.episodes, args.seed)]
    fast = speeds()
    if rows:
        print(table(rows))
    print("\n".join(f"{name:<62} {value:>12,.2f} {unit}" for name, value, unit in fast))
    if args.picture and rows:
        plot.save(plot.bars_figure(bars(rows), ours="dfplan"), args.picture)
    if args.json:
        args.json.write_text(json.dumps({"scores": rows, "speeds": fast}, indent=1) + "\n")


if __name__ == "__main__":
    main()
