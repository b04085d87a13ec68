"""The arm that a mapping describes, with its limits and kinematics, all in rad and m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import panda
from dfplan.deploy.robot.inverse import Look, Pose, by_differences, solve
from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.tables import UNITS, Joint, Robot
from dfplan.deploy.robot.urdf import Chain, UrdfJoint, read_urdf
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]
_KEYS = ("lower", "upper", "velocity", "acceleration", "jerk")
_MARGIN = 0.02


@dataclass(frozen=True)
class Body:
    """A robot in numbers.

    Attributes:
        limits: of its J joints.
        unit: (J,) factor from the robot's units to rad or m.
        home: (J,) rad or m, or None.
        pose: of the tool, or None where neither URDF nor model is given.
        look: pose and Jacobian of the tool, or None: by differences of `pose`.
        rest: (J,) posture that joints are drawn to where there is freedom, or None.
    """

    limits: JointLimits
    unit: Array
    home: Array | None
    pose: Pose | None
    look: Look | None = None
    rest: Array | None = None

    def forward(self, q: Array) -> Array:
        """Joints (..., J) -> position of the tool (..., 3), m."""
        return self._pose()(q)[0]

    def _pose(self) -> Pose:
        if self.pose is None:
            raise ValueError(
                "the mapping has no kinematics; give robot.urdf with base and tip, or robot.model"
            )
        return self.pose

    def inverse(self, q: Array, position: Array, rotation: Array) -> tuple[Array, bool]:
        """Joints (J,) within the limits that bring the tool to a pose, and whether it is met: see `inverse.solve`."""
        look = self.look or by_differences(self._pose())
        return solve(look, q, position, rotation, self.rest, self.limits.low, self.limits.high)


def body(robot: Robot) -> Body:
    """Limits and kinematics of the robot of a mapping.

    Raises:
        ValueError: for a limit that neither the mapping nor the URDF or model gives, or an unknown joint or link.
    """
    given: dict[str, dict[str, float]] = {}
    pose: Pose | None = None
    look: Look | None = None
    if robot.model:
        given, pose, look = _panda(robot)
    elif robot.urdf:
        joints = read_urdf(robot.urdf)
        given = {j.name: _urdf_limits(joints, j.name) for j in robot.joints}
        names = [j.name for j in robot.joints]
        pose = Chain(joints, robot.base, robot.tip, names).pose if robot.tip else None
    unit = np.array([UNITS[j.unit] for j in robot.joints])
    limits = _limits(robot.joints, given, unit)
    home = limits.check(np.array(robot.home) * unit, "home") if robot.home else None
    rest = np.append(panda.HOME, limits.upper[7:]) if robot.model else home
    return Body(limits, unit, home, pose, look, rest)


def _limits(joints: tuple[Joint, ...], given: dict[str, dict[str, float]], unit: Array) -> JointLimits:
    rows: dict[str, list[float]] = {key: [] for key in (*_KEYS, "margin")}
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


def _panda(robot: Robot) -> tuple[dict[str, dict[str, float]], Pose, Look]:
    """Limits and kinematics of the built-in arm: its seven joints come first, a sliding one may follow."""
    turning = [j.name for j in robot.joints if j.unit in ("rad", "deg")]
    if len(turning) != 7 or [j.name for j in robot.joints[:7]] != turning:
        raise ValueError(f"model panda: got turning joints {turning}, expected seven, before any sliding one")
    sliding = len(robot.joints) - 7
    values = {
        key: [*getattr(panda.LIMITS, key), *sliding * [getattr(panda.GRIPPER, key)[0]]] for key in _KEYS
    }
    given = {j.name: {key: float(row[i]) for key, row in values.items()} for i, j in enumerate(robot.joints)}

    def look(q: Array) -> tuple[Array, Array, Array]:
        position, rotation, jac = panda.look(q[:7])
        return position, rotation, np.pad(jac, ((0, 0), (0, sliding)))

    return given, lambda q: panda.forward(q[..., :7]), look
