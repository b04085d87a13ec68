"""Policies: what turns plans and demonstrations into actions."""

from dfplan.act import ImitationConfig

from .around import Around, Detour
from .baselines import Search, Uniform, search
from .graph import Graph, graph
from .imitation import Imitation
from .nearest import Nearest
from .receding import Receding, receding
from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

__all__ = [
    "Around",
    "Detour",
    "Graph",
    "Imitation",
    "ImitationConfig",
    "LookAhead",
    "Nearest",
    "PointMass",
    "ProportionalDerivative",
    "Receding",
    "Search",
    "Tracker",
    "Uniform",
    "graph",
    "receding",
    "search",
]
