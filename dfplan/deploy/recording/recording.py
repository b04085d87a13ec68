"""A recording: what its columns are called, the episodes so far, and the file or folder that holds them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes, load
from dfplan.data.files import refuse_existing
from dfplan.data.formats.registry import FORMATS, format_of
from dfplan.deploy.recording.sampler import Rows
from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.robot.tables import UNITS
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.serialize import to_dict

Name = str | os.PathLike[str]
Arrays = dict[str, NDArray[np.generic]]

_SI = {"rad": "rad", "deg": "rad", "m": "m", "mm": "m", "cm": "m", "1": "1"}
_TOOL = ("x", "y", "z", "xx", "xy", "xz", "yx", "yy", "yz")


def observation_info(mapping: RobotMapping) -> tuple[list[str], list[str], dict[str, list[int]]]:
    """Names and units of the observation's columns, and the columns of each sensor: [start, stop].

    Sensors of one name that follow each other are one group.
    """
    names: list[str] = []
    units: list[str] = []
    groups: dict[str, list[int]] = {}
    last = key = ""
    scaled = {joint.name for joint in mapping.robot.joints if joint.scaled}
    for sensor in mapping.policy.observation:
        begin = len(names)
        names += sensor.called
        own = sensor.source == mapping.robot.state and sensor.field != "effort"
        per = "/s" if sensor.field == "velocity" else ""
        plain = [("1" if own and n in scaled else _SI[sensor.unit]) + per for n in sensor.names]
        turn = ["1"] * 6
        units += {"none": plain, "rot6d": turn, "tool": ["m"] * 3 + turn}[sensor.convert]
        if sensor.name == last:
            groups[key][1] = len(names)
            continue
        last = key = sensor.name
        while key in groups:
            key += "_2"
        groups[key] = [begin, len(names)]
    return names, units, groups


def action_info(mapping: RobotMapping) -> tuple[list[str], list[str], dict[str, str]]:
    """Names and units of the action's columns, and which of them is told relative to which observation column."""
    policy, state = mapping.policy, mapping.robot.state
    seen: dict[str, str] = {}
    tool: tuple[str, ...] = ()
    joints = {joint.name: joint for joint in mapping.robot.joints}
    for sensor in policy.observation:
        if sensor.convert == "tool":
            tool = tool or sensor.called
        elif sensor.source == state and sensor.field == "position":
            for joint, column in zip(sensor.names, sensor.called, strict=True):
                if joint in joints and UNITS[joints[joint].unit] == UNITS[sensor.unit]:
                    seen.setdefault(joint, column)
    parts = [
        (seen.get(n, n), "1" if joints[n].scaled else _SI[joints[n].unit], n)
        for n in policy.action_joints or tuple(joints)
    ]
    if policy.action == "tool":
        after = parts if policy.action_joints else []
        pose = tool or tuple(f"tool_{axis}" for axis in _TOOL)
        units = ["m"] * 3 + ["1"] * 6
        parts = [(name, unit, "") for name, unit in zip(pose, units, strict=True)] + after
    relative = {
        f"{column} target": column
        for column, _, joint in parts
        if (joint in seen and not joints[joint].grips if joint else bool(tool))
    }
    return [f"{column} target" for column, _, _ in parts], [unit for _, unit, _ in parts], relative


class Recording:
    """Episodes so far, and the file or folder that holds them."""

    def __init__(
        self, mapping: RobotMapping, out: Name | None = None, *, resume: bool = False, name: str = "",
        relative: Mapping[str, str] | None = None, env_args: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Begin a recording, or go on with one; see `record`."""
        names, units, groups = observation_info(mapping)
        actions, action_units, moved = action_info(mapping)
        for column, reference in (relative or {}).items():
            one_of("relative column", column, [*names, *actions])
            one_of("column it is relative to", reference, names)
        self.name, self.dt = name or mapping.robot.name, mapping.policy.dt
        self.info: dict[str, Any] = {
            "names": {"observations": names, "actions": actions},
            "units": {"observations": units, "actions": action_units},
            "groups": groups,
            "relative": {**moved, **(relative or {})},
            "env_args": dict(env_args or {"env_name": self.name, "type": 2, "env_kwargs": {}}),
            "mapping": to_dict(mapping),
        }
        self.arrays: dict[str, list[NDArray[np.generic]]] = {}
        self.described: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        self.out = None if out is None else Path(out).expanduser()
        if self.out is not None:
            self._open(self.out, resume)

    def _open(self, out: Path, resume: bool) -> None:
        """Refuse what cannot be written before anything is recorded, and take over what is there."""
        if format_of(out, None) == "lerobot":
            optional_import("pyarrow", "lerobot")
        out.parent.mkdir(parents=True, exist_ok=True)
        old = _beside(out, "old")
        if old.exists() and not out.exists():  # the writer was killed between its two renames
            old.rename(out)
        if not resume:
            refuse_existing(out)
        elif out.exists():
            self._take(load(out))

    def _take(self, there: Episodes) -> None:
        """Go on with a recording; ValueError where it has other columns, units or another time step."""
        for key in ("names", "units", "groups"):
            got, mine = there.info.get(key, {}), self.info[key]
            if any(got.get(k) != value for k, value in mine.items()):
                raise ValueError(
                    f"{self.out}: has {key} {got}, the mapping has {mine}; record to another file, or with its mapping"
                )
        if abs(there.dt - self.dt) > 1e-9:
            raise ValueError(f"{self.out}: is at {there.dt} s, the mapping's policy.dt is {self.dt} s")
        keys = [key for key in ("observations", "actions", "doubtful") if key in there.arrays]
        self.arrays = {key: [np.asarray(there.arrays[key])] for key in keys}
        self.lengths = (there.ends - there.starts).tolist()
        self.described = [dict(row) for row in there.info["episodes"]]

    def add(self, rows: Rows, optional: tuple[str, ...], source: str = "") -> None:
        """Keep an episode; `save` writes it."""
        arrays: Arrays = {
            "observations": rows.observations.astype(np.float32),
            "actions": rows.actions.astype(np.float32),
        }
        if optional:
            arrays["doubtful"] = rows.doubtful
            self.info["names"]["doubtful"] = list(optional)
        for key, part in arrays.items():
            self.arrays.setdefault(key, []).append(part)
        self.lengths.append(len(rows.actions))
        row = {"name": f"demo_{len(self.described)}", "begun": rows.begun, "commanded": list(rows.commanded)}
        self.described.append(row | ({"source": source} if source else {}))

    def __len__(self) -> int:
        return len(self.lengths)

    def episodes(self) -> Episodes:
        """All of them; ValueError where there is none."""
        if not self.lengths:
            raise ValueError(f"{self.name}: no episode was kept, so there is nothing to write")
        arrays = {key: np.concatenate(parts) for key, parts in self.arrays.items()}
        info = self.info | {"episodes": self.described}
        return Episodes(arrays, np.cumsum(self.lengths), self.dt, self.name, info)

    def save(self) -> None:
        """Write all episodes beside the file, then put them in its place."""
        if self.out is None:
            return
        form, new = format_of(self.out, None), _beside(self.out, "new")
        killed = self.out.parent.glob(f".{escape(new.name)}.*.part")  # what a writer left that was killed
        for rest in (new, *killed):
            _remove(rest)
        write = FORMATS[form].write
        assert write is not None
        write(self.episodes(), new, **({"rescale": True} if form == "robomimic" else {}))
        if not self.out.is_dir():
            os.replace(new, self.out)
            return
        old = _beside(self.out, "old")
        _remove(old)
        self.out.rename(old)  # a folder cannot be replaced in one go; `_open` puts it back if this is the end
        new.rename(self.out)
        _remove(old)


def _beside(path: Path, word: str) -> Path:
    return path.with_name(f".{word}.{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
