"""Real-time control of an arm by a trained policy. The core: no ROS here, and torch only where a policy is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.clock import Clock, FakeClock, RealClock
from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from dfplan.deploy.homing import home
    from dfplan.deploy.loop.committed import CommittedPolicy, History
    from dfplan.deploy.loop.loop import Loop
    from dfplan.deploy.loop.machine import Machine
    from dfplan.deploy.loop.monitor import Monitor, calibrate
    from dfplan.deploy.motion.chunk_check import ChunkCheck, Verdict
    from dfplan.deploy.motion.chunks import Motion, move, to_trajectory
    from dfplan.deploy.motion.safety import SafetyFilter
    from dfplan.deploy.recording.bag import Bag, record_bags
    from dfplan.deploy.recording.recorder import record
    from dfplan.deploy.recording.run_log import RunLog
    from dfplan.deploy.recording.sampler import Sampler
    from dfplan.deploy.remote.client import Remote
    from dfplan.deploy.remote.gate import ServerLimits
    from dfplan.deploy.remote.server import PolicyServer
    from dfplan.deploy.remote.wire import read_token
    from dfplan.deploy.replaying import KeptRun, replay
    from dfplan.deploy.robot.body import Body, body
    from dfplan.deploy.robot.limits import Box, JointLimits, Safety, Setpoint, Target
    from dfplan.deploy.robot.mapping import Mapping, arms, dump_mapping, load_mapping
    from dfplan.deploy.robot.observe import Assembler
    from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Shared, Status, Transport
    from dfplan.deploy.robot.virtual import DryRun, ModelArm
    from dfplan.deploy.run import Report, build, deploy, status_line

_WHERE = {
    "recording.bag": ("Bag", "record_bags"),
    "motion.chunk_check": ("ChunkCheck", "Verdict"),
    "motion.chunks": ("Motion", "move", "to_trajectory"),
    "remote.client": ("Remote",),
    "loop.committed": ("CommittedPolicy", "History"),
    "remote.gate": ("ServerLimits",),
    "homing": ("home",),
    "robot.limits": ("Box", "JointLimits", "Safety", "Setpoint", "Target"),
    "loop.loop": ("Loop",),
    "loop.machine": ("Machine",),
    "robot.mapping": ("Mapping", "arms", "dump_mapping", "load_mapping"),
    "loop.monitor": ("Monitor", "calibrate"),
    "robot.observe": ("Assembler",),
    "recording.recorder": ("record",),
    "robot.body": ("Body", "body"),
    "replaying": ("KeptRun", "replay"),
    "recording.run_log": ("RunLog",),
    "run": ("Report", "build", "deploy", "status_line"),
    "motion.safety": ("SafetyFilter",),
    "recording.sampler": ("Sampler",),
    "remote.server": ("PolicyServer",),
    "robot.virtual": ("DryRun", "ModelArm"),
    "robot.transport": ("Handlers", "JointTrajectory", "Reading", "Shared", "Status", "Transport"),
    "remote.wire": ("read_token",),
}
__getattr__, __dir__ = attach(__name__, _WHERE)

__all__ = [
    "Assembler", "Bag", "Body", "Box", "ChunkCheck", "Clock", "CommittedPolicy", "DryRun", "FakeClock", "Handlers",
    "History", "JointLimits", "JointTrajectory", "KeptRun", "Loop", "Machine", "Mapping", "ModelArm", "Monitor", "Motion",
    "PolicyServer", "Reading", "RealClock", "Remote", "Report", "RunLog", "Safety", "SafetyFilter", "Sampler",
    "ServerLimits", "Setpoint", "Shared", "Status", "Target", "Transport", "Verdict",
    "arms", "body", "build", "calibrate", "deploy", "dump_mapping", "home", "load_mapping", "move",
    "read_token", "record", "record_bags", "replay", "status_line", "to_trajectory",
]  # fmt: skip
