"""Policies: what turns plans and demonstrations into actions."""

from typing import TYPE_CHECKING

from dfplan.act import ImitationConfig
from dfplan.tools.lazy import attach

from .baselines import Search, Uniform, search
from .following import following
from .gathering import Gathering, gathering
from .imitation import Imitation
from .nearest import Nearest
from .receding import Receding, receding
from .trackers import LookAhead, PointMass, ProportionalDerivative, Tracker

if TYPE_CHECKING:
    from .around import Around, Detour
    from .graph import Graph

__all__ = [
    "Around",
    "Detour",
    "Gathering",
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
    "following",
    "gathering",
    "receding",
    "search",
]

__getattr__, __dir__ = attach(
    __name__, {"around": ("Around", "Detour"), "graph": ("Graph",)}
)  # they need scipy
