"""Real-time control of an arm by a trained policy. The core: no ROS here, and torch only where a policy is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.lazy import attach

if TYPE_CHECKING:
    from .bag import Bag, record_bags
    from .chunks import Motion, move, to_trajectory
    from .client import Remote
    from .clock import Clock, FakeClock, RealClock
    from .committed import CommittedPolicy, History
    from .dry_run import DryRun
    from .gate import ServerLimits
    from .homing import home
    from .limits import Box, JointLimits, Safety, Setpoint, Target
    from .loop import Loop
    from .machine import Machine
    from .mapping import Mapping, dump_mapping, load_mapping
    from .monitor import Monitor, calibrate
    from .observe import Assembler
    from .recorder import record
    from .robot import Body, body
    from .run import Report, build, deploy, status_line
    from .safety import SafetyFilter
    from .sampler import Sampler
    from .scripted import ScriptedTeleoperator
    from .server import PolicyServer
    from .sim import SimArm, arm_mapping
    from .transport import Handlers, JointTrajectory, Reading, Status, Transport
    from .wire import read_token

_WHERE = {
    "bag": ("Bag", "record_bags"),
    "chunks": ("Motion", "move", "to_trajectory"),
    "client": ("Remote",),
    "clock": ("Clock", "FakeClock", "RealClock"),
    "committed": ("CommittedPolicy", "History"),
    "dry_run": ("DryRun",),
    "gate": ("ServerLimits",),
    "homing": ("home",),
    "limits": ("Box", "JointLimits", "Safety", "Setpoint", "Target"),
    "loop": ("Loop",),
    "machine": ("Machine",),
    "mapping": ("Mapping", "dump_mapping", "load_mapping"),
    "monitor": ("Monitor", "calibrate"),
    "observe": ("Assembler",),
    "recorder": ("record",),
    "robot": ("Body", "body"),
    "run": ("Report", "build", "deploy", "status_line"),
    "safety": ("SafetyFilter",),
    "sampler": ("Sampler",),
    "scripted": ("ScriptedTeleoperator",),
    "server": ("PolicyServer",),
    "sim": ("SimArm", "arm_mapping"),
    "transport": ("Handlers", "JointTrajectory", "Reading", "Status", "Transport"),
    "wire": ("read_token",),
}
__getattr__, __dir__ = attach(__name__, _WHERE)

__all__ = [
    "Assembler", "Bag", "Body", "Box", "Clock", "CommittedPolicy", "DryRun", "FakeClock", "Handlers",
    "History", "JointLimits", "JointTrajectory", "Loop", "Machine", "Mapping", "Monitor", "Motion",
    "PolicyServer", "Reading", "RealClock", "Remote", "Report", "Safety", "SafetyFilter", "Sampler",
    "ScriptedTeleoperator", "ServerLimits", "Setpoint", "SimArm", "Status", "Target", "Transport",
    "arm_mapping", "body", "build", "calibrate", "deploy", "dump_mapping", "home", "load_mapping", "move",
    "read_token", "record", "record_bags", "status_line", "to_trajectory",
]  # fmt: skip
