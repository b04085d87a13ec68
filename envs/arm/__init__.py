"""A Panda-like arm at a table: kinematics and limits without MuJoCo, and the tasks, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.lazy import attach

from .disturb import KINDS, Disturbance
from .model import DT, GRIPPER_OPEN, PANDA, Limits

if TYPE_CHECKING:
    from .base import ArmEnv
    from .experts import collect, expert, generate_arm
    from .motion import ArmExpert
    from .pick import ArmPickEnv
    from .reach import ArmReachEnv

__all__ = [
    "DT",
    "GRIPPER_OPEN",
    "KINDS",
    "PANDA",
    "ArmEnv",
    "ArmExpert",
    "ArmPickEnv",
    "ArmReachEnv",
    "Disturbance",
    "Limits",
    "collect",
    "expert",
    "generate_arm",
]

_LAZY = {  # what needs MuJoCo
    "base": ("ArmEnv",),
    "experts": ("collect", "expert", "generate_arm"),
    "motion": ("ArmExpert",),
    "pick": ("ArmPickEnv",),
    "reach": ("ArmReachEnv",),
}
__getattr__, __dir__ = attach(__name__, _LAZY)
