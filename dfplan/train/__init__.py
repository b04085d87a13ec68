"""Training: configuration, windows as tokens, levels, loss, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from dfplan.train.checkpoint import Checkpoint
    from dfplan.train.config import ModelConfig, TrainConfig
    from dfplan.train.levels import Levels
    from dfplan.train.trainer import Trainer

__all__ = ["Checkpoint", "Levels", "ModelConfig", "TrainConfig", "Trainer"]
_WHERE = {
    "checkpoint": ("Checkpoint",),
    "config": ("ModelConfig", "TrainConfig"),
    "levels": ("Levels",),
    "trainer": ("Trainer",),
}
__getattr__, __dir__ = attach(__name__, _WHERE)
