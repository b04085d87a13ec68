"""What planning is asked and what it answers."""

from dfplan.plan.answer import CHOICES, Plan, PlannerConfig, Plans, inverse_dynamics

__all__ = ["CHOICES", "Plan", "PlannerConfig", "Plans", "inverse_dynamics"]
