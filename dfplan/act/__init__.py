"""Next actions from a history. torch is imported with `Actor` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.act.acting import Acting
from dfplan.act.records import About, Asked, Decision, Doubt, Flags, History, ImitationConfig, carried
from dfplan.act.stepwise import Stepwise
from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from dfplan.act.actor import Actor

__all__ = [
    "About",
    "Acting",
    "Actor",
    "Asked",
    "Decision",
    "Doubt",
    "Flags",
    "History",
    "ImitationConfig",
    "Stepwise",
    "carried",
]

__getattr__, __dir__ = attach(__name__, {"actor": ("Actor",)})
