"""An exported policy, step by step: the same methods as `dfplan.policies.Imitation`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from numpy.typing import ArrayLike

from dfplan.act.records import ImitationConfig
from dfplan.act.stepwise import Stepwise
from dfplan.runtime.actor import Actor
from dfplan.runtime.folder import Exported, read


class Policy(Stepwise):
    """Acts as the demonstrations do: `reset`, `act`, `observe`, `predict` as of `dfplan.act.Stepwise`.

    Args:
        model: see `dfplan.runtime.Actor`, as for all of these.
        config: how it looks back and acts; None: as it was exported.
        limits: (low (A,), high (A,)) to which actions are clipped.
        sensors: sensor -> columns of the observation.
        threads: CPU threads.
    """

    actor: Actor

    def __init__(
        self,
        model: Exported,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        threads: int = 1,
    ) -> None:
        self.model = model
        super().__init__(Actor(model, config, limits, sensors, threads))


def load(
    folder: str | os.PathLike[str],
    config: ImitationConfig | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
    sensors: Mapping[str, slice] | None = None,
    threads: int = 1,
) -> Policy:
    """A policy from a folder that `dfplan export` wrote.

    Raises:
        ValueError: it is no such folder, or `config` asks for something else than what is in the graph.
        ImportError: onnxruntime is not installed.
    """
    return Policy(read(folder), config, limits, sensors, threads)
