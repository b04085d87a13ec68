"""What a training run writes down, and how it is read back."""

from __future__ import annotations

import json
from pathlib import Path

from dfplan.tools.progress import progress
from dfplan.train.trainer import Trainer


def train_logged(trainer: Trainer, out: Path) -> None:
    """Run to the end with a progress bar; log to TensorBoard and metrics.jsonl."""
    from torch.utils.tensorboard import SummaryWriter

    config = trainer.config
    with (
        SummaryWriter(str(out / "tensorboard"), purge_step=trainer.step) as writer,
        open(out / "metrics.jsonl", "a") as lines,
        progress(config.steps, config.task or "train", "step", trainer.step) as bar,
    ):

        def log(step: int, values: dict[str, float]) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)
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
