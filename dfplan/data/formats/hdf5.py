"""HDF5 reading in which everything that can be wrong with a file is a message that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.files import begins
from dfplan.data.rows import bad_rows, map_rows

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ROWS = 1 << 16
_DEFLATE, _PAGE = 1100, 4096  # deflate shrinks at most 1,032 times
_LINKS = 16
_DAMAGE = (OSError, RuntimeError, KeyError)
"""What h5py raises for a damaged file: reads, handles and link look-ups differ."""


def hdf5_names(path: Path) -> list[str]:
    """Names at the top of an HDF5 file; none where `path` is not one.

    Raises:
        ValueError: it is cut short or damaged.
    """
    if not begins(path, SIGNATURE):
        return []
    with open_hdf5(path) as file:
        return children(path, file)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open `path` for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, empty, not HDF5, or cut short or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path, or fetch a set with dfplan.data.get")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected an HDF5 file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty, expected HDF5; fetch it again")
    if not begins(path, SIGNATURE):
        raise ValueError(f"{path}: not an HDF5 file (its first bytes are not HDF5's signature)")
    import h5py

    try:
        file = h5py.File(path, "r")
    except _DAMAGE as error:
        raise damaged(path, "the file", error) from error
    with file:
        yield file


def damaged(path: Path, what: str, error: Exception) -> ValueError:
    """The error for a file that HDF5 cannot read."""
    return ValueError(
        f"{path}: {what} cannot be read, so the file is cut short or damaged ({error}); fetch it again"
    )


def children(path: Path, group: Any) -> list[str]:
    """Names under a group, in the file's order.

    Raises:
        ValueError: the group is damaged.
    """
    try:
        return [str(name) for name in group]
    except _DAMAGE as error:
        raise damaged(path, f"'{group.name}'", error) from error


def find(path: Path, group: Any, key: str) -> Any:
    """The object at `key` ('a/b' descends) under a group, or None.

    Raises:
        ValueError: the link is there and leads to nothing readable.
    """
    import h5py

    for part in key.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        try:
            if not _inside(path, group, part, key):
                return None
            group = group[part]
        except _DAMAGE as error:
            raise damaged(path, f"'{key}'", error) from error
    if isinstance(group, h5py.Dataset):
        _refuse_outside(path, group, key)
    return group


def _inside(path: Path, group: Any, name: str, key: str, depth: int = 0) -> bool:
    """True if `name` (one step or a path) is there, at no step through a link to another file.

    Raises:
        ValueError: a link leads to another file, which is not followed, or round in a circle.
    """
    import h5py

    if depth > _LINKS:
        raise ValueError(f"{path}: '{key}' is a link that leads round in a circle; fetch the file again")
    for part in filter(None, name.split("/")):
        if not isinstance(group, h5py.Group):
            return False
        link = group.get(part, getlink=True) if part != "." else None
        if isinstance(link, h5py.ExternalLink):
            raise _outside(path, key, "a link", [f"{link.filename}:{link.path}"])
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else group
            if not _inside(path, start, link.path, key, depth + 1):
                return False
        elif part not in group:
            return False
        group = group[part]
    return True


def _refuse_outside(path: Path, item: h5py.Dataset, key: str) -> None:
    """Raise where the numbers of a data set are in other files."""
    try:
        if item.is_virtual:
            sources = [f"{s.file_name}:{s.dset_name}" for s in item.virtual_sources()]
            raise _outside(path, key, "a virtual data set", sources)
        if item.external:
            raise _outside(path, key, "stored", [str(name) for name, *_ in item.external])
    except _DAMAGE as error:
        raise damaged(path, f"the storage of '{key}'", error) from error


def _outside(path: Path, key: str, how: str, targets: list[str]) -> ValueError:
    """The error for what pulls in another file, which could be any file of this machine."""
    named = ", ".join(f"'{target}'" for target in dict.fromkeys(targets))
    return ValueError(
        f"{path}: '{key}' is {how} outside this file, in {named}, which is not read; write "
        "the numbers into the file itself"
    )


def require_typed(path: Path, item: h5py.Dataset, key: str) -> h5py.Dataset:
    """`item`, whose type and shape can be read.

    Raises:
        ValueError: they are damaged.
    """
    try:
        _ = item.dtype, item.shape
    except (*_DAMAGE, ValueError, TypeError) as error:
        raise damaged(path, f"the type of '{key}'", error) from error
    return item


def require_array(path: Path, item: Any, key: str, dims: tuple[int, ...], rows: int | None) -> h5py.Dataset:
    """`item` as a numeric data set of `rows` rows whose number of axes is in `dims`.

    Raises:
        ValueError: naming the file, the key, and what it holds instead.
    """
    import h5py

    layout = " or ".join({1: "(N,)", 2: "(N, C)", 3: "(N, K, C)"}[n] for n in dims)
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{path}: '{key}' is a group, expected an array {layout}")
    if require_typed(path, item, key).dtype.kind not in "fiub":
        raise ValueError(f"{path}: '{key}' has dtype {item.dtype}, expected numbers (float, int or bool)")
    shape = item.shape
    if shape is None or len(shape) not in dims or 0 in shape[1:]:
        raise ValueError(
            f"{path}: '{key}' has shape {shape}, expected {layout}: one row per env step; "
            "images and the like are not read, flatten small ones first"
        )
    if shape[0] == 0:
        raise ValueError(f"{path}: '{key}' has 0 rows, expected at least 1 env step")
    if rows is not None and shape[0] != rows:
        raise ValueError(f"{path}: '{key}' has {shape[0]} rows, expected {rows}: one row per env step")
    declared, stored = item.size * item.dtype.itemsize, item.id.get_storage_size()
    if declared > _DEFLATE * (stored + _PAGE):
        raise ValueError(
            f"{path}: '{key}' has shape {shape} but only {stored} bytes stored, so most rows were never written; "
            "fetch or record it again"
        )
    return item


def read_into(
    path: Path,
    item: h5py.Dataset,
    key: str,
    out: NDArray[Any],
    rows: int | None = None,
    *,
    finite: bool = True,
) -> None:
    """Fill `out` with the first `rows` (default all) rows of `item`, in `out`'s type, in blocks.

    Raises:
        ValueError: a row is damaged or, where they must be `finite`, NaN, infinite or too large for the type.
    """
    rows = item.shape[0] if rows is None else rows
    for begin in range(0, rows, _ROWS):
        end = min(begin + _ROWS, rows)
        block = out[begin:end]
        try:
            with np.errstate(over="ignore"):
                block[...] = item[begin:end].reshape(block.shape)
        except _DAMAGE as error:
            raise damaged(path, f"'{key}' rows {begin} to {end - 1}", error) from error
        if finite:
            _require_finite(path, key, block, begin)


def _require_finite(path: Path, key: str, rows: NDArray[Any], begin: int = 0) -> None:
    """Raise for the first row that holds NaN or infinity; `begin` is its number in the file."""
    bad = bad_rows(rows)
    if len(bad):
        raise ValueError(
            f"{path}: '{key}' row {begin + bad[0]} is {np.atleast_1d(rows[bad[0]])[:8]}, expected finite "
            "float32 numbers; drop or repair that row before reading"
        )


def mapped(path: Path, item: h5py.Dataset) -> NDArray[np.generic] | None:
    """A large data set that the file holds in one piece, as it is in memory: mapped, not read. Others: None."""
    offset = item.id.get_offset()
    return None if offset is None else map_rows(path, item.dtype, item.shape, offset)


def read_numbers(
    path: Path, item: Any, key: str, *, dims: tuple[int, ...] = (1, 2), rows: int | None = None
) -> NDArray[np.float32]:
    """An array of the file as float32 (N, C) or (N,), finite; integers and bools are numbers.

    Raises:
        ValueError: naming the file, the key, the first bad row, and what was expected.
    """
    data = require_array(path, item, key, dims, rows)
    if data.dtype == np.float32 and (there := mapped(path, data)) is not None:
        _require_finite(path, key, there)
        return there.view(np.float32)
    out = np.empty(data.shape, np.float32)
    read_into(path, data, key, out)
    return out


def read_column(path: Path, item: Any, key: str, rows: int) -> NDArray[np.float32]:
    """An array of one number per row, (N,) or (N, 1), as (N,) float32.

    Raises:
        ValueError: naming the file, the key, the first bad row, and what was expected.
    """
    column = read_numbers(path, item, key, rows=rows)
    if column.ndim == 2 and column.shape[1] != 1:
        raise ValueError(
            f"{path}: '{key}' has shape {column.shape}, expected one number per row: (N,) or (N, 1)"
        )
    return column.reshape(rows)


def read_flags(path: Path, item: Any, key: str, rows: int) -> NDArray[np.bool_]:
    """(N,) bool from flags stored as bool, or as 0 and 1 of any numeric type.

    Raises:
        ValueError: naming the file, the key and the first row that is neither 0 nor 1.
    """
    flags = read_column(path, item, key, rows)
    bad = (flags != 0) & (flags != 1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{path}: '{key}' row {row} is {flags[row]}, expected a flag: False or True, 0 or 1")
    return flags.astype(np.bool_)
