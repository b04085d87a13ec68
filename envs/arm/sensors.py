"""Named parts of the arm's observation, and checks of numbers that come from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Sensor:
    """A named part of the observation: its columns and their units."""

    name: str
    channels: tuple[str, ...]
    units: tuple[str, ...]


def pose_sensor(name: str) -> Sensor:
    """Sensor of a pose: position (3) in m, then the first two columns of the rotation matrix (6)."""
    axes = ("x", "y", "z", "xx", "xy", "xz", "yx", "yy", "yz")
    return Sensor(name, tuple(f"{name}_{axis}" for axis in axes), ("m",) * 3 + ("1",) * 6)


JOINTS = Sensor(
    "joints",
    (*(f"q{i}" for i in range(1, 8)), *(f"qd{i}" for i in range(1, 8)), "gripper"),
    ("rad",) * 7 + ("rad/s",) * 7 + ("m",),
)
"""Joint angles, joint velocities, gripper opening."""


def columns(sensors: Sequence[Sensor]) -> Mapping[str, slice]:
    """Name of each sensor -> its columns, in order."""
    ends = list(accumulate(len(sensor.channels) for sensor in sensors))
    return {s.name: slice(end - len(s.channels), end) for s, end in zip(sensors, ends, strict=True)}


def numbers(what: str, value: ArrayLike, count: int) -> NDArray[np.float64]:
    """`value` as `count` finite numbers.

    Raises:
        ValueError: if it is anything else.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(
            f"got {what} {value!r}, expected {count} finite numbers; check its length, and for NaN or infinity"
        )
    return array
