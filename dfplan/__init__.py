"""Plan, imitate and control with one Diffusion Forcing model trained on demonstrations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfplan import envs, policies
    from dfplan.models import load, shipped
    from dfplan.planner import Plan, Planner, PlannerConfig

__version__ = "0.1.0"
__all__ = ["Plan", "Planner", "PlannerConfig", "envs", "load", "policies", "shipped"]

_WHERE = {
    "Plan": "planner", "Planner": "planner", "PlannerConfig": "planner", "load": "models", "shipped": "models",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the public names, and the environments and policies, when they are first used."""
    if name in ("envs", "policies"):
        return importlib.import_module(f"dfplan.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(f"dfplan.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'dfplan' has no attribute '{name}'")
