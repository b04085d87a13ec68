"""From the arrays of a file to `Episodes` and back: what every format shares."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.episodes import Episodes
from dfplan.data.rows import bad_rows
from dfplan.data.sources import UnknownTimeStep
from dfplan.tools.errors import one_of

Arrays = dict[str, NDArray[np.generic]]
Spans = dict[str, list[int]]
_CLOCK = re.compile(r"(.*[_./])?time_?stamps?|times?", re.IGNORECASE)
_LABEL = re.compile(
    rf"{_CLOCK.pattern}|stages?|(episode|frame|task|step)(_?(index|idx|id))?|index|rewards?|dones?|terminals?|timeouts?|success",
    re.IGNORECASE,
)
_COLUMNS = ("names", "groups", "action_groups", "dtypes", "units")


@dataclass(frozen=True)
class Raw:
    """What a reader found.

    Attributes:
        path: the file or folder.
        arrays: file key -> (N, ...) numbers.
        ends: (E,) exclusive end of each episode.
        dt: seconds between env steps, where the file or its name says.
        name: what to call the data.
        info: what `Episodes.info` shall hold; this module adds names and column spans.
        obs: file keys whose columns make the observation, in order.
        action: file keys whose columns make the action; empty where there is none.
        names: file key -> one name per column, where the file says.
        carried: what `carry` left in the file, where this package wrote it; else empty.
        chosen: the caller named observation or action, so that `carried` says nothing about their columns.
    """

    path: Path
    arrays: Arrays
    ends: NDArray[np.int64]
    dt: float | None
    name: str
    info: dict[str, Any]
    obs: Sequence[str]
    action: Sequence[str]
    names: Mapping[str, list[str]] = field(default_factory=dict)
    carried: Mapping[str, Any] = field(default_factory=dict)
    chosen: bool = False


def assemble(raw: Raw, *, dt: float | None, name: str | None, allow_nan: bool) -> Episodes:
    """Give episodes of what a reader found; a key that is not there or an unknown time step is refused."""
    for key in (*raw.obs, *raw.action):
        one_of(f"key for {raw.path}", key, raw.arrays)
    carried = raw.carried
    step, notes = next((s for s in (dt, carried.get("dt"), raw.dt) if s is not None), None), list[str]()
    for key in (key for key in raw.arrays if step is None and _CLOCK.fullmatch(key)):
        step = _stamped(raw.arrays[key], raw.ends)
        notes = [f"the time step, {step:.6g} s, is that of '{key}'"] if step else []
    if step is None:
        raise UnknownTimeStep(raw.path, name or raw.name)
    arrays, columns = _columns(raw)
    info = dict(carried.get("info", {}))
    if raw.chosen:
        info = {key: value for key, value in info.items() if key not in _COLUMNS}
    info |= raw.info
    if raw.chosen or not carried:
        info |= columns
    if notes:
        info["notes"] = [*info.get("notes", ()), *notes]
    if not allow_nan:
        require_finite(raw.path, arrays)
    called = name or carried.get("name") or raw.name
    try:
        return Episodes(arrays, raw.ends, float(step), called, info)
    except ValueError as error:
        raise ValueError(f"{raw.path}: {error}; repair the file or write it again") from error


def is_label(key: str) -> bool:
    """True for what says something of a row, such as its time, stage or reward, and is not seen when acting."""
    return _LABEL.fullmatch(key) is not None


def clock_of(arrays: Mapping[str, NDArray[np.generic]]) -> str | None:
    """Key of the time stamps (N,), where there are some."""
    return next(
        (key for key in arrays if _CLOCK.fullmatch(key) and arrays[key].size == len(arrays[key])), None
    )


def intervals(stamps: NDArray[np.generic], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds from each row to the next of the same episode; times of day in ms, us and ns are known by their size."""
    times = stamps.reshape(-1).astype(np.float64)
    size = np.abs(times).max(initial=0)
    unit = next((u for least, u in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3)) if size > least), 1.0)
    inside = np.ones(max(len(times) - 1, 0), np.bool_)
    inside[ends[:-1] - 1] = False
    return np.asarray(np.diff(times)[inside] * unit)


def _stamped(stamps: NDArray[np.generic], ends: NDArray[np.int64]) -> float | None:
    """Seconds between two rows by their time stamps (N,), a whole rate in Hz where that is near; None if they do not say."""
    timed = stamps.dtype.kind in "fiu" and stamps.size == len(stamps)
    steps = intervals(stamps, ends) if timed else np.zeros(0)
    middle = float(np.median(steps)) if len(steps) else 0.0
    if not 1e-4 < middle < 10:
        return None
    mean = float(steps[np.abs(steps - middle) < 0.5 * middle].mean())
    rate = round(1 / mean)
    return 1 / rate if rate and abs(rate * mean - 1) < 0.02 else mean


def _columns(raw: Raw) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of the episodes, and what `info` says of their columns."""
    arrays: Arrays = {}
    names: dict[str, list[str]] = {}
    info: dict[str, Any] = {"names": names}
    for target, keys in (("observations", raw.obs), ("actions", raw.action)):
        if not keys:
            continue
        parts = {key: raw.arrays[key] for key in keys}
        joined, spans = join_columns(parts)
        whole = raw.carried and not raw.chosen and len(keys) == 1
        arrays[target] = parts[keys[0]] if whole else joined
        names[target] = [n for k in keys for n in raw.names.get(k) or column_names(k, parts[k].shape)]
        info |= {"groups": spans} if target == "observations" else {}
    renamed = raw.carried.get("arrays", {})
    for key, array in raw.arrays.items():
        if key not in (*raw.obs, *raw.action):
            called = renamed.get(key, key)
            called = f"source/{called}" if called in arrays else called
            arrays[called] = array
            if key in raw.names:
                names[called] = raw.names[key]
    types = {key: str(raw.arrays[key].dtype) for key in raw.obs}
    return arrays, info | ({"dtypes": types} if len(set(types.values())) > 1 else {})


def carry(episodes: Episodes, arrays: Mapping[str, str], without: Sequence[str] = ()) -> dict[str, Any]:
    """What a file's own layout has no place for, as JSON: a reader gives it back through `Raw.carried`.

    Args:
        episodes: what is written.
        arrays: file key -> array, where the names differ.
        without: keys of `info` that the layout has a place for.
    """
    own = {"format", "version", "left_out", *without}
    info = {key: value for key, value in episodes.info.items() if key not in own}
    return {"dfplan": 1, "name": episodes.name, "dt": episodes.dt, "arrays": dict(arrays), "info": info}


def require_carried(path: Path, value: Any) -> dict[str, Any]:
    """`value`, if it is what `carry` makes."""
    maps = isinstance(value, dict) and all(isinstance(value.get(key), dict) for key in ("arrays", "info"))
    if not maps or not isinstance(value.get("dt"), float | int) or not isinstance(value.get("name"), str):
        raise ValueError(
            f"{path}: the entry 'dfplan' is {value!r:.80}, expected arrays, info, dt and name; remove that entry"
        )
    return dict(value)


def numeric(episodes: Episodes, path: Path) -> tuple[Arrays, list[str]]:
    """Arrays that a file can hold, all finite, and a sentence for each that it cannot."""
    arrays = {key: np.asarray(array) for key, array in episodes.arrays.items()}
    kept = {key: array for key, array in arrays.items() if array.dtype.kind in "fiub"}
    require_finite(path, kept)
    rest = {key: array.dtype for key, array in arrays.items() if key not in kept}
    notes = [f"'{key}' is left out: dtype {dtype} is not a number" for key, dtype in rest.items()]
    if left_out := episodes.info.get("left_out"):
        notes.append(f"not in the episodes, so not written: {', '.join(left_out)} (pictures, video or text)")
    return kept, notes


def spans_of(episodes: Episodes, target: str, default: str) -> Spans:
    """Spans [start, stop] that tile the columns of an array: its groups, or all columns as `default`."""
    columns = math.prod(episodes.arrays[target].shape[1:])
    stated = episodes.info.get("groups" if target == "observations" else "action_groups", {})
    spans = sorted(([int(a), int(b)], str(key)) for key, (a, b) in stated.items())
    begins, ends = [span[0] for span, _ in spans], [span[1] for span, _ in spans]
    if not spans or [*begins, columns] != [0, *ends]:
        return {default: [0, columns]}
    return {key: span for span, key in spans}


def take_columns(array: NDArray[np.generic], span: Sequence[int]) -> NDArray[np.generic]:
    """Columns [start, stop) of an array (N, ...); the array itself, in its shape, where that is all."""
    start, stop = span
    if (start, stop) == (0, math.prod(array.shape[1:])):
        return array
    return array.reshape(len(array), -1)[:, start:stop]


def is_image(shape: Sequence[int]) -> bool:
    """True for arrays (N, ...) of pictures: three axes or more per row, or two of at least 16."""
    return len(shape) >= 4 or (len(shape) == 3 and min(shape[1:]) >= 16)


def column_names(key: str, shape: Sequence[int]) -> list[str]:
    """One name per column of an array (N, ...): `key`, or `key[i]`, `key[i,j]`."""
    if math.prod(shape[1:]) == 1:
        return [key]
    return [f"{key}[{','.join(map(str, index))}]" for index in np.ndindex(*shape[1:])]


def join_columns(parts: Mapping[str, NDArray[np.generic]]) -> tuple[NDArray[np.generic], Spans]:
    """Arrays (N, ...) side by side as (N, C), and the span [start, stop] of columns of each."""
    flat = [array.reshape(len(array), -1) for array in parts.values()]
    stops = np.cumsum([part.shape[1] for part in flat]).tolist()
    spans = {key: [stop - part.shape[1], stop] for key, part, stop in zip(parts, flat, stops, strict=True)}
    return (flat[0] if len(flat) == 1 else np.concatenate(flat, 1)), spans


def require_finite(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise unless all numbers are finite; the error names the file, the array and its first bad row."""
    for key, array in arrays.items():
        bad = bad_rows(array)
        if len(bad):
            raise ValueError(
                f"{path}: '{key}' row {bad[0]} is {np.atleast_1d(array[bad[0]]).ravel()[:8]}, expected finite "
                "numbers; repair that row, or read with allow_nan=True to look at it"
            )


def require_ends(path: Path, ends: NDArray[np.generic], key: str) -> NDArray[np.int64]:
    """Episode ends (E,) as int64, rising from above 0; the error names the first bad row."""
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) == 0:
        raise ValueError(
            f"{path}: '{key}' has shape {ends.shape} and dtype {ends.dtype}, expected (E,) integers"
        )
    whole = ends.astype(np.int64)
    bad = np.flatnonzero(np.diff(whole, prepend=0) <= 0)
    if len(bad):
        raise ValueError(
            f"{path}: '{key}' row {bad[0]} is {whole[bad[0]]}, expected exclusive episode ends that rise "
            "from above 0; repair them"
        )
    return whole
