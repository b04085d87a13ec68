"""Messages that say what was got, what was expected, and how to fix it."""

from __future__ import annotations

import difflib
import errno
import importlib
import math
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


def one_of(what: str, got: str, options: Iterable[str]) -> str:
    """Return `got` if it is one of `options`; else a ValueError has the nearest, and all of them."""
    options = list(options)
    if got in options:
        return got
    near = difflib.get_close_matches(str(got), options, 1, 0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"got {what} '{got}', expected one of {', '.join(options)}{hint}")


def finite_above_zero(owner: object, *names: str, of: str = "", most: float = math.inf) -> None:
    """Raise ValueError where one of the owner's numbers is not finite, above 0 and up to `most`; `of` says whose it is."""
    for name in names:
        value = getattr(owner, name)
        if not 0 < value <= most or value == math.inf:
            limit = "" if most == math.inf else f" and at most {most:g}"
            raise ValueError(f"got {name}={value}{of}, expected a finite number above 0{limit}")


def optional_import(module: str, extra: str) -> ModuleType:
    """Import an optional package; an ImportError has the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed; run: pip install 'dfplan[{extra}]'") from error


def new_place(path: Path) -> Path:
    """Return `path` if a file can be made there; ValueError where one of its folders is a file."""
    there = next((folder for folder in path.parents if folder.exists()), path.parent)
    if there.exists() and not there.is_dir():
        raise ValueError(f"got '{path}', but '{there}' is a file, expected a folder; choose another place")
    return path


_FIXES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions, or choose another place",
    errno.ENOSPC: "make room, or choose another place",
    errno.EISDIR: "give a file",
    errno.EEXIST: "choose another place",
    errno.ENOTDIR: "choose another place",
}


def told(error: BaseException) -> str:
    """An error in one line; of the system's, what it is about and what to do."""
    if isinstance(error, OSError) and error.filename is not None and error.errno in _FIXES:
        return f"got '{error.filename}': {error.strerror}; {_FIXES[error.errno]}"
    return " ".join(str(error).split())
