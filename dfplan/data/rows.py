"""Passes over arrays that may be larger than memory: a block of rows at a time."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAPPED = 1 << 24
"""Bytes from which on an array is mapped where its file allows it; smaller ones outlive a change of the file."""
_BLOCK = 1 << 22


def blocks(array: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """First row and rows (n, C) of each block of an array (N, ...)."""
    rows = max(_BLOCK // max(array[:1].nbytes, 1), 1)
    for begin in range(0, len(array), rows):
        block = np.asarray(array[begin : begin + rows])
        yield begin, block.reshape(len(block), -1)
        release(array)


def release(array: NDArray[np.generic]) -> None:
    """Give back the memory of what was read of a mapped file; it is read again where it is needed."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def bad_rows(array: NDArray[np.generic]) -> NDArray[np.int64]:
    """Rows of an array (N, ...) in which a number is NaN or infinite."""
    if array.dtype.kind != "f":
        return np.zeros(0, np.int64)
    found = [begin + np.flatnonzero(~np.isfinite(block).all(1)) for begin, block in blocks(array)]
    return np.concatenate([np.zeros(0, np.int64), *found])


def map_rows(
    path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...], offset: int
) -> NDArray[np.generic] | None:
    """The array at byte `offset` of a file, read-only and not read yet; None if it is small or swapped, or not all there."""
    size = math.prod(map(int, shape)) * dtype.itemsize
    if size < MAPPED or not dtype.isnative or offset + size > path.stat().st_size:
        return None
    return np.memmap(path, dtype, "r", offset, shape)
