"""Tasks that need memory: what matters is seen once, early, and decides what is right much later.

Each is a published task rebuilt on states instead of pictures; the docstrings of the environments say what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfplan.tools.lazy import attach

from .tasks import TASKS, Task

if TYPE_CHECKING:
    from .generate import collect_memory, generate_memory
    from .planar import PlanarEnv
    from .remember_color import RememberColorEnv
    from .swap import SwapEnv
    from .take_it_back import TakeItBackEnv
    from .tmaze import TMazeEnv

__all__ = [
    "TASKS",
    "PlanarEnv",
    "RememberColorEnv",
    "SwapEnv",
    "TMazeEnv",
    "TakeItBackEnv",
    "Task",
    "collect_memory",
    "generate_memory",
]

_LAZY = {
    "generate": ("collect_memory", "generate_memory"),
    "planar": ("PlanarEnv",),
    "remember_color": ("RememberColorEnv",),
    "swap": ("SwapEnv",),
    "take_it_back": ("TakeItBackEnv",),
    "tmaze": ("TMazeEnv",),
}
__getattr__, __dir__ = attach(__name__, _LAZY)
