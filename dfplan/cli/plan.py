"""`dfplan plan` and `dfplan plot`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dfplan.cli.common import CPU, FLAT, Compute, app, at_least, report
from dfplan.cli.settings import given, options
from dfplan.planner import Planner, PlannerConfig

PLANNING = tyro.conf.arg(constructor=options(PlannerConfig))


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        start: x y in m; a random one by the seed if left out.
        goal: x y in m; the task's own if left out.
        seed: of start and plan.
        obstacle: x y radius in m of a ball to keep off; may be given several times.
    """

    start: tuple[float, float] | None = None
    goal: tuple[float, float] | None = None
    seed: int = 0
    obstacle: tyro.conf.UseAppendAction[tuple[tuple[float, float, float], ...]] = ()


QUESTION = Question()
LABELS = {
    "loss": "mean of a batch",
    "grad_norm": "before it is clipped",
    "lr": "learning rate, per step",
}
"""What is drawn of a training run -> what its values are."""


@app.command(name="plan")
def plan(
    task: tyro.conf.Positional[str] = "maze2d-large",
    *,
    checkpoint: str | None = None,
    question: Annotated[Question, FLAT] = QUESTION,
    out: Path = Path("."),
    json: Path | None = None,
    compute: Annotated[Compute, FLAT] = CPU,
    planner: Annotated[Any, PLANNING],
) -> None:
    """Plan once, act it out, and draw both.

    dfplan plan maze2d-large

    dfplan plan maze2d-large --start 1 1 --goal 7 10 --seed 3 --out pictures

    dfplan plan maze2d-large --obstacle 3.8 5.8 0.2 --obstacle 5.2 4.8 0.2

    dfplan plan pointmaze-giant-stitch --start 0 0 --goal 52 36 --obstacle 15.6 12.4 1.2

    dfplan plan maze2d-medium --checkpoint runs/medium

    Writes plan.png (candidates, chosen plan, the way driven) and denoise.gif (the plan appearing out of noise).

    Args:
        task: environment, and the shipped model unless --checkpoint is given.
        checkpoint: run or checkpoint folder.
        question: what is asked.
        out: folder of the pictures.
        json: write what is printed there as well.
        compute: where the network runs.
        planner: how plans are sampled and chosen; what is left out is as the checkpoint says.
    """
    from dfplan import envs, policies
    from dfplan.decide import asked
    from dfplan.models import find
    from dfplan.show.demo import demo
    from dfplan.train.checkpoint import load

    at_least(0, seed=question.seed)
    compute.use()
    model = load(find(checkpoint or task), compute.device)
    brain = Planner(model, asked(PlannerConfig, model, "planner", **given(planner)))
    env = envs.make(task)
    room = envs.Room.of(env)
    policy: Any
    if question.obstacle:
        ways = policies.Around(brain, room.robot)
        policy = policies.Detour(ways, policies.PointMass.fitted(brain), obstacles=question.obstacle)
    else:
        policy = policies.following(brain)
    asks = question.start, question.goal, question.seed
    report(demo(task, env, room, policy, *asks, out, question.obstacle), json)


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
            steps, {k: [rows[s][k] for s in steps] for k in LABELS}, labels=LABELS
        )
        target = out or run / "curves.png"
    else:
        names = {name: schedules.make(name, 32, 10, 0.5) for name in schedules.SCHEDULES}
        figure, target = pictures.schedule_figure(names), out or Path("schedules.png")
    pictures.save(figure, target)
    print(target)
