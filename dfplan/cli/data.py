"""`dfplan data`: get, generate, inspect and convert demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dfplan.cli.common import ARM_TASKS, ENOUGH, FLAT, app, at_least, generators, read_options, report


@dataclass(frozen=True)
class Made:
    """What `generate` makes.

    Attributes:
        steps: env steps to generate in a maze; D4RL's number if left out.
        episodes: demonstrations to generate of any other task; as many as it takes to learn it if left out.
        seed: of what is generated.
        action_mode: arm: record the pose asked of the hand, or joint targets.
    """

    steps: int | None = None
    episodes: int | None = None
    seed: int = 0
    action_mode: Literal["ee", "joint"] = "ee"


@dataclass(frozen=True)
class Form:
    """How files are read and written.

    Attributes:
        read: options of the reader or writer, such as obs=object,robot0_eef_pos action=actions_abs mask=train dt=0.05.
        format: what `convert` writes, where the ending does not say: robomimic, lerobot, zarr or npz.
    """

    read: tuple[str, ...] = ()
    format: str | None = None


MADE, FORM = Made(), Form()


@app.command(name="data")
def data(
    action: tyro.conf.Positional[Literal["get", "generate", "info", "inspect", "convert"]],
    name: tyro.conf.Positional[str],
    target: tyro.conf.Positional[Path | None] = None,
    out: Path | None = None,
    made: Annotated[Made, FLAT] = MADE,
    form: Annotated[Form, FLAT] = FORM,
    download: bool = True,
    json: Path | None = None,
) -> None:
    """Get, generate, look at or convert demonstration data.

    dfplan data get maze2d-large-v1 (found, downloaded or generated; it says which)

    dfplan data generate maze2d-umaze-v1 --steps 100000 --seed 1 --out umaze.hdf5

    dfplan data generate arm-pick --episodes 200 --seed 0 --out pick.hdf5

    dfplan data generate tmaze --episodes 300 --seed 0 --out tmaze.hdf5

    dfplan data generate pointmaze-giant-stitch --seed 0 --out giant.hdf5

    dfplan data generate robosuite:Lift --episodes 200 --seed 0 --out lift.hdf5

    dfplan data inspect demos.hdf5 --out demos.png (what it holds, what looks wrong, and a picture)

    dfplan data convert demos.hdf5 dataset --format lerobot --read mask=train obs=object,robot0_eef_pos

    dfplan data info umaze.hdf5

    Args:
        action: what to do.
        name: data set name (D4RL's or Minari's), task, file or folder.
        target: what `convert` writes; its format by the ending (.hdf5 robomimic, .zarr, .zarr.zip, .npz, none LeRobot).
        out: folder for `get`, file for `generate`, picture for `inspect`.
        made: what `generate` makes.
        form: how files are read and written.
        download: allow the network.
        json: write what is printed there as well.
    """
    from dfplan import data as library

    if (target is None) == (action == "convert"):
        raise ValueError(f"got target {target} with '{action}'; give one to convert, and to nothing else")
    if action == "get":
        found = library.get(name, folder=out, generators=generators(), download=download)
        report({"path": str(found.path), "how": found.how}, json)
    elif action == "generate":
        at_least(0, seed=made.seed)
        path = _generate(name, out, made)
        report({"path": str(path)} | library.load(path).summary(), json)
    elif action == "inspect":
        _inspect(name, form.read, out, json)
    elif action == "convert":
        assert target is not None
        for note in library.convert(name, target, form.format, **read_options(form.read)):
            print(f"  note: {note}")
        print(target)
    else:
        options = read_options(form.read)
        report(library.load(name, generators=generators(), **options).summary(), json)


def _generate(name: str, out: Path | None, made: Made) -> Path:
    from dfplan import envs

    task, path = name.removesuffix("-v1").removesuffix("-v0"), out or Path(f"{name.replace(':', '-')}.hdf5")
    if task not in (*ARM_TASKS, *envs.MEMORY_IDS, *envs.POINT_MAZES) and not envs.simulated(name):
        if made.episodes is not None:
            raise ValueError(f"got episodes={made.episodes} for {name}, whose length is given in --steps")
        return envs.generate(name, path, made.steps, made.seed)
    if made.steps is not None:
        raise ValueError(f"got steps={made.steps} for {name}, whose length is given in --episodes")
    at_least(1, episodes=1 if made.episodes is None else made.episodes)
    if envs.simulated(name):
        return envs.generate_simulated(name, path, made.episodes, made.seed)
    if task in envs.POINT_MAZES:
        return envs.generate_point_maze(task, path, made.episodes, made.seed)
    if task in envs.MEMORY_IDS:
        return envs.generate_memory(task, path, made.episodes, made.seed)
    return envs.generate_arm(task, path, made.episodes or ENOUGH[task], made.seed, made.action_mode)


def _inspect(name: str, read: tuple[str, ...], out: Path | None, json: Path | None) -> None:
    import json as text

    from dfplan import data as library
    from dfplan.show.base import picture, save
    from dfplan.tools.errors import new_place

    if out is not None:
        picture(out)
    if json is not None:
        new_place(json)
    found = library.inspect(name, generators=generators(), **read_options(read))
    print("\n".join(found.lines()))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(text.dumps(found.to_dict(), indent=1) + "\n")
    if out is not None:
        if found.episodes is None:
            raise ValueError(f"{name} could not be read, so there is nothing to draw; see the problems above")
        save(library.inspect_figure(found), out)
        print(out)
