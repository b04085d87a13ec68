"""`dfplan train`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dfplan.cli.common import CPU, FLAT, Compute, app, demonstrations
from dfplan.cli.settings import given, merged, options
from dfplan.nets.returns import Returns, labelled
from dfplan.tools.errors import one_of
from dfplan.tools.references import d4rl_task
from dfplan.train.config import TrainConfig, from_dict, may_resume, read_values, to_dict
from dfplan.train.imitate import Layout, complete, suits

if TYPE_CHECKING:
    from dfplan.data import Episodes
    from dfplan.train.checkpoint import Checkpoint
    from dfplan.train.together import Together
    from dfplan.train.trainer import Trainer

SETTINGS = tyro.conf.arg(name="", constructor=options(TrainConfig))
LAYOUT = tyro.conf.arg(name="", constructor=options(Layout))


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes:
        data: file or data set name; the task's own (TASK-v1) if left out.
        read: options of the data's reader, such as obs=object,robot0_eef_pos mask=train.
        holdout: share of the episodes that is not trained on, such as 0.1: their loss is logged, and `dfplan judge` plays
            them.
    """

    data: str | None = None
    read: tuple[str, ...] = ()
    holdout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 <= self.holdout < 1:
            raise ValueError(
                f"got holdout={self.holdout}, expected a share of the episodes from 0 to below 1"
            )

    def whole(self) -> Data:
        """The same, found from any folder."""
        here = self.data is not None and Path(self.data).exists()
        return replace(self, data=str(Path(str(self.data)).resolve()) if here else self.data)


@dataclass(frozen=True)
class Also:
    """Where a run goes besides its folder, and how long it may take.

    Attributes:
        export: write the finished model there in half precision, as models are shipped.
        wandb: Weights & Biases project (PROJECT or TEAM/PROJECT) that gets what TensorBoard gets; --resume goes on with the
            same W&B run.
        minutes: train for about so long at most: as many steps as fit, found by timing a few; 0: as many as `--steps` says.
    """

    export: Path | None = None
    wandb: str = ""
    minutes: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no time."""
        if not 0 <= self.minutes < float("inf"):
            raise ValueError(
                f"got minutes={self.minutes}, expected a time above 0, or 0 to train all of --steps"
            )


OWN_DATA, FOLDER_ALONE = Data(), Also()


@app.command(name="train")
def train(
    config: tyro.conf.Positional[str | None] = None,
    *,
    out: Path,
    data: Annotated[Data, FLAT] = OWN_DATA,
    resume: bool = False,
    also: Annotated[Also, FLAT] = FOLDER_ALONE,
    compute: Annotated[Compute, FLAT] = CPU,
    layout: Annotated[Any, LAYOUT],
    settings: Annotated[Any, SETTINGS],
) -> None:
    """Train a model; stop it any time and go on with --resume.

    dfplan train maze2d-large --out runs/large

    dfplan train --out runs/large --resume (with the run's own settings and data; --steps 20000 makes it longer)

    dfplan train imitation --data demos.hdf5 --out runs/mine (any demonstrations; also a LeRobot folder, zarr, npz)

    dfplan train --begin swap --data more.hdf5 --out runs/more --lr 0.0005 --steps 2000 (goes on from a model, with its settings)

    dfplan train my.json --data demos.hdf5 --out runs/mine --device cuda --steps 50000 --model.width 256

    torchrun --nproc-per-node 2 -m dfplan train my.json --data demos.hdf5 --out runs/mine (in two processes; see docs/scale.md)

    tensorboard --logdir runs

    Args:
        config: name of a configuration that ships (see configs/), or a JSON file; with --resume the run's own.
        out: run folder: checkpoint/, tensorboard/, metrics.jsonl, run.json.
        data: what is trained on.
        resume: go on with the run in `out`.
        also: where it goes besides.
        compute: where the network runs.
        layout: how demonstrations become tokens, where the configuration has no spec.
        settings: of the run, in place of the configuration's; `--set steps=100 model.width=64` is the same as
            `--steps 100 --model.width 64`.
    """
    from dfplan.train.metrics import fitting, train_logged, watched
    from dfplan.train.together import together
    from dfplan.train.trainer import Trainer

    compute.use()
    others = together(compute.device)
    to = watched(out, also.wandb, resume) if others.first else None
    if also.minutes and (resume or others.world > 1):
        raise ValueError("got --minutes with --resume or in several processes; give --steps instead")
    if resume:
        config, data, run = _resumed(out, config, data, given(layout), given(settings))
        episodes, held = _shown(run.task, data, run.returns)
    else:
        config, values = _begun(out, config, {**given(layout), **given(settings)})
        returns = from_dict(Returns, values.get("returns", {}), config)
        episodes, held = _shown(str(values.get("task", "")), data, returns)
        run = from_dict(TrainConfig, complete(values, episodes), config)
    begin = None if resume else _beginning(run, episodes)
    if also.minutes:
        run = fitting(run, episodes, also.minutes, compute.device, begin)
    if others.first:
        _remark(run, episodes, others)
    trainer = Trainer(run, episodes, out / "checkpoint", resume=resume, held=held, begin=begin, others=others)
    if others.first:
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json").write_text(
            json.dumps({"config": config, **to_dict(data.whole())}, indent=1) + "\n"
        )
    train_logged(trainer, out, to)
    others.end()
    if others.first:
        _finish(trainer, out, also.export)


def _beginning(run: TrainConfig, episodes: Episodes) -> Checkpoint | None:
    """The model that a new run goes on from, whose columns the demonstrations must have."""
    from dfplan.models import find
    from dfplan.train import checkpoint

    if not run.begin:
        return None
    found = checkpoint.load(find(run.begin))
    suits(run.spec, episodes)
    return found


def _finish(trainer: Trainer, out: Path, export: Path | None) -> None:
    """Export the model, if asked to, and say what can be done with it."""
    from dfplan.train import checkpoint

    if export is not None:
        checkpoint.export(out / "checkpoint", export)
    if trainer.patience.over:
        print(
            f"stopped at step {trainer.step}: the held-out loss was lowest {trainer.patience.worse} saves before, and these "
            "weights are used (--resume --patience N goes on)"
        )
    task = trainer.config.task
    then = f"eval {task} --checkpoint {out}" if task else f"judge {out}"
    print(f"done: {out / 'checkpoint'} at step {trainer.step}; try: dfplan {then}")


def _remark(run: TrainConfig, episodes: Episodes, others: Together) -> None:
    """Say what is worth knowing before a long training."""
    from dfplan.data import inspect
    from dfplan.tools.hardware import SLOW, bf16_cost

    if run.precision == "bf16" and (cost := bf16_cost(others.device)) > SLOW:
        print(
            f"bf16 is {cost:.0f} times slower than fp32 on this processor: --precision fp32 saves most of the time"
        )
    if others.world > 1:
        print(
            f"{others.world} processes, each with {run.batch // others.world} of the {run.batch} windows of a step"
        )
    if not run.task:
        for remark in inspect(episodes).remarks():
            print(f"data: {remark}")
    if not run.goal_token:
        print(_chosen(run, episodes))


def _chosen(run: TrainConfig, episodes: Episodes) -> str:
    """What a policy is going to learn from, and how, in one sentence a thing."""
    span, memory = run.spec.stride, "memory: none beyond the window"
    if run.model.carrier:
        memory = f"memory: {run.model.carrier}, of up to {run.model.reach} steps of {span} env steps"
    relative = sum(bool(c.reference) for c in run.spec.channels)
    return (
        f"learns from {len(episodes)} episodes, {episodes.steps} env steps of {episodes.dt:g} s; a token is {span} env steps "
        f"(--span), a window {run.horizon} tokens of each kind (--horizon); {relative} columns are told relative to another "
        f"(--relative)\n{memory} (--model.carrier)\n{run.steps} steps of {run.batch} windows (--steps, --batch)"
    )


def _shown(task: str, data: Data, returns: Returns) -> tuple[Episodes, Episodes | None]:
    """What is trained on, and what is held out."""
    shown = labelled(demonstrations(task, data.data, data.read, data.holdout), returns)
    if not data.holdout:
        return shown, None
    return shown, labelled(demonstrations(task, data.data, data.read, data.holdout, held=True), returns)


def _begun(out: Path, config: str | None, changes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of a new run; refused before the data are read where that can be."""
    from dfplan.models import find
    from dfplan.train import checkpoint

    begin = changes.get("begin")
    if (config is None) == (begin is None):
        both = "no configuration" if config is None else f"{config} and --begin {begin}"
        raise ValueError(
            f"got {both}; give its name, such as imitation, or a JSON file, or --begin MODEL to go on with a model's own "
            "settings"
        )
    if (out / "checkpoint").exists():
        raise ValueError(f"{out} holds a run; pass --resume to go on with it, or choose another --out")
    if config is None:
        path, config = find(str(begin)), str(begin)
        own = to_dict(checkpoint.settings(path))
    else:
        path = config_path(config)
        own = read_values(path) | ({"task": config} if d4rl_task(config) else {})
    values = merged(own, changes, TrainConfig)
    if "spec" in values:
        from_dict(TrainConfig, values, str(path))
    return config, values


def _resumed(
    out: Path, config: str | None, data: Data, layout: dict[str, Any], changes: dict[str, Any]
) -> tuple[str, Data, TrainConfig]:
    """Name, data and settings of the run in `out`, changed where a run may change."""
    from dfplan.train import checkpoint

    if not checkpoint.exists(out / "checkpoint"):
        raise ValueError(f"nothing to resume: {out} holds no run; leave out --resume to start it")
    if layout:
        raise ValueError(f"got {', '.join(layout)} with --resume, which keeps the run's tokens; leave it out")
    saved = checkpoint.settings(out / "checkpoint")
    run = from_dict(TrainConfig, merged(to_dict(saved), changes, TrainConfig), str(out))
    may_resume(saved, run, str(out))
    before = read_values(out / "run.json") if (out / "run.json").exists() else {}
    name = before.pop("config", config)
    if config not in (None, name):
        raise ValueError(f"got configuration '{config}' with --resume; {out} began as '{name}', leave it out")
    kept = from_dict(Data, before, f"{out}/run.json")
    if data.holdout not in (0, kept.holdout):
        raise ValueError(
            f"got holdout={data.holdout} with --resume; {out} began with {kept.holdout}, leave it out"
        )
    return name or "", Data(data.data or kept.data, data.read or kept.read, kept.holdout), run


def trained_on(folder: Path) -> Data | None:
    """What a run, or the run of a checkpoint folder, was trained on; None where that was not written down."""
    place = next((p / "run.json" for p in (folder, *folder.parents[:2]) if (p / "run.json").exists()), None)
    if place is None:
        return None
    values = read_values(place)
    values.pop("config", None)
    return from_dict(Data, values, str(place))


def config_path(name: str) -> Path:
    """A JSON file, or a configuration that ships; tasks of D4RL share one."""
    from importlib import resources

    folder = Path(str(resources.files("dfplan.configs")))
    path = Path(name)
    if path.is_file():
        return path
    names = sorted(p.stem for p in folder.glob("*.json"))
    name = "locomotion" if d4rl_task(name) else name
    return folder / f"{one_of('configuration (no such file either)', name, names)}.json"
