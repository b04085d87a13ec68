"""Reader of D4RL's HDF5 layout: flat arrays with flags at the end of each segment."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5 import DAMAGE, Node, hdf5_names, open_hdf5
from dfplan.data.sources import UnknownTimeStep, d4rl_name, time_step

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
        arrays = _read_arrays(file, also)
        steps = len(arrays["observations"])
        found = {key: file.find(key) for key in _FLAGS}
        flags = {key: node.flags(steps) for key, node in found.items() if node is not None}
        step = _time_step(file, name) if dt is None else dt
    if "terminals" in flags:
        arrays["terminals"] = flags["terminals"]
    chosen = {key: flags[key] for key in cuts if key in flags}
    if episode_steps is None and not any(flag.any() for flag in chosen.values()):
        marks = ", ".join(f"'{key}' never True" for key in chosen) or f"none of {tuple(cuts)} in the file"
        raise ValueError(
            f"{path}: nothing marks where segments end ({marks}); pass episode_steps=, the task's time limit "
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


def _read_arrays(file: Node, also: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Everything but the flags; `observations` and `actions` must be there, and every key of `also`."""
    found = {key: file.find(key) for key in ("observations", "actions", "rewards", "infos/goal", *also)}
    missing = [key for key in ("observations", "actions", *also) if found[key] is None]
    if missing:
        raise ValueError(
            f"{file.path}: no '{missing[0]}' in the file, which holds {file.names()}; expected D4RL's "
            "layout: observations, actions, rewards, terminals, timeouts, infos/..."
        )
    arrays: dict[str, NDArray[np.generic]] = {}
    steps = None
    for key, node in found.items():
        if node is not None:
            dims = (2,) if key in ("observations", "actions") else (1, 2)
            arrays[key] = node.column(steps) if key == "rewards" else node.numbers(dims, steps)
            steps = len(arrays["observations"])
    return arrays


def _time_step(file: Node, name: str) -> float:
    """Seconds between env steps: the file's own word, else the task's."""
    try:
        stated = file.item.attrs.get("dt")
        step = time_step(name) or time_step(file.path.stem) if stated is None else float(stated)
    except (*DAMAGE, TypeError, ValueError) as error:
        raise file.damaged(error, "attribute 'dt' (seconds)") from error
    if step is None:
        raise UnknownTimeStep(file.path, name)
    return step
