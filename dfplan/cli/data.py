"""`dfplan data`: get, generate, inspect and convert demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from dfplan.cli.common import app, at_least, generators, report


@app.command(name="data")
def data(
    action: tyro.conf.Positional[Literal["get", "generate", "info"]],
    name: tyro.conf.Positional[str],
    out: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    download: bool = True,
    json: Path | None = None,
) -> None:
    """Get, generate or look at demonstration data.

    dfplan data get maze2d-large-v1 (found, downloaded or generated; it says which)

    dfplan data generate maze2d-umaze-v1 --steps 100000 --seed 1 --out umaze.hdf5

    dfplan data info umaze.hdf5

    Args:
        action: what to do.
        name: data set name (D4RL's or Minari's), or a file for `info`.
        out: folder for `get`, file for `generate`.
        steps: env steps to generate; D4RL's number if left out.
        seed: of what is generated.
        download: allow the network.
        json: write what is printed there as well.
    """
    from dfplan import data as library

    if action == "get":
        found = library.get(name, folder=out, generators=generators(), download=download)
        report({"path": str(found.path), "how": found.how}, json)
    elif action == "generate":
        from dfplan.envs import generate

        at_least(0, seed=seed)
        path = generate(name, out or Path(f"{name}.hdf5"), steps, seed)
        report({"path": str(path)} | library.load(path).summary(), json)
    else:
        report(library.load(name, generators=generators()).summary(), json)
