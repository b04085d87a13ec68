"""Reader of ALOHA's recordings: HDF5 files of one episode each, `action` beside `observations/qpos`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from dfplan.data.assemble import Arrays, Raw, assemble, is_image
from dfplan.data.episodes import Episodes
from dfplan.data.files import numbered, require_path
from dfplan.data.formats.hdf5 import Node, hdf5_names, open_hdf5
from dfplan.data.sources import time_step
from dfplan.tools.errors import one_of

_ACTION, _OBSERVATIONS = "action", "observations"


def is_aloha(path: Path) -> bool:
    """True for a file of an episode, or a folder with such files."""
    file = next(iter(_files(path)), None)
    if file is None or not {_ACTION, _OBSERVATIONS} <= set(hdf5_names(file)):
        return False
    with open_hdf5(file) as root:
        return (node := root.find(_OBSERVATIONS)) is not None and node.is_group


def read_aloha(
    path: str | PathLike[str],
    *,
    obs: Sequence[str] | None = None,
    action: str = _ACTION,
    dt: float | None = None,
    name: str | None = None,
    allow_nan: bool = False,
) -> Episodes:
    """Read a folder of `episode_0.hdf5`, `episode_1.hdf5`, ..., or one of these files, into memory as float32.

    Arrays: `observations` (N, C) and `actions` (N, A); pictures are not read. `info["episodes"]` has the files' names.

    Args:
        path: the folder, or a file of one episode.
        obs: keys below `observations` that make the observation, in this order. Default: all but pictures, such as `qpos`,
            `qvel` and `effort`.
        action: key of the action.
        dt: seconds between env steps, which the files do not say (ALOHA's own arms: 0.02).
        name: name for messages and checkpoints. Default: the folder's or file's.
        allow_nan: keep NaN and infinity instead of refusing them.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: a file is not readable as such an episode, or differs from the others in its keys or columns.
    """
    path, episodes, left_out = require_path(path), list[Arrays](), dict[str, None]()
    files = _files(path)
    for file in files:
        with open_hdf5(file) as root:
            arrays = _episode(root, action, left_out)
        episodes.append(arrays)
        shapes, first = ({k: a.shape[1:] for k, a in part.items()} for part in (arrays, episodes[0]))
        if shapes != first:
            raise ValueError(
                f"{file}: holds {shapes}, expected the columns of {files[0].name}, {first}; record them alike"
            )
    keys = [key for key in episodes[0] if key != action]
    chosen = [one_of(f"key for {path}", key, keys) for key in obs or keys]
    ends = np.cumsum([len(arrays[action]) for arrays in episodes])
    joined = {key: np.concatenate([arrays[key] for arrays in episodes]) for key in episodes[0]}
    info = {
        "format": "aloha",
        "left_out": list(left_out),
        "episodes": [{"name": file.stem} for file in files],
    }
    raw = Raw(
        path, joined, ends, time_step(path.stem), path.stem, info, chosen, [action], chosen=obs is not None
    )
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def _files(path: Path) -> list[Path]:
    """The files of a folder, by number, or the file itself."""
    if path.is_file():
        return [path]
    return numbered(file for ending in ("hdf5", "h5") for file in path.glob(f"*.{ending}"))


def _episode(root: Node, action: str, left_out: dict[str, None]) -> Arrays:
    """The arrays of one file by their keys below `observations`; notes what is a picture or text in `left_out`."""
    found, node = root.find(_OBSERVATIONS), root.find(action)
    if found is None or node is None:
        raise ValueError(f"{root.path}: holds {root.names()}, expected '{action}' and '{_OBSERVATIONS}'")
    arrays: Arrays = {action: node.numbers()}
    for key in found.names():
        there = found.find(key)
        if (
            there is None
            or not there.is_array
            or is_image(there.shape)
            or there.item.dtype.kind not in "fiub"
        ):
            left_out[f"{_OBSERVATIONS}/{key}"] = None
        else:
            arrays[key] = there.numbers((1, 2), len(arrays[action]))
    if len(arrays) == 1:
        raise ValueError(f"{root.path}: no numbers below '{_OBSERVATIONS}', which holds {found.names()[:8]}")
    return arrays
