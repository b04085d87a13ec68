"""Reader of Minari's local data sets: one HDF5 group per episode."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5 import Node, hdf5_names, open_hdf5
from dfplan.data.sources import UnknownTimeStep, time_step

_FILE = "main_data.hdf5"
_DEPTH = 16
_GOALS = ("achieved_goal", "desired_goal")


def is_minari(path: Path) -> bool:
    """True for the folder of a Minari set, or its HDF5 file."""
    marks = (f"data/{_FILE}", _FILE, "data/metadata.json")
    return any((path / mark).is_file() for mark in marks) or any(
        name.startswith("episode_") for name in hdf5_names(path)
    )


def minari_cache() -> Path:
    """Where Minari keeps its data sets: `MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    folder = os.environ.get("MINARI_DATASETS_PATH")
    return Path(folder) if folder else Path.home() / ".minari" / "datasets"


def minari_file(name_or_path: str | PathLike[str]) -> Path:
    """The HDF5 file of a Minari id, of a data set's folder, or the path itself.

    Raises:
        FileNotFoundError: it is none of them.
        ValueError: the data set is there in another storage format.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    for folder in (path, minari_cache() / path):
        for file in (folder / "data" / _FILE, folder / _FILE):
            if file.is_file():
                return file
        if (folder / "data" / "metadata.json").is_file():
            raise ValueError(
                f"{folder}: a Minari data set, but not stored as HDF5 (no data/{_FILE}); "
                "write it again with data_format='hdf5'"
            )
    raise FileNotFoundError(
        f"{name_or_path}: neither a Minari file or folder nor a set in {minari_cache()}; "
        f"run: minari download {name_or_path}"
    )


def read_minari(
    name_or_path: str | PathLike[str],
    *,
    dt: float | None = None,
    name: str | None = None,
    observation_keys: Sequence[str] | None = None,
) -> Episodes:
    """Read a Minari data set from its local HDF5 file into memory as float32; the package is not needed.

    Arrays: `observations` (N, C), `actions` (N, A), `rewards` (N,), `terminals` (N,) bool (Minari's
    terminations), and for goal environments `achieved_goal` and `desired_goal`. Rewards are kept as
    recorded: `rewards[t]` is the reward of the transition from `observations[t]` to the next.

    Minari stores one more observation than actions per episode; that last one, which no action follows,
    is dropped, so an episode has as many rows as actions.

    Dictionary and tuple observations become columns: of a goal environment `observation` alone; of any
    other all leaves, by name ('a/b' for nested ones). `observation_keys` chooses and orders them, e.g.
    `("achieved_goal", "observation")` to give AntMaze's observation the position that it lacks.

    Args:
        name_or_path: a Minari id such as `D4RL/pointmaze/large-v2`, its folder, or the HDF5 file.
        dt: seconds between env steps. Default: the family's, known by the id.
        name: name for messages and checkpoints. Default: the id.
        observation_keys: which entries of a dictionary observation to use, in which order.

    Returns:
        the episodes, in the order of their numbers.

    Raises:
        FileNotFoundError: there is no such data set here.
        ValueError: it is not readable as Minari; the message names the file, key and first bad row.
    """
    path = minari_file(name_or_path)
    name = _dataset_id(path) if name is None else name
    step = time_step(name, minari=True) if dt is None else dt
    if step is None:
        raise UnknownTimeStep(path, name)
    with open_hdf5(path) as file:
        episodes = _episodes(file)
        steps = [_need(e, _entries(e, "actions")[0]).array().shape[0] for e in episodes]
        arrays: dict[str, NDArray[np.generic]] = {}
        for target, roots in _roots(episodes[0], observation_keys).items():
            keys = [key for root in roots for key in _entries(episodes[0], root)]
            arrays[target] = _stack(episodes, keys, steps, after=target != "actions")
        each = list(zip(episodes, steps, strict=True))
        arrays["rewards"] = np.concatenate([_need(e, "rewards").column(n) for e, n in each])
        arrays["terminals"] = np.concatenate([_need(e, "terminations").flags(n) for e, n in each])
    return Episodes(arrays, np.cumsum(steps, dtype=np.int64), step, name)


def _dataset_id(path: Path) -> str:
    """The id beside the file, else the path below Minari's cache, else the file's stem."""
    metadata = path.parent / "metadata.json"
    if metadata.is_file():
        try:
            stated = json.loads(metadata.read_text()).get("dataset_id")
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{metadata}: not readable as JSON metadata ({error}); fetch the set again"
            ) from error
        if isinstance(stated, str):
            return stated
    folder = path.parent.parent
    cache = minari_cache()
    if path.name != _FILE:
        return path.stem
    return folder.relative_to(cache).as_posix() if folder.is_relative_to(cache) else folder.name


def _episodes(file: Node) -> list[Node]:
    """`episode_0`, `episode_1`, ... in the order of their numbers."""
    keys = [key for key in file.names() if re.fullmatch(r"episode_\d+", key)]
    if not keys:
        raise ValueError(
            f"{file.path}: holds {file.names()[:8]}, expected Minari's groups episode_0, episode_1, ..."
        )
    return [_need(file, key) for key in sorted(keys, key=lambda key: int(key.removeprefix("episode_")))]


def _need(node: Node, key: str) -> Node:
    found = node.find(key)
    if found is None:
        raise ValueError(
            f"{node.path}: no '{key}' in {node.key}, expected Minari's layout; fetch the set again"
        )
    return found


def _roots(episode: Node, chosen: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Array to make -> the entries of an episode that become its columns."""
    names = _need(episode, "observations").names()
    goal_env = {"observation", *_GOALS} <= set(names)
    if chosen is None:
        used: tuple[str, ...] = ("observations/observation" if goal_env else "observations",)
    else:
        used = tuple(f"observations/{key}" for key in chosen)
        if not used or any(episode.find(key) is None for key in used):
            raise ValueError(
                f"{episode.path}: got observation_keys {tuple(chosen)}, expected some of "
                f"{sorted(names) or 'nothing, as the observation is a plain array'}"
            )
    goals = {goal: (f"observations/{goal}",) for goal in _GOALS} if goal_env else {}
    return {"observations": used, "actions": ("actions",), **goals}


def _entries(episode: Node, key: str) -> list[str]:
    """Keys of all arrays at or below `key`: dictionary entries by name, tuple entries by index."""
    node = _need(episode, key)
    if not node.is_group:
        return [key]
    if key.count("/") > _DEPTH:
        raise ValueError(
            f"{node.path}: '{key}' in {episode.key} is groups in groups without end; fetch the set again"
        )
    names = sorted(node.names(), key=lambda n: (len(n), n) if n.startswith("_index_") else (0, n))
    return [entry for name in names for entry in _entries(episode, f"{key}/{name}")]


def _stack(
    episodes: Sequence[Node], keys: Sequence[str], steps: Sequence[int], after: bool
) -> NDArray[np.float32]:
    """The arrays `keys` of all episodes as columns (N, C); `after` the last action one more row is dropped."""
    widths = [_width(_need(episodes[0], key).array()) for key in keys]
    out = np.empty((sum(steps), sum(widths)), np.float32)
    begin = 0
    for episode, count in zip(episodes, steps, strict=True):
        column = 0
        for key, width in zip(keys, widths, strict=True):
            data = _need(episode, key).array()
            if data.shape[0] != count + after or _width(data) != width:
                raise ValueError(
                    f"{data.path}: '{data.key}' has shape {data.shape}, expected {count + after} rows of {width} numbers: "
                    "one row per action, one more for observations, and as many numbers as in the first episode"
                )
            data.read_into(out[begin : begin + count, column : column + width])
            column += width
        begin += count
    return out


def _width(data: Node) -> int:
    return 1 if len(data.shape) == 1 else data.shape[1]
