"""Files: JSON that is checked, and new files that appear whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any


def read_json(path: Path, text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; the error names the file and what in it is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{path}: {what} is not JSON ({error}); the file is damaged, fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {what} is {value!r:.80}, expected a JSON object")
    return value


def require_path(path: str | PathLike[str]) -> Path:
    """`path`, if there is something; else FileNotFoundError."""
    found = Path(path).expanduser()
    if not found.exists():
        raise FileNotFoundError(f"{found}: no such file or folder; check the path")
    return found


def numbered(files: Iterable[Path]) -> list[Path]:
    """In the order of the numbers in their names."""
    parts = {file: re.split(r"(\d+)", file.stem) for file in files}
    return sorted(parts, key=lambda file: [int(p) if p.isdigit() else p for p in parts[file]])


_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError)
ZIP_DAMAGE = (*_ERRORS, NotImplementedError, RuntimeError, UnicodeDecodeError)
"""What zipfile raises for a damaged archive: the directory, entries and their data differ."""


def zip_names(path: Path) -> list[str]:
    """Names in a zip; none where `path` is not one."""
    if not begins(path, b"PK"):
        return []
    with open_zip(path) as file:
        return file.namelist()


def begins(path: Path, signature: bytes) -> bool:
    """True for a file that starts with `signature`; ValueError for one that only says where the data are."""
    if not path.is_file():
        return False
    refuse_pointer(path)
    with path.open("rb") as file:
        return file.read(len(signature)) == signature


_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Raise where a file is the text that Git LFS leaves in its place."""
    with path.open("rb") as file:
        pointer = file.read(len(_POINTER)) == _POINTER
    if pointer:
        raise ValueError(
            f"{path}: a Git LFS pointer, not the data; run `git lfs install` and `git lfs pull` where it was cloned"
        )


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading; ValueError where it is none, or is cut short or damaged."""
    try:
        return zipfile.ZipFile(path)
    except ZIP_DAMAGE as error:
        raise ValueError(f"{path}: a zip that is cut short or damaged ({error}); fetch it again") from error


@contextmanager
def new_file(path: str | PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` to write a file or folder to; it takes the name once it is complete.

    Raises:
        FileExistsError: `path` is there already.
        OSError: it cannot be written, e.g. because the disk is full; nothing is left of it.
    """
    target = Path(path).expanduser()
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        refuse_existing(target)
        part.rename(target)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(target)  # a full disk is reported without a name
        raise
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Raise if there is something at `path`."""
    if path.exists():
        raise FileExistsError(
            f"{path}: is there already and is not overwritten; move it or choose another name"
        )
