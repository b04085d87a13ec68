"""Writer of robomimic's HDF5 layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, carry, numeric, spans_of, take_columns
from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5_write import new_hdf5

_NATIVE = ("episodes", "masks", "env_args", "attrs")


def write_robomimic(
    episodes: Episodes,
    path: str | PathLike[str],
    *,
    env_args: Mapping[str, Any] | None = None,
    rescale: bool = False,
    next_obs: bool = True,
    compression: str | None = None,
) -> tuple[str, ...]:
    """Write a file that robomimic trains on.

    Each group of observation columns becomes `obs/<key>` (all columns `obs/flat` where there are none),
    `terminals` become `dones`, other arrays keep their names; masks, per-demonstration attributes and the
    environment's arguments go where robomimic looks for them.

    Args:
        episodes: what to write.
        path: where; never overwritten.
        env_args: `env_name`, `type` (1 robosuite, 2 gym), `env_kwargs`. Default: those in `episodes.info`,
            else a gym environment called like the episodes.
        rescale: divide action columns that leave [-1, 1] by a power of two, noted in the file, where
            `read_robomimic` finds it and undoes it exactly; False makes them an error.
        next_obs: write `next_obs` too, which robomimic reads unless told otherwise; after the last env step
            of a demonstration, where no observation follows, the last one is repeated.
        compression: None or 'gzip'.

    Returns:
        sentences on what was not carried over or was changed.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: an action leaves [-1, 1], or a number is not finite.
    """
    path = Path(path)
    arrays, notes = numeric(episodes, path)
    parts = _file_arrays(episodes, arrays)
    scale = _scale(path, parts.get("actions"), rescale, notes)
    if scale is not None:
        parts["actions"] = np.divide(parts["actions"], scale)
    names = _demo_names(episodes, notes)
    env = env_args or episodes.info.get("env_args")
    if not env:
        env = {"env_name": episodes.name, "type": 2, "env_kwargs": {}}
        notes.append(
            f"env_args names a gym environment '{episodes.name}', a guess; pass env_args= to roll out"
        )
    described = episodes.info.get("episodes") or [{}] * len(episodes)
    with new_hdf5(path) as (file, check):
        data = file.create_group("data")
        for name, extra, begin, end in zip(names, described, episodes.starts, episodes.ends, strict=True):
            demo = data.create_group(name)
            own = {key: value for key, value in extra.items() if key != "attrs"}
            demo.attrs.update(extra.get("attrs", {}))
            if own not in ({}, {"name": name}):
                demo.attrs["dfplan"] = json.dumps(own)
            demo.attrs["num_samples"] = int(end - begin)
            _write_arrays(demo, {k: array[begin:end] for k, array in parts.items()}, next_obs, compression)
            check()
        for key, members in _masks(episodes, names).items():
            file[f"mask/{key}"] = np.array([name.encode() for name in members], dtype="S")
        data.attrs.update(episodes.info.get("attrs", {}))
        data.attrs["env_args"] = json.dumps(env, indent=4)
        data.attrs["dfplan"] = json.dumps(_carried(episodes, arrays, scale))
        data.attrs["total"] = episodes.steps
    return tuple(notes)


def _write_arrays(demo: Any, arrays: Arrays, next_obs: bool, compression: str | None) -> None:
    """Write one demonstration's rows, and the observation after each."""
    for key, rows in arrays.items():
        demo.create_dataset(key, data=rows, compression=compression)
        if next_obs and key.startswith("obs/"):
            after = np.concatenate([rows[1:], rows[-1:]])
            demo.create_dataset(f"next_{key}", data=after, compression=compression)


def _file_arrays(episodes: Episodes, arrays: Arrays) -> Arrays:
    """Key in a demonstration -> array (N, ...)."""
    out: Arrays = {}
    types = episodes.info.get("dtypes", {})
    for key, span in spans_of(episodes, "observations", "flat").items():
        columns = take_columns(arrays["observations"], span)
        out[f"obs/{key}"] = columns.astype(types.get(key, columns.dtype), copy=False)
    if "actions" in arrays:
        for key, span in spans_of(episodes, "actions", "actions").items():
            out[key] = take_columns(arrays["actions"], span)
    for key, name in _other_keys(arrays).items():
        if key in out or key.split("/")[0] in ("obs", "next_obs"):
            raise ValueError(
                f"{episodes.name}: '{name}' cannot be written as '{key}', which is taken; rename it"
            )
        out[key] = arrays[name]
    return out


def _other_keys(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Key in a demonstration -> array, for all but observations and actions."""
    known = {"demo/actions": "actions"} | ({} if "dones" in arrays else {"terminals": "dones"})
    return {known.get(name, name): name for name in arrays if name not in ("observations", "actions")}


def _carried(
    episodes: Episodes, arrays: Mapping[str, Any], scale: NDArray[np.generic] | None
) -> dict[str, Any]:
    renamed = {key: name for key, name in _other_keys(arrays).items() if key != name}
    out = carry(episodes, renamed, _NATIVE) | {"obs": list(spans_of(episodes, "observations", "flat"))}
    out |= {"action": list(spans_of(episodes, "actions", "actions"))} if "actions" in arrays else {}
    return out | ({} if scale is None else {"action_scale": scale.tolist()})


def _scale(
    path: Path, actions: NDArray[np.generic] | None, rescale: bool, notes: list[str]
) -> NDArray[np.generic] | None:
    """One power of two per action column that brings it into [-1, 1], or None where all are inside."""
    if actions is None:
        notes.append("the episodes have no actions, which robomimic needs to train on")
        return None
    largest = np.abs(np.stack([actions.min(0), actions.max(0)]).astype(np.float64)).max(0)
    if (largest <= 1).all():
        return None
    if not rescale or actions.dtype.kind != "f":
        columns = actions.reshape(len(actions), -1)
        row, column = np.argwhere(np.abs(columns) > 1)[0]
        raise ValueError(
            f"{path}: 'actions' row {row} column {column} is {columns[row, column]}, robomimic expects "
            "floats in [-1, 1]; pass rescale=True to divide them by a power of two that the file notes"
        )
    scale = np.exp2(np.ceil(np.log2(np.maximum(largest, 1)))).astype(actions.dtype)
    notes.append(
        f"actions are divided by {np.atleast_1d(scale).tolist()} to lie in [-1, 1]; read_robomimic undoes it"
    )
    return scale


def _demo_names(episodes: Episodes, notes: list[str]) -> list[str]:
    """`demo_<i>` of each episode: its own name where that has this form, which robomimic needs."""
    described = episodes.info.get("episodes") or [{}] * len(episodes)
    names = [str(episode.get("name", "")) for episode in described]
    numbers = [int(name[5:]) for name in names if re.fullmatch(r"demo_\d+", name)]
    if len(numbers) == len(names) and (np.diff(numbers) > 0).all():
        return names
    if any(names):
        notes.append("episodes are renamed to demo_0, demo_1, ... in their order, as robomimic needs")
    return [f"demo_{i}" for i in range(len(episodes))]


def _masks(episodes: Episodes, names: Sequence[str]) -> dict[str, list[str]]:
    described = episodes.info.get("episodes") or [{"name": name} for name in names]
    new = {episode.get("name"): name for episode, name in zip(described, names, strict=True)}
    masks: dict[str, list[str]] = {}
    for key, members in episodes.info.get("masks", {}).items():
        missing = [member for member in members if member not in new]
        if missing:
            raise ValueError(
                f"{episodes.name}: info['masks']['{key}'] names '{missing[0]}', expected names in info['episodes']"
            )
        masks[key] = [new[member] for member in members]
    return masks
