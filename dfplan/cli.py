"""The `dfplan` command: data, train, plan, eval, plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from dfplan.errors import one_of
from dfplan.planner import Planner, PlannerConfig

if TYPE_CHECKING:
    from dfplan.rollout import Starts

app = tyro.extras.SubcommandApp()
DEFAULT = PlannerConfig()


def _generators() -> dict[str, Callable[[Path], None]]:
    from dfplan.envs import MAZES

    return {f"maze2d-{name}-v1": partial(_generate, name) for name in MAZES if not name.endswith("eval")}


def _generate(name: str, path: Path) -> None:
    from dfplan.envs import generate

    generate(name, path)


def _report(values: dict[str, Any], path: Path | None) -> None:
    """Print a table of values; write them as JSON when asked."""
    for key, value in values.items():
        print(f"  {key:<20} {value:.3f}" if isinstance(value, float) else f"  {key:<20} {value}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1) + "\n")


def _planner(name: str, planner: PlannerConfig, device: str, threads: int) -> Planner:
    from dfplan.models import load

    _use(device, threads)
    return load(name, planner, device)


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise ValueError(f"got {name}={value}, expected {low} or more")


def _use(device: str, threads: int) -> None:
    import torch

    _at_least(1, threads=threads)
    torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"got device '{device}', but torch finds no GPU; use --device cpu, or install a CUDA build of torch"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"got device '{device}', which torch cannot use ({error}); use --device cpu"
        ) from error


@app.command(name="data")
def data(
    action: tyro.conf.Positional[Literal["get", "generate", "info"]],
    name: tyro.conf.Positional[str],
    out: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    download: bool = True,
    json: Path | None = None,
) -> None:
    """Get, generate or look at demonstration data.

    dfplan data get maze2d-large-v1 (found, downloaded or generated; it says which)

    dfplan data generate maze2d-umaze-v1 --steps 100000 --seed 1 --out umaze.hdf5

    dfplan data info umaze.hdf5

    Args:
        action: what to do.
        name: data set name (D4RL's or Minari's), or a file for `info`.
        out: folder for `get`, file for `generate`.
        steps: env steps to generate; D4RL's number if left out.
        seed: of what is generated.
        download: allow the network.
        json: write what is printed there as well.
    """
    from dfplan import data as library

    if action == "get":
        found = library.get(name, folder=out, generators=_generators(), download=download)
        _report({"path": str(found.path), "how": found.how}, json)
    elif action == "generate":
        from dfplan.envs import generate

        _at_least(0, seed=seed)
        path = generate(name, out or Path(f"{name}.hdf5"), steps, seed)
        _report({"path": str(path)} | library.load(path).summary(), json)
    else:
        _report(library.load(name, generators=_generators()).summary(), json)


@app.command(name="train")
def train(
    config: tyro.conf.Positional[str],
    out: Path,
    data: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    set: tuple[str, ...] = (),
    export: Path | None = None,
    threads: int = 1,
) -> None:
    """Train a model; stop it any time and go on with --resume.

    dfplan train maze2d-large --out runs/large

    dfplan train maze2d-large --out runs/large --resume

    dfplan train my.json --data demos.hdf5 --out runs/mine --device cuda --set steps=50000 model.width=256

    tensorboard --logdir runs

    Args:
        config: name of a configuration that ships (see configs/), or a JSON file.
        out: run folder: checkpoint/, tensorboard/, metrics.jsonl.
        data: file or data set name; the task's own (TASK-v1) if left out.
        device: cpu, cuda, ...
        resume: go on with the run in `out`.
        set: settings to change, such as steps=100 model.width=64.
        export: write the finished model there in half precision, as models are shipped.
        threads: CPU threads.
    """
    from dfplan import checkpoint
    from dfplan.config import TrainConfig, read_config
    from dfplan.data import load
    from dfplan.metrics import train_logged
    from dfplan.train import Trainer

    _use(device, threads)
    settings = read_config(_config_path(config), TrainConfig, set)
    if (out / "checkpoint").exists() and not resume:
        raise ValueError(f"{out} holds a run; pass --resume to go on with it, or choose another --out")
    episodes = load(data or f"{settings.task}-v1", generators=_generators())
    trainer = Trainer(settings, episodes, out / "checkpoint", device, resume)
    train_logged(trainer, out)
    if export is not None:
        checkpoint.export(out / "checkpoint", export)
    print(
        f"done: {out / 'checkpoint'} at step {trainer.step}; try: dfplan eval {settings.task or 'TASK'} --checkpoint {out}"
    )


def _config_path(name: str) -> Path:
    """A JSON file, or a configuration that ships."""
    from importlib import resources

    folder = Path(str(resources.files("dfplan.configs")))
    path = Path(name)
    if path.is_file():
        return path
    names = sorted(p.stem for p in folder.glob("*.json"))
    return folder / f"{one_of('configuration (no such file either)', name, names)}.json"


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
    from dfplan.demo import demo

    _at_least(0, seed=seed)
    brain = _planner(checkpoint or task, planner, device, threads)
    _report(demo(task, brain, start, goal, seed, out), json)


@app.command(name="eval")
def evaluate(
    task: tyro.conf.Positional[str],
    checkpoint: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    goal: Literal["fixed", "random"] = "fixed",
    starts: Path | None = None,
    tracker: Literal["look_ahead", "pd"] = "look_ahead",
    json: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    planner: PlannerConfig = DEFAULT,
) -> None:
    """Measure a policy: standard undiscounted return, D4RL-normalised score x100, success, first reach, latency.

    dfplan eval maze2d-large --episodes 300 --seed 0 --json large.json

    dfplan eval maze2d-large --goal random --episodes 300

    dfplan eval maze2d-medium --checkpoint runs/medium --tracker pd --planner.schedule full

    Args:
        task: environment, and the shipped model unless --checkpoint is given.
        checkpoint: run or checkpoint folder.
        episodes: how many; at least 300 to tell scores 5 points apart.
        seed: episode i has seed + i.
        goal: the task's own, or a random one each episode (Multi2D).
        starts: .npz or .hdf5 with start_state (N, 4) and goal_pos (N, 2) to run instead of random starts.
        tracker: look_ahead holds the robot's speed limit; pd is the official Diffusion Forcing law.
        json: write the numbers there as well.
        device: cpu, cuda, ...
        threads: CPU threads.
        planner: how plans are sampled and chosen.
    """
    from dfplan import envs, policies, rollout
    from dfplan.progress import progress

    given: Starts | None = None if starts is None else rollout.Starts.read(starts)
    _at_least(1, episodes=episodes)
    _at_least(0, seed=seed)
    env = envs.make(task, goal=goal)
    brain = _planner(checkpoint or task, planner, device, threads)
    policy = policies.receding(brain, tracker=tracker)
    done = []
    with progress(episodes, f"eval {task}", "episode") as bar:
        for episode in rollout.run(env, policy, episodes, seed, given):
            done.append(episode)
            bar.set_postfix(reached=f"{sum(e.success for e in done)}/{len(done)}", refresh=False)
            bar.update()
    _report(rollout.summary(task, seed, done), json)


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
    from dfplan import plot as pictures
    from dfplan import schedules
    from dfplan.metrics import read_metrics

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


def main() -> None:
    """Run the command; a refusal is one line on stderr and exit code 2."""
    try:
        app.cli(prog="dfplan", description="Plan, imitate and control with one Diffusion Forcing model.")
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("dfplan:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("dfplan: stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
