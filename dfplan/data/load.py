"""Episodes from a path or a name, whichever format they are in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dfplan.data.d4rl import read_d4rl
from dfplan.data.episodes import Episodes
from dfplan.data.get import Generator, get
from dfplan.data.hdf5 import children, open_hdf5
from dfplan.data.minari import minari_file, read_minari
from dfplan.data.sources import D4RL_URLS


def load(
    path_or_name: str | os.PathLike[str],
    *,
    dt: float | None = None,
    generators: Mapping[str, Generator] | None = None,
) -> Episodes:
    """Read episodes from an HDF5 file, a Minari folder, a D4RL name or a Minari id.

    A path that exists is read; a name goes through `get`, which may download or generate it. The format is
    told by what the file holds. For a reader's own options call `read_d4rl` or `read_minari`.

    Args:
        path_or_name: e.g. `runs/mine.hdf5`, `maze2d-large-v1` or `D4RL/pointmaze/large-v2`.
        dt: seconds between env steps, where the data set does not say and its task is not known.
        generators: what can make a named set that is neither here nor downloadable; see `get`.

    Returns:
        the episodes.

    Raises:
        FileNotFoundError: no such file, or a named set that cannot be had.
        ValueError: an unknown name, a format that is not read, or contents that are refused.
    """
    text = os.fspath(path_or_name)
    path = Path(text).expanduser()
    if path.is_dir() and text not in D4RL_URLS:
        return read_minari(minari_file(path), dt=dt)
    looks_like_path = isinstance(path_or_name, Path) or text.startswith((".", "~", os.sep))
    if path.is_file() or looks_like_path or path.suffix in (".hdf5", ".h5"):
        return _read(path, dt, None)
    return _read(get(text, generators=generators).path, dt, text)


def _read(path: Path, dt: float | None, name: str | None) -> Episodes:
    """Read a file by what it holds."""
    with open_hdf5(path) as file:
        names = children(path, file)
    if "observations" in names:
        return read_d4rl(path, dt=dt, name=name)
    if any(key.startswith("episode_") for key in names):
        return read_minari(path, dt=dt, name=name)
    raise ValueError(
        f"{path}: holds {names[:8]}, expected D4RL's layout (observations, actions, ...) or Minari's "
        "(episode_0, ...); other formats are not read"
    )
