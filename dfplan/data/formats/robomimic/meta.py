"""What a robomimic file says beside its arrays: environment, demonstrations, masks, time step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import require_carried
from dfplan.data.files import read_json
from dfplan.data.formats.hdf5 import children, damaged, find
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    import h5py

_OWN = ("total", "env_args", "dfplan")


@dataclass(frozen=True)
class Demo:
    """A demonstration: its name (`demo_0`), HDF5 group, number of env steps, and attributes."""

    name: str
    group: Any
    steps: int
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Meta:
    """Everything but arrays.

    Attributes:
        demos: those to read, in the order of their numbers.
        info: entries of `Episodes.info`.
        env: the environment's arguments (`env_args`, or raw robosuite's `env_info`); {} where not stated.
        name: the environment's name, else the file's.
        carried: see `Raw`.
    """

    demos: Sequence[Demo]
    info: dict[str, Any]
    env: Mapping[str, Any]
    name: str
    carried: Mapping[str, Any]


def read_meta(path: Path, file: h5py.File, mask: str | None, partial: bool) -> Meta:
    """Read and check attributes, lengths and masks.

    Raises:
        ValueError: naming the file, the field, what it is and what it should be.
    """
    data = find(path, file, "data")
    if not hasattr(data, "keys"):
        raise ValueError(f"{path}: holds {children(path, file)[:8]}, expected robomimic's group 'data'")
    attrs = _attributes(path, data)
    demos = _demos(path, data)
    raw = "env_args" not in attrs and not any("num_samples" in demo.attrs for demo in demos)
    _check_total(path, attrs, demos, optional=partial or raw)
    masks = _masks(path, file, [demo.name for demo in demos])
    episodes = {demo.name: _described(path, demo) for demo in demos}
    if mask is not None:
        kept = masks[one_of(f"mask for {path}", mask, masks)]
        demos = [demo for demo in demos if demo.name in kept]
        masks = {key: [n for n in names if n in kept] for key, names in masks.items()}
        if not demos:
            raise ValueError(f"{path}: 'mask/{mask}' names no demonstration; choose another mask")
    own = {
        key: read_json(path, str(attrs[key]), f"attribute '{key}' of 'data'")
        for key in _OWN[1:]
        if key in attrs
    }
    info: dict[str, Any] = {"episodes": [episodes[demo.name] for demo in demos]}
    info |= (
        {"masks": {key: [episodes[n]["name"] for n in names] for key, names in masks.items()}}
        if masks
        else {}
    )
    others = {key: value for key, value in attrs.items() if key not in _OWN}
    info |= {"attrs": others} if others else {}
    env = own.get("env_args", {})
    if not env and "env_info" in attrs:
        kwargs = read_json(path, str(attrs["env_info"]), "attribute 'env_info' of 'data'")
        version = str(attrs.get("repository_version", ""))
        env = {"env_name": attrs.get("env"), "env_version": version, "type": 1, "env_kwargs": kwargs}
    info |= {"env_args": env} if env else {}
    info |= _controller(env.get("env_kwargs") or {})
    carried = require_carried(path, own["dfplan"]) if "dfplan" in own else {}
    return Meta(demos, info, env, str(env.get("env_name") or attrs.get("env") or path.stem), carried)


def time_step_of(
    meta: Meta, states: NDArray[np.generic] | None, ends: NDArray[np.int64], info: dict[str, Any]
) -> float | None:
    """Seconds between env steps: as stated, else from the times in raw robosuite's states, else by name.

    Where the times show an irregular step, `info["warnings"]` says so.
    """
    times = None
    if states is not None and states.ndim == 2 and ("env_args" not in info or meta.env.get("type") == 1):
        gaps = np.delete(np.diff(states[:, 0].astype(np.float64)), ends[:-1] - 1)
        if len(gaps) and np.isfinite(gaps).all() and (gaps > 0).all():
            times = round(float(np.median(gaps)), 6)
            if np.ptp(gaps) > 1e-3 * times:
                info.setdefault("warnings", []).append(
                    f"the time step is irregular, {gaps.min():.4g} to {gaps.max():.4g} s; dt is the median"
                )
    frequency = (meta.env.get("env_kwargs") or {}).get("control_freq")
    if isinstance(frequency, int | float) and frequency > 0:
        return 1.0 / frequency
    return times or time_step(meta.name)


def _attributes(path: Path, group: Any) -> dict[str, Any]:
    """Attributes as JSON values."""
    try:
        found = dict(group.attrs)
    except (OSError, RuntimeError, KeyError) as error:
        raise damaged(path, f"the attributes of '{group.name}'", error) from error
    return {
        key: value.decode(errors="replace")
        if isinstance(value, bytes)
        else value.tolist()
        if isinstance(value, np.ndarray | np.generic)
        else value
        for key, value in found.items()
    }


def _demos(path: Path, data: Any) -> list[Demo]:
    """The demonstrations in the order of their numbers."""
    numbers = {name: re.search(r"(\d+)$", name) for name in children(path, data)}
    names = sorted((int(found[1]), name) for name, found in numbers.items() if found)
    if not names:
        raise ValueError(
            f"{path}: 'data' holds {list(numbers)[:8]}, expected demonstrations demo_0, demo_1, ..."
        )
    demos = []
    for _, name in names:
        group = find(path, data, name)
        if not hasattr(group, "keys"):
            raise ValueError(f"{path}: 'data/{name}' is an array, expected a group with actions and obs")
        attrs = _attributes(path, group)
        lead = _lead(path, group)
        rows = (getattr(lead, "shape", None) or (0,))[0]
        steps = attrs.get("num_samples", rows)
        if lead is None or not isinstance(steps, int) or steps != rows or steps < 1:
            raise ValueError(
                f"{path}: 'data/{name}' has num_samples {steps} and {rows} rows of actions, expected "
                "the same number, at least 1; repair the attribute or record the demonstration again"
            )
        demos.append(Demo(name, group, steps, attrs))
    return demos


def _lead(path: Path, group: Any) -> Any:
    """The array whose rows are a demonstration's env steps: actions, else states, else an observation."""
    observed = find(path, group, "obs")
    inside = [f"obs/{key}" for key in children(path, observed)] if hasattr(observed, "keys") else []
    items = (find(path, group, key) for key in ("actions", "states", *inside))
    return next((item for item in items if item is not None), None)


def _check_total(path: Path, attrs: Mapping[str, Any], demos: Sequence[Demo], optional: bool) -> None:
    """Raise unless the attribute `total` is the number of env steps."""
    steps, total = sum(demo.steps for demo in demos), attrs.get("total")
    if total is None and not optional:
        raise ValueError(
            f"{path}: 'data' has no attribute 'total', which writers set last, so writing was cut short; write "
            f"the file again, or pass partial=True to read the {len(demos)} demonstrations that are there"
        )
    if total is not None and total != steps:
        raise ValueError(
            f"{path}: attribute 'total' of 'data' is {total}, the demonstrations have {steps} rows; fetch the "
            "file again or repair the attribute"
        )


def _masks(path: Path, file: h5py.File, demos: Sequence[str]) -> dict[str, list[str]]:
    """Mask -> names of demonstrations."""
    group = find(path, file, "mask")
    masks: dict[str, list[str]] = {}
    for name in children(path, group) if hasattr(group, "keys") else []:
        item = find(path, group, name)
        shape = getattr(item, "shape", None) or ()
        if len(shape) != 1 or item.dtype.kind not in "SOU":
            raise ValueError(
                f"{path}: 'mask/{name}' is not a list of names, expected byte strings such as 'demo_0'"
            )
        try:
            masks[name] = [n.decode() if isinstance(n, bytes) else str(n) for n in item[:]]
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise damaged(path, f"'mask/{name}'", error) from error
        missing = [n for n in masks[name] if n not in demos]
        if missing:
            raise ValueError(
                f"{path}: 'mask/{name}' names '{missing[0]}', which is not among the {len(demos)} demonstrations; "
                "remove it from the mask, or fetch the file again"
            )
    return masks


def _described(path: Path, demo: Demo) -> dict[str, Any]:
    """A demonstration in `info["episodes"]`."""
    attrs = {key: value for key, value in demo.attrs.items() if key not in ("num_samples", "dfplan")}
    own = str(demo.attrs.get("dfplan", "{}"))
    stated = read_json(path, own, f"attribute 'dfplan' of 'data/{demo.name}'")
    return {"name": demo.name} | stated | ({"attrs": attrs} if attrs else {})


def _controller(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Version of robosuite's controller layout, and whether its actions are steps or targets."""
    config = kwargs.get("controller_configs")
    config = config[0] if isinstance(config, list) and config else config
    if not isinstance(config, dict):
        return {}
    if "body_parts" not in config:
        delta = config.get("control_delta")
        mode = {True: "delta", False: "absolute"}.get(delta) if isinstance(delta, bool) else None
        return {"version": "1.4"} | ({"action_mode": mode} if mode else {})
    parts = [part for part in config["body_parts"].values() if isinstance(part, dict)]
    kinds = {part["input_type"] for part in parts if isinstance(part.get("input_type"), str)}
    return {"version": "1.5"} | ({"action_mode": kinds.pop()} if len(kinds) == 1 else {})
