"""The planar tasks that need memory, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A task as it is registered and demonstrated.

    Attributes:
        id: Gymnasium's.
        entry: `module:Class` in this folder.
        args: of the class.
        demos: further arguments of the class for demonstrations.
        episodes: demonstrations that are enough to learn it.
    """

    id: str
    entry: str
    args: Mapping[str, Any] = field(default_factory=dict)
    demos: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 1000


TASKS: dict[str, Task] = {
    "tmaze": Task("dfplan/TMaze-v1", "tmaze:TMazeEnv", demos={"lengths": (10, 100)}, episodes=400),
    "remember-color-3": Task(
        "dfplan/RememberColor3-v1", "remember_color:RememberColorEnv", {"colors": 3}, episodes=3000
    ),
    "remember-color-5": Task(
        "dfplan/RememberColor5-v1", "remember_color:RememberColorEnv", {"colors": 5}, episodes=5000
    ),
    "remember-color-9": Task(
        "dfplan/RememberColor9-v1", "remember_color:RememberColorEnv", {"colors": 9}, episodes=10000
    ),
    "take-it-back": Task("dfplan/TakeItBack-v1", "take_it_back:TakeItBackEnv"),
}
"""Task name -> how it is registered and demonstrated."""
