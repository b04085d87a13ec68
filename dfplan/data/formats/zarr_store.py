"""Arrays of zarr version 2, in a folder or a zip, without the zarr package."""

from __future__ import annotations

import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dfplan.data.files import ZIP_DAMAGE, open_zip, read_json, require_path
from dfplan.tools.errors import optional_import

_TEXT = 1 << 24
_SPARSE = 1 << 30
_STANDARD = (None, "zlib", "gzip")


class Store(Protocol):
    """Named byte strings below the root of a zarr group."""

    path: Path

    def names(self) -> set[str]:
        """Keys, such as `data/action/0.0`."""

    def read(self, key: str, limit: int) -> bytes:
        """Up to `limit` + 1 bytes of an entry."""


class _Folder:
    """A folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> set[str]:
        return {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}

    def read(self, key: str, limit: int) -> bytes:
        file = self.path / key
        with file.open("rb") as data:
            return data.read(min(limit, file.stat().st_size) + 1)


class _Zip:
    """A zip whose root, or one folder in it, is the group; nothing is extracted."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file
        names = file.namelist()
        unsafe = [name for name in names if name.startswith(("/", "\\")) or ".." in name.split("/")]
        if unsafe:
            raise ValueError(
                f"{path}: holds '{unsafe[0]}', a name outside the archive; expected a zarr store"
            )
        roots = [name for name in names if name.endswith("meta/episode_ends/.zarray")]
        self._root = min(roots, key=len).removesuffix("meta/episode_ends/.zarray") if roots else ""

    def names(self) -> set[str]:
        root = self._root
        return {
            n.removeprefix(root) for n in self._file.namelist() if n.startswith(root) and not n.endswith("/")
        }

    def read(self, key: str, limit: int) -> bytes:
        try:
            with self._file.open(self._root + key) as file:
                return file.read(min(limit, self._file.getinfo(self._root + key).file_size) + 1)
        except ZIP_DAMAGE as error:
            raise ValueError(f"{self.path}: '{key}' is damaged ({error}); fetch the file again") from error


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open a store for reading.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is neither a folder nor a whole zip.
    """
    if require_path(path).is_dir():
        yield _Folder(path)
        return
    with open_zip(path) as file:
        yield _Zip(path, file)


@dataclass(frozen=True)
class Header:
    """What `.zarray` says of an array.

    Attributes:
        key: its place in the store.
        shape: (N, ...).
        chunks: rows, ... of a chunk.
        dtype: in the store's byte order.
        compressor: None or its configuration.
        filters: configurations, in the order of encoding.
        fill: value of a chunk that is not stored; None says nothing.
        order: 'C' or 'F' within a chunk.
        separator: '.' or '/' between the numbers of a chunk.
    """

    key: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: Mapping[str, Any] | None
    filters: tuple[Mapping[str, Any], ...]
    fill: Any
    order: Literal["C", "F"]
    separator: str

    @property
    def chunk_bytes(self) -> int:
        """Size of a decoded chunk; those at the edge are padded to it."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def entries(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Key and grid position of each chunk."""
        grid = [range(math.ceil(n / c)) for n, c in zip(self.shape, self.chunks, strict=True)]
        for position in itertools.product(*grid):
            yield f"{self.key}/{self.separator.join(map(str, position)) or '0'}", position

    @property
    def count(self) -> int:
        """Number of chunks."""
        return math.prod(math.ceil(n / c) for n, c in zip(self.shape, self.chunks, strict=True))


def read_header(store: Store, key: str) -> Header:
    """Parse and check `<key>/.zarray`.

    Raises:
        ValueError: naming the store, the array, the field, what it is and what it should be.
    """
    where = f"{key}/.zarray"
    raw = read_json(store.path, store.read(where, _TEXT), where)

    def bad(field: str, expected: str) -> ValueError:
        return ValueError(f"{store.path}: {where} has {field} {raw.get(field)!r:.80}, expected {expected}")

    if raw.get("zarr_format") != 2:
        raise bad("zarr_format", "2; save the store again with zarr_format=2")
    for field, least in (("shape", 0), ("chunks", 1)):
        sizes = raw.get(field)
        if not isinstance(sizes, list) or not all(type(n) is int and n >= least for n in sizes):
            raise bad(field, f"a list of whole numbers from {least} on")
    if len(raw["chunks"]) != len(raw["shape"]):
        raise bad("chunks", f"as many numbers as shape {raw['shape']}")
    try:
        dtype = np.dtype(raw.get("dtype"))
    except (TypeError, ValueError) as error:
        raise bad("dtype", "a numpy type such as '<f4'") from error
    if not isinstance(raw.get("dtype"), str) or dtype.kind not in "fiub":
        raise bad("dtype", "numbers (float, int or bool); leave the array out with keys=")
    if raw.get("order") not in ("C", "F"):
        raise bad("order", "'C' or 'F'")
    compressor, filters = raw.get("compressor"), raw.get("filters") or []
    if compressor is not None and not (
        isinstance(compressor, dict) and isinstance(compressor.get("id"), str)
    ):
        raise bad("compressor", "null or an object with an 'id'")
    if not isinstance(filters, list) or not all(isinstance(f, dict) and "id" in f for f in filters):
        raise bad("filters", "null or a list of objects with an 'id'")
    separator = raw.get("dimension_separator", ".")
    shape, chunks = tuple(raw["shape"]), tuple(raw["chunks"])
    return Header(
        key, shape, chunks, dtype, compressor, tuple(filters), raw.get("fill_value"), raw["order"], separator
    )


def read_array(
    store: Store, header: Header, names: set[str], fill_missing: bool = False
) -> NDArray[np.generic]:
    """Decode an array, in native byte order.

    Args:
        store: where it is.
        header: from `read_header`.
        names: `store.names()`.
        fill_missing: chunks that are not there hold the fill value; False makes them an error.

    Raises:
        ValueError: a chunk is missing, damaged or of the wrong size.
        ImportError: its compressor needs the package numcodecs, which is not installed.
    """
    prefix = f"{header.key}/"
    stored = sum(name.startswith(prefix) and not name.rsplit("/", 1)[1].startswith(".") for name in names)
    missing = max(header.count - stored, 0)
    if missing * (1 if not fill_missing else header.chunk_bytes) > (_SPARSE if fill_missing else 0):
        raise _missing(store, header, f"{missing} of the {header.count} chunks of '{header.key}'")
    out: NDArray[np.generic] | None = None
    for entry, position in header.entries():
        if entry in names:
            chunk = _decode(store, header, entry)
        elif fill_missing and header.fill is not None:
            chunk = np.full(header.chunks, np.array(header.fill).astype(header.dtype))
        else:
            raise _missing(store, header, f"chunk '{entry}'")
        out = np.empty(header.shape, header.dtype.newbyteorder("=")) if out is None else out
        corner = [p * c for p, c in zip(position, header.chunks, strict=True)]
        place = tuple(slice(b, b + c) for b, c in zip(corner, header.chunks, strict=True))
        inside = tuple(slice(0, n - b) for n, b in zip(header.shape, corner, strict=True))
        out[place] = chunk[inside]
    return np.empty(header.shape, header.dtype.newbyteorder("=")) if out is None else out


def _missing(store: Store, header: Header, what: str) -> ValueError:
    """The error for chunks that are not in the store."""
    return ValueError(
        f"{store.path}: {what} not in the store, shape {header.shape}: copy it again, whole; if its writer "
        f"left out chunks that hold only the fill value {header.fill}, pass fill_missing=True"
    )


def _decode(store: Store, header: Header, entry: str) -> NDArray[np.generic]:
    """One chunk in the array's byte order."""
    data = store.read(entry, 2 * header.chunk_bytes + (1 << 16))
    try:
        for config in (header.compressor, *reversed(header.filters)):
            data = _decompress(data, config, header.chunk_bytes)
        if len(data) != header.chunk_bytes:
            raise ValueError(f"got {len(data)} bytes")
    except ImportError:
        raise
    except (ValueError, RuntimeError, TypeError, MemoryError, zlib.error) as error:
        raise ValueError(
            f"{store.path}: chunk '{entry}' does not decode ({error}), expected {header.chunk_bytes} bytes of "
            f"{header.chunks} {header.dtype} with compressor {header.compressor}; fetch the store again"
        ) from error
    return np.frombuffer(data, header.dtype).reshape(header.chunks, order=header.order)


def _decompress(data: bytes, config: Mapping[str, Any] | None, size: int) -> bytes:
    """Undo one codec; `size` bytes are expected at the end."""
    name = None if config is None else config["id"]
    if config is None or name is None:
        return data
    if name in _STANDARD:
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
        out = decoder.decompress(data, size + 1)
        if not decoder.eof and len(out) <= size:
            raise ValueError("cut short")
        return out
    if name == "blosc" and (len(data) < 16 or int.from_bytes(data[4:8], "little") > size):
        raise ValueError("not a blosc frame of that size")
    codecs = optional_import("numcodecs", "zarr")
    try:
        codec = codecs.get_codec(dict(config))
    except ValueError as error:
        raise ValueError(f"unknown codec '{name}'") from error
    return bytes(memoryview(codec.decode(data)).cast("B"))


def array_entries(
    key: str, array: NDArray[np.generic], rows: int, level: int = 1
) -> Iterator[tuple[str, bytes]]:
    """Store entries of an array (N, ...), in chunks of `rows` rows, zlib-compressed unless `level` is 0."""
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("<"))
    chunks = (max(min(rows, len(array)), 1), *(max(n, 1) for n in array.shape[1:]))
    header = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunks),
        "dtype": array.dtype.str,
        "compressor": {"id": "zlib", "level": level} if level else None,
        "fill_value": False if array.dtype.kind == "b" else 0,
        "order": "C",
        "filters": None,
    }
    yield f"{key}/.zarray", json.dumps(header, indent=4).encode()
    yield f"{key}/.zattrs", b"{}"
    tail = ".0" * (array.ndim - 1)
    for number, begin in enumerate(range(0, len(array), chunks[0])):
        block = np.zeros(chunks, array.dtype)
        part = array[begin : begin + chunks[0]]
        block[: len(part)] = part
        data = block.tobytes()
        yield f"{key}/{number}{tail}", zlib.compress(data, level) if level else data
