"""A Panda-like arm at a table: its tasks, experts and disturbances, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.lazy import attach

from .disturb import KINDS, Disturbance
from .model import DT

if TYPE_CHECKING:
    from .base import ArmEnv
    from .experts.motion import ArmExpert
    from .experts.scripted import collect, expert, generate_arm
    from .pick import ArmPickEnv
    from .reach import ArmReachEnv

__all__ = [
    "DT",
    "KINDS",
    "ArmEnv",
    "ArmExpert",
    "ArmPickEnv",
    "ArmReachEnv",
    "Disturbance",
    "collect",
    "expert",
    "generate_arm",
]

_LAZY = {  # what needs MuJoCo
    "base": ("ArmEnv",),
    "experts.scripted": ("collect", "expert", "generate_arm"),
    "experts.motion": ("ArmExpert",),
    "pick": ("ArmPickEnv",),
    "reach": ("ArmReachEnv",),
}
__getattr__, __dir__ = attach(__name__, _LAZY)
