"""`dfplan maze`: a maze of one's own, from a text file to a measured planner."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from dfplan.cli.common import CPU, FLAT, Compute, app, at_least
from dfplan.cli.train import config_path
from dfplan.tools.errors import new_place, one_of
from dfplan.tools.hardware import SLOW, bf16_cost
from dfplan.tools.serialize import from_dict, read_values, to_dict

SIZES = {"umaze": (6, 1_000_000), "medium": (11, 2_000_000), "large": (19, 4_000_000)}
"""Maze that has a configuration -> cells of its longest way, env steps of its demonstrations."""
FURTHEST = 26
"""Cells of the longest way that 800 env steps, an episode, show at the pace of the large maze's window."""
Words = list[str]


@dataclass(frozen=True)
class Choices:
    """What is chosen for the maze where it is left out; a command that goes on does so as it began.

    Attributes:
        data_steps: env steps of demonstrations.
        steps: of training.
        episodes: that are measured.
        seed: of all.
        precision: of training: bf16, or fp32 where the processor is slow at that.
    """

    data_steps: int | None = None
    steps: int | None = None
    episodes: int | None = None
    seed: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        numbers = {key: value for key, value in to_dict(self).items() if isinstance(value, int)}
        at_least(0, seed=numbers.pop("seed", 0))
        at_least(1, **numbers)
        if self.precision:
            one_of("precision", self.precision, ("bf16", "fp32"))


AS_BEGUN = Choices()


@app.command(name="maze")
def maze(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    choices: Annotated[Choices, FLAT] = AS_BEGUN,
    compute: Annotated[Compute, FLAT] = CPU,
) -> None:
    """A maze of your own: demonstrations, training, a plan with pictures, a measurement, in one command.

    dfplan maze my.txt --out runs/mine

    dfplan maze my.txt --out runs/mine --steps 2000 --episodes 50 --device cuda

    A line of the file is a row: # wall, . free, at most one G (goal) and one S (start of the plan).

    Each stage is a command of its own, which is printed. Stop any time: the same command goes on, and runs nothing twice.

    Args:
        file: the maze.
        out: folder of maze.txt, data.hdf5, checkpoint/, plan.png, denoise.gif, plan.json, eval.json.
        choices: how much, and how exactly.
        compute: where the network runs.
    """
    from dfplan import envs

    found, start = envs.read_maze(file)
    paths, fixed = envs.GridPaths(found), "G" in found.text
    ends = paths.longest(FURTHEST)
    cells = paths.distances(ends[1])[ends[0]]
    if fixed or start:
        start = start or paths.farthest(found.goal)
        ends = start, found.goal if fixed else paths.farthest(start)
    compute.use()
    choices = _begun(out, file, choices, _like(cells), compute.device)
    where = ["--device", compute.device, "--threads", str(compute.threads)]
    stages = _stages(out, cells, ends, fixed, choices, where)
    for number, (what, done, words) in enumerate(stages, 1):
        print(f"{number} of {len(stages)}, {what}: {shlex.join(['dfplan', *words])}", flush=True)
        if done:
            print("  there already, not run")
        else:
            app.cli(prog="dfplan", args=words)
    another = shlex.join(["dfplan", "plan", f"{out}/maze.txt", "--checkpoint", str(out)])
    print(f"done: {out}; try: {another} --start X Y --goal X Y")


def _like(cells: int) -> str:
    """The smallest maze with a configuration whose longest way is as long."""
    return next((name for name, (most, _) in SIZES.items() if cells <= most), "large")


def _begun(out: Path, file: Path, given: Choices, name: str, device: str) -> Choices:
    """Choices of the run in `out`, begun here if it was not; refuses one of another maze, and other choices than it has."""
    copy, note = new_place(out / "maze.txt"), out / "maze.json"
    if copy.exists() and _text(copy) != _text(file):
        raise ValueError(f"got {file}, but {out} is of the maze in {copy}; choose another --out")
    if note.exists():
        kept = from_dict(Choices, read_values(note), str(note))
        for key, value in to_dict(given).items():
            if value not in (None, getattr(kept, key)):
                raise ValueError(
                    f"got {key}={value}, but {out} began with {getattr(kept, key)}; leave it out, or choose another --out"
                )
        return kept
    if out.exists() and (not out.is_dir() or set(out.iterdir()) - {copy}):
        raise ValueError(f"got --out {out}, which `dfplan maze` did not begin; choose another")
    precision = "fp32" if bf16_cost(device) > SLOW else "bf16"
    own = Choices(SIZES[name][1], _configured(name, "steps"), 100, 0, precision)
    kept = replace(own, **{key: value for key, value in to_dict(given).items() if value is not None})
    out.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        copy.write_bytes(file.read_bytes())
    note.write_text(json.dumps(to_dict(kept), indent=1) + "\n")
    return kept


def _text(file: Path) -> tuple[str, Any]:
    from dfplan.envs import read_maze

    found, start = read_maze(file)
    return found.text, start


def _configured(name: str, key: str) -> int:
    """A number of the configuration of a maze."""
    return int(read_values(config_path(f"maze2d-{name}"))[key])


def _stages(
    out: Path, cells: int, ends: Any, fixed: bool, choices: Choices, where: Words
) -> list[tuple[str, bool, Words]]:
    """What each stage is, whether it has been done, and the words of its command."""
    name, data, seed = f"{out}/maze.txt", out / "data.hdf5", ["--seed", str(choices.seed)]
    drawn, numbers = out / "plan.json", out / "eval.json"  # which are written last
    start, goal = ([str(number) for number in cell] for cell in ends)
    generate = ["data", "generate", name, "--steps", str(choices.data_steps), *seed, "--out", str(data)]
    train = ["train", f"maze2d-{_like(cells)}", "--data", str(data), "--out", str(out), "--task", name]
    train += ["--goal", *goal, *_horizon(cells), "--steps", str(choices.steps)]
    train += ["--precision", str(choices.precision), *seed, *where]
    begun, trained = _trained(out / "checkpoint", choices.steps or 1)
    if begun and not trained:
        train = ["train", "--out", str(out), "--resume", *where]
    plan = ["plan", name, "--checkpoint", str(out), "--start", *start, "--goal", *goal, *seed, *where]
    measure = ["eval", name, "--checkpoint", str(out), "--episodes", str(choices.episodes), *seed, *where]
    return [
        ("demonstrations", data.exists(), generate),
        ("training", trained, train),
        ("a plan", drawn.exists(), [*plan, "--out", str(out), "--json", str(drawn)]),
        (
            "measurement",
            numbers.exists(),
            [*measure, *([] if fixed else ["--goal", "random"]), "--json", str(numbers)],
        ),
    ]


def _horizon(cells: int) -> Words:
    """A longer window, where the large maze's is too short for a longer way."""
    most = SIZES["large"][0]
    return ["--horizon", str(-(-_configured("large", "horizon") * cells // most))] if cells > most else []


def _trained(folder: Path, steps: int) -> tuple[bool, bool]:
    """Whether there is a checkpoint, and whether it has had all its steps."""
    from dfplan.train import checkpoint

    begun = checkpoint.exists(folder)
    return begun, begun and checkpoint.read_json(folder / "training.json")["step"] >= steps
