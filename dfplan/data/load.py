"""Episodes from a path or a name, whichever format they are in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfplan.data.episodes import Episodes
from dfplan.data.formats import registry
from dfplan.data.get import Generator, get
from dfplan.data.sources import D4RL_URLS


def load(
    path_or_name: str | os.PathLike[str],
    *,
    dt: float | None = None,
    generators: Mapping[str, Generator] | None = None,
    read_as: str | None = None,
    **options: Any,
) -> Episodes:
    """Read episodes from a file or folder of any format, a D4RL name or a Minari id.

    A path that exists is read; a name goes through `get`, which may download or generate it. The format
    (ALOHA, D4RL, Minari, robomimic, LeRobot, zarr, npz, npy) is told by what is there.

    Args:
        path_or_name: e.g. `runs/mine.hdf5`, `pusht.zarr.zip`, `maze2d-large-v1` or `D4RL/pointmaze/large-v2`.
        dt: seconds between env steps, where the data set does not say and its task is not known.
        generators: what can make a named set that is neither here nor downloadable; see `get`.
        read_as: name of the format, or `module:Name` of a `Format` of your own.
        options: of the format's reader, e.g. `obs=`, `action=`, `mask=`; see `read_robomimic` and the others. Of every format:
            `episodes=` (numbers, spans such as `0-9`), `task=` (its text), `action="next"` for data without actions: the next
            state is the action (`next:3` three steps on, `next:joints` of that sensor alone), held at an episode's end.

    Raises:
        FileNotFoundError: no such file, or a named set that cannot be had.
        ValueError: an unknown name or option, a format that is not read, or contents that are refused.
    """
    options |= {} if dt is None else {"dt": dt}
    path, name = locate(path_or_name, generators)
    form = registry.detect(path, read_as)
    if name is not None and "name" not in options:
        options["name"] = name
    return registry.read_as(form, path, options)


def locate(
    path_or_name: str | os.PathLike[str], generators: Mapping[str, Generator] | None = None
) -> tuple[Path, str | None]:
    """The file or folder of a path or name, and what the data are called where that was a name."""
    text = os.fspath(path_or_name)
    path = Path(text).expanduser()
    looks_like_path = isinstance(path_or_name, Path) or text.startswith((".", "~", os.sep))
    endings = [ending for form in registry.FORMATS.values() for ending in form.suffixes]
    looks_like_path |= path.name.endswith((*endings, ".npy", ".pickle", ".pkl"))
    if looks_like_path or path.is_file() or (path.is_dir() and text not in D4RL_URLS):
        return path, None
    return get(text, generators=generators).path, text
