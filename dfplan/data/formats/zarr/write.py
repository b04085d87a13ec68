"""Writer of Diffusion Policy's replay buffers."""

from __future__ import annotations

from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, carry, numeric
from dfplan.data.episodes import Episodes
from dfplan.data.files import new_file
from dfplan.data.formats.zarr.read import ENDS
from dfplan.tools.errors import optional_import

_CHUNK_BYTES = 1 << 20


def write_zarr(episodes: Episodes, path: str | PathLike[str]) -> tuple[str, ...]:
    """Write a replay buffer of zarr's version 2: a zip if `path` ends in `.zip`, else a folder.

    The observation becomes `data/state`, the action `data/action`, other arrays keep their names with '.'
    for '/'. What the layout has no place for goes to the root's attribute `dfplan`.

    Args:
        episodes: what to write.
        path: where; never overwritten.

    Returns:
        sentences on what was not carried over.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: a number is not finite.
        ImportError: zarr is not installed: pip install 'dfplan[zarr]'.
    """
    arrays, notes = numeric(episodes, Path(path))
    wanted = {"observations": "state", "actions": "action"}
    keys = {name: wanted.get(name, name.replace("/", ".")) for name in arrays}
    if len(set(keys.values())) != len(keys):
        raise ValueError(
            f"{path}: the arrays {sorted(keys)} would share names in the store; rename one of them"
        )
    attrs = {"dfplan": carry(episodes, {key: name for name, key in keys.items()})}
    with new_file(path) as part:
        parts = {keys[name]: array for name, array in arrays.items()}
        _write(part, parts, episodes.ends, attrs, zipped=Path(path).suffix == ".zip")
    return tuple(notes)


def _write(
    part: Path, arrays: Arrays, ends: NDArray[np.int64], attrs: dict[str, Any], *, zipped: bool
) -> None:
    """Write the arrays, in chunks of whole rows."""
    zarr = optional_import("zarr", "zarr")
    with ExitStack() as stack:
        store: Any = str(part)
        if zipped:
            store = zarr.storage.ZipStore(part, mode="w")
            stack.callback(store.close)
        if zarr.__version__.startswith("2."):
            options: dict[str, Any] = {}
            zarr.open_group(store, mode="w").attrs.put(attrs)
        else:  # chunks of zeros are stored too, so that a chunk that is not there is always a fault
            options = {"zarr_format": 2, "config": {"write_empty_chunks": True}}
            zarr.create_group(store, zarr_format=2, attributes=attrs)
        for key, array in ({f"data/{key}": array for key, array in arrays.items()} | {ENDS: ends}).items():
            rows = min(max(_CHUNK_BYTES // max(array[:1].nbytes, 1), 1), len(array))
            little = array.dtype.newbyteorder("<")
            out = zarr.create(
                array.shape, chunks=(rows, *array.shape[1:]), dtype=little, store=store, path=key, **options
            )
            for begin in range(0, len(array), rows):
                out[begin : begin + rows] = array[begin : begin + rows]
