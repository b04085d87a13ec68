"""The one road into the denoising loop and out of it, and how tokens come out of noise, which needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.decide.sampling import PRECISIONS, Sampling
from dfplan.tools.lazy import attach

if TYPE_CHECKING:
    from dfplan.decide.decider import Decider, Noise, State, answering, asked, generator_of, noise_of

__all__ = [
    "PRECISIONS",
    "Decider",
    "Noise",
    "Sampling",
    "State",
    "answering",
    "asked",
    "generator_of",
    "noise_of",
]

_WHERE = {"decider": ("Decider", "Noise", "State", "answering", "asked", "generator_of", "noise_of")}
__getattr__, __dir__ = attach(__name__, _WHERE)
