"""`dfplan hub`: models and demonstrations to and from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from dfplan.cli.common import app, read_options


@app.command(name="hub")
def hub(
    action: tyro.conf.Positional[Literal["push", "pull"]],
    name: tyro.conf.Positional[str],
    target: tyro.conf.Positional[str | None] = None,
    *,
    out: Path | None = None,
    private: bool = False,
    license: str = "",
    read: tuple[str, ...] = (),
) -> None:
    """Push a model or demonstrations to the Hugging Face Hub, or pull them from there.

    dfplan hub push runs/large me/maze-large --license mit (what use needs alone, in half precision, and a card)

    dfplan hub push demos.hdf5 me/pick-demos --private

    dfplan hub pull me/maze-large --out models/large

    dfplan hub pull datasets/me/pick-demos --out demos

    Log in with `hf auth login` or HF_TOKEN. Nothing that is pulled is unpickled; other files than JSON, safetensors and data
    that dfplan reads are refused.

    Args:
        action: what to do.
        name: push: run folder, checkpoint folder, name of a shipped model, or file or folder of demonstrations; pull: OWNER/NAME
            of a model, datasets/OWNER/NAME of demonstrations.
        target: push: OWNER/NAME on the Hub.
        out: pull: new folder.
        private: push: make the repository private.
        license: push: what the card states, such as mit or apache-2.0.
        read: push: options that are needed to read the demonstrations, such as dt=0.02.
    """
    from dfplan import hub as library

    if action == "push":
        if target is None or out is not None:
            raise ValueError(f"got target {target} and --out {out} with push; give OWNER/NAME, and no --out")
        print(library.push(name, target, private=private, license=license, read=read_options(read)))
        return
    if out is None or target is not None or private or license or read:
        raise ValueError(
            f"got more than a name and --out with pull, or no --out; try: dfplan hub pull {name} --out FOLDER"
        )
    path, notes = library.pull(name, out)
    for note in notes:
        print(f"  note: {note}")
    print(path)
