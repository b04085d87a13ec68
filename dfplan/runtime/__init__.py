"""A trained policy where there is no torch: what `dfplan export` writes, run by numpy and onnxruntime alone."""

from __future__ import annotations

from dfplan.runtime.actor import Actor
from dfplan.runtime.folder import Exported, exported, read
from dfplan.runtime.policy import Policy, load

__all__ = ["Actor", "Exported", "Policy", "exported", "load", "read"]
