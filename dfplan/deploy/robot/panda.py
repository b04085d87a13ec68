"""The built-in arm, a Franka Panda: the maker's limits and closed-form kinematics. SI units: m, rad, s, N m.

Poses are in the base frame; the tool's z points out of the hand, its y along the fingers' stroke.
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.inverse import solve as solve_for
from dfplan.deploy.robot.limits import JointLimits

Array = NDArray[np.float64]

JOINTS = tuple(f"q{i}" for i in range(1, 8))
LIMITS = JointLimits(
    JOINTS,
    lower=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    upper=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
    velocity=np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
    acceleration=np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0]),
    jerk=np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0]),
    margin=np.zeros(7),
    sliding=np.zeros(7, bool),
)
GRIPPER_OPEN, GRIPPER_SPEED = 0.08, 0.2
"""Largest opening between the fingers (m) and the fastest change of its target (m/s)."""
GRIPPER = JointLimits(
    ("gripper",),
    lower=np.zeros(1),
    upper=np.array([GRIPPER_OPEN]),
    velocity=np.array([GRIPPER_SPEED]),
    acceleration=np.array([10.0]),
    jerk=np.array([2000.0]),
    margin=np.zeros(1),
    sliding=np.ones(1, bool),
)


# Modified (Craig) Denavit-Hartenberg rows: a (m), d (m), alpha (rad), before the joint's own rotation.
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -pi / 2),
    (0.0, 0.316, pi / 2),
    (0.0825, 0.0, pi / 2),
    (-0.0825, 0.384, -pi / 2),
    (0.0, 0.0, pi / 2),
    (0.088, 0.0, pi / 2),
)
FLANGE, HAND_YAW, TCP = 0.107, -pi / 4, 0.1034
"""Flange after joint 7 (m), turn of the hand on it (rad), tool centre point from the hand (m)."""

HOME = np.array([0.0, -0.1, 0.0, -2.2, 0.0, 2.1, pi / 4])
"""Posture that the redundant joint is drawn to, rad."""
DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a tool that points down, fingers along y."""


def _joint_parts() -> tuple[Array, Array, Array]:
    """The transform of joint i is fixed + cos(q) * along_cos + sin(q) * along_sin; each (7, 4, 4)."""
    fixed, along_cos, along_sin = np.zeros((3, 7, 4, 4))
    for i, (a, d, alpha) in enumerate(DH):
        tilt = np.array(
            [
                [1.0, 0.0, 0.0, a],
                [0.0, cos(alpha), -sin(alpha), -d * sin(alpha)],
                [0.0, sin(alpha), cos(alpha), d * cos(alpha)],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        along_cos[i] = tilt @ np.diag([1.0, 1.0, 0.0, 0.0])
        along_sin[i, :, 0], along_sin[i, :, 1] = tilt[:, 1], -tilt[:, 0]
        fixed[i] = tilt @ np.diag([0.0, 0.0, 1.0, 1.0])
    return fixed, along_cos, along_sin


def _tool() -> tuple[Array, Array]:
    hand, tcp = np.eye(4), np.eye(4)
    hand[:2, :2] = [[cos(HAND_YAW), -sin(HAND_YAW)], [sin(HAND_YAW), cos(HAND_YAW)]]
    hand[2, 3], tcp[2, 3] = FLANGE, TCP
    return hand, tcp


_FIXED, _COS, _SIN = _joint_parts()
_HAND, _TCP = _tool()


def frames(q: ArrayLike) -> Array:
    """Frames of links 1 to 7, the hand and the TCP in the base: (..., 7) rad -> (..., 9, 4, 4), lengths in m."""
    q = np.asarray(q, dtype=np.float64)[..., None, None]
    steps = _FIXED + np.cos(q) * _COS + np.sin(q) * _SIN
    out = np.empty((*steps.shape[:-3], 9, 4, 4))
    out[..., 0, :, :] = steps[..., 0, :, :]
    for i in range(1, 7):
        out[..., i, :, :] = out[..., i - 1, :, :] @ steps[..., i, :, :]
    out[..., 7, :, :] = out[..., 6, :, :] @ _HAND
    out[..., 8, :, :] = out[..., 7, :, :] @ _TCP
    return out


def forward(q: ArrayLike) -> tuple[Array, Array]:
    """Pose of the TCP: (..., 7) rad -> position (..., 3) m and rotation matrix (..., 3, 3)."""
    tcp = frames(q)[..., 8, :, :]
    return tcp[..., :3, 3], tcp[..., :3, :3]


def jacobian(all_frames: Array) -> Array:
    """Geometric Jacobian of the TCP from `frames` (9, 4, 4): (6, 7), linear rows (m/rad), then angular (rad/rad)."""
    axes = all_frames[:7, :3, 2]
    arms = all_frames[8, :3, 3] - all_frames[:7, :3, 3]
    out = np.empty((6, 7))
    out[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
    out[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
    out[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
    out[3:] = axes.T
    return out


def look(q: Array) -> tuple[Array, Array, Array]:
    """Position (3,), rotation (3, 3) and Jacobian (6, 7) of the TCP at joints (7,)."""
    now = frames(q)
    return now[8, :3, 3], now[8, :3, :3], jacobian(now)


def solve(
    q: ArrayLike, position: ArrayLike, rotation: Array, rest: Array = HOME, iterations: int = 30
) -> tuple[Array, bool]:
    """Joints (7,) that bring the TCP to a pose, from `q` on, and whether it is met: see `inverse.solve`."""
    return solve_for(look, q, position, rotation, rest, LIMITS.lower, LIMITS.upper, iterations)
