"""What Diffusion Forcing earns on memory: python scripts/memory.py [--tasks tmaze ...] [--seeds 0 1 2] [--out runs/memory].

Trains every method on the same demonstrations, as many steps each, and evaluates it on the same unseen starts, with good
and with corrupted observations. What was trained and measured is kept in --out and not done again.
"""

import argparse
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfplan import envs, rollout
from dfplan.cli.common import demonstrations
from dfplan.cli.settings import merged
from dfplan.cli.train import config_path
from dfplan.decide import asked
from dfplan.policies import Imitation, ImitationConfig, Nearest
from dfplan.show.base import BLUE, GREEN, ORANGE, headed, new_figure, plain, save
from dfplan.tools.serialize import from_dict, read_values
from dfplan.train import checkpoint
from dfplan.train.config import TrainConfig
from dfplan.train.imitate import complete
from dfplan.train.metrics import train_logged
from dfplan.train.trainer import Trainer

NONE = {"independent": 0.0, "shared": 0.0, "pyramid": 0.0, "masked": 0.0, "doubt": 0.0, "committed": 0.0}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Diffusion Forcing with memory": ({}, {}),
    "short window (Diffusion Policy's shape)": (
        {"model": {"carrier": ""}, "levels": NONE | {"shared": 1.0}},
        {"doubt": 0.0},
    ),
    "memory without levels": ({"levels": NONE | {"shared": 1.0}}, {"doubt": 0.0}),
    "next token with memory": ({"levels": NONE | {"next_token": 1.0}}, {"doubt": 0.0}),
    "behaviour cloning, recurrent": (
        {"model": {"carrier": "recurrent"}, "levels": NONE | {"masked": 1.0}},
        {"doubt": 0.0, "steps": 1, "temperature": 0.0},
    ),
}
"""Method -> what it changes in a task's configuration, and how it acts; a method without levels cannot be told of doubt."""
BACK = (1, 2, 4, 8, 16)
"""Steps of history that the first method is allowed."""
NO_TRAINING = {"nearest demonstration": False, "one demonstration, followed": True}
CORRUPTED = ("none", "freeze", "blank", "offset", "move")
LONGER: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "tmaze": ("length", "length of the corridor, cells", (10, 100, 1000)),
    **{
        f"remember-color-{n}": ("hidden", "nothing is seen, env steps", (5, 10, 20, 40, 80))
        for n in (3, 5, 9)
    },
}
"""Task -> the argument that makes it longer than its demonstrations are, what that is, and how long it is made."""


def settings(task: str, change: Mapping[str, Any], seed: int, steps: int, episodes: Any) -> TrainConfig:
    """A task's configuration as a method changes it."""
    values = merged(
        read_values(config_path(task)), {**change, "seed": seed, "precision": "fp32"}, TrainConfig
    )
    if steps:
        values["steps"] = steps
    return from_dict(TrainConfig, complete(values, episodes), task)


def trained(folder: Path, task: str, change: Mapping[str, Any], seed: int, steps: int, episodes: Any) -> Path:
    """The folder of a run that is finished, gone on with where it was left."""
    config = settings(task, change, seed, steps, episodes)
    there = (folder / "checkpoint").exists()
    trainer = Trainer(config, episodes, folder / "checkpoint", resume=there)
    if trainer.step < config.steps:
        folder.mkdir(parents=True, exist_ok=True)
        train_logged(trainer, folder)
    return folder


def model_policy(folder: Path, acting: Mapping[str, Any], env: Any) -> Imitation:
    """A trained policy for an environment."""
    model, limits = checkpoint.load(folder / "checkpoint"), (env.action_space.low, env.action_space.high)
    return Imitation(
        model,
        asked(ImitationConfig, model, "policy", **acting),
        limits,
        sensors=env.get_wrapper_attr("sensors"),
    )


def nearest_policy(episodes: Any, faithful: bool, env: Any) -> Nearest:
    """A policy that trains nothing."""
    return Nearest(episodes, faithful=faithful, limits=(env.action_space.low, env.action_space.high))


class Kept:
    """Numbers that are measured once: a JSON file of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def measured(self, key: str, task: str, policy: Any, episodes: int, **args: Any) -> dict[str, Any]:
        """Success and times of a policy on starts from 20,000, on which nothing was chosen."""
        if key not in self.rows:
            job = rollout.Job(task, partial(envs.make, task, **args), policy, 1, (), None)
            found, _ = rollout.evaluate(job, range(20_000, 20_000 + episodes), 1)
            names = ("success", "success_ci", "episodes", "steps_mean", "plan_ms_p50", "plan_ms_p99")
            self.rows[key] = {n: found[n] for n in names}
            self.path.write_text(json.dumps(self.rows, indent=1))
        return self.rows[key]


def wrong_ways(task: str) -> tuple[str, ...]:
    """Disturbances that a task has."""
    out = []
    for kind in CORRUPTED:
        try:
            envs.make(task, **({} if kind == "none" else {"disturb": kind})).close()
            out.append(kind)
        except ValueError:
            pass
    return tuple(out)


def study(args: argparse.Namespace, task: str, kept: Kept) -> None:
    """Train and measure every method on one task."""
    episodes = demonstrations(task, args.data and str(Path(args.data) / f"{task}.hdf5"))
    ee = {"action": "ee"} if episodes.arrays["actions"].shape[1] == 10 else {}
    for kind in wrong_ways(task):
        for name, faithful in NO_TRAINING.items():
            extra = ee | ({} if kind == "none" else {"disturb": kind})
            kept.measured(
                f"{task}|{name}|0|{kind}",
                task,
                partial(nearest_policy, episodes, faithful),
                args.episodes,
                **extra,
            )
    for seed in args.seeds:
        for name, (change, acting) in METHODS.items():
            folder = args.out / task / f"{name.split(' (')[0].replace(' ', '-').replace(',', '')}-{seed}"
            trained(folder, task, change, seed, args.steps, episodes)
            for kind in wrong_ways(task):
                extra = ee | ({} if kind == "none" else {"disturb": kind})
                policy = partial(model_policy, folder, acting)
                kept.measured(f"{task}|{name}|{seed}|{kind}", task, policy, args.episodes, **extra)
            if name == next(iter(METHODS)) and not seed:
                for memory in BACK:
                    policy = partial(model_policy, folder, {"memory": memory})
                    kept.measured(f"{task}|back {memory}|0|none", task, policy, args.episodes, **ee)
            longer, _, values = LONGER.get(task, ("", "", ()))
            for value in values:
                policy = partial(model_policy, folder, acting)
                kept.measured(
                    f"{task}|{name}|{seed}|{longer} {value}", task, policy, args.episodes, **{longer: value}
                )


def table(rows: Mapping[str, Any], tasks: list[str]) -> str:
    """Markdown: success in per cent over all seeds, with 95 % intervals, good observations and each corruption."""
    out = []
    for task in tasks:
        kinds = [
            k for k in CORRUPTED if any(key.startswith(f"{task}|") and key.endswith(f"|{k}") for key in rows)
        ]
        out += [
            f"| {task} | " + " | ".join(k.replace("none", "good") for k in kinds) + " |",
            "|---" * (len(kinds) + 1) + "|",
        ]
        for name in (*METHODS, *NO_TRAINING):
            cells = []
            for kind in kinds:
                mine = [r for k, r in rows.items() if k.split("|")[:2] == [task, name] and k.endswith(f"|{kind}")
                        and k.split("|")[2].isdigit()]  # fmt: skip
                wins, count = (
                    sum(round(r["success"] * r["episodes"]) for r in mine),
                    sum(r["episodes"] for r in mine),
                )
                low, high = rollout.wilson(wins, count) if count else (0.0, 0.0)
                cells.append(
                    f"{100 * wins / count:.1f} [{100 * low:.0f}, {100 * high:.0f}]" if count else "-"
                )
            out.append(f"| {name} | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def picture(rows: Mapping[str, Any], tasks: list[str], path: Path) -> None:
    """Success against the memory that is allowed, and for each task that can be made longer against how long it is."""
    longer = [task for task in tasks if task in LONGER]
    figure = new_figure(4.0 * (1 + len(longer)), 3.0)
    first, *others = figure.subplots(1, 1 + len(longer), squeeze=False)[0]
    headed(first, "Memory that is allowed")
    first.set(xlabel="history that a decision follows from, steps")
    for task, colour in zip(tasks, (BLUE, ORANGE, GREEN, "#8a9099", "#a05", "#333"), strict=False):
        mine = [
            (int(k.split("|")[1][5:]), r["success"]) for k, r in rows.items() if k.startswith(f"{task}|back ")
        ]
        if mine:
            first.plot(*np.array(sorted(mine)).T, "o-", color=colour, label=task)
    for task, axes in zip(longer, others, strict=True):
        argument, label, values = LONGER[task]
        headed(axes, task)
        axes.set(xlabel=label)
        for name, colour in zip(METHODS, (BLUE, "#8a9099", ORANGE, GREEN, "#a05"), strict=True):
            found = [
                [
                    r["success"]
                    for k, r in rows.items()
                    if k.startswith(f"{task}|{name}|") and k.endswith(f"|{argument} {value}")
                ]
                for value in values
            ]
            if all(found):
                axes.plot(
                    values, [np.mean(each) for each in found], "o-", color=colour, label=name.split(" (")[0]
                )
    for axes, ticks in zip((first, *others), (BACK, *(LONGER[task][2] for task in longer)), strict=True):
        axes.set(ylabel="share of episodes that succeed", ylim=(-0.03, 1.03), xscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        plain(axes)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
    print(save(figure, path))


def times(
    name: Path | str, steps: tuple[int, ...] = (100, 1000, 10_000), around: int = 50
) -> dict[str, float]:
    """Median CPU time of a decision near each of these env steps of one long episode, ms."""
    policy = Imitation.load(name)
    policy.reset(0)
    rng, chunk, seen = np.random.default_rng(0), policy.actor.chunk, policy.spec.observation_size
    spent = []
    for _ in range(max(steps) + around * chunk):
        began = time.thread_time()
        policy.act(rng.normal(size=seen))
        spent.append(1e3 * (time.thread_time() - began))
    near = {n: spent[::chunk][n // chunk - around // 2 :][:around] for n in steps}
    return {f"ms at step {n}": round(float(np.median(each)), 2) for n, each in near.items()}


def main() -> None:
    """Run what is asked for, print the table, draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=[*envs.MEMORY_IDS, "swap"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training")
    parser.add_argument(
        "--steps", type=int, default=0, help="of training, instead of each configuration's own"
    )
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument(
        "--data", default="", help="folder with TASK.hdf5; else each task's own demonstrations are generated"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument(
        "--times", default="", help="only the time of a decision against elapsed steps, of this model"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.times:
        print(args.times, times(args.times))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    kept = Kept(args.out / "numbers.json")
    for task in args.tasks:
        study(args, task, kept)
        print({task: times(next(iter(sorted((args.out / task).glob("Diffusion*")))))})
    print(table(kept.rows, args.tasks))
    picture(kept.rows, args.tasks, args.out / "memory.png")


if __name__ == "__main__":
    main()
