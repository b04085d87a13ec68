"""Rotations of a tool: matrices, six numbers, axis times angle."""

from __future__ import annotations

from math import cos, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def rot6d(rotation: ArrayLike) -> Array:
    """First two columns of rotation matrices, one after the other: (..., 3, 3) -> (..., 6)."""
    rotation = np.asarray(rotation, dtype=np.float64)
    return np.concatenate([rotation[..., :, 0], rotation[..., :, 1]], axis=-1)


def matrix(six: ArrayLike) -> Array:
    """Gram and Schmidt: (..., 6) -> (..., 3, 3); ValueError where two columns are not finite, or zero, or parallel."""
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
    twice = rotation - rotation.T
    skew = np.array([twice[2, 1], twice[0, 2], twice[1, 0]])
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
