"""A URDF file: joint limits from its text, kinematics by MuJoCo."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import one_of

Array = NDArray[np.float64]
_KINDS = ("revolute", "continuous", "prismatic", "fixed")


@dataclass(frozen=True)
class UrdfJoint:
    """One joint: its kind, links, place in the parent (m; rad about fixed x, y, z), axis, and limits.

    Limits are in rad or m, infinite of a continuous joint, NaN where not given.
    """

    name: str
    kind: str
    parent: str
    child: str
    xyz: Array
    rpy: Array
    axis: Array
    lower: float
    upper: float
    velocity: float


def read_urdf(path: str | os.PathLike[str]) -> dict[str, UrdfJoint]:
    """Joints of a URDF file by name; ValueError if it is none, or has a document type (which could define entities)."""
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
    parts = {part.tag: part.attrib for part in element}
    if "parent" not in parts or "child" not in parts:
        raise ValueError(f"joint '{element.get('name')}' has no parent or no child")
    kind, place, limit = str(element.get("type")), parts.get("origin", {}), parts.get("limit", {})
    free = np.inf if kind == "continuous" else np.nan
    return UrdfJoint(
        str(element.get("name")), kind, str(parts["parent"].get("link")), str(parts["child"].get("link")),
        _numbers(place, "xyz", "0 0 0"), _numbers(place, "rpy", "0 0 0"),
        _numbers(parts.get("axis", {}), "xyz", "1 0 0"),
        float(limit.get("lower", -free)), float(limit.get("upper", free)), float(limit.get("velocity", np.nan)),
    )  # fmt: skip


def _numbers(attributes: Mapping[str, str], key: str, default: str) -> Array:
    text = attributes.get(key, default)
    row = np.array([float(part) for part in text.split()])
    if row.shape != (3,):
        raise ValueError(f"got '{text}', expected three numbers")
    return row


class Chain:
    """Kinematics from a base link to a tip, for J joints in the mapping's order; for any thread."""

    def __init__(self, joints: dict[str, UrdfJoint], base: str, tip: str, names: Sequence[str]) -> None:
        """Joints that are not in `names` stay at 0; ValueError for an unknown link, or `base` not above `tip`."""
        import mujoco

        above = {joint.child: joint for joint in joints.values()}
        link, steps = one_of("tip link", tip, above), list[UrdfJoint]()
        while link != base:
            if link not in above:
                raise ValueError(f"got base '{base}', which is not above '{tip}'; the chain ends at '{link}'")
            steps.append(above[link])
            link = above[link].parent
        spec: Any = mujoco.MjSpec()
        body, turn = spec.worldbody, np.zeros(4)
        self._columns: list[int] = []
        for step in reversed(steps):
            mujoco.mju_euler2Quat(turn, step.rpy, "XYZ")
            body = body.add_body(pos=step.xyz, quat=turn, mass=1.0, inertia=np.ones(3), explicitinertial=True)
            if step.name in names and step.kind != "fixed":
                kinds = mujoco.mjtJoint
                kind = kinds.mjJNT_SLIDE if step.kind == "prismatic" else kinds.mjJNT_HINGE
                body.add_joint(type=kind, axis=step.axis)
                self._columns.append(names.index(step.name))
        self._model, self._tip = spec.compile(), len(steps)
        self._library, self._own = mujoco, threading.local()

    def look(self, q: ArrayLike) -> tuple[Array, Array, Array]:
        """Joints (J,) -> position (3,) m, rotation (3, 3) and Jacobian (6, J) of the tip in the base."""
        q, mujoco = np.asarray(q, np.float64), self._library
        if not hasattr(self._own, "data"):
            self._own.data = mujoco.MjData(self._model)
        data, moving = self._own.data, np.zeros((6, len(self._columns)))
        data.qpos[:] = q[self._columns]
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_jacBody(self._model, data, moving[:3], moving[3:], self._tip)
        jac = np.zeros((6, len(q)))
        jac[:, self._columns] = moving
        return data.xpos[self._tip].copy(), data.xmat[self._tip].reshape(3, 3).copy(), jac

    def pose(self, q: Array) -> tuple[Array, Array]:
        """Joints (..., J) -> position (..., 3) m and rotation (..., 3, 3) of the tip in the base."""
        q = np.asarray(q, np.float64)
        rows = q.reshape(-1, q.shape[-1])
        position, rotation = np.empty((len(rows), 3)), np.empty((len(rows), 3, 3))
        for i, row in enumerate(rows):
            position[i], rotation[i], _ = self.look(row)
        return position.reshape(*q.shape[:-1], 3), rotation.reshape(*q.shape[:-1], 3, 3)
