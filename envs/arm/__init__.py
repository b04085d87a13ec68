"""A Panda-like arm at a table: kinematics and limits without MuJoCo, and the tasks, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

_LAZY = {
    "ArmEnv": "base",
    "ArmExpert": "motion",
    "ArmPickEnv": "pick",
    "ArmReachEnv": "reach",
    "collect": "experts",
    "expert": "experts",
    "generate_arm": "experts",
}


def __getattr__(name: str) -> Any:
    """Load what needs MuJoCo on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
