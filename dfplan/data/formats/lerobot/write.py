"""Writer of LeRobot data sets, version 3."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, Spans, carry, column_names, numeric, spans_of, take_columns
from dfplan.data.episodes import Episodes
from dfplan.data.files import new_file
from dfplan.data.formats.lerobot.meta import CARRIED, INDEX, INFO
from dfplan.data.formats.lerobot.read import ARRAYS
from dfplan.tools.errors import optional_import

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_CHUNK, _FILE_MB, _VIDEO_MB = 1000, 100, 200
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_NATIVE = ("fps", "robot_type", "splits", "tasks")
_KEYS = {name: key for key, name in ARRAYS.items()} | {"actions": "action"}


def write_lerobot(
    episodes: Episodes,
    path: str | PathLike[str],
    *,
    task: str | None = None,
    robot_type: str | None = None,
    file_mb: int = _FILE_MB,
) -> tuple[str, ...]:
    """Write a folder that LeRobot 0.4 and later opens: version 3.0, no video; needs pyarrow.

    The observation becomes `observation.state` (or its groups, where these are called `observation...`),
    the action `action`, `rewards` `next.reward`, `terminals` `next.done`; other arrays keep their names with
    '.' for '/'. What the layout has no place for goes to `meta/dfplan.json`.

    Args:
        episodes: what to write.
        path: the folder; never overwritten.
        task: what is done, in words. Default: the episodes' tasks, else their name.
        robot_type: default: that of `episodes.info`.
        file_mb: begin a new data file where one would exceed so many MB.

    Returns:
        sentences on what was not carried over or was changed.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: a number is not finite, or two arrays would share a name.
        ImportError: pyarrow is not installed.
    """
    arrays, notes = numeric(episodes, Path(path))
    tasks = [task] if task else list(episodes.info.get("tasks") or [episodes.name])
    stored = arrays.pop("task_index", np.zeros(1))
    counts = not task and stored.dtype.kind in "iu" and stored.ndim == 1 and len(stored) == episodes.steps
    task_index = stored if counts and stored.min() >= 0 and stored.max() < len(tasks) else None
    renamed, groups = _keys(episodes, arrays)
    features = _features(episodes, arrays, renamed, groups)
    fps = _fps(episodes.dt, notes)
    columns = {key: columns for key, (_, columns) in features.items()} | _index(episodes, fps, task_index)
    with new_file(path) as part:
        places = _write_data(part, episodes, columns, file_mb)
        _write_episodes(part, episodes, columns, places, tasks)
        _write_tasks(part, tasks)
        _write_json(part / "meta" / "stats.json", {k: _stats(v) for k, v in columns.items()})
        described = {key: feature for key, (feature, _) in features.items()}
        described |= {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in INDEX.items()}
        robot = robot_type or episodes.info.get("robot_type")
        _write_json(part / INFO, _info(episodes, fps, described, len(tasks), robot))
        own = carry(episodes, {key: name for name, key in renamed.items()}, _NATIVE)
        own |= {"obs": list(groups), "single": [k for k, rows in columns.items() if rows.shape[1:] == (1,)]}
        _write_json(part / CARRIED, own)
    return tuple(notes)


def _keys(episodes: Episodes, arrays: Arrays) -> tuple[dict[str, str], Spans]:
    """Array -> feature for all but the observation, and the spans of the observation's features."""
    groups = spans_of(episodes, "observations", "observation.state")
    if not all(key.startswith("observation.") and "/" not in key for key in groups):
        groups = {"observation.state": [0, max(span[1] for span in groups.values())]}
    known = _KEYS if "terminals" in arrays else _KEYS | {"dones": "next.done"}
    renamed = {name: known.get(name, name.replace("/", ".")) for name in arrays if name != "observations"}
    taken = [*renamed.values(), *groups, *INDEX]
    twice = [key for key in taken if taken.count(key) > 1]
    if twice:
        raise ValueError(
            f"{episodes.name}: two arrays would be the feature '{twice[0]}'; rename one of {sorted(arrays)}"
        )
    return renamed, groups


def _features(
    episodes: Episodes, arrays: Arrays, renamed: Mapping[str, str], groups: Spans
) -> dict[str, tuple[dict[str, Any], NDArray[np.generic]]]:
    """Feature -> its description in `info.json` and its rows (N, ...)."""
    names = episodes.info.get("names", {})
    stated = names.get("observations") or column_names("state", arrays["observations"].shape)
    rows = {key: take_columns(arrays["observations"], span) for key, span in groups.items()}
    called = {key: stated[start:stop] for key, (start, stop) in groups.items()}
    for name, key in renamed.items():
        rows[key] = arrays[name]
        called[key] = names.get(name) or column_names(name, arrays[name].shape)
    out = {}
    for key, array in rows.items():
        shape = list(array.shape[1:]) or [1]
        titles = list(called[key]) if len(shape) == 1 else None
        out[key] = ({"dtype": str(array.dtype), "shape": shape, "names": titles}, array)
    return out


def _index(episodes: Episodes, fps: float, task_index: NDArray[np.generic] | None) -> Arrays:
    """Rows (N,) of the five features that every data set has; time stamps in s."""
    lengths = episodes.ends - episodes.starts
    frames = np.arange(episodes.steps) - np.repeat(episodes.starts, lengths)
    tasks = np.zeros(episodes.steps) if task_index is None else task_index
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.repeat(np.arange(len(episodes)), lengths),
        "index": np.arange(episodes.steps),
        "task_index": tasks.astype(np.int64),
    }


def _fps(dt: float, notes: list[str]) -> float:
    """Frames per second: a whole number where 1 / dt is one."""
    whole = round(1.0 / dt)
    if whole and abs(whole * dt - 1.0) < 1e-9:
        return whole
    notes.append(f"fps is {1.0 / dt:.6g}, which is not a whole number as LeRobot's own tools write")
    return 1.0 / dt


def _info(
    episodes: Episodes, fps: float, features: Mapping[str, Any], tasks: int, robot_type: str | None
) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": len(episodes),
        "total_frames": episodes.steps,
        "total_tasks": tasks,
        "chunks_size": _CHUNK,
        "data_files_size_in_mb": _FILE_MB,
        "video_files_size_in_mb": _VIDEO_MB,
        "fps": fps,
        "splits": episodes.info.get("splits") or {"train": f"0:{len(episodes)}"},
        "data_path": _DATA,
        "video_path": None,
        "features": dict(features),
    }


def _write_data(root: Path, episodes: Episodes, columns: Arrays, file_mb: int) -> list[tuple[int, int]]:
    """Write the rows, one row group per episode, and give each episode's chunk and file number."""
    pa, parquet = (optional_import(name, "lerobot") for name in ("pyarrow", "pyarrow.parquet"))
    row_bytes = sum(array[:1].nbytes for array in columns.values())
    places: list[tuple[int, int]] = []
    number, size = -1, math.inf
    with ExitStack() as file:
        for begin, end in zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True):
            table = pa.table({key: _arrow(array[begin:end]) for key, array in columns.items()})
            if size + (end - begin) * row_bytes > file_mb * 2**20:
                file.close()
                number, size = number + 1, 0
                path = root / _DATA.format(chunk_index=number // _CHUNK, file_index=number % _CHUNK)
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = file.enter_context(parquet.ParquetWriter(path, table.schema, compression="snappy"))
            writer.write_table(table, row_group_size=end - begin)
            size += (end - begin) * row_bytes
            places.append((number // _CHUNK, number % _CHUNK))
    return places


def _arrow(rows: NDArray[np.generic]) -> Any:
    """Rows (N, ...) as an arrow array: numbers, fixed-size lists, or nested lists."""
    pa = optional_import("pyarrow", "lerobot")
    sizes = list(rows.shape[1:])
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    if sizes in ([], [1]):
        return values
    if len(sizes) == 1:
        return pa.FixedSizeListArray.from_arrays(values, sizes[0])
    for size in reversed(sizes):
        values = pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)
    return values


def _write_episodes(
    root: Path, episodes: Episodes, columns: Arrays, places: Sequence[tuple[int, int]], tasks: Sequence[str]
) -> None:
    """Write `meta/episodes`: where each episode is, and its statistics."""
    pa, parquet = (optional_import(name, "lerobot") for name in ("pyarrow", "pyarrow.parquet"))
    rows = []
    for number, (begin, end) in enumerate(zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True)):
        part = {key: array[begin:end] for key, array in columns.items()}
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [tasks[i] for i in np.unique(part["task_index"])],
            "length": end - begin,
            "data/chunk_index": places[number][0],
            "data/file_index": places[number][1],
            "dataset_from_index": begin,
            "dataset_to_index": end,
        }
        row |= {f"stats/{key}/{name}": v for key, a in part.items() for name, v in _stats(a).items()}
        rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
    (root / _EPISODES).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), root / _EPISODES, compression="snappy")


def _stats(rows: NDArray[np.generic]) -> dict[str, Any]:
    """Statistics per column, as LeRobot stores them: lists, and the number of rows."""
    flat = rows.astype(np.float64).reshape(len(rows), *(rows.shape[1:] or (1,)))
    parts = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    parts |= dict(zip(_QUANTILES, np.quantile(flat, list(_QUANTILES.values()), axis=0), strict=True))
    return {key: value.tolist() for key, value in parts.items()} | {"count": [len(rows)]}


def _write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """Write `meta/tasks.parquet`, whose texts are the index of the pandas table that LeRobot reads."""
    pa, parquet = (optional_import(name, "lerobot") for name in ("pyarrow", "pyarrow.parquet"))
    index = "__index_level_0__"

    def column(
        name: str | None, field: str | None, kind: str, numpy: str, more: Any = None
    ) -> dict[str, Any]:
        kinds = {"pandas_type": kind, "numpy_type": numpy, "metadata": more}
        return {"name": name, "field_name": field, **kinds}

    pandas = {
        "index_columns": [index],
        "column_indexes": [column(None, None, "unicode", "object", {"encoding": "UTF-8"})],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, index, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    columns = {"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())}
    table = pa.table(columns).replace_schema_metadata({"pandas": json.dumps(pandas)})
    parquet.write_table(table, root / "meta" / "tasks.parquet")


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False), encoding="utf-8")
