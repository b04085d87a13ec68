"""New HDF5 files that appear whole or not at all, also where the disk gets full."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

from dfplan.data.files import new_file

if TYPE_CHECKING:
    import h5py


class _Sink:
    """The file that HDF5 writes to. HDF5 crashes on closing a file after a write that failed, so none does."""

    def __init__(self, file: io.FileIO) -> None:
        self.error: OSError | None = None
        self._file = file
        self.seek, self.tell, self.read, self.readinto = file.seek, file.tell, file.read, file.readinto

    def write(self, data: memoryview) -> int:
        """Write all of `data`, or from the first failure on nothing."""
        done = 0
        try:
            while done < len(data) and self.error is None:
                done += self._file.write(data[done:]) or 0
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the file's size."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def check(self) -> None:
        """Raise the first failure."""
        if self.error is not None:
            raise self.error


@contextmanager
def new_hdf5(path: str | PathLike[str]) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new HDF5 file, and a function to call after each large array, which raises if it could not be written.

    The file appears whole or not at all.

    Raises:
        FileExistsError: there is something at `path`.
        OSError: it cannot be written, e.g. because the disk is full.
    """
    import h5py

    with new_file(path) as part:
        with part.open("w+b", buffering=0) as raw:
            sink = _Sink(raw)
            with h5py.File(sink, "w") as file:
                yield file, sink.check
            sink.check()
