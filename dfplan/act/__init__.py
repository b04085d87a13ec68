"""Next actions from a history."""

from dfplan.act.actor import Actor
from dfplan.act.records import Decision, Doubt, Flags, History, ImitationConfig, carried

__all__ = ["Actor", "Decision", "Doubt", "Flags", "History", "ImitationConfig", "carried"]
