"""`dfplan sweep`."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dfplan.cli.common import FLAT, app, at_least
from dfplan.cli.settings import known, spelled_out
from dfplan.cli.train import OWN_DATA, Data
from dfplan.cluster import LOCAL, mapped
from dfplan.tools.progress import progress
from dfplan.train.config import TrainConfig, read_values
from dfplan.train.imitate import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

WAIT = 60.0
"""Seconds that a run waits for whoever still trains in its folder: a process whose machine is being lost."""


@dataclass(frozen=True)
class Measure:
    """How each run is measured.

    Attributes:
        task: of `dfplan eval`; the configuration's own if left out.
        episodes: how many, of each run.
        first: seed of the first one.
        eval: further options of `dfplan eval`, such as disturb=freeze policy.chunk=8.
    """

    task: str = ""
    episodes: int = 100
    first: int = 20_000
    eval: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(1, episodes=self.episodes)
        at_least(0, first=self.first)
        for word in self.eval:
            if "=" not in word:
                raise ValueError(f"got --eval {word}, expected key=value, such as disturb=freeze")


@dataclass(frozen=True)
class Where:
    """Where the runs are made.

    Attributes:
        cluster: `local`, or the HOST:PORT of a Ray cluster whose machines see the same folders.
        workers: most runs at a time, each on one CPU.
    """

    cluster: str = LOCAL
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(1, workers=self.workers)


@dataclass(frozen=True)
class Run:
    """One training and its measurement, in words of the commands."""

    folder: Path
    setting: str
    seed: int
    train: tuple[str, ...]
    measure: tuple[str, ...]


HERE, OWN = Where(), Measure()


@app.command(name="sweep")
def sweep(
    config: tyro.conf.Positional[str],
    *,
    out: Path,
    seeds: str = "0",
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    data: Annotated[Data, FLAT] = OWN_DATA,
    measure: Annotated[Measure, FLAT] = OWN,
    where: Annotated[Where, FLAT] = HERE,
) -> None:
    """Train and measure every combination of settings with every seed, on Ray: one table of them all.

    dfplan sweep arm-pick --out sweeps/width --seeds 0..4 --set model.width=256,448 steps=3000 --workers 2

    dfplan sweep my.json --data demos.hdf5 --out sweeps/lr --task arm-pick --set lr=0.001,0.003 --cluster 10.0.0.5:6379

    A run whose process or machine dies goes on from its last checkpoint; runs that are done are not made again, so the same
    command goes on with a sweep that was stopped.

    Args:
        config: as of `dfplan train`.
        out: folder: a folder for each run, runs.json, table.json and sweep.png.
        seeds: of the trainings: 0..4, or 0,3,7.
        set_: settings of `dfplan train`, each with its values: lr=0.001,0.003 model.width=256.
        data: what is trained on.
        measure: how each run is measured.
        where: where the runs are made.
    """
    from dfplan.show.base import save
    from dfplan.show.sweeps import sweep_figure, table

    runs = _runs(config, out, _seeds(seeds), _settings(set_), data, _task(config, measure), measure)
    work = mapped(_made, runs, where.cluster, min(where.workers, len(runs)))
    out.mkdir(parents=True, exist_ok=True)
    made: dict[int, dict[str, Any]] = {}
    with progress(len(runs), f"sweep {config}", "run") as bar:
        for place, found in work:
            failed = {"error": str(found)} if isinstance(found, Exception) else found
            made[place] = {**failed, "setting": runs[place].setting, "seed": runs[place].seed}
            (out / "runs.json").write_text(json.dumps([made[k] for k in sorted(made)], indent=1) + "\n")
            bar.update(1)
    rows = table([made[k] for k in sorted(made)])
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        told = row | {"setting": row["setting"] or "as configured"}
        print("  ".join(f"{k} {v}" for k, v in told.items() if v is not None))
    for m in made.values():
        if "error" in m:
            print(f"failed: {m['setting'] or config}, seed {m['seed']}: {m['error']}")
    print(save(sweep_figure(rows, config), out / "sweep.png"))
    if any("error" in m for m in made.values()):
        raise ValueError(f"some runs failed, see {out / 'runs.json'}; the same command makes them again")


def _seeds(text: str) -> list[int]:
    """`0..4` or `0,3,7`."""
    first, dots, last = text.partition("..")
    try:
        found = list(range(int(first), int(last) + 1)) if dots else [int(s) for s in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0 or len({*found}) < len(found):
        raise ValueError(f"got seeds '{text}', expected different ones, such as 0..4 or 0,3,7")
    return found


def _settings(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination of the values of `key=a,b`, each as words `key=value`."""
    each = []
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or not values:
            raise ValueError(
                f"got setting '{word}', expected key=value or key=value,value, such as lr=0.001,0.003"
            )
        known(key, TrainConfig, Layout)
        whole = values[0] in "[{"  # a list or a table is one value
        each.append([f"{key}={value}" for value in ([values] if whole else values.split(","))])
    return list(product(*each))


def _task(config: str, measure: Measure) -> str:
    """What each run is measured on."""
    from dfplan.cli.train import config_path
    from dfplan.tools.references import d4rl_task

    own = config if d4rl_task(config) else str(read_values(config_path(config)).get("task", ""))
    if not (measure.task or own):
        raise ValueError(
            f"got configuration '{config}', which names no task; add --task, such as --task arm-pick"
        )
    return measure.task or own


def _runs(
    config: str, out: Path, seeds: Sequence[int], settings: Sequence[tuple[str, ...]], data: Data, task: str,
    measure: Measure,
) -> list[Run]:  # fmt: skip
    """All runs, refused before the first one where their words are wrong."""
    shown = data.whole()
    asked = ["--data", str(shown.data)] if shown.data else []
    asked += ["--read", *shown.read] if shown.read else []
    asked += ["--holdout", str(shown.holdout)] if shown.holdout else []
    runs, same = [], set.intersection(*map(set, settings))
    for words, seed in product(settings, seeds):
        name = [word for word in words if word not in same]
        folder = (out / "-".join([*name, f"seed={seed}"]).replace("/", "_")).resolve()
        train = ["train", config, "--out", str(folder), *asked, "--set", *words, f"seed={seed}"]
        eval_ = ["eval", task, "--checkpoint", str(folder), "--episodes", str(measure.episodes), "--seed",
                 str(measure.first), "--json", str(folder / "eval.json"), *(f"--{word}" for word in measure.eval)]  # fmt: skip
        spelled = tuple(spelled_out(train, TrainConfig, Layout))
        runs.append(Run(folder, " ".join(name), seed, spelled, tuple(eval_)))
        _done(runs[-1])
    return runs


def _done(run: Run) -> dict[str, Any] | None:
    """Its numbers, if it is done; refuses a folder in which another run was begun."""
    told = run.folder / "sweep.json"
    if not told.exists():
        return None
    values = json.loads(told.read_text())
    if (values["train"], values["measure"]) != ([*run.train], [*run.measure]):
        raise ValueError(f"{run.folder} was made by another sweep; choose another --out")
    return values["numbers"]  # type: ignore[no-any-return]


def _tell(run: Run, numbers: dict[str, Any] | None) -> None:
    """Write down what is made in its folder, and its numbers once it is done."""
    made = {"train": run.train, "measure": run.measure, "numbers": numbers}
    (run.folder / "sweep.json").write_text(json.dumps(made) + "\n")


def _made(run: Run) -> dict[str, Any]:
    """Train, or go on training, and measure; what is said goes into the run's folder. Runs on the cluster."""
    from dfplan.train.checkpoint import exists

    if (found := _done(run)) is not None:
        return found
    run.folder.mkdir(parents=True, exist_ok=True)
    _wait(run.folder)
    _tell(run, None)
    train = (
        ["train", "--out", str(run.folder), "--resume"] if exists(run.folder / "checkpoint") else run.train
    )
    with (
        open(run.folder / "log.txt", "a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        for words in (train, run.measure):
            try:
                app.cli(prog="dfplan", args=words)
            except SystemExit as stop:  # words that the command does not know: it has said which
                raise ValueError(
                    f"dfplan {words[0]} refuses its words, see {run.folder / 'log.txt'}"
                ) from stop
    numbers: dict[str, Any] = json.loads((run.folder / "eval.json").read_text())
    _tell(run, numbers)
    return numbers


def _wait(folder: Path) -> None:
    """Until nobody trains in a folder any more, or `WAIT` is over."""
    from dfplan.train.together import alone

    until = time.monotonic() + WAIT
    while True:
        try:
            with alone(folder / "checkpoint"):
                return
        except ValueError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
