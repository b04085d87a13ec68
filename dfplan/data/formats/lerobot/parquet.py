"""Parquet columns as numpy arrays, through pyarrow, with messages that name file and column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import optional_import

_NAMES = {"float": "float32", "double": "float64", "halffloat": "float16"}


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a file as `pyarrow.parquet.ParquetFile`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is cut short or damaged.
        ImportError: pyarrow is not installed.
    """
    parquet = optional_import("pyarrow.parquet", "lerobot")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not there, though the metadata name it; copy the data set again, whole"
        )
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def read_columns(
    path: Path, file: Any, columns: Mapping[str, tuple[str, Sequence[int]]]
) -> dict[str, NDArray[np.generic]]:
    """Columns as arrays (N, ...); shape (1,) gives (N,).

    Args:
        path: for messages.
        file: from `open_parquet`.
        columns: name -> numpy type and shape of a row.

    Raises:
        ValueError: a column is missing, of another type or length, holds nulls, or is damaged.
    """
    missing = [key for key in columns if key not in file.schema_arrow.names]
    if missing:
        raise ValueError(
            f"{path}: no column '{missing[0]}', which meta/info.json describes; it has {file.schema_arrow.names}"
        )
    try:
        table = file.read(columns=list(columns), use_threads=False)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return {key: _column(path, key, table.column(key), *columns[key]) for key in columns}


def read_rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a small file, with the columns `keys`, all of which must be there.

    Raises:
        ValueError: a column is missing, or the file is damaged.
    """
    with open_parquet(path) as file:
        missing = [key for key in keys if key not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"{path}: no column '{missing[0]}'; it has {file.schema_arrow.names[:12]}")
        try:
            rows: list[dict[str, Any]] = file.read(columns=list(keys), use_threads=False).to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
    return rows


def _column(path: Path, key: str, column: Any, dtype: str, shape: Sequence[int]) -> NDArray[np.generic]:
    """One column, checked."""
    rows, values = len(column), column.combine_chunks()
    sizes = [] if tuple(shape) == (1,) and not hasattr(values.type, "value_type") else list(shape)
    for axis, size in enumerate(sizes):
        if not hasattr(values.type, "value_type"):
            raise ValueError(
                f"{path}: column '{key}' is {column.type}, expected rows of shape {tuple(shape)}"
            )
        count = rows * math.prod(sizes[:axis])
        lists, values = values, values.flatten()
        even = len(values) == count * size and (not hasattr(lists, "offsets") or _even(lists, size))
        if lists.null_count or not even:
            raise ValueError(
                f"{path}: column '{key}' has rows that are not of shape {tuple(shape)}, which meta/info.json says"
            )
    got = _NAMES.get(str(values.type), str(values.type))
    if got != dtype:
        raise ValueError(
            f"{path}: column '{key}' is {got}, meta/info.json says {dtype}; correct the feature's dtype there"
        )
    if values.null_count:
        raise ValueError(
            f"{path}: column '{key}' has {values.null_count} empty cells, expected numbers; fill them"
        )
    array = np.asarray(values.to_numpy(zero_copy_only=False)).astype(dtype, copy=False)
    return array.reshape(rows, *(s for s in shape if tuple(shape) != (1,)))


def _even(lists: Any, size: int) -> bool:
    """True if every list has `size` entries."""
    return bool((np.diff(lists.offsets.to_numpy()) == size).all())


def _damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that pyarrow cannot read."""
    return ValueError(
        f"{path}: not readable as parquet ({str(error)[:120]}), so it was not finished, or is cut short or damaged; "
        "copy it again"
    )
