"""Diffusion Policy's replay buffers: zarr version 2, `data/<key>` end to end and `meta/episode_ends`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import (
    Arrays,
    Raw,
    assemble,
    carry,
    is_image,
    numeric,
    require_carried,
    require_ends,
)
from dfplan.data.episodes import Episodes
from dfplan.data.files import new_file, read_json, require_path
from dfplan.data.formats.zarr_store import Header, Store, array_entries, open_store, read_array, read_header
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of

_ENDS = "meta/episode_ends"
_CHUNK_BYTES = 1 << 20


def read_zarr(
    path: str | PathLike[str],
    keys: Sequence[str] | None = None,
    dt: float | None = None,
    *,
    obs: Sequence[str] | None = None,
    action: str | None = None,
    name: str | None = None,
    fill_missing: bool = False,
    allow_nan: bool = False,
) -> Episodes:
    """Read a replay buffer from a folder (`.zarr`) or a zip (`.zarr.zip`); the zarr package is not needed.

    Arrays keep the store's types: `observations` (N, C) from `obs`, `actions` (N, A) from `action`, and
    every other key of `data/` under its own name, except pictures, which `keys` must ask for.

    Args:
        path: the store.
        keys: keys of `data/` to read. Default: all but pictures, which `info["left_out"]` names.
        dt: seconds between env steps. Default: what the store or its name says.
        obs: keys whose columns make the observation, in this order. Default: `state`, or where there is
            none, all keys that are read but the action.
        action: key of the action. Default: `action`, where there is one.
        name: name for messages and checkpoints. Default: the store's name.
        fill_missing: chunks that are not stored hold the fill value; False makes them an error.
        allow_nan: keep NaN and infinity instead of refusing them.

    Returns:
        the episodes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable as a replay buffer; the message names the store, key and field.
        ImportError: a compressor needs the package numcodecs: pip install 'dfplan[zarr]'.
    """
    path = require_path(path)
    with open_store(path) as store:
        names = store.names()
        ends = _read_ends(store, names, fill_missing)
        headers = _headers(store, names, keys, int(ends[-1]))
        left_out = [] if keys is not None else [key for key, head in headers.items() if is_image(head.shape)]
        arrays: Arrays = {
            key: read_array(store, header, names, fill_missing)
            for key, header in headers.items()
            if key not in left_out
        }
        attrs = read_json(path, store.read(".zattrs", 1 << 24), ".zattrs") if ".zattrs" in names else {}
    given = obs is not None or action is not None
    chosen = _choose(arrays, obs, action)
    carried = require_carried(path, attrs["dfplan"]) if "dfplan" in attrs else {}
    info: dict[str, Any] = {"format": "zarr", "version": "2"} | ({"left_out": left_out} if left_out else {})
    stem = path.name.removesuffix(".zip").removesuffix(".zarr")
    raw = Raw(path, arrays, ends, time_step(stem), stem, info, *chosen, {}, carried, given)
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def write_zarr(episodes: Episodes, path: str | PathLike[str]) -> tuple[str, ...]:
    """Write a replay buffer: a zip if `path` ends in `.zip`, else a folder. Chunks are zlib-compressed.

    The observation becomes `data/state`, the action `data/action`, other arrays keep their names with '.'
    for '/'. What the layout has no place for goes to the root's attribute `dfplan`.

    Args:
        episodes: what to write.
        path: where; never overwritten.

    Returns:
        sentences on what was not carried over.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: a number is not finite.
    """
    arrays, notes = numeric(episodes, Path(path))
    wanted = {"observations": "state", "actions": "action"}
    keys = {name: wanted.get(name, name.replace("/", ".")) for name in arrays}
    if len(set(keys.values())) != len(keys):
        raise ValueError(
            f"{path}: the arrays {sorted(keys)} would share names in the store; rename one of them"
        )
    attrs = {"dfplan": carry(episodes, {key: name for name, key in keys.items()})}
    with new_file(path) as part:
        entries = _entries({keys[name]: array for name, array in arrays.items()}, episodes.ends, attrs)
        if Path(path).suffix == ".zip":
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
                for key, data in entries:
                    file.writestr(key, data)
        else:
            for key, data in entries:
                (part / key).parent.mkdir(parents=True, exist_ok=True)
                (part / key).write_bytes(data)
    return tuple(notes)


def _entries(arrays: Arrays, ends: NDArray[np.int64], attrs: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Everything the store holds."""
    group = json.dumps({"zarr_format": 2}).encode()
    yield ".zgroup", group
    yield ".zattrs", json.dumps(attrs).encode()
    for name in ("data", "meta"):
        yield f"{name}/.zgroup", group
    for key, array in arrays.items():
        rows = max(_CHUNK_BYTES // max(array[:1].nbytes, 1), 1)
        yield from array_entries(f"data/{key}", array, rows)
    yield from array_entries(_ENDS, ends, len(ends))


def _read_ends(store: Store, names: set[str], fill_missing: bool) -> NDArray[np.int64]:
    """(E,) int64 ends, rising."""
    if "zarr.json" in names:
        raise ValueError(
            f"{store.path}: zarr version 3, expected version 2; save it again with zarr_format=2"
        )
    if f"{_ENDS}/.zarray" not in names:
        raise ValueError(
            f"{store.path}: no '{_ENDS}' in the store, which holds {sorted(names)[:8]}; expected a replay buffer: "
            f"data/<key> and {_ENDS}"
        )
    return require_ends(store.path, read_array(store, read_header(store, _ENDS), names, fill_missing), _ENDS)


def _headers(store: Store, names: set[str], keys: Sequence[str] | None, steps: int) -> dict[str, Header]:
    """Headers of the arrays of `data/` to look at, each of `steps` rows."""
    found = sorted(name for name in names if name.startswith("data/") and name.endswith("/.zarray"))
    there = [name.removeprefix("data/").removesuffix("/.zarray") for name in found]
    if not there:
        raise ValueError(
            f"{store.path}: no arrays below 'data/' in the store; expected data/action and the like"
        )
    headers = {}
    for key in there if keys is None else [one_of(f"key for {store.path}", key, there) for key in keys]:
        headers[key] = read_header(store, f"data/{key}")
        if headers[key].shape[:1] != (steps,) or 0 in headers[key].shape:
            raise ValueError(
                f"{store.path}: 'data/{key}' has shape {headers[key].shape}, and '{_ENDS}' ends at {steps}; "
                "expected one row per env step"
            )
    return headers


def _choose(arrays: Arrays, obs: Sequence[str] | None, action: str | None) -> tuple[list[str], list[str]]:
    """Keys that make the observation, and the action."""
    act = [action] if action else list(filter(arrays.__contains__, ("action", "actions")))[:1]
    if obs is not None:
        return list(obs), act
    states = ("state", "observations", "observation", "obs")
    return [key for key in states if key in arrays][:1] or [key for key in arrays if key not in act], act
