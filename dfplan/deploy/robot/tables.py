"""The tables of a mapping file: joints, sources, sensors, commands, loop."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from dfplan.tools.errors import finite_above_zero, one_of

UNITS = {"rad": 1.0, "deg": np.pi / 180, "m": 1.0, "mm": 1e-3, "cm": 1e-2, "1": 1.0}
"""Unit -> factor to rad, m or 1."""
POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
"""Numbers of a source of kind pose: m, then a quaternion."""
NORM_MODES = ("range_m100_100", "range_0_100", "degrees")
"""LeRobot's names of the numbers that it has for a motor."""
_TOPIC = re.compile(r"(~/|/)?[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")
_STALE = 10.0  # s: an arm that goes on for longer without what it needs is not watched


@dataclass(frozen=True)
class Joint:
    """A joint that is commanded. Limits in its unit; what is left out is taken from the URDF or the model.

    Attributes:
        name: as the robot calls it.
        unit: `rad`, `deg`, `m` or `mm`: of the robot's readings and commands, and of these limits.
        lower: lowest position.
        upper: highest position.
        velocity: per s.
        acceleration: per s^2.
        jerk: per s^3.
        margin: kept from both ends; None: 0.02 rad, or 0 of a sliding joint.
        grips: what it holds may stop it, as a gripper; it is then not compared with where it was told to be.
        norm_mode: what LeRobot's numbers of it are, `range_m100_100`, `range_0_100` or `degrees`, where the policy learned from
            these: `scale` and `offset`, where left out, are then those of `robot.calibration`.
        scale: rad or m of 1 in the policy's numbers; left out, these are rad or m.
        offset: rad or m of 0 in the policy's numbers.
    """

    name: str
    unit: str = "rad"
    lower: float | None = None
    upper: float | None = None
    velocity: float | None = None
    acceleration: float | None = None
    jerk: float | None = None
    margin: float | None = None
    grips: bool = False
    norm_mode: str = ""
    scale: float | None = None
    offset: float | None = None

    def __post_init__(self) -> None:
        one_of(f"unit of joint '{self.name}'", self.unit, ("rad", "deg", "m", "mm"))
        if self.norm_mode:
            one_of(f"norm_mode of joint '{self.name}'", self.norm_mode, NORM_MODES)
            if self.unit in ("m", "mm"):
                raise ValueError(
                    f"joint '{self.name}': got norm_mode with unit {self.unit}, expected it of a joint that turns; give "
                    "scale and offset instead"
                )
        if self.scale == 0 or not np.isfinite([self.scale or 1.0, self.offset or 0.0]).all():
            raise ValueError(
                f"joint '{self.name}': got scale={self.scale}, offset={self.offset}, expected finite numbers, scale not 0: "
                "rad or m of one of the policy's numbers, and where that is 0"
            )

    @property
    def scaled(self) -> bool:
        """Whether the policy's numbers are others than rad or m."""
        return bool(self.norm_mode) or self.scale is not None or self.offset is not None


@dataclass(frozen=True)
class Source:
    """Something that the robot publishes.

    Attributes:
        name: what this file calls it.
        topic: where it is published.
        kind: `joint_state`, `pose` (x y z qx qy qz qw) or `array`.
        names: of an array's numbers, in order.
        rate: expected, Hz; the recorder and the diagnostics compare with it.
        max_age: older than this it is stale, s.
        required: stale, the arm stops; else the sensors that use it become doubtful.
        message: type of the message, where the transport cannot tell from `kind`.
    """

    name: str
    topic: str
    kind: str = "array"
    names: tuple[str, ...] = ()
    rate: float = 50.0
    max_age: float = 0.1
    required: bool = True
    message: str = ""

    def __post_init__(self) -> None:
        one_of(f"kind of source '{self.name}'", self.kind, ("joint_state", "pose", "array"))
        _topic(self.topic, f"source '{self.name}'")
        finite_above_zero(self, "rate", of=f" of source '{self.name}'")
        most = _STALE if self.required else math.inf
        finite_above_zero(self, "max_age", of=f" of source '{self.name}', in s", most=most)
        if (self.kind == "array") != bool(self.names):
            raise ValueError(
                f"source '{self.name}': `names` belong to kind array, and to no other; got {list(self.names)}"
            )


@dataclass(frozen=True)
class Sensor:
    """Columns of the policy's observation, in order.

    Attributes:
        name: of this group; a group of its own token can be doubted by itself.
        source: name of a source.
        field: `position`, `velocity` or `effort` of a joint_state, else `value`.
        names: which numbers of the source, in order.
        unit: of the source's numbers; they become rad, m or 1.
        convert: `none`; `rot6d`: quaternion x y z w -> two columns of the rotation; `tool`: joint positions ->
            tool position (m) and rotation, by the robot's kinematics.
        columns: what the policy calls them; empty: the same names.
    """

    name: str
    source: str
    field: str = "value"
    names: tuple[str, ...] = ()
    unit: str = "1"
    convert: str = "none"
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of(f"unit of sensor '{self.name}'", self.unit, UNITS)
        one_of(f"convert of sensor '{self.name}'", self.convert, ("none", "rot6d", "tool"))
        one_of(f"field of sensor '{self.name}'", self.field, ("position", "velocity", "effort", "value"))
        if not self.names:
            raise ValueError(
                f"sensor '{self.name}' has no `names`; list the numbers of '{self.source}' it takes"
            )
        if self.convert == "rot6d" and len(self.names) != 4:
            raise ValueError(
                f"sensor '{self.name}': got {len(self.names)} names, expected x y z w of a quaternion"
            )
        if self.columns and len(self.columns) != self.size:
            raise ValueError(
                f"sensor '{self.name}': got {len(self.columns)} columns, expected {self.size} of them"
            )

    @property
    def size(self) -> int:
        """Columns it fills."""
        return {"none": len(self.names), "rot6d": 6, "tool": 9}[self.convert]

    @property
    def called(self) -> tuple[str, ...]:
        """(size,) what the policy calls its columns."""
        if self.columns:
            return self.columns
        axes = ("x", "y", "z", "xx", "xy", "xz", "yx", "yy", "yz")
        if self.convert == "none":
            return self.names
        return tuple(f"{self.name}_{axis}" for axis in axes[-self.size :])


@dataclass(frozen=True)
class Command:
    """A controller that is commanded.

    Attributes:
        topic: where it listens.
        joints: which joints it moves, in its order.
        kind: `trajectory`, `position` or `twist`.
        action: name of its FollowJointTrajectory action, for home and reset; empty: none.
    """

    topic: str
    joints: tuple[str, ...]
    kind: str = "trajectory"
    action: str = ""

    def __post_init__(self) -> None:
        one_of(f"kind of command '{self.topic}'", self.kind, ("trajectory", "position", "twist"))
        _topic(self.topic, "a command")


@dataclass(frozen=True)
class Robot:
    """The arm.

    Attributes:
        joints: in the order of everything here.
        name: of the robot.
        state: source of the measured joints.
        urdf: file of limits and kinematics, relative to the mapping's folder.
        calibration: LeRobot's file for the arm that was recorded, relative to the mapping's folder; see `Joint.norm_mode`.
        base: link in which tool poses and the workspace are.
        tip: link of the tool.
        model: `panda`: the built-in arm instead of a URDF.
        home: joint positions to go to, in the joints' units.
    """

    joints: tuple[Joint, ...]
    name: str = "arm"
    state: str = "joints"
    urdf: str = ""
    base: str = ""
    tip: str = ""
    model: str = ""
    home: tuple[float, ...] = ()
    calibration: str = ""

    def __post_init__(self) -> None:
        names = [joint.name for joint in self.joints]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"got joints {names}, expected names that differ, one at least")
        if self.model:
            one_of("model", self.model, ("panda",))
        if self.model and self.urdf:
            raise ValueError("got both urdf and model; keep one")
        if self.home and len(self.home) != len(names):
            raise ValueError(f"got {len(self.home)} numbers as home, expected one for each of {names}")
        if bool(self.calibration) != any(joint.norm_mode for joint in self.joints):
            raise ValueError(
                f"got calibration='{self.calibration}' and norm_mode {[j.norm_mode for j in self.joints]}, expected both or "
                f"neither; norm_mode of a joint is one of {', '.join(NORM_MODES)}"
            )


@dataclass(frozen=True)
class PolicyMap:
    """What the policy sees and says.

    Attributes:
        dt: s between two of its actions, as it was trained.
        observation: sensors, in the order of its observation.
        action: `joints`: targets of `action_joints`; `tool`: position (3), rotation (6), then `action_joints`.
        action_joints: joints of its action, in its order; empty: all of the robot's, in order.
    """

    dt: float
    observation: tuple[Sensor, ...]
    action: str = "joints"
    action_joints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("action", self.action, ("joints", "tool"))
        if not 0 < self.dt < 10:
            raise ValueError(f"got policy.dt={self.dt}, expected s between two actions, such as 0.05")
        columns = [name for sensor in self.observation for name in sensor.called]
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if not columns or twice:
            raise ValueError(
                f"observation: got columns {twice or columns} more than once, or none; name them in `columns`"
            )


@dataclass(frozen=True)
class LoopSettings:
    """The control loop.

    Attributes:
        rate: ticks per second.
        send: commands per second, a divisor of `rate`.
        lead: setpoints are fixed this long before they are due, s: what a late message may be late.
        settle: readings must have been fresh for so long before the arm can be armed, s. On ROS twice as long is listened
            before whether somebody else commands the arm.
        expire: a command that is not handed over within this is dropped, s.
        status: status messages per second.
        commit: motion that may be decided before the newest readings are known, s; where the network takes longer, the arm
            moves more slowly.
    """

    rate: float = 100.0
    send: float = 50.0
    lead: float = 0.03
    settle: float = 1.0
    expire: float = 0.1
    status: float = 2.0
    commit: float = 0.2

    def __post_init__(self) -> None:
        finite_above_zero(self, "rate", "send", "status", of=" of the loop, in Hz", most=2000.0)
        finite_above_zero(self, "lead", "expire", "commit", of=" of the loop, in s", most=2.0)
        if not 0 <= self.settle <= 60 or abs(self.rate / self.send - round(self.rate / self.send)) > 1e-6:
            raise ValueError(
                f"got send={self.send} of rate={self.rate}, settle={self.settle}; expected a divisor, and 0 to 60 s"
            )


def _topic(name: str, of: str) -> None:
    """Refuse what cannot be a topic of ROS."""
    if not _TOPIC.fullmatch(name):
        raise ValueError(f"got topic '{name}' of {of}, expected a name such as /joint_states")
