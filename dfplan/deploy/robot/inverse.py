"""Inverse kinematics by damped least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.rotations import angle_between, rotation_vector

Array = NDArray[np.float64]
Look = Callable[[Array], tuple[Array, Array, Array]]
"""Joints (J,) -> position (3,) m, rotation (3, 3) and Jacobian (6, J) of the tool: linear rows, then angular ones."""
Pose = Callable[[Array], tuple[Array, Array]]
"""Joints (..., J) -> position (..., 3) m and rotation (..., 3, 3) of the tool."""

_DAMPING, _PULL, _EYE6 = 0.02, 0.1, np.eye(6)


def joint_step(jac: Array, q: Array, twist: Array, rest: Array | None, pull: float) -> Array:
    """Joint motion (J,) rad from `q` (J,), with the Jacobian `jac` (6, J), for a small `twist` (6,) of the tool, m and rad.

    Where that leaves freedom it goes a part `pull` of the way to the posture `rest` (J,), by joints that move the tool.
    """
    weights = np.linalg.solve(jac @ jac.T + _DAMPING**2 * _EYE6, np.column_stack([twist, jac]))
    drawn = np.where(np.abs(jac).max(0) > 1e-9, pull * ((q if rest is None else rest) - q), 0.0)
    return jac.T @ weights[:, 0] + drawn - jac.T @ (weights[:, 1:] @ drawn)


def solve(
    look: Look, q: ArrayLike, position: ArrayLike, rotation: Array, rest: Array | None, low: Array, high: Array,
    iterations: int = 30,
) -> tuple[Array, bool]:  # fmt: skip
    """Joints (J,) from `low` to `high` that bring the tool to a pose, and whether it is met within 1 mm and 0.01 rad.

    From `q` (J,) rad to `position` (3,) m and `rotation` (3, 3), in at most so many `iterations`, with the posture
    `rest` (J,) preferred.
    """
    q, position = np.clip(np.asarray(q, np.float64), low, high), np.asarray(position, np.float64)
    for _ in range(iterations):
        at, turned, jac = look(q)
        error = np.concatenate([position - at, rotation_vector(rotation @ turned.T)])
        error[:3] *= min(1.0, 0.15 / max(float(np.linalg.norm(error[:3])), 1e-9))
        error[3:] *= min(1.0, 0.6 / max(float(np.linalg.norm(error[3:])), 1e-9))
        step = joint_step(jac, q, error, rest, _PULL)
        q = np.clip(q + step, low, high)
        if np.abs(step).max() < 1e-4:
            break
    at, turned, _ = look(q)
    return q, bool(np.linalg.norm(at - position) < 1e-3) and angle_between(turned, rotation) < 1e-2
