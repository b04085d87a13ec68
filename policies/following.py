"""The policy that the configuration of a planner asks for."""

from __future__ import annotations

from typing import Literal

from dfplan.planner import Planner

from .gathering import Gathering, gathering
from .receding import Receding, receding
from .trackers import Tracker


def following(
    planner: Planner, *, tracker: Tracker | Literal["look_ahead", "pd"] = "look_ahead"
) -> Gathering | Receding:
    """Gathers rewards where `config.gather` says so; else goes to goals, over a kept roadmap where `config.roadmap` does.

    Args:
        planner: makes the plans, or the legs of the roadmap.
        tracker: see `receding`.

    Raises:
        ValueError: the model has no token of rewards, or no recorded steps, and was asked for what needs them.
    """
    if planner.config.gather:
        return gathering(planner, tracker=tracker)
    if not planner.config.roadmap:
        return receding(planner, tracker=tracker)
    from dfplan.plan.kept import kept  # needs scipy

    return receding(kept(planner), tracker=tracker)
