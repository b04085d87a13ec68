"""Demonstrations: `Episodes`, where they come from (`load`), and what is drawn from them (`Windows`)."""

from dfplan.data.convert import convert
from dfplan.data.episodes import Episodes
from dfplan.data.formats.d4rl import read_d4rl
from dfplan.data.formats.lerobot.read import read_lerobot
from dfplan.data.formats.lerobot.write import write_lerobot
from dfplan.data.formats.minari import read_minari
from dfplan.data.formats.npy import read_npy
from dfplan.data.formats.npz import read_npz, write_npz
from dfplan.data.formats.registry import Format
from dfplan.data.formats.robomimic.read import read_robomimic
from dfplan.data.formats.robomimic.write import write_robomimic
from dfplan.data.formats.zarr.read import read_zarr
from dfplan.data.formats.zarr.write import write_zarr
from dfplan.data.get import Found, get
from dfplan.data.inspect import Report, inspect, inspect_figure
from dfplan.data.load import load
from dfplan.data.windows import Batch, Windows

__all__ = [
    "Batch",
    "Episodes",
    "Format",
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
