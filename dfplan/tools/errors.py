"""Messages that say what was got, what was expected, and how to fix it."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterable
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
