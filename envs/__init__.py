"""Gymnasium environments: Maze2D with D4RL's exact physics, its expert and its data sets.

Importing this module registers `dfplan/Maze2D-UMaze-v1`, `-Medium-v1`, `-Large-v1` and the evaluation layouts
`dfplan/Maze2D-UMazeEval-v1`, `-MediumEval-v1`, `-LargeEval-v1`. MuJoCo is loaded when one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from .mazes import MAZES, Maze, get_maze, resolve

if TYPE_CHECKING:
    from .experts import WaypointExpert, collect, generate
    from .maze2d import Maze2DEnv

__all__ = [
    "ENV_IDS",
    "MAZES",
    "Maze",
    "Maze2DEnv",
    "WaypointExpert",
    "collect",
    "generate",
    "get_maze",
    "make",
]

_LAZY = {
    "Maze2DEnv": "maze2d",
    "WaypointExpert": "experts",
    "collect": "experts",
    "generate": "experts",
}
_PARTS = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}


def _env_id(layout: str) -> str:
    size, _, variant = layout.partition("-")
    return f"dfplan/Maze2D-{_PARTS[size]}{variant.capitalize()}-v1"


ENV_IDS: dict[str, str] = {layout: _env_id(layout) for layout in MAZES}
"""Layout name -> Gymnasium id."""

for _layout, _id in ENV_IDS.items():
    if _id not in gym.registry:
        gym.register(
            id=_id,
            entry_point=f"{__name__}.maze2d:Maze2DEnv",
            max_episode_steps=MAZES[_layout].episode_steps,
            kwargs={"maze": _layout},
        )


def make(name: str | Maze, **kwargs: Any) -> gym.Env[Any, Any]:
    """Maze2D with its time limit, by D4RL's name, a short name, a text maze or our own id.

    Args:
        name: `maze2d-large-v1`, `maze2d-large-dense-v1`, `maze2d-eval-large-v1`, `large`, a text maze, a
            `Maze` or one of `ENV_IDS`' ids.
        **kwargs: passed to `gymnasium.make`: `goal`, `reward`, `render_mode`, `max_episode_steps`, ...

    Raises:
        ValueError: for an unknown name, with the nearest one, or a reward that the name contradicts.
    """
    if isinstance(name, str) and name in ENV_IDS.values():
        return gym.make(name, **kwargs)
    maze, _ = resolve(name)
    kwargs.setdefault("max_episode_steps", maze.episode_steps)
    return gym.make(ENV_IDS.get(maze.name, ENV_IDS["large"]), maze=name, **kwargs)


def __getattr__(name: str) -> Any:
    """Load what needs MuJoCo on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
