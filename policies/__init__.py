"""Policies: what turns plans and demonstrations into actions."""

from .imitation import Imitation, ImitationConfig
from .receding import Receding, receding
from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

__all__ = [
    "Imitation",
    "ImitationConfig",
    "LookAhead",
    "PointMass",
    "ProportionalDerivative",
    "Receding",
    "Tracker",
    "receding",
]
