"""`dfplan train`."""

from __future__ import annotations

from pathlib import Path

import tyro

from dfplan.cli.common import app, demonstrations, use_device
from dfplan.tools.errors import one_of


@app.command(name="train")
def train(
    config: tyro.conf.Positional[str],
    out: Path,
    data: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    read: tuple[str, ...] = (),
    set: tuple[str, ...] = (),
    export: Path | None = None,
    threads: int = 1,
) -> None:
    """Train a model; stop it any time and go on with --resume.

    dfplan train maze2d-large --out runs/large

    dfplan train maze2d-large --out runs/large --resume

    dfplan train imitation --data demos.hdf5 --out runs/mine (any demonstrations; also a LeRobot folder, zarr, npz)

    dfplan train my.json --data demos.hdf5 --out runs/mine --device cuda --set steps=50000 model.width=256

    tensorboard --logdir runs

    Args:
        config: name of a configuration that ships (see configs/), or a JSON file.
        out: run folder: checkpoint/, tensorboard/, metrics.jsonl.
        data: file or data set name; the task's own (TASK-v1) if left out.
        device: cpu, cuda, ...
        resume: go on with the run in `out`.
        read: options of the data's reader, such as obs=object,robot0_eef_pos mask=train.
        set: settings to change, such as steps=100 model.width=64.
        export: write the finished model there in half precision, as models are shipped.
        threads: CPU threads.
    """
    from dfplan.imitate import complete
    from dfplan.train import checkpoint
    from dfplan.train.config import TrainConfig, from_dict, read_values
    from dfplan.train.metrics import train_logged
    from dfplan.train.trainer import Trainer

    use_device(device, threads)
    path = config_path(config)
    values = read_values(path, set)
    if "spec" in values:
        from_dict(TrainConfig, values, str(path))  # refuse it before the data are read
    if (out / "checkpoint").exists() and not resume:
        raise ValueError(f"{out} holds a run; pass --resume to go on with it, or choose another --out")
    episodes = demonstrations(str(values.get("task", "")), data, read)
    settings = from_dict(TrainConfig, complete(values, episodes), str(path))
    trainer = Trainer(settings, episodes, out / "checkpoint", device, resume)
    train_logged(trainer, out)
    if export is not None:
        checkpoint.export(out / "checkpoint", export)
    print(
        f"done: {out / 'checkpoint'} at step {trainer.step}; try: dfplan eval {settings.task or 'TASK'} --checkpoint {out}"
    )


def config_path(name: str) -> Path:
    """A JSON file, or a configuration that ships."""
    from importlib import resources

    folder = Path(str(resources.files("dfplan.configs")))
    path = Path(name)
    if path.is_file():
        return path
    names = sorted(p.stem for p in folder.glob("*.json"))
    return folder / f"{one_of('configuration (no such file either)', name, names)}.json"
