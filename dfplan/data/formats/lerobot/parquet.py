"""Parquet columns as numpy arrays, through pyarrow, with messages that name file and column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.files import refuse_pointer
from dfplan.tools.errors import optional_import

_NAMES = {"float": "float32", "double": "float64", "halffloat": "float16"}


def read_table(path: Path, keys: Sequence[str] | None = None, because: str = "") -> Any:
    """A file as `pyarrow.Table`, with the columns `keys` (default all), all of which must be there.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is cut short or damaged, or lacks a column; `because` says who asks for it.
        ImportError: pyarrow is not installed.
    """
    parquet = optional_import("pyarrow.parquet", "lerobot")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not there, though the metadata name it; copy the data set again, whole"
        )
    refuse_pointer(path)
    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            missing = [key for key in keys or () if key not in there]
            table = None if missing else file.read(columns=keys, use_threads=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable as parquet ({str(error)[:120]}), so it was not finished, or is cut short or damaged; "
            "copy it again"
        ) from error
    if missing:
        raise ValueError(f"{path}: no column '{missing[0]}'{because}; it has {there[:12]}")
    return table


def to_array(
    path: Path, key: str, column: Any, dtype: str, shape: Sequence[int], notes: list[str]
) -> NDArray[np.generic]:
    """A column of rows of `shape` as an array (N, ...); shape (1,) gives (N,).

    Numbers of another width are read in the type that `meta/info.json` says where that holds them; `notes` gets a sentence.

    Raises:
        ValueError: it is of another kind or shape than `meta/info.json` says, or has empty cells.
    """
    rows, values = len(column), column.combine_chunks()
    sizes = [] if tuple(shape) == (1,) and not _nested(values) else list(shape)
    for axis, size in enumerate(sizes):
        if not _nested(values):
            raise ValueError(
                f"{path}: column '{key}' is {column.type}, expected rows of shape {tuple(shape)}"
            )
        lists, values = values, values.flatten()
        even = len(values) == rows * math.prod(sizes[: axis + 1])
        if hasattr(lists, "offsets"):
            even = even and bool((np.diff(lists.offsets.to_numpy()) == size).all())
        if lists.null_count or not even:
            raise ValueError(
                f"{path}: column '{key}' has rows that are not of shape {tuple(shape)}, which meta/info.json says"
            )
    got = _NAMES.get(str(values.type), str(values.type))
    if values.null_count:
        raise ValueError(
            f"{path}: column '{key}' has {values.null_count} empty cells, expected numbers; fill them"
        )
    array = np.asarray(values.to_numpy(zero_copy_only=False))
    if got != dtype:
        cast = _cast(array, dtype)
        if cast is None:
            raise ValueError(
                f"{path}: column '{key}' is {got}, meta/info.json says {dtype}, which does not hold it; correct the feature's "
                "dtype there"
            )
        array = cast
        notes.append(f"column '{key}' is stored as {got} and read as {dtype}, as meta/info.json says")
    return array.reshape(rows, *(() if tuple(shape) == (1,) else shape))


def _cast(array: NDArray[np.generic], dtype: str) -> NDArray[np.generic] | None:
    """Numbers in another width of their kind: floats are rounded; None where one is out of range, or the kind differs."""
    kinds = array.dtype.kind, np.dtype(dtype).kind
    if kinds != ("f", "f") and not set(kinds) <= {"i", "u"}:
        return None
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    same = np.isfinite(cast) == np.isfinite(array) if kinds == ("f", "f") else cast == array
    return cast if same.all() else None


def _nested(values: Any) -> bool:
    return hasattr(values.type, "value_type")
