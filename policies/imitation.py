"""Imitation policy: an `Actor`, step by step."""

from __future__ import annotations

import os
from collections.abc import Mapping

from numpy.typing import ArrayLike

from dfplan.act import Actor, ImitationConfig, Stepwise
from dfplan.guidance import Cost
from dfplan.models import find
from dfplan.train import checkpoint


class Imitation(Stepwise):
    """Acts as the demonstrations do, for one robot or for B side by side.

    Args:
        model: see `dfplan.act.Actor`, as for all of these.
        config: how it looks back and acts; None: as the checkpoint says.
        limits: (low (A,), high (A,)) to which actions are clipped.
        sensors: sensor -> columns of the observation.
        cost: what to keep low besides.
    """

    actor: Actor

    def __init__(
        self,
        model: checkpoint.Checkpoint,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.model = model
        super().__init__(Actor(model, config, limits, sensors, cost))

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        device: str = "cpu",
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> Imitation:
        """A policy from a shipped model (`arm-pick`), a run folder or a checkpoint folder."""
        return cls(checkpoint.load(find(name), device), config, limits, sensors, cost)
