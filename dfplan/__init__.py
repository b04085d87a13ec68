"""Plan, imitate and control with one Diffusion Forcing model trained on demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from dfplan import envs, policies
    from dfplan.models import load, shipped
    from dfplan.planner import Plan, Planner, PlannerConfig

__version__ = "0.1.0"
__all__ = ["Plan", "Planner", "PlannerConfig", "envs", "load", "policies", "shipped"]

_WHERE = {
    "envs": (),
    "models": ("load", "shipped"),
    "planner": ("Plan", "Planner", "PlannerConfig"),
    "policies": (),
}
__getattr__, __dir__ = attach(__name__, _WHERE)
