"""The formats: how each is told from its content, and what reads and writes it."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfplan.data.episodes import Episodes
from dfplan.data.files import open_zip
from dfplan.data.formats.d4rl import read_d4rl
from dfplan.data.formats.hdf5 import children, is_hdf5, open_hdf5
from dfplan.data.formats.lerobot.read import read_lerobot
from dfplan.data.formats.lerobot.write import write_lerobot
from dfplan.data.formats.minari import minari_file, read_minari
from dfplan.data.formats.npz import read_npy, read_npz, write_npz
from dfplan.data.formats.robomimic.read import read_robomimic
from dfplan.data.formats.robomimic.write import write_robomimic
from dfplan.data.formats.zarr.read import read_zarr
from dfplan.data.formats.zarr.write import write_zarr
from dfplan.tools.errors import one_of

Writer = Callable[..., tuple[str, ...]]


@dataclass(frozen=True)
class Format:
    """What reads a format, what writes it if anything does, and the endings of its names."""

    read: Callable[..., Episodes]
    write: Writer | None = None
    suffixes: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "d4rl": Format(read_d4rl),
    "minari": Format(read_minari),
    "robomimic": Format(read_robomimic, write_robomimic, (".hdf5", ".h5")),
    "lerobot": Format(read_lerobot, write_lerobot),
    "zarr": Format(read_zarr, write_zarr, (".zarr", ".zarr.zip")),
    "npz": Format(read_npz, write_npz, (".npz",)),
    "npy": Format(read_npy),
}
_PICKLE = (
    "a Python pickle, which can run code and is never loaded; open it where you trust it and save plain arrays: "
    "np.savez(path, observations=..., actions=..., episode_ends=np.cumsum(lengths), dt=...)"
)
_TELL = (
    "expected D4RL, Minari or robomimic HDF5, a LeRobot folder (meta/info.json), a zarr replay buffer "
    "(meta/episode_ends), .npz (observations, actions, episode_ends) or .npy"
)


def detect(path: Path) -> str:
    """Name of the format that `path` is in, by what it holds.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is none that is read; says what it is, and what to do.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or folder; check the path, or fetch a set with dfplan.data.get"
        )
    if path.is_dir():
        return _detect_folder(path)
    with path.open("rb") as file:
        head = file.read(8)
    if is_hdf5(path):
        return _detect_hdf5(path)
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK"):
        return _detect_zip(path)
    if (head[:1] == b"\x80" and head[1:2] <= b"\x05") or path.suffix in (".pkl", ".pickle"):
        raise ValueError(f"{path}: {_PICKLE}")
    if head.startswith(b"PAR1"):
        raise ValueError(
            f"{path}: a single parquet file; pass the folder of the LeRobot data set that it belongs to"
        )
    what = "is empty" if not head else f"begins with {head!r}"
    raise ValueError(f"{path}: {what}, {_TELL}")


def _detect_folder(path: Path) -> str:
    """Format of a folder."""
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    marks = (".zgroup", "zarr.json", "meta/episode_ends/.zarray")
    if any((path / mark).is_file() for mark in marks):
        return "zarr"
    minari = ("data/main_data.hdf5", "main_data.hdf5", "data/metadata.json")
    if any((path / mark).is_file() for mark in minari):
        return "minari"
    names = sorted(item.name for item in path.iterdir())
    inside = [name for name in names if not name.startswith(".")][:8]
    raise ValueError(f"{path}: a folder that holds {inside}, {_TELL}; pass one of its files or folders")


def _detect_hdf5(path: Path) -> str:
    """Format of an HDF5 file."""
    with open_hdf5(path) as file:
        names = children(path, file)
    if "observations" in names:
        return "d4rl"
    if any(name.startswith("episode_") for name in names):
        return "minari"
    if "data" in names:
        return "robomimic"
    raise ValueError(
        f"{path}: holds {names[:8]}, expected D4RL's layout (observations, actions, ...), Minari's (episode_0, ...) "
        "or robomimic's (data/demo_0, ...); other formats are not read"
    )


def _detect_zip(path: Path) -> str:
    """Format of a zip."""
    with open_zip(path) as file:
        names = file.namelist()
    if any(name.endswith(".zarray") or name.endswith("zarr.json") for name in names):
        return "zarr"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"{path}: a PyTorch file, {_PICKLE}")
    raise ValueError(f"{path}: a zip that holds {names[:8]}, {_TELL}")


def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the options that a reader or writer takes."""
    return tuple(signatures.signature(function).parameters)[1 if "write" not in function.__name__ else 2 :]


def read_as(name: str, path: Path, options: Mapping[str, Any]) -> Episodes:
    """Read `path` as format `name`.

    Raises:
        ValueError: the reader has no such option; the message has the nearest.
    """
    reader = FORMATS[name].read
    for option in options:
        one_of(f"option for a {name} file", option, options_of(reader))
    source = minari_file(path) if name == "minari" else path
    return reader(source, **options)


def format_of(target: Path, name: str | None) -> str:
    """Format to write: as asked, else by the ending of `target`'s name (none: a LeRobot folder).

    Raises:
        ValueError: it is not one that is written; the message has the nearest.
    """
    writers = [key for key, form in FORMATS.items() if form.write]
    if name is not None:
        return one_of("format", name, writers)
    for key in writers:
        if FORMATS[key].suffixes and target.name.endswith(FORMATS[key].suffixes):
            return key
    if target.suffix == "":
        return "lerobot"
    endings: Sequence[str] = [s for key in writers for s in FORMATS[key].suffixes]
    raise ValueError(
        f"{target}: the ending tells no format, expected one of {', '.join(endings)}, none for a LeRobot folder, or format="
    )
