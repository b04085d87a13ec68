"""From one format to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dfplan.data.files import refuse_existing
from dfplan.data.formats.chosen import OPTIONS
from dfplan.data.formats.registry import detect, format_named, format_of, options_of
from dfplan.data.load import load, locate
from dfplan.tools.errors import one_of


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], format: str | None = None, **options: Any
) -> tuple[str, ...]:
    """Write episodes of any format that is read in another one.

    The target appears whole or not at all. What the target's layout has no place for goes into an entry
    `dfplan` of it, which the readers here give back; what is lost is in the returned sentences.

    Args:
        source: a path or name, as `load` takes it.
        target: file or folder to write; never overwritten.
        format: `robomimic`, `lerobot`, `zarr` or `npz`. Default: by the ending of `target`'s name (`.hdf5`,
            `.zarr`, `.zarr.zip`, `.npz`, none for a LeRobot folder). `module:Name`: a `Format` of your own.
        options: of `load` and the source's reader, e.g. `read_as=`, `obs=`, `dt=`, and of the target's writer, e.g. `rescale=`.

    Returns:
        sentences on what was not carried over or was changed.

    Raises:
        FileExistsError: there is something at `target`.
        FileNotFoundError: there is no such source.
        ValueError: an unknown format or option, or contents that the source's reader or target's writer refuse.
    """
    target = Path(target).expanduser()
    writer = format_named(format_of(target, format)).write
    assert writer is not None
    refuse_existing(target)
    reader = format_named(detect(locate(source)[0], options.get("read_as"))).read
    reading, writing = (*options_of(reader), "read_as", *OPTIONS), options_of(writer, 2)
    for option in options:
        one_of("option", option, [*reading, *writing])
    episodes = load(source, **{key: value for key, value in options.items() if key in reading})
    notes = writer(episodes, target, **{key: value for key, value in options.items() if key in writing})
    return (*episodes.info.get("notes", ()), *episodes.info.get("warnings", ()), *notes)
