"""Reader of Minari's local data sets: one HDF5 group per episode."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5 import (
    children,
    find,
    hdf5_names,
    open_hdf5,
    read_column,
    read_flags,
    read_into,
    require_array,
)
from dfplan.data.sources import UnknownTimeStep, time_step

if TYPE_CHECKING:
    import h5py

_FILE = "main_data.hdf5"
_DEPTH = 16
_GOALS = ("achieved_goal", "desired_goal")


class _Leaf(NamedTuple):
    """One array of an episode and where its columns go."""

    key: str
    target: str
    column: int
    width: int


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
        keys = _episode_keys(path, file)
        first = find(path, file, keys[0])
        leaves = _leaves(path, first, _roots(path, first, observation_keys))
        ends = np.cumsum([_steps(path, find(path, file, key)) for key in keys], dtype=np.int64)
        arrays = _allocate(leaves, int(ends[-1]))
        outcomes = []
        begin = 0
        for key, end in zip(keys, ends.tolist(), strict=True):
            episode = find(path, file, key)
            rows = {target: array[begin:end] for target, array in arrays.items()}
            _read_episode(path, episode, leaves, rows, end - begin)
            outcomes.append(_read_outcomes(path, episode, end - begin))
            begin = end
    rewards, terminals = (np.concatenate(column) for column in zip(*outcomes, strict=True))
    return Episodes({**arrays, "rewards": rewards, "terminals": terminals}, ends, step, name)


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


def _episode_keys(path: Path, file: h5py.File) -> list[str]:
    """`episode_0`, `episode_1`, ... in the order of their numbers."""
    names = children(path, file)
    keys = [key for key in names if re.fullmatch(r"episode_\d+", key)]
    if not keys:
        raise ValueError(f"{path}: holds {names[:8]}, expected Minari's groups episode_0, episode_1, ...")
    return sorted(keys, key=lambda key: int(key.removeprefix("episode_")))


def _roots(path: Path, episode: Any, chosen: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Array to make -> the entries of an episode that become its columns."""
    item = find(path, episode, "observations")
    names = children(path, item) if hasattr(item, "keys") else []
    goal_env = {"observation", *_GOALS} <= set(names)
    if chosen is None:
        used: tuple[str, ...] = ("observations/observation" if goal_env else "observations",)
    else:
        missing = [key for key in chosen if find(path, episode, f"observations/{key}") is None]
        if missing or not chosen:
            raise ValueError(
                f"{path}: got observation_keys {tuple(chosen)}, expected some of "
                f"{sorted(names) or 'nothing, as the observation is a plain array'}"
            )
        used = tuple(f"observations/{key}" for key in chosen)
    goals = {goal: (f"observations/{goal}",) for goal in _GOALS} if goal_env else {}
    return {"observations": used, "actions": ("actions",), **goals}


def _leaves(path: Path, episode: Any, roots: dict[str, tuple[str, ...]]) -> list[_Leaf]:
    """Every array to read of an episode, with the columns it fills."""
    leaves = []
    for target, keys in roots.items():
        column = 0
        for key in (leaf for root in keys for leaf in _entries(path, episode, root)):
            data = require_array(path, find(path, episode, key), f"{episode.name}/{key}", (1, 2), None)
            width = 1 if data.ndim == 1 else int(data.shape[1])
            leaves.append(_Leaf(key, target, column, width))
            column += width
    return leaves


def _entries(path: Path, episode: Any, key: str) -> list[str]:
    """Keys of all arrays at or below `key`: dictionary entries by name, tuple entries by index."""
    item = find(path, episode, key)
    if item is None:
        raise ValueError(
            f"{path}: no '{key}' in {episode.name}, expected Minari's layout; fetch the set again"
        )
    if not hasattr(item, "keys"):
        return [key]
    if key.count("/") > _DEPTH:
        raise ValueError(
            f"{path}: '{key}' in {episode.name} is groups in groups without end; fetch the set again"
        )
    names = sorted(children(path, item), key=lambda n: (len(n), n) if n.startswith("_index_") else (0, n))
    return [entry for name in names for entry in _entries(path, episode, f"{key}/{name}")]


def _allocate(leaves: list[_Leaf], steps: int) -> dict[str, NDArray[np.float32]]:
    """Empty arrays for every env step of the set."""
    return {
        target: np.empty((steps, sum(leaf.width for leaf in leaves if leaf.target == target)), np.float32)
        for target in dict.fromkeys(leaf.target for leaf in leaves)
    }


def _read_episode(
    path: Path, episode: Any, leaves: list[_Leaf], out: dict[str, NDArray[np.float32]], steps: int
) -> None:
    """Fill one episode's rows of every array."""
    for leaf in leaves:
        key = f"{episode.name}/{leaf.key}"
        rows = steps if leaf.target == "actions" else steps + 1
        data = require_array(path, _require(path, episode, leaf.key), key, (1, 2), None)
        if data.shape[0] != rows or (1 if data.ndim == 1 else data.shape[1]) != leaf.width:
            raise ValueError(
                f"{path}: '{key}' has shape {data.shape}, expected {rows} rows of {leaf.width} numbers: one "
                "row per action, one more for observations, and as many numbers as in the first episode"
            )
        columns = out[leaf.target][:, leaf.column : leaf.column + leaf.width]
        read_into(path, data, key, columns, steps)


def _read_outcomes(path: Path, episode: Any, steps: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(steps,) rewards and terminations of an episode."""
    rewards = _require(path, episode, "rewards")
    flags = _require(path, episode, "terminations")
    return (
        read_column(path, rewards, f"{episode.name}/rewards", steps),
        read_flags(path, flags, f"{episode.name}/terminations", steps),
    )


def _require(path: Path, episode: Any, key: str) -> Any:
    """What an episode holds at `key`."""
    item = find(path, episode, key)
    if item is None:
        where = getattr(episode, "name", "episode")
        raise ValueError(f"{path}: no '{key}' in {where}, expected Minari's layout; fetch the set again")
    return item


def _steps(path: Path, episode: Any) -> int:
    """Number of env steps of an episode: the rows of its (first) action array."""
    key = _entries(path, episode, "actions")[0]
    return int(require_array(path, find(path, episode, key), f"{episode.name}/{key}", (1, 2), None).shape[0])
