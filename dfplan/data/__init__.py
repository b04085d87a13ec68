"""Demonstrations: `Episodes`, where they come from (`load`), and what is drawn from them (`Windows`)."""

from dfplan.data.d4rl import read_d4rl
from dfplan.data.episodes import Episodes
from dfplan.data.get import Found, get
from dfplan.data.load import load
from dfplan.data.minari import read_minari
from dfplan.data.windows import Batch, Windows

__all__ = ["Batch", "Episodes", "Found", "Windows", "get", "load", "read_d4rl", "read_minari"]
