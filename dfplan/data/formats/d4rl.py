"""Reader of D4RL's HDF5 layout: flat arrays with flags at the end of each segment."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5 import (
    children,
    damaged,
    find,
    hdf5_names,
    open_hdf5,
    read_column,
    read_flags,
    read_numbers,
)
from dfplan.data.sources import UnknownTimeStep, d4rl_name, time_step

if TYPE_CHECKING:
    import h5py

_FLAGS = ("timeouts", "terminals")


def is_d4rl(path: Path) -> bool:
    """True for an HDF5 file with `observations` at its top."""
    return "observations" in hdf5_names(path)


def read_d4rl(
    path: str | PathLike[str],
    *,
    dt: float | None = None,
    name: str | None = None,
    cuts: Sequence[str] = _FLAGS,
    episode_steps: int | None = None,
    also: Sequence[str] = (),
) -> Episodes:
    """Read a D4RL data set of any task (Maze2D, AntMaze, locomotion, kitchen, Adroit) into memory as float32.

    Arrays: `observations` (N, C), `actions` (N, A), and where the file has them `rewards` (N,),
    `terminals` (N,) bool, `infos/goal`, and each key of `also`.

    Segments end at the rows whose flag in `cuts` is True; rows after the last flag are a segment too.
    Maze2D marks with `timeouts` where its collector changed goal (no terminal is ever True; some segments
    are one step long). AntMaze sets `terminals` on every row near the goal, which cuts one-step segments
    there: pass `cuts=("timeouts",)` to keep those episodes whole.

    Rewards are kept as recorded. In the Maze2D files `rewards[t]` belongs to `observations[t]`; in the
    other tasks it is the reward of the transition from row t to t + 1. The goal of Maze2D's rewards is the
    task's fixed cell, while `infos/goal` is where the collector was heading.

    Args:
        path: the file.
        dt: seconds between env steps. Default: the file's attribute `dt`, else the task's, known by name.
        name: name for messages and checkpoints. Default: the task's name, known by the file's name.
        cuts: flag arrays that end a segment; those the file lacks are passed over.
        episode_steps: cut longer segments every so many env steps; needed where the flags mark no end.
        also: keys of more arrays to keep, e.g. `("infos/qpos",)`.

    Returns:
        the episodes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable as D4RL; the message names the file, key and first bad row.
    """
    path = Path(path).expanduser()
    name = d4rl_name(path.stem) if name is None else name
    unknown = [key for key in cuts if key not in _FLAGS]
    if unknown:
        raise ValueError(f"{path}: got cuts {tuple(cuts)}, expected names out of {_FLAGS}")
    with open_hdf5(path) as file:
        arrays = _read_arrays(path, file, also)
        steps = len(arrays["observations"])
        flags = {
            key: read_flags(path, item, key, steps)
            for key in _FLAGS
            if (item := find(path, file, key)) is not None
        }
        step = _time_step(path, file, name) if dt is None else dt
    if "terminals" in flags:
        arrays["terminals"] = flags["terminals"]
    chosen = {key: flags[key] for key in cuts if key in flags}
    if episode_steps is None and not any(flag.any() for flag in chosen.values()):
        found = ", ".join(f"'{key}' never True" for key in chosen) or f"none of {tuple(cuts)} in the file"
        raise ValueError(
            f"{path}: nothing marks where segments end ({found}); pass episode_steps=, the task's time limit "
            f"(or {steps} to read the file as one episode)"
        )
    cut = np.logical_or.reduce([np.zeros(steps, np.bool_), *chosen.values()])
    return Episodes(arrays, segment_ends(cut, episode_steps), step, name)


def segment_ends(cut: NDArray[np.bool_], episode_steps: int | None = None) -> NDArray[np.int64]:
    """Exclusive ends (E,) of the segments of N rows.

    Args:
        cut: (N,) True at the last row of a segment.
        episode_steps: longer segments are cut every so many rows, counted from their own start.

    Raises:
        ValueError: `episode_steps` is below 1.
    """
    steps = len(cut)
    ends = np.flatnonzero(cut).astype(np.int64) + 1
    if len(ends) == 0 or ends[-1] != steps:
        ends = np.append(ends, np.int64(steps))
    if episode_steps is None:
        return ends
    if episode_steps < 1:
        raise ValueError(f"got episode_steps={episode_steps}, expected at least 1 env step")
    starts = np.append(np.int64(0), ends[:-1])
    limits = [np.arange(s + episode_steps, e, episode_steps) for s, e in zip(starts, ends, strict=True)]
    return np.unique(np.concatenate([ends, *limits])).astype(np.int64)


def _read_arrays(path: Path, file: h5py.File, also: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Everything but the flags; `observations` and `actions` must be there, and every key of `also`."""
    found = {key: find(path, file, key) for key in ("observations", "actions", *also)}
    missing = [key for key, item in found.items() if item is None]
    if missing:
        raise ValueError(
            f"{path}: no '{missing[0]}' in the file, which holds {children(path, file)}; expected D4RL's "
            "layout: observations, actions, rewards, terminals, timeouts, infos/..."
        )
    arrays: dict[str, NDArray[np.generic]] = {}
    arrays["observations"] = read_numbers(path, found["observations"], "observations", dims=(2,))
    steps = len(arrays["observations"])
    arrays["actions"] = read_numbers(path, found["actions"], "actions", dims=(2,), rows=steps)
    rewards = find(path, file, "rewards")
    if rewards is not None:
        arrays["rewards"] = read_column(path, rewards, "rewards", steps)
    for key in ("infos/goal", *also):
        item = find(path, file, key)
        if item is not None and key not in arrays:
            arrays[key] = read_numbers(path, item, key, rows=steps)
    return arrays


def _time_step(path: Path, file: h5py.File, name: str) -> float:
    """Seconds between env steps: the file's own word, else the task's."""
    try:
        stated = file.attrs.get("dt")
        step = time_step(name) or time_step(path.stem) if stated is None else float(stated)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(path, "attribute 'dt' (seconds)", error) from error
    if step is None:
        raise UnknownTimeStep(path, name)
    return step
