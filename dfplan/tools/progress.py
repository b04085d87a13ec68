"""Progress of long work, with the time left."""

from __future__ import annotations

import sys
from typing import Any


def progress(total: int, what: str, unit: str, done: int = 0) -> Any:
    """A tqdm bar; a line every ten seconds where the output is not a terminal."""
    from tqdm import tqdm

    pause = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total, initial=done, desc=what, unit=unit, unit_scale=total >= 100_000, mininterval=pause
    )
