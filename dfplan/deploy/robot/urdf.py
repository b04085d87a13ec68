"""Joint limits and forward kinematics from a URDF file, with nothing but the standard library and numpy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

Array = NDArray[np.float64]
_KINDS = ("revolute", "continuous", "prismatic", "fixed")


@dataclass(frozen=True)
class UrdfJoint:
    """One joint: its kind, links, pose in the parent (4, 4), axis (3,), and limits in rad or m, NaN where not given."""

    name: str
    kind: str
    parent: str
    child: str
    origin: Array
    axis: Array
    lower: float
    upper: float
    velocity: float


def read_urdf(path: str | os.PathLike[str]) -> dict[str, UrdfJoint]:
    """Joints of a URDF file by name.

    Raises:
        ValueError: if it is no URDF, or has a document type (which could define entities), naming the file.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; a path in a mapping is relative to the mapping's folder")
    text = path.read_text(encoding="utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path}: has a document type, which a URDF does not need; remove it")
    try:
        root = ElementTree.fromstring(text)
        joints = [_joint(e) for e in root.findall("joint") if e.get("type") in _KINDS]
    except (ElementTree.ParseError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: cannot be read as URDF ({error}); run xacro and check_urdf on it"
        ) from error
    if root.tag != "robot" or not joints:
        raise ValueError(f"{path}: got <{root.tag}> with {len(joints)} joints, expected <robot> with joints")
    return {joint.name: joint for joint in joints}


def _joint(element: ElementTree.Element) -> UrdfJoint:
    kind, limit = str(element.get("type")), element.find("limit")
    origin, axis = element.find("origin"), element.find("axis")
    parent, child = element.find("parent"), element.find("child")
    if parent is None or child is None:
        raise ValueError(f"joint '{element.get('name')}' has no parent or no child")
    pose = np.eye(4)
    if origin is not None:
        pose[:3, 3] = _numbers(origin.get("xyz", "0 0 0"))
        pose[:3, :3] = _rpy(*_numbers(origin.get("rpy", "0 0 0")))
    values = {} if limit is None else limit.attrib
    free = np.inf if kind == "continuous" else np.nan
    along = _numbers("1 0 0" if axis is None else axis.get("xyz", "1 0 0"))
    return UrdfJoint(
        str(element.get("name")), kind, str(parent.get("link")), str(child.get("link")), pose,
        along / max(float(np.linalg.norm(along)), 1e-12),
        float(values.get("lower", -free)), float(values.get("upper", free)), float(values.get("velocity", np.nan)),
    )  # fmt: skip


def _numbers(text: str) -> Array:
    row = np.array([float(part) for part in text.split()])
    if row.shape != (3,):
        raise ValueError(f"got '{text}', expected three numbers")
    return row


def _rpy(roll: float, pitch: float, yaw: float) -> Array:
    """Rotation about fixed x, then y, then z (3, 3)."""
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class Chain:
    """Forward kinematics from a base link to a tip, for joints in the mapping's order."""

    def __init__(self, joints: dict[str, UrdfJoint], base: str, tip: str, names: Sequence[str]) -> None:
        """Follow the tree from `tip` up to `base`; joints that are not in `names` stay at 0.

        Raises:
            ValueError: for an unknown link, or where `base` is not above `tip`.
        """
        above = {joint.child: joint for joint in joints.values()}
        link = one_of("tip link", tip, above)
        self._steps: list[tuple[UrdfJoint, int]] = []
        while link != base:
            if link not in above:
                raise ValueError(f"got base '{base}', which is not above '{tip}'; the chain ends at '{link}'")
            joint = above[link]
            self._steps.append((joint, names.index(joint.name) if joint.name in names else -1))
            link = joint.parent
        self._steps.reverse()

    def pose(self, q: Array) -> tuple[Array, Array]:
        """Joints (..., J) -> position (..., 3) m and rotation (..., 3, 3) of the tip in the base."""
        q = np.asarray(q, np.float64)
        rotation = np.broadcast_to(np.eye(3), (*q.shape[:-1], 3, 3))
        position = np.zeros((*q.shape[:-1], 3))
        for joint, column in self._steps:
            position = position + rotation @ joint.origin[:3, 3]
            rotation = rotation @ joint.origin[:3, :3]
            if column < 0 or joint.kind == "fixed":
                continue
            if joint.kind == "prismatic":
                position = position + (rotation @ joint.axis) * q[..., column, None]
            else:
                rotation = rotation @ _turn(joint.axis, q[..., column])
        return position, rotation


def _turn(axis: Array, angle: Array) -> Array:
    """Rotation about a unit axis: angles (...,) -> (..., 3, 3) (Rodrigues)."""
    x, y, z = axis.tolist()
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + s * cross + (1 - c) * (cross @ cross)
