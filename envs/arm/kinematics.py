"""Closed-form kinematics of the arm, rotations as six numbers, and damped least squares.

Poses are in the base frame: position in m, rotation matrices whose columns are the tool's axes (z points out
of the hand, y along the fingers' stroke). Nothing here needs MuJoCo.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .model import DH, FLANGE, HAND_YAW, PANDA, TCP

Array = NDArray[np.float64]

DAMPING = 0.02
_LOWER, _UPPER = np.array(PANDA.lower), np.array(PANDA.upper)
_EYE6, _EYE7 = np.eye(6), np.eye(7)


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
    hand = np.eye(4)
    hand[:2, :2] = [[cos(HAND_YAW), -sin(HAND_YAW)], [sin(HAND_YAW), cos(HAND_YAW)]]
    hand[2, 3] = FLANGE
    tcp = np.eye(4)
    tcp[2, 3] = TCP
    return hand, tcp


_FIXED, _COS, _SIN = _joint_parts()
_HAND, _TCP = _tool()


def frames(q: ArrayLike) -> Array:
    """Frames of links 1 to 7, the hand and the TCP.

    Args:
        q: (..., 7) rad.

    Returns:
        (..., 9, 4, 4) homogeneous transforms to the base frame, lengths in m.
    """
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
    """Pose of the TCP.

    Args:
        q: (..., 7) rad.

    Returns:
        position (..., 3) m and rotation matrix (..., 3, 3).
    """
    tcp = frames(q)[..., 8, :, :]
    return tcp[..., :3, 3], tcp[..., :3, :3]


def jacobian(all_frames: Array) -> Array:
    """Geometric Jacobian of the TCP.

    Args:
        all_frames: (9, 4, 4) from `frames`.

    Returns:
        (6, 7): linear rows (m/rad), then angular rows (rad/rad).
    """
    axes = all_frames[:7, :3, 2]
    arms = all_frames[8, :3, 3] - all_frames[:7, :3, 3]
    out = np.empty((6, 7))
    out[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
    out[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
    out[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
    out[3:] = axes.T
    return out


def rot6d(rotation: ArrayLike) -> Array:
    """First two columns of rotation matrices, one after the other: (..., 3, 3) -> (..., 6)."""
    rotation = np.asarray(rotation, dtype=np.float64)
    return np.concatenate([rotation[..., :, 0], rotation[..., :, 1]], axis=-1)


def matrix(six: ArrayLike) -> Array:
    """Rotation matrix nearest in Gram and Schmidt's sense: (..., 6) -> (..., 3, 3).

    Raises:
        ValueError: where the two columns are not finite, or zero, or parallel.
    """
    six = np.asarray(six, dtype=np.float64)
    x, y = six[..., :3], six[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        y = y - (x * y).sum(-1, keepdims=True) * x
        size = np.linalg.norm(y, axis=-1, keepdims=True)
        y = y / size
    if not np.isfinite(y).all() or (size < 1e-6).any():
        raise ValueError(
            f"got 6D rotation {six.tolist()}, expected two finite columns that are neither zero nor parallel; "
            "the identity is [1, 0, 0, 0, 1, 0]"
        )
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def rotation_vector(rotation: Array) -> Array:
    """Axis times angle (rad) of one rotation matrix (3, 3) -> (3,), angle in [0, pi]."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine, cosine = 0.5 * float(np.linalg.norm(skew)), 0.5 * (float(np.trace(rotation)) - 1.0)
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-6:
        return skew * (angle / (2.0 * sine))
    if cosine > 0:
        return 0.5 * skew
    axis = np.sqrt(np.maximum(0.0, 0.5 * (np.diag(rotation) + 1.0)))
    lead = int(np.argmax(axis))
    axis = (rotation[:, lead] + np.eye(3)[lead]) / (2.0 * axis[lead])
    return angle * axis


def turn(vector: ArrayLike) -> Array:
    """Rotation matrix of axis times angle (rad): (3,) -> (3, 3) (Rodrigues)."""
    vector = np.asarray(vector, dtype=np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = (vector / angle).tolist()
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + sin(angle) * cross + (1.0 - cos(angle)) * (cross @ cross)


def angle_between(a: Array, b: Array) -> float:
    """Angle in rad between two rotation matrices (3, 3)."""
    return float(np.linalg.norm(rotation_vector(a.T @ b)))


def joint_step(all_frames: Array, q: Array, twist: Array, home: Array, pull: float) -> Array:
    """Joint motion for a small TCP motion, drawn toward a posture where the task leaves freedom.

    Args:
        all_frames: (9, 4, 4) `frames(q)`.
        q: (7,) rad.
        twist: (6,) translation (m) and rotation (rad) to make.
        home: (7,) posture to prefer, rad.
        pull: part of the way to `home` to go in the null space.

    Returns:
        (7,) rad, by damped least squares.
    """
    jac = jacobian(all_frames)
    weights = np.linalg.solve(jac @ jac.T + DAMPING**2 * _EYE6, np.column_stack([twist, jac]))
    inverse_twist, projector = jac.T @ weights[:, 0], _EYE7 - jac.T @ weights[:, 1:]
    return inverse_twist + projector @ (pull * (home - q))


def solve(
    q: ArrayLike, position: ArrayLike, rotation: Array, home: Array, iterations: int = 30
) -> tuple[Array, bool]:
    """Joint angles that reach a TCP pose, from `q` on.

    Args:
        q: (7,) start, rad.
        position: (3,) m.
        rotation: (3, 3).
        home: (7,) posture to prefer, rad.
        iterations: at most this many steps.

    Returns:
        (7,) within the joint limits, and whether the pose is met within 1 mm and 0.01 rad.
    """
    q, position = np.array(q, dtype=np.float64), np.asarray(position, dtype=np.float64)
    for _ in range(iterations):
        now = frames(q)
        error = np.concatenate([position - now[8, :3, 3], rotation_vector(rotation @ now[8, :3, :3].T)])
        error[:3] *= min(1.0, 0.15 / max(float(np.linalg.norm(error[:3])), 1e-9))
        error[3:] *= min(1.0, 0.6 / max(float(np.linalg.norm(error[3:])), 1e-9))
        step = joint_step(now, q, error, home, 0.1)
        q = np.clip(q + step, _LOWER, _UPPER)
        if np.abs(step).max() < 1e-4:
            break
    p, r = forward(q)
    met = float(np.linalg.norm(p - position)) < 1e-3 and angle_between(r, rotation) < 1e-2
    return q, met
