"""The folder that `dfplan export` writes: graphs, and a JSON file that says what goes in and how the policy acts.

`policy.onnx` is one decision with its whole denoising loop, `memory.onnx` (models with a memory) one more step taken in.
`policy.json` has the tables `act`, `train` and `calibration` of a checkpoint's `config.json`, and the table `graph`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.act.records import About, ImitationConfig
from dfplan.spec import TrajectorySpec
from dfplan.tools.serialize import from_dict, read_values

FORMAT = 1
SETTINGS, GRAPH, MEMORY = "policy.json", "policy.onnx", "memory.onnx"
INSIDE = (
    "schedule", "uncertainty", "steps", "step", "precision", "stream", "ramp", "history_guidance", "guidance", "cost",
)  # fmt: skip
"""Settings of `ImitationConfig` that are part of the graph; the others can be changed where it runs."""


@dataclass(frozen=True)
class Numbers:
    """A normaliser's (G, D) mean and scale, physical units."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Told:
    """What the training configuration says that acting asks for: see `dfplan.train.config.TrainConfig`."""

    spec: TrajectorySpec
    horizon: int
    task: str = ""
    goal: tuple[float, ...] | None = None
    goal_token: str = ""


@dataclass(frozen=True)
class Exported:
    """An exported policy, ready for use.

    Attributes:
        folder: where its graphs are.
        config: what its numbers mean.
        act: how it acts.
        normalizer: physical <-> normalised.
        calibration: as of the checkpoint.
        longest: most steps of history that it was trained to see in its window; 0: not told.
        causal: see `dfplan.act.About`.
        calls: M, network calls of a decision.
        draws: of noise in a decision beside the one that it begins with: 0 or M.
        carrier: what carries its memory; empty for none.
        entry: numbers of one of that memory's entries.
        rows: number of steps -> (m + 1, steps) levels down which these come, m at most M.
    """

    folder: Path
    config: Told
    act: ImitationConfig
    normalizer: Numbers
    calibration: Mapping[str, Any]
    longest: int
    causal: bool
    calls: int
    draws: int
    carrier: str
    entry: int
    rows: Mapping[int, NDArray[np.float32]]

    def about(self) -> About:
        """What acting needs to know."""
        told, found = self.config, self.calibration.get("actions")
        limits = None if found is None else (found["low"], found["high"])
        return About(
            told.spec, self.normalizer, told.horizon, self.longest, bool(self.carrier), self.causal, told.goal,
            told.goal_token, limits,
        )  # fmt: skip

    def asked(self, config: ImitationConfig | None) -> ImitationConfig:
        """How it acts, changed as `config` says; None: as it was exported.

        What is part of the graph stays. It may be asked for as it is, or be left at `ImitationConfig`'s default.

        Raises:
            ValueError: another value is asked for.
        """
        if config is None:
            return self.act
        default = ImitationConfig()
        for name in INSIDE:
            own, wanted = getattr(self.act, name), getattr(config, name)
            if wanted not in (own, getattr(default, name)):
                raise ValueError(
                    f"got {name}={wanted!r} for {self.folder}, which was exported with {name}={own!r}; export the model anew "
                    "with dfplan export"
                )
        return replace(config, **{name: getattr(self.act, name) for name in INSIDE})


def exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one that `dfplan export` wrote."""
    return (Path(folder).expanduser() / SETTINGS).exists()


def read(folder: str | os.PathLike[str]) -> Exported:
    """Read what `dfplan export` wrote.

    Raises:
        ValueError: it is something else, damaged, or of another format.
    """
    path = Path(folder).expanduser()
    if not exported(path):
        raise ValueError(f"got '{folder}', expected a folder written by `dfplan export`, with {SETTINGS}")
    meta = read_values(path / SETTINGS)
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format {meta.get('format')}, this version reads {FORMAT}; install the dfplan that wrote it"
        )
    try:
        return _read(path, meta)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / SETTINGS}: damaged ({error!r}); export the model anew") from error


def _read(path: Path, meta: Mapping[str, Any]) -> Exported:
    train, graph = meta["train"], meta["graph"]
    told = {k: train[k] for k in ("spec", "horizon", "task", "goal", "goal_token")}
    act = from_dict(ImitationConfig, meta["act"]["policy"], f"{path / SETTINGS}: act.policy")
    numbers = Numbers(*(np.array(graph["normalizer"][k], np.float32) for k in ("mean", "scale")))
    rows = {int(n): np.array(levels, np.float32) for n, levels in graph["rows"].items()}
    parts = {k: graph[k] for k in ("causal", "calls", "draws", "carrier", "entry")}
    made = Exported(
        path, from_dict(Told, told, f"{path / SETTINGS}: train"), act, numbers, meta["calibration"],
        train["levels"]["memory"], rows=rows, **parts,
    )  # fmt: skip
    for name in (GRAPH, *([MEMORY] if made.carrier else [])):
        if not (path / name).exists():
            raise ValueError(f"{path}: {name} is missing; export the model anew")
    return made


def settings(header: Mapping[str, Any], act: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """The text of `policy.json`, of a checkpoint's header, how it acts and what is in the graph."""
    meta = {**header, "format": FORMAT, "act": {"policy": act}, "graph": graph}
    return json.dumps(meta, indent=1) + "\n"
