"""From the Hub: a model, or demonstrations; nothing that could run code."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfplan.data.files import new_file, refuse_existing
from dfplan.data.formats.registry import detect
from dfplan.hub.repository import CARD, Repository, asking, library, named
from dfplan.train.checkpoint import read_header, read_tensors


def pull(name: str, out: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """Fetch a repository from the Hub into a new folder, whole or not at all.

    Args:
        name: `OWNER/NAME` of a model, `datasets/OWNER/NAME` of demonstrations.
        out: the folder.

    Returns:
        What a command takes: the folder, or of demonstrations the file in it; and sentences on what was left out, and on
        code that the model names.

    Raises:
        ValueError: no such repository; it holds files of other kinds than dfplan reads, none of which is fetched then; it
            is no model of dfplan, or no data that dfplan reads.
        FileExistsError: there is something at `out`.
        ImportError: huggingface_hub is not installed.
    """
    hub, source, folder = library(), named(name), Path(out).expanduser()
    refuse_existing(folder)
    with asking(f"{source} cannot be had"):
        info = hub.HfApi(library_name="dfplan").repo_info(source.id, repo_type=source.kind)
    taken, left = source.sorted_out(file.rfilename for file in info.siblings)
    if source.kind == "model" and not {"config.json", "model.safetensors"} <= set(taken):
        raise ValueError(
            f"{source} holds {taken}, expected config.json and model.safetensors of a model of dfplan"
        )
    with new_file(folder) as part:
        with asking(f"{source} cannot be had"):
            hub.snapshot_download(
                source.id, repo_type=source.kind, revision=info.sha, local_dir=part, library_name="dfplan",
                allow_patterns=[glob.escape(file) for file in taken],
            )  # fmt: skip
        shutil.rmtree(part / ".cache", ignore_errors=True)
        inside, notes = _checked(source, part)
    if films := [file for file in left if not file.endswith(".gitattributes")]:
        notes += (f"stays there, since dfplan reads no pictures and films: {len(films)}, such as {films[0]}",)
    return folder / inside, notes


def _checked(source: Repository, part: Path) -> tuple[Path, tuple[str, ...]]:
    """What of the folder is used, seen from it, and what is to be known of it."""
    try:
        if source.kind == "dataset":
            return _data(source, part).relative_to(part), ()
        meta = read_header(part)
        code = sorted(set(_code([meta.get("act"), meta["train"].get("model")])))
        for file in part.glob("*.safetensors"):
            read_tensors(file)
    except ValueError as error:
        raise ValueError(str(error).replace(str(part), str(source))) from error
    note = f"names {', '.join(code)}, which is imported from your Python's path when the model is loaded: look at it"
    return Path(), (note,) if code else ()


def _data(source: Repository, folder: Path) -> Path:
    """The folder, or the first file in it, that is demonstrations."""
    for path in (folder, *(p for p in sorted(folder.iterdir()) if p.name != CARD)):
        try:
            detect(path)
        except ValueError:
            continue
        return path
    raise ValueError(
        f"{source} holds {sorted(p.name for p in folder.iterdir())}, expected data that dfplan reads"
    )


def _code(value: Any) -> Iterator[str]:
    """Names `module:Name` in settings that are not dfplan's."""
    if isinstance(value, (Mapping, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _code(part)
    elif isinstance(value, str):
        yield from (found for found in re.findall(r"[\w.]+:[\w.]+", value) if not found.startswith("dfplan."))
