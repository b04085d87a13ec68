"""The arm's tasks are their own mirror image in the plane y = 0: every demonstration is two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes

_JOINTS = {f"q{i}": -1.0 if i % 2 else 1.0 for i in range(1, 8)}
_POSE = {"y": -1.0, "xy": -1.0, "yx": -1.0, "yz": -1.0}


def reflect(values: NDArray[Any], names: list[str]) -> NDArray[Any]:
    """The mirror image of values (..., C) whose columns are so named.

    The sideways coordinate and the odd joints change sign; joint 7 does so about 45 degrees, the angle at which the
    hand is mounted. The hand and what it holds are mirror images of themselves. A box's low side becomes its high one.
    """
    source, factor, offset = np.arange(len(names)), np.ones(len(names)), np.zeros(len(names))
    for i, name in enumerate(names):
        plain = name.removesuffix(" target")
        if plain.replace("qd", "q") in _JOINTS:
            factor[i], offset[i] = _JOINTS[plain.replace("qd", "q")], np.pi / 2 if plain == "q7" else 0.0
        elif plain.endswith(("_y_low", "_y_high")):
            swap = {"_low": "_high", "_high": "_low"}[plain[plain.rindex("_") :]]
            factor[i], source[i] = -1.0, names.index(plain[: plain.rindex("_")] + swap)
        elif "_" in plain and plain.rsplit("_", 1)[1] in _POSE:
            factor[i] = _POSE[plain.rsplit("_", 1)[1]]
    return np.asarray(values[..., source] * factor + offset, values.dtype)


def mirrored(episodes: Episodes) -> Episodes:
    """Demonstrations of an arm task followed by their mirror images.

    Args:
        episodes: as from `collect`: `info["names"]` tells which column is which.

    Raises:
        ValueError: the columns have no names, or not the arm's.
    """
    given = episodes.info.get("names") or {}
    if "q1" not in given.get("observations", ()) or "actions" not in given:
        raise ValueError(
            f"{episodes.name}: the columns are called {given or 'nothing'}, expected the arm's (q1, ..., ee_x, ...); train "
            "other demonstrations with the configuration 'imitation'"
        )
    arrays = {}
    for key, array in episodes.arrays.items():
        rows = np.asarray(array)
        names = episodes.info["names"].get("actions" if key == "executed" else key)
        other = rows
        if names is not None and rows.ndim == 2:
            other = reflect(rows, list(names))
        arrays[key] = np.concatenate([rows, other])
    info = {
        k: v for k, v in episodes.info.items() if k in ("names", "units", "groups", "relative", "env_args")
    }
    ends = np.concatenate([episodes.ends, episodes.ends + episodes.steps])
    return Episodes(arrays, ends, episodes.dt, f"{episodes.name} and its mirror image", info)
