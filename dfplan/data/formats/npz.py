"""Archives of numpy, or a folder of what is in one: arrays by name. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, Raw, assemble, carry, numeric, require_carried, require_ends
from dfplan.data.episodes import Episodes
from dfplan.data.files import ZIP_DAMAGE, new_file, open_zip, read_json, require_path, zip_names
from dfplan.data.formats.d4rl import segment_ends
from dfplan.data.rows import map_rows
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of

_RESERVED = ("episode_ends", "dt", "names", "dfplan")
_DEFLATE, _PAGE, _BLOCK = 1100, 4096, 1 << 22  # deflate shrinks at most 1,032 times
_HEADERS: dict[Any, Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_npz(path: Path) -> bool:
    """True for a zip with arrays; the `.zarray` of a zarr store is none. Also for such a zip that was unpacked."""
    return any(name.endswith(".npy") for name in zip_names(path)) or (path / "observations.npy").is_file()


def read_npz(
    path: str | PathLike[str],
    *,
    obs: Sequence[str] | None = None,
    action: str | None = None,
    dt: float | None = None,
    name: str | None = None,
    allow_nan: bool = False,
) -> Episodes:
    """Read episodes from a `.npz` archive, or a folder of its `.npy`; large arrays that are not compressed are mapped, not read.

    Arrays: `observations` (N, C) and `episode_ends` (E,), exclusive, or as in OGBench's files flags `terminals` or `timeouts`
    (N,) at the last row of each episode; optionally `actions` (N, A), any other
    array (N, ...) under its own name, `dt` (seconds) and `names` (C,), the observation's columns.

    Args:
        path: the file, or the folder.
        obs: arrays whose columns make the observation, in this order. Default: `observations`.
        action: array of the action. Default: `actions`, where there is one.
        dt: seconds between env steps. Default: the file's `dt`, else the task's, known by the file's name.
        name: name for messages and checkpoints. Default: the file's stem.
        allow_nan: keep NaN and infinity instead of refusing them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable, holds pickles, or lacks an array.
    """
    path = require_path(path)
    arrays = _read_archive(path)
    if "episode_ends" not in arrays:
        arrays["episode_ends"] = _flagged(path, arrays)
    special = {key: arrays.pop(key) for key in _RESERVED if key in arrays}
    ends = require_ends(path, special["episode_ends"], "episode_ends")
    observed, acts = list(obs or ("observations",)), [key for key in ("actions",) if key in arrays]
    if action:
        acts = [one_of(f"action for {path}", action, arrays)]
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.ndim == 0 or 0 in array.shape[1:]:
            raise ValueError(
                f"{path}: '{key}' has shape {array.shape} and dtype {array.dtype}, expected numbers, one row per env step"
            )
        if len(array) != ends[-1]:
            raise ValueError(
                f"{path}: '{key}' has {len(array)} rows, 'episode_ends' ends at {ends[-1]}; expected one row per env step"
            )
    own = special.get("dfplan")
    carried = {} if own is None else require_carried(path, read_json(path, str(own), "'dfplan'"))
    names = {"observations": [str(n) for n in special["names"].ravel()]} if "names" in special else {}
    step = _number(path, special["dt"]) if "dt" in special else time_step(path.stem)
    info = {"format": "npz", "version": "1"}
    chosen = obs is not None or action is not None
    raw = Raw(path, arrays, ends, step, path.stem, info, observed, acts, names, carried, chosen)
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def _flagged(path: Path, arrays: Arrays) -> NDArray[np.int64]:
    """Ends of the episodes where flags mark their last rows."""
    flags = [arrays[key].reshape(-1) != 0 for key in ("terminals", "timeouts") if key in arrays]
    if not flags or len({len(flag) for flag in flags}) > 1 or not any(flag.any() for flag in flags):
        raise ValueError(
            f"{path}: no 'episode_ends' in the file, which holds {sorted(arrays)}, and no flags 'terminals' or 'timeouts' that "
            "mark them; add the exclusive end of each episode, e.g. np.cumsum(lengths)"
        )
    return segment_ends(np.logical_or.reduce(flags))


def write_npz(episodes: Episodes, path: str | PathLike[str], *, compress: bool = True) -> tuple[str, ...]:
    """Write a `.npz` archive that `read_npz` and `numpy.load` open.

    Args:
        episodes: what to write.
        path: where; never overwritten.
        compress: deflate the arrays; False makes a file whose large arrays are mapped when it is read.

    Returns:
        sentences on what was not carried over.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: a number is not finite, or an array has a name that the layout needs.
    """
    arrays, notes = numeric(episodes, Path(path))
    taken = [key for key in arrays if key in _RESERVED]
    if taken:
        raise ValueError(f"{path}: the array '{taken[0]}' has a name that the layout needs; rename it")
    special = {"episode_ends": episodes.ends, "dt": np.float64(episodes.dt)}
    own = np.array(json.dumps(carry(episodes, {})))
    with new_file(path) as part, zipfile.ZipFile(part, "w", compression=8 if compress else 0) as file:
        for key, array in {**arrays, **special, "dfplan": own}.items():
            with file.open(f"{key}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    return tuple(notes)


def _read_archive(path: Path) -> Arrays:
    """Every array of a `.npz` file, or of a folder."""
    if path.is_dir():
        return {file.stem: read_array(file) for file in sorted(path.glob("*.npy"))}
    arrays: Arrays = {}
    with open_zip(path) as file:
        for entry in file.infolist():
            if not entry.filename.endswith(".npy"):
                raise ValueError(f"{path}: holds '{entry.filename}', expected arrays (.npy) alone")
            key = entry.filename.removesuffix(".npy")
            if entry.file_size > _DEFLATE * (entry.compress_size + _PAGE):
                raise ValueError(f"{path}: '{key}' claims {entry.file_size} bytes, which is not possible")
            try:
                with file.open(entry) as data:
                    start = _start(path, entry) if entry.compress_type == zipfile.ZIP_STORED else None
                    arrays[key] = _read_array(path, data, key, entry.file_size, start)
                    while data.read(_BLOCK):  # at its end zipfile checks the sum of an array that was mapped
                        pass
            except ZIP_DAMAGE as error:
                raise ValueError(f"{path}: '{key}' is damaged ({error}); save it again") from error
    return arrays


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Byte at which the data of an archive's entry begin, behind its name and further fields."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        return entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))


def read_array(path: Path) -> NDArray[np.generic]:
    """The array of a `.npy` file; mapped where that is possible."""
    with path.open("rb") as file:
        return _read_array(path, file, path.name, path.stat().st_size, 0)


def _read_array(path: Path, file: IO[bytes], key: str, size: int, start: int | None) -> NDArray[np.generic]:
    """One array of `size` bytes, header included; mapped where it is `start` bytes into `path` as it is."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = _HEADERS[version](file)
    except ValueError as error:
        raise ValueError(f"{path}: '{key}' is not a numpy array ({error}); save it again") from error
    if dtype.hasobject:
        raise ValueError(
            f"{path}: '{key}' holds Python objects (a pickle), which are never loaded; save plain numbers: "
            "np.savez(path, observations=..., actions=..., episode_ends=...)"
        )
    count = math.prod(shape)
    if start is not None and not fortran and file.tell() + count * dtype.itemsize == size:
        mapped = map_rows(path, dtype, shape, start + file.tell())
        if mapped is not None:
            return mapped
    data = file.read(size)
    if len(data) != count * dtype.itemsize:
        raise ValueError(
            f"{path}: '{key}' has {len(data)} bytes, its shape {shape} of {dtype} needs {count * dtype.itemsize}; it is "
            "cut short, save it again"
        )
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="))).reshape(shape)


def _number(path: Path, array: NDArray[np.generic]) -> float:
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: 'dt' has shape {array.shape} and dtype {array.dtype}, expected one number, in s"
        )
    return float(array.astype(np.float64).reshape(()))
