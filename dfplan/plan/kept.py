"""Roadmaps that are kept: built once for a model, then read from the user's cache."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dfplan.plan.roadmap import Legs, Net, Roadmap

VERSION = 2
"""Of how a roadmap is built: an older one is not read."""


def kept(planner: Legs, seed: int = 0) -> Roadmap:
    """The roadmap of a planner: read where it was built before, else built and kept.

    It lies in `DFPLAN_ROADMAPS`, else `~/.cache/dfplan/roadmaps`, named by a digest of all that it depends on. One that
    cannot be read is built anew, and one that cannot be written is not kept: no plan fails for it.

    Args:
        planner: as for `Roadmap`, of a loaded checkpoint.
        seed: of the legs.
    """
    path = _folder() / f"{digest(planner, seed)}.safetensors"
    net = _read(path)
    made = Roadmap(planner, seed, net)
    if net is None:
        try:
            _write(path, made.net)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"{path}: the roadmap is not kept ({error}), and built anew each time", stacklevel=2
            )
    return made


def digest(planner: Legs, seed: int) -> str:
    """Of weights, recorded steps and settings."""
    model, found = planner.model, hashlib.sha256()
    found.update(
        repr((VERSION, seed, planner.config, model.config, sorted(model.calibration.items()))).encode()
    )
    for part in (model.denoiser.state_dict(), model.normalizer.state_dict(), model.evidence):
        for name, values in sorted(part.items()):
            found.update(name.encode())
            found.update(values.cpu().numpy().tobytes())
    return found.hexdigest()[:32]


def _folder() -> Path:
    return Path(os.environ.get("DFPLAN_ROADMAPS", "~/.cache/dfplan/roadmaps")).expanduser()


def _read(path: Path) -> Net | None:
    """What is kept there; None where nothing is, or nothing that can be used."""
    try:
        found = load_file(path)
        states, legs = found["states"], found["legs"]
        paths = np.split(found["places"], found["ends"][:-1])
        good = len(paths) == len(legs) and legs.size and 0 <= legs.min() and legs.max() < len(states)
        return Net(states, legs, paths) if good and all(len(p) > 1 for p in paths) else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def _write(path: Path, net: Net) -> None:
    """Whole or not at all."""
    if not len(net.legs):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp")
    ends = np.cumsum([len(p) for p in net.paths])
    try:
        save_file(
            {"states": net.states, "legs": net.legs, "places": np.concatenate(net.paths), "ends": ends}, part
        )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
