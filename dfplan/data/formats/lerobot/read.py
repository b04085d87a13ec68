"""Reader of LeRobot data sets, versions 2.1 and 3: parquet and JSON, without the lerobot package."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, Raw, assemble, is_image
from dfplan.data.episodes import Episodes
from dfplan.data.files import require_path
from dfplan.data.formats.lerobot.meta import INDEX, INFO, Feature, Meta, read_meta
from dfplan.data.formats.lerobot.parquet import read_table, to_array
from dfplan.tools.errors import one_of

ARRAYS = {"next.reward": "rewards", "next.done": "terminals"}
_TOLERANCE = 1e-4


def is_lerobot(path: Path) -> bool:
    """True for a folder with `meta/info.json`."""
    return (path / INFO).is_file()


def read_lerobot(
    path: str | PathLike[str],
    *,
    obs: Sequence[str] | None = None,
    action: str | None = None,
    dt: float | None = None,
    name: str | None = None,
    allow_nan: bool = False,
) -> Episodes:
    """Read a data set's folder into memory, in its own types; needs pyarrow.

    Arrays: `observations` (N, C), `actions` (N, A), `rewards` (`next.reward`), `terminals` (`next.done`),
    `task_index` where there are several tasks (`info["tasks"]` has their texts), and every other numeric
    feature under its own name. Videos and images are not read and need not be there.

    Args:
        path: the folder that holds `meta/info.json`.
        obs: features whose columns make the observation, in this order. Default: every numeric feature
            whose name begins with `observation`, in the order of `info.json`.
        action: feature of the action. Default: `action`, where there is one.
        dt: seconds between env steps. Default: 1 / fps.
        name: name for messages and checkpoints. Default: the folder's.
        allow_nan: keep NaN and infinity instead of refusing them.

    Returns:
        the episodes, in the order of their indices.

    Raises:
        FileNotFoundError: there is no such folder, or a file that its metadata name is not there.
        ValueError: it is of another version or not readable; the message names the file and field.
        ImportError: pyarrow is not installed.
    """
    path = require_path(path)
    meta = read_meta(path)
    numbers = {
        key: feature
        for key, feature in meta.features.items()
        if feature.numeric and not is_image((0, *feature.shape)) and key not in INDEX
    }
    chosen = obs is not None or action is not None
    carried = {} if chosen else meta.carried
    observed, acts = _choose(path, numbers, obs or carried.get("obs"), action)
    info, notes = dict(meta.info), list[str]()
    arrays, index = _read_data(path, meta, numbers, notes)
    info |= {"notes": [*info.get("notes", ()), *dict.fromkeys(notes)]} if notes else {}
    info["episodes"] = meta.carried.get("info", {}).get("episodes", info["episodes"])
    info["left_out"] = [key for key in meta.features if key not in numbers and key not in INDEX]
    _check_index(path, meta, index)
    _check_times(meta, index, info)
    if len(meta.tasks) > 1:
        arrays["task_index"] = index["task_index"]
    for key in carried.get("single", ()):
        if key in arrays:
            arrays[key] = arrays[key].reshape(-1, 1)
    known = {**ARRAYS, **meta.carried.get("arrays", {})}
    own = {key: name for key, name in known.items() if key not in (*observed, *acts)}
    arrays = {own.get(key, key): array for key, array in arrays.items()}
    names = {own.get(key, key): feature.names for key, feature in numbers.items() if feature.names}
    raw = Raw(
        path, arrays, meta.ends, 1.0 / meta.fps, path.name, info, observed, acts, names, meta.carried, chosen
    )
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def _choose(
    path: Path, numbers: dict[str, Feature], obs: Sequence[str] | None, action: str | None
) -> tuple[list[str], list[str]]:
    """Features that make the observation, and the action."""
    given = [one_of(f"feature for {path}", key, numbers) for key in obs or ()]
    observed = given or [key for key in numbers if key.startswith("observation")]
    if not observed:
        raise ValueError(
            f"{path}: no numeric feature's name begins with 'observation', there are {list(numbers)}; pass obs=, the "
            "features that make it"
        )
    if action is not None:
        return observed, [one_of(f"feature for {path}", action, numbers)]
    return observed, [key for key in ("action",) if key in numbers]


def _read_data(
    path: Path, meta: Meta, numbers: dict[str, Feature], notes: list[str]
) -> tuple[Arrays, Arrays]:
    """Features (N, ...) and index columns (N,) of all data files; `notes` gets sentences."""
    wanted = {key: (feature.dtype, feature.shape) for key, feature in numbers.items()}
    wanted |= {key: (dtype, (1,)) for key, dtype in meta.index_types.items()}
    parts: dict[str, list[NDArray[np.generic]]] = {key: [] for key in wanted}
    for name, rows in meta.files:
        file = path / name
        table = read_table(file, list(wanted), ", which meta/info.json describes")
        if table.num_rows != rows:
            raise ValueError(
                f"{file}: has {table.num_rows} rows, the episodes that the metadata place in it have {rows}; copy the "
                "data set again, whole"
            )
        for key, expected in wanted.items():
            parts[key].append(to_array(file, key, table.column(key), *expected, notes))
    joined = {key: np.concatenate(blocks) for key, blocks in parts.items()}
    return {key: joined[key] for key in numbers}, {key: joined[key] for key in meta.index_types}


def _check_index(path: Path, meta: Meta, index: Arrays) -> None:
    """Raise unless every row is in the place that its index columns say."""
    lengths = np.diff(meta.ends, prepend=0)
    steps = int(meta.ends[-1])
    starts = np.repeat(meta.ends - lengths, lengths)
    expected: dict[str, NDArray[np.int64]] = {
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "frame_index": np.arange(steps) - starts,
        "index": np.arange(steps),
    }
    for key, right in expected.items():
        bad = np.flatnonzero(index[key] != right)
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"{path}: '{key}' of row {row} is {index[key][row]}, expected {right[row]}: episodes in order, frames "
                "without gaps; repair the parquet files or copy the data set again"
            )
    tasks = index["task_index"]
    if tasks.min() < 0 or tasks.max() >= max(len(meta.tasks), 1):
        raise ValueError(
            f"{path}: 'task_index' runs from {tasks.min()} to {tasks.max()}, there are {len(meta.tasks)} tasks; "
            "add the missing tasks to meta/tasks"
        )


def _check_times(meta: Meta, index: Arrays, info: dict[str, Any]) -> None:
    """Warn where a time stamp (s) is not its frame's number over the rate."""
    right = index["frame_index"].astype(np.float64) / meta.fps
    times = index["timestamp"].astype(np.float64)
    off = np.abs(times - right)
    bad = np.flatnonzero(~(off <= _TOLERANCE + np.spacing(times.astype(np.float32)).astype(np.float64)))
    if len(bad):
        row = int(bad[0])
        info.setdefault("warnings", []).append(
            f"{len(bad)} of {len(off)} time stamps are not frame_index / fps to {_TOLERANCE} s, first in row {row}: "
            f"{times[row]:.6g} s, expected {right[row]:.6g} s; the largest difference is {off.max():.4g} s"
        )
