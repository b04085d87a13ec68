"""Single arrays of numpy: recordings of positions, a file or a folder of them. Nothing is unpickled."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Raw, assemble
from dfplan.data.episodes import Episodes
from dfplan.data.files import begins, numbered, require_path
from dfplan.data.formats.npz import read_array
from dfplan.data.sources import time_step


def is_npy(path: Path) -> bool:
    """True for a file with a single array, or a folder of nothing but such files."""
    files = _files(path)
    return bool(files) and all(begins(file, b"\x93NUMPY") for file in files)


def read_npy(
    path: str | PathLike[str], *, dt: float | None = None, name: str | None = None, allow_nan: bool = False
) -> Episodes:
    """Read arrays of floats as observations: (E, T, C) is E episodes, (T, C) is one; there are no actions.

    Of a folder, a file of several episodes counts as a task of its own, which has the file's name; so
    `task=` chooses among them.

    Args:
        path: the `.npy` file, or a folder of such files, which may differ in length.
        dt: seconds between env steps, which the files cannot say.
        name: name for messages and checkpoints. Default: the file's stem.
        allow_nan: keep NaN and infinity instead of refusing them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or files of a folder differ in their columns.
    """
    path, rows, lengths, episodes = require_path(path), list[NDArray[np.generic]](), list[int](), []
    files = _files(path)
    for file in files:
        array = read_array(file)
        if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"{file}: has shape {array.shape} and dtype {array.dtype}, expected numbers in (episodes, steps, columns) "
                "or (steps, columns); save others as .npz with observations, actions and episode_ends"
            )
        rows.append(array.reshape(-1, array.shape[-1]))
        if rows[-1].shape[1] != rows[0].shape[1]:
            raise ValueError(
                f"{file}: has {rows[-1].shape[1]} columns, {files[0].name} has {rows[0].shape[1]}; record them alike, or pass "
                "one file"
            )
        count = len(array) if array.ndim == 3 else 1
        lengths += [len(rows[-1]) // count] * count
        several = {"tasks": [file.stem]} if count > 1 else {}
        names = [f"{file.stem}_{i}" for i in range(count)] if count > 1 else [file.stem]
        episodes += [{"name": episode, **several} for episode in names]
    what = f"{len(files)} files are" if len(files) > 1 else f"{array.shape} is"
    notes = [f"{what} read as observations; there are no actions"]
    info = {"format": "npy", "version": "1", "notes": notes} | (
        {"episodes": episodes} if len(files) > 1 else {}
    )
    observed = {"observations": rows[0] if len(rows) == 1 else np.concatenate(rows)}
    raw = Raw(path, observed, np.cumsum(lengths), time_step(path.stem), path.stem, info, ["observations"], [])
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder; none where it holds others as well, but a word about them (.md)."""
    if not path.is_dir():
        return [path]
    inside = [file for file in path.iterdir() if not file.name.startswith(".") and file.suffix != ".md"]
    return numbered(inside) if all(file.suffix == ".npy" for file in inside) else []
