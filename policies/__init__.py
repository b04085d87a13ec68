"""Policies: what turns plans into actions."""

from .receding import Receding, receding
from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

__all__ = ["LookAhead", "PointMass", "ProportionalDerivative", "Receding", "Tracker", "receding"]
