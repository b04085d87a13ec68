"""Diffusion Policy's replay buffers: zarr version 2 or 3, `data/<key>` end to end and `meta/episode_ends`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, Raw, assemble, is_image, is_label, require_carried, require_ends
from dfplan.data.episodes import Episodes
from dfplan.data.files import ZIP_DAMAGE, open_zip, read_json, require_path, zip_names
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of, optional_import

ENDS = "meta/episode_ends"
_HEADERS = (".zarray", "zarr.json")
_STATES = ("state", "observations", "observation", "obs")
_SPARE = 1 << 30


def is_zarr(path: Path) -> bool:
    """True for a folder or a zip that holds a zarr group."""
    marks = (".zgroup", "zarr.json", f"{ENDS}/.zarray")
    return any((path / mark).is_file() for mark in marks) or any(
        name.endswith(_HEADERS) for name in zip_names(path)
    )


def read_zarr(
    path: str | PathLike[str],
    keys: Sequence[str] | None = None,
    dt: float | None = None,
    *,
    obs: Sequence[str] | None = None,
    action: str | None = None,
    name: str | None = None,
    fill_missing: bool = False,
    allow_nan: bool = False,
) -> Episodes:
    """Read a replay buffer from a folder (`.zarr`) or a zip (`.zarr.zip`), in any compression that zarr reads.

    Arrays keep the store's types: `observations` (N, C) from `obs`, `actions` (N, A) from `action`, and
    every other key of `data/` under its own name, except pictures, which `keys` must ask for.

    Args:
        path: the store.
        keys: keys of `data/` to read. Default: all but pictures, which `info["left_out"]` names.
        dt: seconds between env steps. Default: what the store, its name or its time stamps say.
        obs: keys whose columns make the observation, in this order. Default: `state`, or where there is none, all keys that
            are read but the action, clocks (`timestamp`), rewards and labels of rows such as `stage`.
        action: key of the action. Default: `action`, where there is one.
        name: name for messages and checkpoints. Default: the store's name.
        fill_missing: chunks of observation and action that are not stored hold the fill value, as of a writer that leaves such
            chunks out; False makes them an error, as of a copy that is not whole.
        allow_nan: keep NaN and infinity instead of refusing them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable as a replay buffer; the message names the store, key and field.
        ImportError: zarr is not installed: pip install 'dfplan[zarr]'. Version 3 needs Python 3.11.
    """
    path = require_path(path)
    with _open(path) as store:
        headers = store.headers()
        if ENDS not in headers:
            raise ValueError(
                f"{path}: no '{ENDS}' in the store, which holds {sorted(store.names)[:8]}; expected a replay "
                f"buffer: data/<key> and {ENDS}"
            )
        ends = require_ends(path, _read(store, ENDS, headers[ENDS], fill_missing), ENDS)
        info: dict[str, Any] = {"format": "zarr", "version": str(headers[ENDS]["zarr_format"])}
        arrays: Arrays = {}
        wanted = _wanted(path, headers, keys, int(ends[-1]))
        pictures = [key for key, header in wanted.items() if keys is None and is_image(header["shape"])]
        info |= {"left_out": pictures} if pictures else {}
        chosen = _choose([key for key in wanted if key not in pictures], obs, action)
        for key in (key for key in wanted if key not in pictures):
            # Writers leave out chunks of zeros; one that a copy lost must not pass for them in what is learned from.
            sparse = fill_missing or key not in (*chosen[0], *chosen[1])
            arrays[key] = _read(store, f"data/{key}", wanted[key], sparse)
        labels = [key for key in arrays if is_label(key) and key not in (*chosen[0], *chosen[1])]
        if labels and obs is None and not set(_STATES).intersection(arrays):
            info["notes"] = [f"carried along, not observed unless obs= names them: {', '.join(labels)}"]
        attrs = store.json(".zattrs") or store.json("zarr.json").get("attributes") or {}
    carried = require_carried(path, attrs["dfplan"]) if isinstance(attrs, dict) and "dfplan" in attrs else {}
    stem, given = path.name.removesuffix(".zip").removesuffix(".zarr"), obs is not None or action is not None
    raw = Raw(path, arrays, ends, time_step(stem), stem, info, *chosen, {}, carried, given)
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


@dataclass(frozen=True)
class _Store:
    """A zarr group in a folder or a zip: its file names, what reads one, and the library's store."""

    path: Path
    root: str
    names: frozenset[str]
    read: Callable[[str], bytes]
    opened: Any

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the store; {} where there is none."""
        return read_json(self.path, self.read(name), name) if name in self.names else {}

    def headers(self) -> dict[str, dict[str, Any]]:
        """Key of each array -> what its `.zarray` or `zarr.json` says."""
        places = [name.rpartition("/") for name in sorted(self.names)]
        found = {key: self.json(f"{key}/{file}") for key, _, file in places if key and file in _HEADERS}
        return {key: header for key, header in found.items() if header.get("node_type", "array") == "array"}


@contextmanager
def _open(path: Path) -> Iterator[_Store]:
    """Open a store for reading: a folder, or a zip whose root or one folder in it is the group."""
    zarr = optional_import("zarr", "zarr")
    if path.is_dir():
        files = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        yield _Store(path, "", frozenset(files), lambda name: (path / name).read_bytes(), str(path))
        return
    with ExitStack() as stack:
        file = stack.enter_context(open_zip(path))
        names = file.namelist()
        roots = [n.removesuffix(f"{ENDS}/{h}") for n in names for h in _HEADERS if n.endswith(f"{ENDS}/{h}")]
        root = min(roots, key=len, default="")

        def read(name: str) -> bytes:
            try:
                return file.read(root + name)
            except ZIP_DAMAGE as error:
                raise ValueError(f"{path}: '{name}' is damaged ({error}); fetch the file again") from error

        library = zarr.storage.ZipStore(path, mode="r")
        stack.callback(_close, library)
        inside = frozenset(n.removeprefix(root) for n in names if n.startswith(root) and not n.endswith("/"))
        yield _Store(path, root, inside, read, library)


def _close(library: Any) -> None:
    """Close the library's zip; that of zarr 3 fails where it was never looked into."""
    with suppress(AttributeError):
        library.close()


def _wanted(
    path: Path, headers: Mapping[str, dict[str, Any]], keys: Sequence[str] | None, steps: int
) -> dict[str, dict[str, Any]]:
    """Headers of the arrays of `data/` to look at, each of `steps` rows."""
    there = [key.removeprefix("data/") for key in headers if key.startswith("data/")]
    if not there:
        raise ValueError(f"{path}: no arrays below 'data/' in the store; expected data/action and the like")
    wanted = {}
    for key in there if keys is None else [one_of(f"key for {path}", key, there) for key in keys]:
        wanted[key] = headers[f"data/{key}"]
        shape = _sizes(path, f"data/{key}", wanted[key].get("shape"))
        if shape[:1] != (steps,) or 0 in shape:
            raise ValueError(
                f"{path}: 'data/{key}' has shape {shape}, and '{ENDS}' ends at {steps}; expected one row per env step"
            )
    return wanted


def _sizes(path: Path, key: str, sizes: Any, least: int = 0) -> tuple[int, ...]:
    """A shape, or that of a chunk, as whole numbers."""
    if not isinstance(sizes, list) or not all(type(n) is int and least <= n < 1 << 60 for n in sizes):
        raise ValueError(f"{path}: '{key}' has sizes {sizes!r:.80}, expected whole numbers from {least} on")
    return tuple(sizes)


def _read(store: _Store, key: str, header: Mapping[str, Any], fill_missing: bool) -> NDArray[np.generic]:
    """One array, in native byte order."""
    if "pickle" in json.dumps({name: value for name, value in header.items() if name != "attributes"}):
        raise ValueError(f"{store.path}: '{key}' is a Python pickle, which can run code and is never loaded")
    zarr = optional_import("zarr", "zarr")
    with _decoding(store.path, key):
        array = zarr.open_array(store=store.opened, path=store.root + key, mode="r")
        if array.dtype.kind not in "fiub":
            raise ValueError(f"dtype {array.dtype}, expected numbers (float, int or bool)")
    _require_chunks(store, key, header, array, fill_missing)
    with _decoding(store.path, key):
        whole: NDArray[np.generic] = np.asarray(array[...])
    return whole.astype(whole.dtype.newbyteorder("="), copy=False)


@contextmanager
def _decoding(path: Path, key: str) -> Iterator[None]:
    """Name the array in whatever goes wrong: the library and its codecs raise classes of their own."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path}: '{key}' does not decode ({type(error).__name__}: {str(error)[:200]}); fetch the store again, or "
            "leave the array out with keys="
        ) from error


def _require_chunks(
    store: _Store, key: str, header: Mapping[str, Any], array: Any, fill_missing: bool
) -> None:
    """Raise where a chunk is not stored, which the library would read as the fill value."""
    grid = header.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", header.get("chunks"))
    shape, chunks = tuple(array.shape), _sizes(store.path, key, grid, 1)
    if len(chunks) != len(shape):
        raise ValueError(
            f"{store.path}: '{key}' does not decode: chunks {chunks}, expected as many as shape {shape}"
        )
    counts = [math.ceil(n / c) for n, c in zip(shape, chunks, strict=True)]
    size = math.prod(chunks) * array.dtype.itemsize
    if size > 2 * array.nbytes + _SPARE:
        raise ValueError(
            f"{store.path}: '{key}' has chunks {chunks}, expected not many times its shape {shape}"
        )
    stored = sum(name.startswith(f"{key}/") for name in store.names) - 1
    sparse = fill_missing and array.fill_value is not None
    if sparse and (math.prod(counts) - stored) * size > _SPARE:
        raise ValueError(
            f"{store.path}: '{key}' of shape {shape} has {stored} chunks stored; copy it again, whole"
        )
    blosc = '"blosc"' in json.dumps([header.get("compressor"), (header.get("codecs") or [None])[-1]])
    for number in range(math.prod(counts)):
        name = f"{key}/{_chunk_name(header, [str(i) for i in np.unravel_index(number, counts)])}"
        if name not in store.names and not sparse:
            raise ValueError(
                f"{store.path}: chunk '{name}' is not in the store, shape {shape} in {math.prod(counts)} chunks: copy it "
                "again, whole; if its writer left out chunks that hold only the fill value "
                f"{array.fill_value}, pass fill_missing=True"
            )
        if blosc and name in store.names:
            _require_frame(store, name, size)


def _require_frame(store: _Store, name: str, size: int) -> None:
    """Raise unless a blosc frame of at most `size` bytes is whole: its decoder reads on behind one that is not."""
    frame = store.read(name)
    decoded, stored = (int.from_bytes(frame[at : at + 4], "little") for at in (4, 12))
    if len(frame) < 16 or decoded > size or stored != len(frame):
        raise ValueError(
            f"{store.path}: chunk '{name}' does not decode: it has {len(frame)} bytes and says {stored}; fetch the store again"
        )


def _chunk_name(header: Mapping[str, Any], place: Sequence[str]) -> str:
    """Name of a chunk's file below its array."""
    if header.get("zarr_format") == 2:
        return str(header.get("dimension_separator", ".")).join(place)
    encoding = header.get("chunk_key_encoding", {})
    default = encoding.get("name") == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if default else ".")
    return str(separator).join(["c", *place] if default else place)


def _choose(
    keys: Sequence[str], obs: Sequence[str] | None, action: str | None
) -> tuple[list[str], list[str]]:
    """Keys that make the observation, and the action."""
    act = [action] if action else [key for key in ("action", "actions") if key in keys][:1]
    if obs is not None:
        return list(obs), act
    state = [key for key in _STATES if key in keys][:1]
    return state or [key for key in keys if key not in act and not is_label(key)], act
