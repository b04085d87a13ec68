"""One trainer for each folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who writes `folder`; the claim ends with its process, however that ends.

    Raises:
        ValueError: somebody else has it; says who.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise ValueError(
                    f"{folder} is being trained by {who}; wait for it or stop it, or choose another folder"
                ) from None
            if not _names(lock, file.fileno()):
                continue  # whoever had it has just removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _names(path: Path, file: int) -> bool:
    """Whether `path` is still the name of the open file."""
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
