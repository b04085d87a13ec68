"""What a robomimic file says beside its arrays: environment, demonstrations, masks, time step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import require_carried
from dfplan.data.files import read_json
from dfplan.data.formats.hdf5 import DAMAGE, Node
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of

_OWN = ("total", "env_args", "dfplan")


@dataclass(frozen=True)
class Demo:
    """A demonstration: its name (`demo_0`), HDF5 group, number of env steps, and attributes."""

    name: str
    group: Node
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


def read_meta(file: Node, mask: str | None, partial: bool) -> Meta:
    """Read and check attributes, lengths and masks."""
    path, data = file.path, file.find("data")
    if data is None or not data.is_group:
        raise ValueError(f"{path}: holds {file.names()[:8]}, expected robomimic's group 'data'")
    attrs = data.attributes()
    demos = _demos(data)
    raw = "env_args" not in attrs and not any("num_samples" in demo.attrs for demo in demos)
    _check_total(data, attrs.get("total"), demos, optional=partial or raw)
    masks = _masks(file, [demo.name for demo in demos])
    if mask is not None:
        kept = masks[one_of(f"mask for {path}", mask, masks)]
        demos = [demo for demo in demos if demo.name in kept]
        masks = {key: [n for n in names if n in kept] for key, names in masks.items()}
        if not demos:
            raise ValueError(f"{path}: 'mask/{mask}' names no demonstration; choose another mask")
    described = {demo.name: _described(demo) for demo in demos}
    info: dict[str, Any] = {"episodes": list(described.values())}
    if masks:
        info["masks"] = {key: [described[n]["name"] for n in names] for key, names in masks.items()}
    if others := {key: value for key, value in attrs.items() if key not in _OWN}:
        info["attrs"] = others
    env = _json(data, attrs, "env_args")
    if not env and "env_info" in attrs:
        kwargs, version = _json(data, attrs, "env_info"), str(attrs.get("repository_version", ""))
        env = {"env_name": attrs.get("env"), "env_version": version, "type": 1, "env_kwargs": kwargs}
    info |= {"env_args": env} if env else {}
    info |= _controller(env.get("env_kwargs") or {})
    carried = require_carried(path, _json(data, attrs, "dfplan")) if "dfplan" in attrs else {}
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


def _json(node: Node, attrs: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An attribute that is a JSON object; {} where there is none."""
    return read_json(node.path, str(attrs.get(key, "{}")), f"attribute '{key}' of '{node.key}'")


def _demos(data: Node) -> list[Demo]:
    """The demonstrations in the order of their numbers."""
    numbers = {name: re.search(r"(\d+)$", name) for name in data.names()}
    names = sorted((int(found[1]), name) for name, found in numbers.items() if found)
    if not names:
        raise ValueError(
            f"{data.path}: 'data' holds {list(numbers)[:8]}, expected demonstrations demo_0, demo_1, ..."
        )
    demos = []
    for _, name in names:
        group = data.find(name)
        if group is None or not group.is_group:
            raise ValueError(f"{data.path}: 'data/{name}' is an array, expected a group with actions and obs")
        attrs, rows = group.attributes(), _rows(group)
        steps = attrs.get("num_samples", rows)
        if not isinstance(steps, int) or steps != rows or steps < 1:
            raise ValueError(
                f"{data.path}: 'data/{name}' has num_samples {steps} and {rows} rows of actions, expected "
                "the same number, at least 1; repair the attribute or record the demonstration again"
            )
        demos.append(Demo(name, group, steps, attrs))
    return demos


def _rows(group: Node) -> int:
    """Rows of a demonstration's actions, else of its states, else of an observation; 0 where there are none."""
    observed = group.find("obs")
    inside = [f"obs/{key}" for key in observed.names()] if observed else []
    for key in ("actions", "states", *inside):
        if found := group.find(key):
            return (*found.shape, 0)[0]
    return 0


def _check_total(data: Node, total: Any, demos: Sequence[Demo], optional: bool) -> None:
    """Raise unless the attribute `total` is the number of env steps."""
    steps = sum(demo.steps for demo in demos)
    if total is None and not optional:
        raise ValueError(
            f"{data.path}: 'data' has no attribute 'total', which writers set last, so writing was cut short; write "
            f"the file again, or pass partial=True to read the {len(demos)} demonstrations that are there"
        )
    if total is not None and total != steps:
        raise ValueError(
            f"{data.path}: attribute 'total' of 'data' is {total}, the demonstrations have {steps} rows; fetch the "
            "file again or repair the attribute"
        )


def _masks(file: Node, demos: Sequence[str]) -> dict[str, list[str]]:
    group = file.find("mask")
    masks: dict[str, list[str]] = {}
    for name in group.names() if group else []:
        node = file.find(f"mask/{name}")
        if node is None or len(node.shape) != 1 or node.item.dtype.kind not in "SOU":
            raise ValueError(
                f"{file.path}: 'mask/{name}' is not a list of names, expected byte strings such as 'demo_0'"
            )
        try:
            masks[name] = [n.decode() if isinstance(n, bytes) else str(n) for n in node.item[:]]
        except (*DAMAGE, UnicodeDecodeError) as error:
            raise node.damaged(error) from error
        missing = [n for n in masks[name] if n not in demos]
        if missing:
            raise ValueError(
                f"{file.path}: 'mask/{name}' names '{missing[0]}', which is not among the {len(demos)} demonstrations; "
                "remove it from the mask, or fetch the file again"
            )
    return masks


def _described(demo: Demo) -> dict[str, Any]:
    """A demonstration in `info["episodes"]`."""
    attrs = {key: value for key, value in demo.attrs.items() if key not in ("num_samples", "dfplan")}
    return {"name": demo.name} | _json(demo.group, demo.attrs, "dfplan") | ({"attrs": attrs} if attrs else {})


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
