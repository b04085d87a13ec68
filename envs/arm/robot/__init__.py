"""The simulated arm as a robot: physics in the clock's time, the ROS node, the teleoperator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from .scripted import ScriptedTeleoperator
    from .sim import SimArm, arm_mapping

__all__ = ["ScriptedTeleoperator", "SimArm", "arm_mapping"]
__getattr__, __dir__ = attach(
    __name__, {"scripted": ("ScriptedTeleoperator",), "sim": ("SimArm", "arm_mapping")}
)
