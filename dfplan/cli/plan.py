"""`dfplan plan` and `dfplan plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from dfplan.cli.common import app, at_least, load_planner, report
from dfplan.planner import PlannerConfig

DEFAULT = PlannerConfig()


@app.command(name="plan")
def plan(
    task: tyro.conf.Positional[str] = "maze2d-large",
    checkpoint: str | None = None,
    start: tuple[float, float] | None = None,
    goal: tuple[float, float] | None = None,
    seed: int = 0,
    out: Path = Path("."),
    json: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    planner: PlannerConfig = DEFAULT,
) -> None:
    """Plan once, act it out, and draw both.

    dfplan plan maze2d-large

    dfplan plan maze2d-large --start 1 1 --goal 7 10 --seed 3 --out pictures

    dfplan plan maze2d-medium --checkpoint runs/medium

    Writes plan.png (candidates, chosen plan, the way driven) and denoise.gif (the plan appearing out of noise).

    Args:
        task: environment, and the shipped model unless --checkpoint is given.
        checkpoint: run or checkpoint folder.
        start: x y in m; a random one by the seed if left out.
        goal: x y in m; the task's own if left out.
        seed: of start and plan.
        out: folder of the pictures.
        json: write what is printed there as well.
        device: cpu, cuda, ...
        threads: CPU threads.
        planner: how plans are sampled and chosen.
    """
    from dfplan import envs, policies
    from dfplan.show.demo import demo

    at_least(0, seed=seed)
    brain = load_planner(checkpoint or task, planner, device, threads)
    report(demo(task, envs.make(task), policies.receding(brain), start, goal, seed, out), json)


@app.command(name="plot")
def plot(
    what: tyro.conf.Positional[Literal["curves", "schedules"]],
    run: tyro.conf.Positional[Path | None] = None,
    out: Path | None = None,
) -> None:
    """Draw training curves or schedules.

    dfplan plot curves runs/large

    dfplan plot schedules --out schedules.png

    Args:
        what: what to draw.
        run: run folder, for curves.
        out: picture to write; WHAT.png, beside the run for curves, if left out.
    """
    from dfplan import schedules
    from dfplan.show import plot as pictures
    from dfplan.train.metrics import read_metrics

    if what == "curves":
        if run is None or not (run / "metrics.jsonl").exists():
            raise ValueError(
                f"got run folder {run}, expected one with metrics.jsonl, as `dfplan train` writes it"
            )
        rows = read_metrics(run / "metrics.jsonl")
        steps = sorted(rows)
        figure = pictures.curves_figure(
            steps, {k: [rows[s][k] for s in steps] for k in ("loss", "grad_norm", "lr")}
        )
        target = out or run / "curves.png"
    else:
        names = {name: schedules.make(name, 32, 10, 0.5) for name in schedules.SCHEDULES}
        figure, target = pictures.schedule_figure(names), out or Path("schedules.png")
    pictures.save(figure, target)
    print(target)
