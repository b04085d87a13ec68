"""ROS messages as plain tables, the same for rclpy and rosbridge: readings out of them, commands into them.

A message that comes in is an object with attributes (rclpy) or a table (rosbridge); `take` reads both. One that goes
out is a table in ROS 2's names, with arrays of numbers as numpy; each bus writes it in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import tables
from dfplan.deploy.robot.transport import JointTrajectory, Reading, Status, reading
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]

JOINT_STATE = "sensor_msgs/msg/JointState"
JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
POSE = "geometry_msgs/msg/PoseStamped"
TWIST = "geometry_msgs/msg/TwistStamped"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
STRING = "std_msgs/msg/String"
GOALS = "action_msgs/msg/GoalStatusArray"
CLOCK = "rosgraph_msgs/msg/Clock"
TRIGGER = "std_srvs/srv/Trigger"
FOLLOW = "control_msgs/action/FollowJointTrajectory"

_STAMP, _PLACE, _TURN = "header.stamp", "x y z", "x y z w"
# type -> (kind of source, where the stamp is, [(where, which numbers)] or the field that is a list)
_LAYOUTS: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    JOINT_STATE: ("joint_state", _STAMP, ()),
    POSE: ("pose", _STAMP, (("pose.position", _PLACE), ("pose.orientation", _TURN))),
    "geometry_msgs/msg/Pose": ("pose", "", (("position", _PLACE), ("orientation", _TURN))),
    "geometry_msgs/msg/TransformStamped": (
        "pose", _STAMP, (("transform.translation", _PLACE), ("transform.rotation", _TURN)),
    ),
    ARRAY: ("array", "", (("data", ""),)),
    "std_msgs/msg/Float32MultiArray": ("array", "", (("data", ""),)),
    "std_msgs/msg/Float64": ("array", "", (("", "data"),)),
    "geometry_msgs/msg/PointStamped": ("array", _STAMP, (("point", _PLACE),)),
    "geometry_msgs/msg/WrenchStamped": ("array", _STAMP, (("wrench.force", _PLACE), ("wrench.torque", _PLACE))),
}  # fmt: skip
SEVERAL = 20
"""Messages that wait to be read on a topic to which several nodes write."""
COMMANDS = {"trajectory": JOINT_TRAJECTORY, "position": ARRAY, "twist": TWIST}
"""Kind of command -> its message."""
_DEFAULTS = {"joint_state": JOINT_STATE, "pose": POSE, "array": ARRAY}


def message_type(kind: str, message: str = "") -> str:
    """`pkg/msg/Type` of `pkg/Type`, or the default of a kind of source; ValueError where that cannot read it."""
    name = message or _DEFAULTS[kind]
    package, _, rest = name.partition("/")
    name = name if rest.startswith("msg/") else f"{package}/msg/{rest}"
    return one_of(f"message of kind {kind}", name, [n for n, row in _LAYOUTS.items() if row[0] == kind])


def take(message: Any, path: str) -> Any:
    """The part of a message at a dotted path, of an object or of a table; the message itself for an empty one."""
    for part in path.split(".") if path else ():
        message = message[part] if isinstance(message, Mapping) else getattr(message, part)
    return message


def seconds(time: Any) -> float:
    """A ROS 1 or ROS 2 time or duration, s."""
    one = isinstance(time, Mapping) and "secs" in time
    return float(take(time, "secs" if one else "sec")) + 1e-9 * float(
        take(time, "nsecs" if one else "nanosec")
    )


def time_fields(value: float) -> dict[str, int]:
    """Seconds as a ROS 2 time or duration, to the nanosecond that a float can tell."""
    whole = math.floor(value)
    more, nanoseconds = divmod(round((value - whole) * 1e9), 10**9)
    return {"sec": whole + more, "nanosec": nanoseconds}


def to_reading(source: str, type_name: str, names: Sequence[str], message: Any, received: float) -> Reading:
    """What a message of type `message_type` says; ValueError where names and numbers do not fit together.

    `names` are those of an array's numbers, `received` is s on the loop's clock.
    """
    kind, where, parts = _LAYOUTS[type_name]
    stamp = seconds(take(message, where)) if where else math.nan
    stamp = math.nan if stamp == 0 else stamp
    if kind == "joint_state":
        values = {key: numbers(take(message, key)) for key in ("position", "velocity", "effort")}
        return reading(source, tuple(take(message, "name")), stamp, received, **values)
    found: list[float] = []
    for path, columns in parts:
        part = take(message, path)
        found += [take(part, column) for column in columns.split()] if columns else list(part)
    return reading(source, tables.POSE if kind == "pose" else names, stamp, received, value=numbers(found))


def numbers(values: Any) -> Array:
    """A list of numbers, where JSON's null, as rosbridge writes NaN, is NaN; ValueError if it holds anything else."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"got {str(values)[:60]}, expected a list of numbers") from error


def header(stamp: float, frame: str = "") -> dict[str, Any]:
    """A header."""
    return {"stamp": time_fields(stamp), "frame_id": frame}


def trajectory_fields(trajectory: JointTrajectory) -> dict[str, Any]:
    """A JointTrajectory message; its times count from its stamp."""
    points = [
        {"positions": position, "velocities": velocity, "time_from_start": time_fields(float(time))}
        for time, position, velocity in zip(
            trajectory.times, trajectory.positions, trajectory.velocities, strict=True
        )
    ]
    return {"header": header(trajectory.stamp), "joint_names": list(trajectory.names), "points": points}


def array_fields(values: Array) -> dict[str, Any]:
    """A Float64MultiArray message."""
    return {"data": np.asarray(values, np.float64)}


def twist_fields(linear: Array, angular: Array, stamp: float, frame: str) -> dict[str, Any]:
    """A TwistStamped message: m/s and rad/s in `frame`."""
    parts = {"linear": linear, "angular": angular}
    twist = {k: dict(zip("xyz", map(float, v), strict=True)) for k, v in parts.items()}
    return {"header": header(stamp, frame), "twist": twist}


def diagnostics_fields(
    name: str, level: int, message: str, values: Mapping[str, object], stamp: float
) -> dict[str, Any]:
    """A DiagnosticArray message with one status; level 0 ok, 1 warning, 2 error."""
    pairs = [{"key": key, "value": str(value)} for key, value in values.items()]
    status = {"level": level, "name": name, "message": message, "hardware_id": "", "values": pairs}
    return {"header": header(stamp), "status": [status]}


def status_fields(node: str, status: Status, counts: Mapping[str, int]) -> dict[str, Any]:
    """The loop's status as diagnostics of a node; `counts`: what the transport itself refused, by reason."""
    level = {"FAULT": 2, "HOLD": 1}.get(status.state, int(bool(status.doubtful)))
    values: dict[str, object] = {
        "state": status.state,
        "rate": f"{status.rate:.2f}",
        "sent": status.sent,
        "overruns": status.overruns,
        "speed": f"{status.speed:.2f}",
        "doubtful": " ".join(status.doubtful),
    }
    for key, row in (("period", status.period), ("inference", status.inference)):
        values |= {f"{key}_{k}": f"{v:.5f}" for k, v in zip(("p50", "p99", "max"), row, strict=True)}
    values |= {f"age_{key}": f"{age:.4f}" for key, age in status.ages.items()}
    values |= {f"refused_{key}": n for key, n in {**status.refusals, **counts}.items()}
    return diagnostics_fields(f"{node}: control loop", level, status.reason, values, status.stamp)
