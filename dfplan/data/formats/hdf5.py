"""HDF5 reading in which everything that can be wrong with a file is a `ValueError` that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.files import begins
from dfplan.data.rows import bad_rows, map_rows

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DAMAGE = (OSError, RuntimeError, KeyError)
"""What h5py raises for a damaged file: reads, handles and link look-ups differ."""
_ROWS = 1 << 16
_DEFLATE, _PAGE = 1100, 4096  # deflate shrinks at most 1,032 times
_LINKS = 16


def hdf5_names(path: Path) -> list[str]:
    """Names at the top of an HDF5 file; none where `path` is not one."""
    if not begins(path, SIGNATURE):
        return []
    with open_hdf5(path) as file:
        return file.names()


@contextmanager
def open_hdf5(path: Path) -> Iterator[Node]:
    """The root of a file, which is open for reading; FileNotFoundError where there is none."""
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
    except DAMAGE as error:
        raise Node(path, "", None).damaged(error, "the file") from error
    with file:
        yield Node(path, "", file)


@dataclass(frozen=True)
class Node:
    """A group or an array in a file, found without leaving the file.

    Attributes:
        path: the file.
        key: where in it, for messages.
        item: what h5py has there.
    """

    path: Path
    key: str
    item: Any

    @property
    def is_group(self) -> bool:
        """True for what holds further groups and arrays."""
        return hasattr(self.item, "keys")

    @property
    def is_array(self) -> bool:
        """True for what holds rows."""
        return hasattr(self.item, "chunks")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array; () where it has none."""
        return getattr(self.item, "shape", None) or ()

    def damaged(self, error: Exception, what: str = "") -> ValueError:
        """The error for what HDF5 cannot read: this, or something of it."""
        return ValueError(
            f"{self.path}: {what or repr(self.key)} cannot be read, so the file is cut short or damaged ({error}); "
            "fetch it again"
        )

    def names(self) -> list[str]:
        """What is in a group, in the file's order; nothing in an array."""
        try:
            return [str(name) for name in self.item] if self.is_group else []
        except DAMAGE as error:
            raise self.damaged(error) from error

    def attributes(self) -> dict[str, Any]:
        """Attributes as JSON values."""
        try:
            found = dict(self.item.attrs)
        except DAMAGE as error:
            raise self.damaged(error, f"the attributes of '{self.key}'") from error
        for key, value in found.items():
            if isinstance(value, bytes):
                found[key] = value.decode(errors="replace")
            elif isinstance(value, np.ndarray | np.generic):
                found[key] = value.tolist()
        return found

    def find(self, key: str) -> Node | None:
        """What is at `key` ('a/b' descends), or None; a link that leaves the file is refused."""
        where = f"{self.key}/{key}" if self.key else key
        found = Node(self.path, where, None)
        try:
            if not found._inside(self.item, key):
                return None
            found = Node(self.path, where, self.item[key])
        except DAMAGE as error:
            raise found.damaged(error) from error
        if found.is_array:
            found._check_storage()
        return found

    def _inside(self, group: Any, name: str, depth: int = 0) -> bool:
        """True if `name` is in a group, at no step through a link to another file."""
        import h5py

        if depth > _LINKS:
            raise ValueError(
                f"{self.path}: '{self.key}' is a link that leads round in a circle; fetch the file again"
            )
        for part in filter(None, name.split("/")):
            if not isinstance(group, h5py.Group):
                return False
            link = group.get(part, getlink=True) if part != "." else None
            if isinstance(link, h5py.ExternalLink):
                raise self._outside("a link", [f"{link.filename}:{link.path}"])
            if isinstance(link, h5py.SoftLink):
                start = group.file if link.path.startswith("/") else group
                if not self._inside(start, link.path, depth + 1):
                    return False
            elif part not in group:
                return False
            group = group[part]
        return True

    def _check_storage(self) -> None:
        """Raise where an array's type cannot be read, or its numbers are in other files."""
        item = self.item
        try:
            _ = item.dtype, item.shape
            sources = [str(name) for name, *_ in item.external or ()]
            if virtual := item.is_virtual:
                sources = [f"{s.file_name}:{s.dset_name}" for s in item.virtual_sources()]
        except (*DAMAGE, ValueError, TypeError) as error:
            raise self.damaged(error, f"the type of '{self.key}'") from error
        if virtual or sources:
            raise self._outside("a virtual data set" if virtual else "stored", sources)

    def _outside(self, how: str, targets: list[str]) -> ValueError:
        """The error for what pulls in another file, which could be any file of this machine."""
        named = ", ".join(f"'{target}'" for target in dict.fromkeys(targets))
        return ValueError(
            f"{self.path}: '{self.key}' is {how} outside this file, in {named}, which is not read; write "
            "the numbers into the file itself"
        )

    def array(self, dims: tuple[int, ...] = (1, 2), rows: int | None = None) -> Node:
        """The same, if it is an array of numbers of `rows` rows whose number of axes is in `dims`."""
        layout = " or ".join({1: "(N,)", 2: "(N, C)", 3: "(N, K, C)"}[n] for n in dims)
        item, shape, what = self.item, self.shape, f"{self.path}: '{self.key}'"
        if not self.is_array:
            raise ValueError(f"{what} is a group, expected an array {layout}")
        if item.dtype.kind not in "fiub":
            raise ValueError(f"{what} has dtype {item.dtype}, expected numbers (float, int or bool)")
        if len(shape) not in dims or 0 in shape[1:]:
            raise ValueError(
                f"{what} has shape {item.shape}, expected {layout}: one row per env step; "
                "images and the like are not read, flatten small ones first"
            )
        if shape[0] == 0:
            raise ValueError(f"{what} has 0 rows, expected at least 1 env step")
        if rows is not None and shape[0] != rows:
            raise ValueError(f"{what} has {shape[0]} rows, expected {rows}: one row per env step")
        declared, stored = item.size * item.dtype.itemsize, item.id.get_storage_size()
        if declared > _DEFLATE * (stored + _PAGE):
            raise ValueError(
                f"{what} has shape {shape} but only {stored} bytes stored, so most rows were never written; "
                "fetch or record it again"
            )
        return self

    def read_into(self, out: NDArray[Any], *, finite: bool = True) -> None:
        """Fill `out` with as many first rows, in its type, in blocks; they must be `finite` in that type."""
        for begin in range(0, len(out), _ROWS):
            block = out[begin : begin + _ROWS]
            end = begin + len(block)
            try:
                with np.errstate(over="ignore"):
                    block[...] = self.item[begin:end].reshape(block.shape)
            except DAMAGE as error:
                raise self.damaged(error, f"'{self.key}' rows {begin} to {end - 1}") from error
            if finite:
                self._require_finite(block, begin)

    def _require_finite(self, rows: NDArray[Any], begin: int = 0) -> None:
        """Raise for the first row that holds NaN or infinity; `begin` is its number in the file."""
        bad = bad_rows(rows)
        if len(bad):
            raise ValueError(
                f"{self.path}: '{self.key}' row {begin + bad[0]} is {np.atleast_1d(rows[bad[0]])[:8]}, expected finite "
                "float32 numbers; drop or repair that row before reading"
            )

    def mapped(self) -> NDArray[np.generic] | None:
        """A large array that the file holds in one piece, as it is in memory: mapped, not read. Others: None."""
        offset = self.item.id.get_offset()
        return None if offset is None else map_rows(self.path, self.item.dtype, self.shape, offset)

    def numbers(self, dims: tuple[int, ...] = (1, 2), rows: int | None = None) -> NDArray[np.float32]:
        """Finite float32 (N, C) or (N,); integers and bools are numbers."""
        self.array(dims, rows)
        if self.item.dtype == np.float32 and (there := self.mapped()) is not None:
            self._require_finite(there)
            return there.view(np.float32)
        out = np.empty(self.shape, np.float32)
        self.read_into(out)
        return out

    def column(self, rows: int | None = None) -> NDArray[np.float32]:
        """One finite number per row, (N,) or (N, 1) in the file, as (N,) float32."""
        column = self.numbers(rows=rows)
        if column.ndim == 2 and column.shape[1] != 1:
            raise ValueError(
                f"{self.path}: '{self.key}' has shape {column.shape}, expected one number per row: (N,) or (N, 1)"
            )
        return column.reshape(len(column))

    def flags(self, rows: int) -> NDArray[np.bool_]:
        """(N,) bool from flags stored as bool, or as 0 and 1 of any type of number."""
        flags = self.column(rows)
        bad = np.flatnonzero((flags != 0) & (flags != 1))
        if len(bad):
            raise ValueError(
                f"{self.path}: '{self.key}' row {bad[0]} is {flags[bad[0]]}, expected a flag: False or True, 0 or 1"
            )
        return flags.astype(np.bool_)
