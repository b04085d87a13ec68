"""The arm that a mapping describes, with its limits and kinematics, all in rad and m."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.tables import UNITS, Joint, Robot
from dfplan.deploy.robot.urdf import Chain, UrdfJoint, read_urdf
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]
Pose = Callable[[Array], tuple[Array, Array]]
"""Joints (..., J) -> position (..., 3) m and rotation (..., 3, 3) of the tool."""

Solve = Callable[[Array, Array, Array], tuple[Array, bool]]
"""Joints to start from (J,), position (3,), rotation (3, 3) -> joints (J,) and whether the pose is met."""

_MARGIN, _DAMPING, _PULL = 0.02, 0.02, 0.1


@dataclass(frozen=True)
class Body:
    """A robot in numbers.

    Attributes:
        limits: of its J joints.
        unit: (J,) factor from the robot's units to rad or m.
        home: (J,) rad or m, or None.
        pose: of the tool, or None where neither URDF nor model is given.
        solve: the robot's own inverse kinematics, or None.
    """

    limits: JointLimits
    unit: Array
    home: Array | None
    pose: Pose | None
    solve: Solve | None = None

    def forward(self, q: Array) -> Array:
        """Joints (..., J) -> position of the tool (..., 3), m."""
        return self._pose()(q)[0]

    def _pose(self) -> Pose:
        if self.pose is None:
            raise ValueError(
                "the mapping has no kinematics; give robot.urdf with base and tip, or robot.model"
            )
        return self.pose

    def inverse(self, q: Array, position: Array, rotation: Array, iterations: int = 30) -> tuple[Array, bool]:
        """Joints that reach a tool pose, by damped least squares from `q` on, drawn to `home` where there is freedom.

        Args:
            q: (J,) start, rad.
            position: (3,) m.
            rotation: (3, 3).
            iterations: at most this many steps.

        Returns:
            (J,) within the limits, and whether the pose is met within 1 mm and 0.01 rad.
        """
        low, high = self.limits.low, self.limits.high
        q = np.clip(np.asarray(q, np.float64), low, high)
        if self.solve is not None:
            q, met = self.solve(q, position, rotation)
            return np.clip(q, low, high), met
        for _ in range(iterations):
            error, jac = self._error(q, position, rotation)
            error[:3] *= min(1.0, 0.15 / max(float(np.linalg.norm(error[:3])), 1e-9))
            error[3:] *= min(1.0, 0.6 / max(float(np.linalg.norm(error[3:])), 1e-9))
            weights = np.linalg.solve(jac @ jac.T + _DAMPING**2 * np.eye(6), np.column_stack([error, jac]))
            step = jac.T @ weights[:, 0]
            if self.home is not None:
                pull = _PULL * (self.home - q)
                step = step + pull - jac.T @ (weights[:, 1:] @ pull)
            q = np.clip(q + step, low, high)
            if np.abs(step).max() < 1e-4:
                break
        error, _ = self._error(q, position, rotation)
        return q, bool(np.linalg.norm(error[:3]) < 1e-3 and np.linalg.norm(error[3:]) < 1e-2)

    def _error(self, q: Array, position: Array, rotation: Array) -> tuple[Array, Array]:
        """Twist (6,) that is left to a pose, and the tool's Jacobian (6, J) by differences."""
        at, turned = self._pose()(np.concatenate([q[None], q + 1e-5 * np.eye(len(q))]))
        turns = np.stack([_vector(turned[1 + k] @ turned[0].T) for k in range(len(q))], 1)
        jac = np.concatenate([(at[1:] - at[0]).T, turns]) / 1e-5
        return np.concatenate([position - at[0], _vector(rotation @ turned[0].T)]), jac


def _vector(rotation: Array) -> Array:
    """Axis times angle (3,) of a rotation (3, 3) below half a turn; shorter than it should be near half a turn."""
    skew = 0.5 * np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine, cosine = float(np.linalg.norm(skew)), 0.5 * (float(np.trace(rotation)) - 1)
    return skew * (np.arctan2(sine, cosine) / sine) if sine > 1e-12 else skew


def body(robot: Robot) -> Body:
    """Limits and kinematics of the robot of a mapping.

    Raises:
        ValueError: for a limit that neither the mapping nor the URDF or model gives, or an unknown joint or link.
    """
    pose: Pose | None
    solve: Solve | None = None
    if robot.model:
        given, pose, solve = _panda(robot)
    elif robot.urdf:
        joints = read_urdf(robot.urdf)
        given = {j.name: _urdf_limits(joints, j.name) for j in robot.joints}
        names = [j.name for j in robot.joints]
        pose = Chain(joints, robot.base, robot.tip, names).pose if robot.tip else None
    else:
        given, pose = {}, None
    unit = np.array([UNITS[j.unit] for j in robot.joints])
    limits = _limits(robot.joints, given, unit)
    home = limits.check(np.array(robot.home) * unit, "home") if robot.home else None
    return Body(limits, unit, home, pose, solve)


def _limits(joints: tuple[Joint, ...], given: dict[str, dict[str, float]], unit: Array) -> JointLimits:
    rows: dict[str, list[float]] = {
        key: [] for key in ("lower", "upper", "velocity", "acceleration", "jerk", "margin")
    }
    for joint, factor in zip(joints, unit.tolist(), strict=True):
        sliding = joint.unit in ("m", "mm")
        known = {"margin": 0.0 if sliding else _MARGIN} | given.get(joint.name, {})
        for key, row in rows.items():
            value = getattr(joint, key)
            found = value * factor if value is not None else known.get(key, np.nan)
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


def _urdf_limits(joints: dict[str, UrdfJoint], name: str) -> dict[str, float]:
    joint = joints[one_of("joint in the URDF", name, joints)]
    return {"lower": joint.lower, "upper": joint.upper, "velocity": joint.velocity}


def _panda(robot: Robot) -> tuple[dict[str, dict[str, float]], Pose, Solve]:
    """Limits and kinematics of the built-in arm: its seven joints come first, a sliding one may follow."""
    model: Any = import_module("dfplan.envs.arm.model")
    kinematics: Any = import_module("dfplan.envs.arm.kinematics")
    turning = [j.name for j in robot.joints if j.unit in ("rad", "deg")]
    if len(turning) != 7 or [j.name for j in robot.joints[:7]] != turning:
        raise ValueError(f"model panda: got turning joints {turning}, expected seven, before any sliding one")
    keys = ("lower", "upper", "velocity", "acceleration", "jerk")
    given = {name: {key: getattr(model.PANDA, key)[i] for key in keys} for i, name in enumerate(turning)}
    gripper = {
        "lower": 0.0,
        "upper": model.GRIPPER_OPEN,
        "velocity": model.GRIPPER_SPEED,
        "acceleration": 10.0,
        "jerk": 2000.0,
    }
    given |= {j.name: gripper for j in robot.joints[7:]}

    def pose(q: Array) -> tuple[Array, Array]:
        position, rotation = kinematics.forward(q[..., :7])
        return position, rotation

    def solve(q: Array, position: Array, rotation: Array) -> tuple[Array, bool]:
        found, met = kinematics.solve(q[:7], position, rotation, model.HOME)
        return np.append(found, q[7:]), met

    return given, pose, solve
