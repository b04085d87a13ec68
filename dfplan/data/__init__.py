"""Demonstrations: `Episodes`, where they come from (`load`), and what is drawn from them (`Windows`)."""

from dfplan.data.convert import convert
from dfplan.data.d4rl import read_d4rl
from dfplan.data.episodes import Episodes
from dfplan.data.get import Found, get
from dfplan.data.inspect import Report, inspect, inspect_figure
from dfplan.data.lerobot import read_lerobot
from dfplan.data.lerobot_write import write_lerobot
from dfplan.data.load import load
from dfplan.data.minari import read_minari
from dfplan.data.npz import read_npy, read_npz, write_npz
from dfplan.data.robomimic import read_robomimic
from dfplan.data.robomimic_write import write_robomimic
from dfplan.data.windows import Batch, Windows
from dfplan.data.zarr import read_zarr, write_zarr

__all__ = [
    "Batch",
    "Episodes",
    "Found",
    "Report",
    "Windows",
    "convert",
    "get",
    "inspect",
    "inspect_figure",
    "load",
    "read_d4rl",
    "read_lerobot",
    "read_minari",
    "read_npy",
    "read_npz",
    "read_robomimic",
    "read_zarr",
    "write_lerobot",
    "write_npz",
    "write_robomimic",
    "write_zarr",
]
