"""Real-time control of an arm by a trained policy. The core: no ROS here, and torch only where a policy is run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chunks import Motion, move, to_trajectory
    from .clock import Clock, FakeClock, RealClock
    from .committed import CommittedPolicy, History
    from .dry_run import DryRun
    from .limits import Box, JointLimits, Safety, Setpoint, Target
    from .loop import Loop
    from .machine import Machine
    from .mapping import Mapping, dump_mapping, load_mapping
    from .monitor import Monitor, calibrate
    from .observe import Assembler
    from .robot import Body, body
    from .run import Report, build, deploy, status_line
    from .safety import SafetyFilter
    from .sim import SimArm, arm_mapping
    from .transport import Handlers, JointTrajectory, Reading, Status, Transport

_WHERE = {
    "chunks": ("Motion", "move", "to_trajectory"),
    "clock": ("Clock", "FakeClock", "RealClock"),
    "committed": ("CommittedPolicy", "History"),
    "dry_run": ("DryRun",),
    "limits": ("Box", "JointLimits", "Safety", "Setpoint", "Target"),
    "loop": ("Loop",),
    "machine": ("Machine",),
    "mapping": ("Mapping", "dump_mapping", "load_mapping"),
    "monitor": ("Monitor", "calibrate"),
    "observe": ("Assembler",),
    "robot": ("Body", "body"),
    "run": ("Report", "build", "deploy", "status_line"),
    "safety": ("SafetyFilter",),
    "sim": ("SimArm", "arm_mapping"),
    "transport": ("Handlers", "JointTrajectory", "Reading", "Status", "Transport"),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Assembler", "Body", "Box", "Clock", "CommittedPolicy", "DryRun", "FakeClock", "Handlers", "History",
    "JointLimits", "JointTrajectory", "Loop", "Machine", "Mapping", "Monitor", "Motion", "Reading", "RealClock",
    "Report", "Safety", "SafetyFilter", "Setpoint", "SimArm", "Status", "Target", "Transport", "arm_mapping",
    "body", "build", "calibrate", "deploy", "dump_mapping", "load_mapping", "move", "status_line", "to_trajectory",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load what is asked for, and nothing else."""
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
