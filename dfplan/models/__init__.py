"""Models that ship with the package, and how to load these and your own."""

from __future__ import annotations

import os
from pathlib import Path

from dfplan.planner import Planner, PlannerConfig
from dfplan.tools.errors import one_of
from dfplan.train import checkpoint

_HERE = Path(__file__).parent


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(p.parent.name for p in _HERE.glob("*/config.json"))


def find(name: str | os.PathLike[str]) -> Path:
    """The checkpoint folder of a shipped name, a checkpoint folder or a run folder.

    Raises:
        ValueError: when it is none of these, with the nearest shipped name.
    """
    folder = Path(name).expanduser()
    for candidate in (folder / "checkpoint", folder):
        if checkpoint.exists(candidate):
            return candidate
    if folder.is_dir():
        raise ValueError(
            f"{folder} holds no checkpoint (no config.json); give a folder written by `dfplan train`"
        )
    return _HERE / one_of("model (no such folder either)", str(name), shipped())


def kept(run: str | os.PathLike[str], last: int) -> list[Path]:
    """The last checkpoints a run kept (`keep_every`), oldest first.

    Raises:
        ValueError: when it kept fewer.
    """
    found = sorted(Path(run).expanduser().glob("kept/*/config.json"))
    if len(found) < last:
        raise ValueError(
            f"{run} kept {len(found)} checkpoints, asked for {last}; train with --set keep_every=STEPS"
        )
    return [p.parent for p in found[-last:]]


def load(name: str | os.PathLike[str], config: PlannerConfig | None = None, device: str = "cpu") -> Planner:
    """A planner from a shipped model (`maze2d-large`), a run folder or a checkpoint folder.

    Args:
        name: which model.
        config: how plans are sampled and chosen.
        device: `cpu`, `cuda`, ...
    """
    return Planner.load(find(name), config, device)
