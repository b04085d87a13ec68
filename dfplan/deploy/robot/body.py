"""The arm that a mapping describes, with its limits and kinematics, all in rad and m."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import panda
from dfplan.deploy.robot.inverse import Look, Pose, solve
from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.rotations import rot6d
from dfplan.deploy.robot.tables import UNITS, Joint, Robot
from dfplan.deploy.robot.urdf import Chain, read_urdf
from dfplan.tools.errors import one_of
from dfplan.tools.serialize import from_dict, read_values

Array = NDArray[np.float64]
K = TypeVar("K")
_KEYS = ("lower", "upper", "velocity", "acceleration", "jerk")
_MARGIN = 0.02
_WIDER = 0.01  # share that a limit may be wider than the robot's own, for rounding
_COUNTS = 4096  # of a turn, of the encoders of SO-100 and SO-101; LeRobot's degrees take 4095 for a turn


@dataclass(frozen=True)
class Body:
    """A robot in numbers.

    Attributes:
        limits: of its J joints.
        unit: (J,) factor from the robot's units to rad or m.
        home: (J,) rad or m, or None.
        pose: of the tool, or None where neither URDF nor model is given.
        look: pose and Jacobian of the tool, or None as `pose`.
        rest: (J,) posture that joints are drawn to where there is freedom, or None.
        numbers: joint -> scale and offset from the policy's numbers to rad or m, where they are not rad or m themselves.
    """

    limits: JointLimits
    unit: Array
    home: Array | None
    pose: Pose | None
    look: Look | None = None
    rest: Array | None = None
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def affine(self, names: Iterable[str]) -> tuple[Array, Array]:
        """Scale and offset (N,) from the policy's numbers of joints to rad or m; 1 and 0 of any other name."""
        rows = np.array([self.numbers.get(name, (1.0, 0.0)) for name in names]).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]

    def forward(self, q: Array) -> Array:
        """Joints (..., J) -> position of the tool (..., 3), m."""
        return _given(self.pose)(q)[0]

    def tool(self, q: Array) -> Array:
        """Joints (J,) -> the tool's position (m) and the first two columns of its rotation, (9,)."""
        position, rotation = _given(self.pose)(q)
        return np.concatenate([position, rot6d(rotation)])

    def inverse(self, q: Array, position: Array, rotation: Array) -> tuple[Array, bool]:
        """Joints (J,) within the limits that bring the tool to a pose, and whether it is met: see `inverse.solve`."""
        low, high = self.limits.low, self.limits.high
        return solve(_given(self.look), q, position, rotation, self.rest, low, high)


def _given(kinematics: K | None) -> K:
    if kinematics is None:
        raise ValueError("the mapping has no kinematics; give robot.urdf with base and tip, or robot.model")
    return kinematics


def body(robot: Robot) -> Body:
    """Limits and kinematics of a mapping's robot; ValueError for a limit that nobody gives, or an unknown joint or link."""
    given: dict[str, dict[str, float]] = {}
    pose: Pose | None = None
    look: Look | None = None
    if robot.model:
        given, pose, look = _panda(robot)
    elif robot.urdf:
        joints = read_urdf(robot.urdf)
        names = [one_of("joint in the URDF", j.name, joints) for j in robot.joints]
        for joint, kind in zip(robot.joints, (joints[name].kind for name in names), strict=True):
            if (kind == "prismatic") != (joint.unit in ("m", "mm")):
                raise ValueError(
                    f"joint '{joint.name}': got unit {joint.unit} of a {kind} joint of the URDF; give its unit"
                )
        given = {name: {key: getattr(joints[name], key) for key in _KEYS[:3]} for name in names}
        if robot.tip:
            chain = Chain(joints, robot.base, robot.tip, names)
            pose, look = chain.pose, chain.look
    unit = np.array([UNITS[j.unit] for j in robot.joints])
    numbers = _numbers(robot, given)
    limits = _limits(robot.joints, given, unit)
    home = limits.check(np.array(robot.home) * unit, "home") if robot.home else None
    rest = np.append(panda.HOME, limits.upper[7:]) if robot.model else home
    if look is not None:
        moving = np.abs(look((limits.lower + limits.upper) / 2)[2]).max(0) > 0
        for name in np.array(limits.names)[moving & limits.grips]:
            raise ValueError(f"joint '{name}' moves the tool, so it grips nothing; leave out its `grips`")
    return Body(limits, unit, home, pose, look, rest, numbers)


@dataclass(frozen=True)
class _Motor:
    """A row of LeRobot's calibration file: the ends of a motor's range, in counts; drive_mode 1 turns against the joint."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int

    def __post_init__(self) -> None:
        if not 0 < self.range_max - self.range_min <= _COUNTS or self.drive_mode not in (0, 1):
            raise ValueError(
                f"got range_min={self.range_min}, range_max={self.range_max}, drive_mode={self.drive_mode}; expected a range "
                f"from 1 to {_COUNTS} wide, drive_mode 0 or 1; calibrate the arm again: lerobot-calibrate"
            )


def _numbers(robot: Robot, given: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Joint -> scale and offset of the policy's numbers; `given` gets the ends of calibrated ranges, where these are narrower."""
    motors, out = _motors(robot.calibration) if robot.calibration else {}, {}
    for joint in robot.joints:
        own, scale, offset = given.get(joint.name, {}), 1.0, 0.0
        percent = joint.norm_mode == "range_0_100"
        if joint.norm_mode:
            name = one_of(f"motor in {robot.calibration}", joint.name, motors)
            motor = from_dict(_Motor, motors[name], f"{robot.calibration}: {name}")
            half = (motor.range_max - motor.range_min) * np.pi / _COUNTS
            scale = half / (50 if percent else 100)
            if joint.norm_mode == "degrees":  # drive_mode changes LeRobot's other numbers, not these
                scale = (1 - 2 * motor.drive_mode) * np.deg2rad((_COUNTS - 1) / _COUNTS)
        if percent:
            lower = own.get("lower", np.nan)
            offset = lower if np.isfinite(lower) else (joint.lower or 0.0) * UNITS[joint.unit]
        scale = scale if joint.scale is None else joint.scale
        offset = offset if joint.offset is None else joint.offset
        if joint.scaled:
            out[joint.name] = scale, offset
        if joint.norm_mode:
            middle = offset + scale * (50 if percent else 0)
            low, high = (
                np.fmax(own.get("lower", -np.inf), middle - half),
                np.fmin(own.get("upper", np.inf), middle + half),
            )
            given[joint.name] = own | {"lower": float(low), "upper": float(high)}
    return out


def _motors(file: str) -> dict[str, Any]:
    """Motor -> its row of LeRobot's calibration file."""
    if not Path(file).is_file():
        raise ValueError(
            f"got calibration {file}, which is no file; copy LeRobot's of the arm that was recorded, from "
            "~/.cache/huggingface/lerobot/calibration/robots"
        )
    return read_values(file)


def _limits(joints: tuple[Joint, ...], given: dict[str, dict[str, float]], unit: Array) -> JointLimits:
    rows: dict[str, list[float]] = {key: [] for key in (*_KEYS, "margin")}
    for joint, factor in zip(joints, unit.tolist(), strict=True):
        sliding = joint.unit in ("m", "mm")
        known = {"margin": 0.0 if sliding else _MARGIN} | given.get(joint.name, {})
        for key, row in rows.items():
            value = getattr(joint, key)
            found = value * factor if value is not None else known.get(key, np.nan)
            _narrower(joint, key, found, given.get(joint.name, {}))
            if not np.isfinite(found):
                raise ValueError(
                    f"joint '{joint.name}' has no {key}; give it in the mapping (a URDF holds lower, upper and velocity, "
                    "never acceleration and jerk: they are in the maker's manual)"
                )
            row.append(found)
    arrays = {key: np.array(row) for key, row in rows.items()}
    return JointLimits(
        tuple(j.name for j in joints),
        **arrays,
        sliding=np.array([j.unit in ("m", "mm") for j in joints]),
        grips=np.array([j.grips for j in joints]),
    )


def _narrower(joint: Joint, key: str, value: float, given: Mapping[str, float]) -> None:
    """Refuse a limit of the mapping that is wider than the robot's own; an empty span or 0 in a URDF says nothing."""
    own, low, high = given.get(key, np.nan), given.get("lower", np.nan), given.get("upper", np.nan)
    position = key in ("lower", "upper")
    said = low < high if position else own > 0
    beyond = own - value if key == "lower" else value - own
    if said and beyond > _WIDER * (high - low if position else own):
        raise ValueError(
            f"joint '{joint.name}': got {key}={value:g} (rad or m, and s), and {own:g} in the robot's own description or "
            "calibration, which a mapping may narrow only; correct the one that is wrong, and `unit`"
        )


def _panda(robot: Robot) -> tuple[dict[str, dict[str, float]], Pose, Look]:
    """Limits and kinematics of the built-in arm: its seven joints come first, a sliding one may follow."""
    turning = [j.name for j in robot.joints if j.unit in ("rad", "deg")]
    if len(turning) != 7 or any(j.name not in turning for j in robot.joints[:7]):
        raise ValueError(f"model panda: got turning joints {turning}, expected seven, before any sliding one")
    sliding = len(robot.joints) - 7
    owners = [(panda.LIMITS, i) for i in range(7)] + sliding * [(panda.GRIPPER, 0)]
    given = {
        joint.name: {key: float(getattr(owner, key)[i]) for key in _KEYS}
        for joint, (owner, i) in zip(robot.joints, owners, strict=True)
    }

    def look(q: Array) -> tuple[Array, Array, Array]:
        position, rotation, jac = panda.look(q[:7])
        return position, rotation, np.pad(jac, ((0, 0), (0, sliding)))

    return given, lambda q: panda.forward(q[..., :7]), look
