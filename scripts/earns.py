"""What Diffusion Forcing earns on plans: python scripts/earns.py [--maze ring] [--seeds 3] [--steps 600] [--out runs/earns].

The same network and demonstrations, trained with independent levels, with one level for the whole plan (Diffuser's way), to
tell the next token, and with independent levels and ramps. Each is measured with every schedule in worlds that change, asked
for plans of given lengths, on demonstrations cut into short pieces, streaming, and rolled on for ten windows. What was
trained and measured is kept in --out and not done again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfplan import envs, policies, rollout
from dfplan.cli.settings import merged
from dfplan.cli.train import config_path
from dfplan.data import Episodes
from dfplan.decide import Decider, Sampling, generator_of
from dfplan.envs.mazes import OFFSET, Maze, get_maze
from dfplan.plan.evidence import Evidence
from dfplan.plan.rolling import roll
from dfplan.planner import Planner, PlannerConfig
from dfplan.show.base import BLUE, GREEN, ORANGE, headed, new_figure, plain, save
from dfplan.tools.serialize import from_dict, read_values
from dfplan.train import checkpoint
from dfplan.train.config import TrainConfig
from dfplan.train.metrics import train_logged
from dfplan.train.trainer import Trainer

NONE = {"independent": 0.0, "shared": 0.0, "pyramid": 0.0, "next_token": 0.0}
METHODS = {
    "independent levels (Diffusion Forcing)": NONE | {"independent": 1.0},
    "one shared level (Diffuser)": NONE | {"shared": 1.0},
    "next token": NONE | {"next_token": 1.0},
    "independent levels and ramps (as shipped)": NONE | {"independent": 0.3, "pyramid": 0.7},
}
"""Method -> levels it is trained with; start and goal are shown to all of them alike."""
SCHEDULES = {
    "full": {"schedule": "full"},
    "pyramid": {"schedule": "pyramid", "uncertainty": 1.0},
    "autoregressive": {"schedule": "autoregressive"},
}
WORLDS = ("none", "push", "wind", "door")
STREAMED = ("none", "push", "move")
ARRIVALS = (8, 12, 16, 20)
PARTS = ("own", "plans", "driven", "pieces")
"""Each method as it is meant to be used; every schedule, of plans and driven; demonstrations cut into pieces."""
STARTS, EVERY, PIECE = 20_000, 30, 6
"""First seed of what is reported; env steps between plans; tokens of a piece of cut demonstrations."""
TIMES = 10
NEXT = {"schedule": "autoregressive"}, {"advance": 1}
"""How a model that tells the next token is sampled; it is shown all but one of the steps that it was trained on."""
MODEL = {"kind": "perceptron", "width": 256, "fine": 10.0}
RING = Maze("ring", "#######\n#OOOOO#\n#O###O#\n#OOOOO#\n#######", 300)
"""Two ways between any two places."""


def layout(maze: str) -> Maze:
    """A maze by its name."""
    return RING if maze == RING.name else get_maze(maze)


def demonstrations(maze: str, rows: int, piece: int = 0) -> Episodes:
    """Runs of D4RL's generator, each from goal to goal; cut into pieces of so many env steps where `piece` is given."""
    data = envs.collect(layout(maze), rows, progress=False)
    ends = np.union1d(np.flatnonzero(data["timeouts"]) + 1, [rows])
    if piece:
        ends = np.union1d(ends, np.arange(piece, rows, piece))
    return Episodes({k: data[k] for k in ("observations", "actions")}, ends, 0.01, f"maze2d-{maze}")


def settings(maze: str, levels: Mapping[str, float], seed: int, steps: int) -> TrainConfig:
    """The maze's configuration, the ring's is that of umaze, with a perceptron, other levels and fewer steps."""
    change = {"levels": levels, "seed": seed, "steps": steps, "model": MODEL, "batch": 128, "warmup": 100}
    name = f"maze2d-{'umaze' if maze == RING.name else maze}"
    values = merged(read_values(config_path(name)), change | {"precision": "fp32"}, TrainConfig)
    return from_dict(TrainConfig, values, maze)


def trained(folder: Path, config: TrainConfig, episodes: Callable[[], Episodes]) -> Path:
    """The checkpoint of a run that is finished, gone on with where it was left."""
    if not (folder / "done").exists():
        trainer = Trainer(config, episodes(), folder / "checkpoint", resume=(folder / "checkpoint").exists())
        folder.mkdir(parents=True, exist_ok=True)
        train_logged(trainer, folder)
        (folder / "done").touch()
    return folder / "checkpoint"


def free(maze: str, paths: Any) -> Any:
    """Paths (B, H, 2) -> (B, H - 1) True where a step, straight between its ends, leads through no wall."""
    walls = np.array([[tile == "#" for tile in row] for row in layout(maze).rows])
    part = np.linspace(0, 1, 17)[:, None]
    points = paths[:, :-1, None] * (1 - part) + paths[:, 1:, None] * part
    cells = np.clip(np.floor(points + OFFSET + 0.5).astype(int), 0, np.array(walls.shape) - 1)
    return ~walls[cells[..., 0], cells[..., 1]].any(-1)


def problems(maze: str, count: int, fits: Callable[[int], bool], seed: int = STARTS) -> tuple[Any, Any]:
    """Starts (B, 1, 4) and goals (B, 2) so many cells apart, along the shortest way, as `fits` says."""
    rng, cells = np.random.default_rng(seed), layout(maze).free_cells
    ways, starts, goals = envs.GridPaths(layout(maze)), [], []
    if not any(fits(ways.distances(b)[a]) for b in cells for a in cells):
        raise ValueError(f"got maze {maze}, expected one with two cells as far apart as is asked for")
    while len(starts) < count:
        a, b = (cells[i] for i in rng.integers(len(cells), size=2))
        if fits(ways.distances(b)[a]):
            starts.append([*(a + rng.uniform(-0.1, 0.1, 2)), 0.0, 0.0])
            goals.append(b + rng.uniform(-0.1, 0.1, 2))
    return np.array(starts)[:, None], np.array(goals)


def good_plans(
    planner: Planner, maze: str, fits: Callable[[int], bool], count: int, by: int | None = None
) -> dict[str, Any]:
    """Share of plans that are at the goal in time, through no wall, with no step longer than the data's."""
    starts, goals = problems(maze, count, fits)
    plans = planner.plan_batch(
        starts, goals, seeds=range(count), arrivals=None if by is None else [by], candidates=1
    )
    paths = np.stack([p.observations[:, :2] for p in plans])
    longest = np.linalg.norm(np.diff(paths, axis=1), axis=-1).max(1)
    through = free(maze, paths).all(1)
    possible = longest <= 1.5 * planner.model.calibration["step"]
    return {"good": float((through & possible).mean()), "free": float(through.mean()), "possible": float(possible.mean()),
            "calls": plans[0].network_calls}  # fmt: skip


def driven(planner: Planner, maze: str, kind: str, episodes: int, every: int | None) -> dict[str, Any]:
    """Success, and env steps at the goal, of following its plans where something happens."""
    policy, made = policies.receding(planner, every=every), []

    def make() -> Any:
        extra = {} if kind == "none" else {"disturb": kind}
        made.append(envs.make(layout(maze), goal="random", **extra))
        return made[-1]

    found = rollout.summary(maze, rollout.run(make, policy, range(STARTS, STARTS + episodes)))
    kept = ("success", "return_mean", "network_calls_mean", "first_reach_mean")
    events = sum(len(getattr(env, "events", ())) for env in made)
    return {k: found[k] for k in kept} | {"events": events}


def rolled(folder: Path, maze: str, count: int, seed: int = STARTS, judged: bool = False, next_token: bool = False,
           **rolling: Any) -> dict[str, Any]:  # fmt: skip
    """Shares of `count` rollouts from free places.

    Args:
        folder: checkpoint.
        maze: its maze.
        count: rollouts.
        seed: of starts and rollouts.
        judged: what no recorded step is like is drawn anew.
        next_token: one token after the other, each from all that fit into the window.
        **rolling: of `dfplan.plan.rolling.roll`.
    """
    decider = Decider(checkpoint.load(folder))
    window, rng = decider.model.config.horizon, np.random.default_rng(seed)
    how, more = NEXT if next_token else ({}, {})
    rolling = more | ({"keep": window - 1} if next_token else {}) | rolling
    evidence, cells = Evidence.of(decider.model), np.array(layout(maze).free_cells)
    assert evidence is not None
    history = np.zeros((count, 1, 4))
    history[:, 0, :2] = cells[rng.integers(len(cells), size=count)] + rng.uniform(-0.1, 0.1, (count, 2))
    if judged:
        rolling["doubt"] = lambda rows: evidence.doubt(rows[..., :2])
    began, generators = time.process_time(), [generator_of(seed + i) for i in range(count)]
    made = roll(decider, Sampling(**how), history, TIMES * window, generators, **rolling)[..., :2]
    inside, moved = free(maze, made), np.linalg.norm(np.diff(made, axis=1), axis=-1)
    jumps = moved > 1.5 * decider.model.calibration["step"]
    visited = [len({(round(x), round(y)) for x, y in path.tolist()}) for path in made]
    return {"free": float(inside.mean()), "free_last": float(inside[:, -window:].mean()),
            "whole": float(inside.all(1).mean()), "jumps": float(jumps.mean()), "moved": float(moved.mean() / evidence.step),
            "visited": float(np.mean(visited)), "cpu_s": time.process_time() - began}  # fmt: skip


class Kept:
    """Numbers that are measured once: a JSON file of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def measured(self, cell: str, method: str, seed: int, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a cell of the tables, for one training seed."""
        key = f"{cell}|{method}|{seed}"
        if key not in self.rows:
            began = time.process_time()
            self.rows[key] = measure() | {"cpu_s": time.process_time() - began}
            self.path.write_text(json.dumps(self.rows, indent=1))
            print(key, {k: round(v, 3) for k, v in self.rows[key].items() if v is not None}, flush=True)


def own_schedule(method: str) -> str:
    """The schedule that goes with the levels a method was trained with."""
    return "autoregressive" if method == "next token" else "full"


def study(args: argparse.Namespace, kept: Kept, method: str, seed: int, part: str) -> None:
    """Train one method with one seed, and measure a part of what is asked: see `PARTS`."""
    name, maze, cut = method.split(" (")[0].replace(" ", "-"), args.maze, part == "pieces"
    config = settings(maze, METHODS[method], seed, args.steps)
    shown = partial(demonstrations, maze, args.rows, PIECE * config.spec.stride if cut else 0)
    folder = trained(args.out / f"{name}-{'cut-' * cut}{seed}", config, shown)

    def measured(
        cell: str, schedule: str, measure: Callable[..., dict[str, Any]], *asked: Any, **how: Any
    ) -> None:
        planner = Planner.load(folder, PlannerConfig(**{"steps": 4, **SCHEDULES.get(schedule, {}), **how}))
        kept.measured(f"{cell}|{schedule}", method, seed, partial(measure, planner, maze, *asked))

    own = own_schedule(method)
    for schedule in SCHEDULES:
        if cut:
            near, far = (lambda d: 0 < d <= 3), (lambda d: d >= 5)
            for label, fits in (("within a piece", near), ("farther than any piece", far)):
                measured(f"plans from pieces, {label}", schedule, good_plans, fits, args.plans)
        if part == "plans" or (part == "own" and schedule == own):
            measured("plans, any distance", schedule, good_plans, lambda d: d > 0, args.plans)
            for by in ARRIVALS:  # at its pace the data make a third to a half of a cell a token
                fits = partial(lambda by, d: 0.2 * by <= d <= 0.34 * by, by)
                measured(f"plans, there by token {by}", schedule, good_plans, fits, args.plans, by)
        if part == "driven" or (part == "own" and schedule == own):
            for kind in WORLDS:
                measured(f"driven, {kind}", schedule, driven, kind, args.episodes, EVERY)
    if part != "own":
        return
    for label, judged in (("first draw", False), ("judged by the records", True)):
        roll_on = partial(rolled, folder, maze, args.plans // 4, judged=judged, next_token=own != "full")
        kept.measured(f"rollout of ten windows|{label}", method, seed, roll_on)
    for kind in STREAMED:
        measured(f"driven, {kind}", "streaming", driven, kind, args.episodes, None, stream=10)


def over_seeds(rows: Mapping[str, Any], cell: str, method: str, number: str) -> tuple[float, float, int]:
    """Mean, its standard error over training seeds, and how many there are."""
    found = [r[number] for k, r in rows.items() if k.rpartition("|")[0] == f"{cell}|{method}"]
    error = float(np.std(found, ddof=1) / len(found) ** 0.5) if len(found) > 1 else float("nan")
    return float(np.mean(found)) if found else float("nan"), error, len(found)


NUMBERS = {
    "plans": (("good", 100, " %"),),
    "driven": (("success", 100, " %"), ("return_mean", 1, "")),
    "rollout": (("free", 100, " %"), ("moved", 1, "")),
}
"""First word of a question -> what of it is printed: name, factor, unit."""


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a line for each question and schedule, a column for each method."""
    found = dict.fromkeys("|".join(k.split("|")[:2]) for k in rows)
    cells = [c for word in NUMBERS for c in found if c.startswith(word)]
    most = max(
        over_seeds(rows, c, m, n[0])[2]
        for c in cells
        for m in METHODS
        for n in NUMBERS[c.split()[0].strip(",")]
    )
    order = [*dict.fromkeys(c.split("|")[0] for c in cells)]
    cells.sort(key=lambda c: ("pieces" in c, order.index(c.split("|")[0])))
    out = ["| asked | schedule | " + " | ".join(METHODS) + " |", "|---" * (len(METHODS) + 2) + "|"]
    for cell in cells:
        words = []
        for method in METHODS:
            parts = []
            for number, scale, unit in NUMBERS[cell.split()[0].strip(",")]:
                mean, error, count = over_seeds(rows, cell, method, number)
                spread = f" ± {scale * error:.{1 + (scale * mean < 2)}f}" if count > 1 else ""
                parts.append(f"{scale * mean:.{1 + (scale * mean < 2)}f}{spread}{unit}")
            few = f" ({count} of {most} seeds)" if count < most else ""
            words.append(", ".join(parts) + few if count else "-")
        out.append(f"| {cell.replace('|', ' | ')} | " + " | ".join(words) + " |")
    return "\n".join(out)


def picture(rows: Mapping[str, Any], path: Path) -> None:
    """Plans that are good against the token by which they are to arrive, and scores of the worlds."""
    figure = new_figure(8.0, 3.0)
    left, right = figure.subplots(1, 2)
    own = {m: own_schedule(m) for m in METHODS}
    worlds: Sequence[str] = [*WORLDS]
    for i, (method, colour) in enumerate(zip(METHODS, (BLUE, ORANGE, GREEN, "#8a9099"), strict=True)):
        if not any(f"|{method}|" in key for key in rows):
            continue
        found = [
            over_seeds(rows, f"plans, there by token {by}|{own[method]}", method, "good")[:2]
            for by in ARRIVALS
        ]
        label = f"{method.split(' (')[0]}, {own[method]}"
        left.errorbar(ARRIVALS, *np.array(found).T, fmt="o-", color=colour, label=label)
        found = [
            over_seeds(rows, f"driven, {kind}|{own[method]}", method, "return_mean")[:2] for kind in worlds
        ]
        right.errorbar(np.arange(len(worlds)) + 0.1 * i, *np.array(found).T, fmt="o", color=colour)
    left.set(
        xlabel="token by which the goal is to be reached",
        ylabel="share of plans that are good",
        ylim=(-0.03, 1.03),
    )
    right.set(xlabel="what happens", ylabel="env steps at the goal")
    right.set_xticks(range(len(worlds)), worlds)
    headed(left, "Plans of a given length")
    headed(right, "Driven in worlds that change")
    left.legend(fontsize=7, frameon=False)
    for axes in (left, right):
        plain(axes)
    print(save(figure, path))


def main() -> None:
    """Run what is asked for, print the table, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maze", choices=("ring", "umaze", "medium", "large"), default="ring")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--rows", type=int, default=200_000, help="env steps of demonstrations")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="none: only print and draw")
    parser.add_argument("--out", type=Path, default=Path("runs/earns"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = Kept(args.out / "numbers.json")
    for part in args.parts:
        for method in METHODS:
            for seed in range(args.seeds):
                study(args, kept, method, seed, part)
    print(table(kept.rows))
    picture(kept.rows, args.out / "earns.png")


if __name__ == "__main__":
    main()
