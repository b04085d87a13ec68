"""Metadata of LeRobot data sets, versions 2.1 and 3."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import require_carried
from dfplan.data.files import read_json
from dfplan.data.formats.lerobot.parquet import read_table

INFO = "meta/info.json"
CARRIED = "meta/dfplan.json"
_NUMERIC = re.compile(r"(u?int(8|16|32|64)|float(16|32|64)|bool)$")
INDEX = {"timestamp": "float32"} | dict.fromkeys(
    ("frame_index", "episode_index", "index", "task_index"), "int64"
)
"""The five features that every data set has, and their types."""
_PLACE = ("episode_index", "length", "tasks", "data/chunk_index", "data/file_index")


@dataclass(frozen=True)
class Feature:
    """A feature of `info.json`: its key, type, shape of a row, and names of its columns if it has them."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: list[str] | None

    @property
    def numeric(self) -> bool:
        """True for numbers; video, image and string are not."""
        return _NUMERIC.match(self.dtype) is not None and 0 not in self.shape


@dataclass(frozen=True)
class Meta:
    """What the metadata say.

    Attributes:
        fps: env steps per second.
        features: in the order of the file.
        ends: (E,) exclusive ends of the episodes.
        files: data files and their numbers of rows, in the order of the rows.
        tasks: texts that `task_index` counts.
        info: entries of `Episodes.info`.
        carried: see `Raw`.
        index_types: the five index columns and their types.
    """

    fps: float
    features: Mapping[str, Feature]
    ends: NDArray[np.int64]
    files: Sequence[tuple[str, int]]
    tasks: Sequence[str]
    info: Mapping[str, Any]
    carried: Mapping[str, Any]
    index_types: Mapping[str, str]


def read_meta(root: Path) -> Meta:
    """Read and check `meta/`."""
    where = root / INFO
    if not where.is_file():
        raise FileNotFoundError(f"{where}: not there; expected the folder of a LeRobot data set")
    raw = read_json(where, where.read_bytes(), "the file")
    version = _version(where, raw)
    needed = ("fps", "features", "total_episodes", "total_frames", "data_path")
    missing = [key for key in needed if key not in raw]
    if missing:
        raise ValueError(f"{where}: no '{missing[0]}', expected {', '.join(needed)}; copy the data set again")
    fps = raw["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < float("inf"):
        raise ValueError(f"{where}: fps is {fps!r}, expected env steps per second, above 0; correct it")
    features = _features(where, raw["features"])
    rows = _episodes(root, version)
    _check_episodes(where, raw, rows)
    ends, files = np.cumsum([row["length"] for row in rows], dtype=np.int64), _files(where, raw, rows)
    tasks = _tasks(root, version)
    info = {"format": "lerobot", "version": raw["codebase_version"], "fps": fps, "tasks": tasks}
    info |= {key: raw[key] for key in ("robot_type", "splits") if raw.get(key)}
    info["episodes"] = [
        {"name": f"episode_{i:06d}", "tasks": list(row["tasks"])} for i, row in enumerate(rows)
    ]
    types = {key: features[key].dtype if key in features else dtype for key, dtype in INDEX.items()}
    own, carried = root / CARRIED, {}
    if own.is_file():
        carried = require_carried(own, read_json(own, own.read_bytes(), "the file"))
    return Meta(fps, features, ends, files, tasks, info, carried, types)


def _version(where: Path, raw: Mapping[str, Any]) -> int:
    """3, or 2 for version 2.1."""
    text = str(raw.get("codebase_version"))
    found = re.match(r"v?(\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (9, 0)
    if version[0] == 3 or version == (2, 1):
        return version[0]
    fix = "use a newer dfplan"
    if version < (2, 1):
        fix = "convert it with LeRobot 0.3: python -m lerobot.datasets.v21.convert_dataset_v20_to_v21 --repo-id=<id>"
    raise ValueError(f"{where}: codebase_version is '{text}', expected v2.1 or v3.0; {fix}")


def _features(where: Path, raw: Any) -> dict[str, Feature]:
    features = {}
    for key, value in raw.items() if isinstance(raw, dict) else []:
        shape: Any = value.get("shape") if isinstance(value, dict) else None
        whole = isinstance(shape, list) and all(isinstance(n, int) for n in shape)
        if not whole or not isinstance(value.get("dtype"), str):
            raise ValueError(
                f"{where}: feature '{key}' is {value!r:.80}, expected a dtype and a shape of integers; correct it"
            )
        size = int(np.prod(shape))
        flat = _flat(value.get("names"))
        names = flat if len(flat) == size and size > 0 else None
        features[key] = Feature(key, value["dtype"], tuple(shape), names)
    if not features:
        raise ValueError(
            f"{where}: features is {raw!r:.80}, expected an object of features; copy the data set again"
        )
    return features


def _flat(names: Any) -> list[str]:
    """Names of columns out of LeRobot's free forms: lists, lists of lists, and {group: names}."""
    if isinstance(names, dict):
        parts = names.values() if any(isinstance(v, list) for v in names.values()) else names.keys()
        return [name for part in parts for name in _flat(part)]
    if isinstance(names, list):
        return [name for part in names for name in _flat(part)]
    return [str(names)] if names is not None else []


def _episodes(root: Path, version: int) -> list[dict[str, Any]]:
    """Rows of `meta/episodes`, sorted."""
    where = root / "meta" / "episodes.jsonl"
    rows = _lines(where) if version == 2 else _episode_tables(root / "meta" / "episodes")
    for number, row in enumerate(rows):
        if version == 2 and (not isinstance(row.get("episode_index"), int) or "length" not in row):
            raise ValueError(
                f"{where}: line {number + 1} lacks episode_index or length; copy the data set again"
            )
        row.setdefault("tasks", [])
    return sorted(rows, key=lambda row: (row["episode_index"] is None, row["episode_index"]))


def _episode_tables(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise FileNotFoundError(f"{folder}: holds no parquet file; copy the data set again, whole")
    return [row for file in files for row in read_table(file, _PLACE).to_pylist()]


def _lines(where: Path) -> list[dict[str, Any]]:
    """Objects of a file with one JSON object per line."""
    if not where.is_file():
        raise FileNotFoundError(f"{where}: not there; copy the data set again, whole")
    lines = where.read_text(errors="replace").splitlines()
    return [read_json(where, line, f"line {i + 1}") for i, line in enumerate(lines) if line.strip()]


def _check_episodes(where: Path, raw: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless the episodes are 0 to E - 1, not empty, and add up to what `info.json` says."""
    numbers = [row["episode_index"] for row in rows]
    if (
        numbers != list(range(raw["total_episodes"] if isinstance(raw["total_episodes"], int) else -1))
        or not rows
    ):
        raise ValueError(
            f"{where}: total_episodes is {raw['total_episodes']!r}, meta/episodes lists {len(rows)}: "
            f"{str(numbers)[:60]}; expected each from 0 on, once"
        )
    lengths = [row["length"] for row in rows]
    if not all(isinstance(n, int) and n > 0 for n in lengths) or sum(lengths) != raw["total_frames"]:
        raise ValueError(
            f"{where}: total_frames is {raw['total_frames']!r}, the lengths in meta/episodes are {str(lengths)[:60]}; "
            "expected lengths above 0 that add up to it"
        )


def _files(where: Path, raw: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Data files and their rows, in the order of the episodes."""
    sizes: dict[str, int] = {}
    last = ""
    for number, row in enumerate(rows):
        chunk = row.get("data/chunk_index", number // max(int(raw.get("chunks_size", 1000)), 1))
        place = {"episode_index": number, "episode_chunk": chunk, "chunk_index": chunk}
        try:
            file = str(raw["data_path"]).format(**place, file_index=row.get("data/file_index"))
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where}: data_path {raw['data_path']!r} is not a pattern that fits ({error})"
            ) from error
        if Path(file).is_absolute() or ".." in Path(file).parts or (file in sizes and file != last):
            raise ValueError(
                f"{where}: data_path places episode {number} in '{file}', expected a file below the folder, in order"
            )
        sizes[file], last = sizes.get(file, 0) + row["length"], file
    return list(sizes.items())


def _tasks(root: Path, version: int) -> list[str]:
    where = root / "meta" / ("tasks.parquet" if version == 3 else "tasks.jsonl")
    rows: Any
    if version == 2:
        rows = _lines(where)
        found = {row.get("task_index"): row.get("task") for row in rows}
    else:
        rows = read_table(where)
        texts = [key for key in rows.column_names if key != "task_index"]  # pandas keeps them as an index
        if not texts or "task_index" not in rows.column_names:
            raise ValueError(f"{where}: no column of task texts beside task_index; copy the data set again")
        found = dict(zip(rows["task_index"].to_pylist(), rows[texts[0]].to_pylist(), strict=True))
    if sorted(found, key=str) != sorted(range(len(rows)), key=str):
        raise ValueError(
            f"{where}: task_index is {str(list(found))[:60]}, expected each from 0 on, once; repair it"
        )
    return [str(found[i]) for i in range(len(rows))]
