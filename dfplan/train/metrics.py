"""What a training run writes down, and how it is read back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from dfplan.data.episodes import Episodes
from dfplan.tools.errors import optional_import
from dfplan.tools.progress import progress
from dfplan.tools.serialize import read_config, to_dict
from dfplan.train.checkpoint import Checkpoint
from dfplan.train.config import TrainConfig
from dfplan.train.trainer import Log, Trainer

_WATCHED = "wandb.json"
_TIMED = 10


@dataclass(frozen=True)
class Watched:
    """The run of Weights & Biases that a run folder has.

    Attributes:
        project: as `PROJECT` or `TEAM/PROJECT`.
        id: of the run in it.
    """

    project: str
    id: str


def watched(out: Path, project: str, resume: bool) -> Watched | None:
    """The W&B run that a training in `out` logs to: its own if it is resumed and has one, else a new one; None without `project`.

    Raises:
        ValueError: it has one in another project.
        ImportError: wandb is not installed.
    """
    found = None
    if resume and (out / _WATCHED).exists():
        found = read_config(out / _WATCHED, Watched)
        if project not in ("", found.project):
            raise ValueError(
                f"got --wandb {project} with --resume; {out} logs to '{found.project}', leave it out (or remove "
                f"{out / _WATCHED} to begin another W&B run)"
            )
    elif project:
        found = Watched(project, uuid4().hex[:8])
    if found is not None:
        optional_import("wandb", "wandb")
    return found


@contextmanager
def _watch(trainer: Trainer, out: Path, to: Watched) -> Iterator[Log]:
    """Logs to W&B; steps that are trained again after a resume stand there twice, with the same values."""
    wandb: Any = optional_import("wandb", "wandb")
    team, _, project = to.project.rpartition("/")
    (out / _WATCHED).write_text(json.dumps(to_dict(to)) + "\n")
    try:
        run = wandb.init(
            entity=team or None, project=project, id=to.id, name=out.resolve().name, config=to_dict(trainer.config),
            dir=str(out), resume="allow", allow_val_change=True,
        )  # fmt: skip
    except wandb.Error as error:
        raise ValueError(
            f"W&B begins no run in project '{to.project}' ({error}); run `wandb login`, or set WANDB_MODE=offline"
        ) from error
    code = 1
    try:
        run.define_metric("*", step_metric="step")
        yield lambda step, values: run.log({"step": step} | values)
        code = 0
    finally:
        run.finish(exit_code=code)


def fitting(
    run: TrainConfig, episodes: Episodes, minutes: float, device: str = "cpu", begin: Checkpoint | None = None
) -> TrainConfig:
    """The same run with as many steps as fit into so many minutes on this machine as it is now, its own at most.

    A few steps are timed, and thrown away. A tenth of the time is left for saving.
    """
    with TemporaryDirectory() as nowhere:
        trial = Trainer(run, episodes, Path(nowhere) / "checkpoint", device, begin=begin)
        trial.train_step()
        began = time.perf_counter()
        for _ in range(_TIMED):
            loss = trial.train_step()["loss"]
        float(loss)  # a device is done with them
    each = (time.perf_counter() - began) / _TIMED
    steps = min(run.steps, max(1, int(0.9 * 60 * minutes / each)))
    return replace(run, steps=steps, warmup=min(run.warmup, max(1, steps // 5)))


def train_logged(trainer: Trainer, out: Path, to: Watched | None = None) -> None:
    """Run to the end with a progress bar; log to TensorBoard, metrics.jsonl and, where `to` is given, W&B.

    Of several processes only the first one shows and logs.
    """
    if not trainer.others.first:
        for _ in trainer.run():
            pass
        return
    from torch.utils.tensorboard import SummaryWriter

    config = trainer.config
    with (
        _watch(trainer, out, to) if to else nullcontext() as watch,
        SummaryWriter(str(out / "tensorboard"), purge_step=trainer.step + 1) as writer,
        open(out / "metrics.jsonl", "a") as lines,
        progress(config.steps, config.task or "train", "step", trainer.step) as bar,
    ):

        def log(step: int, values: dict[str, float]) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)
            if watch:
                watch(step, values)
            lines.write(json.dumps({"step": step} | values) + "\n")
            lines.flush()
            bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)

        for step in trainer.run(log):
            bar.update(step - bar.n)


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """Step -> values; a step that was trained again after a resume counts once."""
    rows = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            rows[row["step"]] = {"loss": row["loss"], "grad_norm": row["grad_norm"], "lr": row["lr"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: not a line of `dfplan train` ({error!r}); remove that line"
            ) from error
    if not rows:
        raise ValueError(f"{path} is empty; train for at least log_every steps first")
    return rows
