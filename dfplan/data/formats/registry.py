"""The formats: how each is told from its content, and what reads and writes it."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfplan.data.episodes import Episodes
from dfplan.data.files import begins, zip_names
from dfplan.data.formats.aloha import is_aloha, read_aloha
from dfplan.data.formats.chosen import OPTIONS, is_next, next_states, select
from dfplan.data.formats.d4rl import is_d4rl, read_d4rl
from dfplan.data.formats.hdf5 import hdf5_names
from dfplan.data.formats.lerobot.read import is_lerobot, read_lerobot
from dfplan.data.formats.lerobot.write import write_lerobot
from dfplan.data.formats.minari import is_minari, read_minari
from dfplan.data.formats.npy import is_npy, read_npy
from dfplan.data.formats.npz import is_npz, read_npz, write_npz
from dfplan.data.formats.robomimic.read import is_robomimic, read_robomimic
from dfplan.data.formats.robomimic.write import write_robomimic
from dfplan.data.formats.zarr.read import is_zarr, read_zarr
from dfplan.data.formats.zarr.write import write_zarr
from dfplan.tools.errors import one_of
from dfplan.tools.named import named

Writer = Callable[..., tuple[str, ...]]


@dataclass(frozen=True)
class Format:
    """A format; one of your own is used by the name `module:Name` of such an object.

    Attributes:
        recognise: path -> whether what is there is in this format; quick, and True for no other format's files.
        read: `read(path, *, ...)` gives `Episodes`; its keywords are the options that `load` passes on.
        write: `write(episodes, path, *, ...)` gives sentences on what was lost; None: it is not written.
        suffixes: endings of names that mean this format where one is written.
    """

    recognise: Callable[[Path], bool]
    read: Callable[..., Episodes]
    write: Writer | None = None
    suffixes: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "aloha": Format(is_aloha, read_aloha),
    "d4rl": Format(is_d4rl, read_d4rl),
    "minari": Format(is_minari, read_minari),
    "robomimic": Format(is_robomimic, read_robomimic, write_robomimic, (".hdf5", ".h5")),
    "lerobot": Format(is_lerobot, read_lerobot, write_lerobot),
    "zarr": Format(is_zarr, read_zarr, write_zarr, (".zarr", ".zarr.zip")),
    "npz": Format(is_npz, read_npz, write_npz, (".npz",)),
    "npy": Format(is_npy, read_npy),
}
_PICKLE = (
    "a Python pickle, which can run code and is never loaded; open it where you trust it and save plain arrays: "
    "np.savez(path, observations=..., actions=..., episode_ends=np.cumsum(lengths), dt=...)"
)
_TELL = (
    "expected D4RL, Minari, robomimic or ALOHA HDF5, a LeRobot folder (meta/info.json), a zarr replay buffer "
    "(meta/episode_ends), .npz (observations, actions, episode_ends) or .npy, a file or a folder of them"
)


_BAGS = (b"\x89MCAP0\r\n", b"#ROSBAG V", b"SQLite format 3\x00")


def format_named(name: str) -> Format:
    """A format by its name, or by `module:Name` of a `Format`."""
    form = named("format", name, FORMATS)
    if not isinstance(form, Format):
        raise ValueError(
            f"got format '{name}', which is {form!r:.80}, expected an object of dfplan.data.Format"
        )
    return form


def detect(path: Path, name: str | None = None) -> str:
    """Name of the format that `path` is in, by what it holds: one of ours, or the one named."""
    forms = FORMATS if name is None else {name: format_named(name)}
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or folder; check the path, or fetch a set with dfplan.data.get"
        )
    for key, form in forms.items():
        if form.recognise(path):
            return key
    if name is not None:
        raise ValueError(
            f"{path}: not in the format '{name}', which does not recognise it; leave read_as= out"
        )
    raise ValueError(f"{path}: {_described(path)}")


def _described(path: Path) -> str:
    """What there is that is in none of our formats."""
    bag = (path / "metadata.yaml").is_file() if path.is_dir() else any(begins(path, mark) for mark in _BAGS)
    if bag or (path.is_dir() and any(item.suffix in (".mcap", ".bag", ".db3") for item in path.iterdir())):
        return (
            f"a ROS recording; make demonstrations of it: dfplan record --from-bag {path} --robot robot.yaml --out demos.hdf5 "
            "(docs/record.md)"
        )
    if path.is_dir():
        inside = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))[:8]
        return f"a folder that holds {inside}, {_TELL}; pass one of its files or folders"
    with path.open("rb") as file:
        head = file.read(8)
    if names := hdf5_names(path):
        return (
            f"holds {names[:8]}, expected D4RL's layout (observations, actions, ...), Minari's (episode_0, ...) "
            "or robomimic's (data/demo_0, ...); other formats are not read"
        )
    if names := zip_names(path):
        torch = any(name.endswith("data.pkl") for name in names)
        return f"a PyTorch file, {_PICKLE}" if torch else f"a zip that holds {names[:8]}, {_TELL}"
    if (head[:1] == b"\x80" and head[1:2] <= b"\x05") or path.suffix in (".pkl", ".pickle"):
        return _PICKLE
    if head.startswith(b"PAR1"):
        return "a single parquet file; pass the folder of the LeRobot data set that it belongs to"
    return f"{'is empty' if not head else f'begins with {head!r}'}, {_TELL}"


def options_of(function: Callable[..., Any], given: int = 1) -> tuple[str, ...]:
    """Names of the options that a reader takes, or behind two `given` arguments a writer."""
    return tuple(signatures.signature(function).parameters)[given:]


def read_as(name: str, path: Path, options: Mapping[str, Any]) -> Episodes:
    """Read `path` as format `name`; an option that neither its reader nor `chosen` has is refused."""
    reader, rest = format_named(name).read, dict(options)
    action = rest.pop("action") if is_next(rest.get("action")) else ""
    numbers, task = (rest.pop(key, None) for key in OPTIONS)
    for option in rest:
        one_of(f"option for a {name} file", option, (*options_of(reader), *OPTIONS))
    episodes = select(reader(path, **rest), numbers, task)
    return next_states(episodes, action) if action else episodes


def format_of(target: Path, name: str | None) -> str:
    """Format to write: as asked, else by the ending of `target`'s name (none: a LeRobot folder)."""
    writers = {key: form for key, form in FORMATS.items() if form.write}
    if name is not None:
        own = name if ":" in name else one_of("format", name, writers)
        if format_named(own).write is None:
            raise ValueError(f"got format '{name}', which has no write=; choose one of {', '.join(writers)}")
        return own
    endings = {suffix: key for key, form in writers.items() for suffix in form.suffixes}
    for suffix, key in endings.items():
        if target.name.endswith(suffix):
            return key
    if target.suffix == "":
        return "lerobot"
    raise ValueError(
        f"{target}: the ending tells no format, expected one of {', '.join(endings)}, none for a LeRobot folder, or format="
    )
