"""Find a published data set on this machine, else download it, else make it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dfplan.data import download as web
from dfplan.data.files import new_file
from dfplan.data.formats.minari import minari_cache, minari_file
from dfplan.data.sources import D4RL_URLS, digest_of
from dfplan.tools.errors import optional_import

Generator = Callable[[Path], None]
"""Writes a data set, in D4RL's layout, to the path that it is given."""


@dataclass(frozen=True)
class Found:
    """A data set on this machine.

    Attributes:
        path: its HDF5 file.
        how: 'cached' (it was here as published), 'downloaded' (now), or 'generated' (made here, now or by
            an earlier call, and so not the published rows).
    """

    path: Path
    how: Literal["cached", "downloaded", "generated"]


def get(
    name: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    generators: Mapping[str, Generator] | None = None,
    sha256: str | None = None,
    download: bool = True,
    say: Callable[[str], None] = print,
) -> Found:
    """Give the file of a data set, by its D4RL name (`maze2d-large-v1`) or Minari id (`D4RL/door/human-v2`).

    In this order: `folder`; D4RL's cache (`D4RL_DATASET_DIR`, else `~/.d4rl/datasets`); Minari's cache; a
    file generated before; the network; the generator. A new file goes to `folder`, a Minari set to Minari's
    cache. A download that was cut goes on where it stopped. Processes that ask at once wait for the first.

    Args:
        name: the data set.
        folder: dfplan's own cache. Default: `DFPLAN_DATA`, else `~/.cache/dfplan/data`.
        generators: name -> what makes that set where it cannot be downloaded.
        sha256: expected digest of the downloaded file, in hexadecimal. Default: the published file's, where it is known.
        download: False never touches the network.
        say: gets one line that tells which of these happened.

    Returns:
        where the file is and how it came there.

    Raises:
        ValueError: the name is not known (the message has the nearest one), or the digest differs.
        FileNotFoundError: it is nowhere here and can be neither downloaded nor generated; says why.
    """
    generators = generators or {}
    _check_name(name, generators)
    default = os.environ.get("DFPLAN_DATA") or Path.home() / ".cache" / "dfplan" / "data"
    home = Path(default if folder is None else folder).expanduser()
    found = _look(name, home)
    if found is None:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home / f".{name.replace('/', '_')}.lock", say):
            found = _look(name, home) or _make(name, home, generators, sha256, download, say)
    else:
        say(f"{name}: using {found.path} ({found.how})")
    return found


def _check_name(name: str, generators: Mapping[str, Generator]) -> None:
    """Raise, with the nearest known name, unless `name` can be a data set."""
    if not name or os.path.isabs(name) or ".." in name.split("/") or "\\" in name:
        raise ValueError(
            f"got data set '{name}', expected a name such as 'maze2d-large-v1' or 'D4RL/door/human-v2'"
        )
    here = (minari_cache() / name).is_dir()
    if name in D4RL_URLS or name in generators or "/" in name or here:
        return
    near = difflib.get_close_matches(name, list(dict.fromkeys([*D4RL_URLS, *generators])), 3, 0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"got data set '{name}', expected a D4RL name such as 'maze2d-large-v1', a Minari id such as "
        f"'D4RL/pointmaze/large-v2', or in dfplan.data.load the path of a file{hint}"
    )


def _generated(name: str, home: Path) -> Path:
    """Where a generated set is kept: never under the published file's name."""
    return home / f"{name.replace('/', '_')}.generated.hdf5"


def _look(name: str, home: Path) -> Found | None:
    """The data set, where it is already on this machine."""
    if name in D4RL_URLS:
        d4rl = Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")
        for path in (home / _file(name), d4rl / _file(name)):
            if path.is_file():
                return Found(path, "cached")
    elif (minari_cache() / name).is_dir():
        return Found(minari_file(minari_cache() / name), "cached")
    made = _generated(name, home)
    return Found(made, "generated") if made.is_file() else None


def _make(
    name: str,
    home: Path,
    generators: Mapping[str, Generator],
    sha256: str | None,
    download: bool,
    say: Callable[[str], None],
) -> Found:
    reason = "downloads are off (download=False)"
    if download:
        try:
            path = _download(name, home, sha256, say)
            say(f"{name}: downloaded to {path}")
            return Found(path, "downloaded")
        except (OSError, ImportError) as error:
            reason = f"not downloaded: {error}"
    if name in generators:
        say(f"{name}: {reason}; generating it instead")
        path = _generate(generators[name], _generated(name, home))
        say(f"{name}: generated in {path}; delete that file to try the published set again")
        return Found(path, "generated")
    place = f"put it at {home / _file(name)}" if name in D4RL_URLS else "fetch it by hand"
    raise FileNotFoundError(
        f"{name}: not on this machine, {reason}, and nothing here can generate it; {place}"
    )


def _file(name: str) -> str:
    """Name of the file in which D4RL publishes a set."""
    return D4RL_URLS[name].rsplit("/", 1)[1]


def _download(name: str, home: Path, sha256: str | None, say: Callable[[str], None]) -> Path:
    """Fetch a D4RL file, or a Minari set through Minari; OSError or ImportError says why it cannot be had."""
    if name in D4RL_URLS:
        say(f"{name}: not on this machine; trying {D4RL_URLS[name]}")
        web.fetch(D4RL_URLS[name], home / _file(name), sha256=sha256 or digest_of(_file(name)))
        return home / _file(name)
    if "/" not in name:
        raise OSError("no address is known for it")
    minari = optional_import("minari", "minari")
    say(f"{name}: not on this machine; asking Minari for it")
    try:
        minari.download_dataset(name)
    except Exception as error:  # its cloud clients raise classes of their own
        raise OSError(f"minari.download_dataset('{name}'): {type(error).__name__}: {error}") from error
    return minari_file(minari_cache() / name)


def _generate(generator: Generator, target: Path) -> Path:
    """Run a generator on a temporary name and put the whole file in place."""
    with new_file(target) as part:
        generator(part)
        if not part.is_file():
            raise ValueError(f"the generator wrote nothing to {part}; it must write the file it is given")
    return target


@contextmanager
def _alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `lock` against other processes, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is getting the same data set ({lock})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
