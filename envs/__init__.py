"""Gymnasium environments: Maze2D with D4RL's exact physics and its expert, tasks of a robot arm, tasks that need memory.

Importing this module registers `dfplan/Maze2D-UMaze-v1`, `-Medium-v1`, `-Large-v1`, the evaluation layouts
`dfplan/Maze2D-UMazeEval-v1`, `-MediumEval-v1`, `-LargeEval-v1`, and the arm's `dfplan/ArmReach-v1`,
`dfplan/ArmPick-v1` (see `dfplan.envs.arm`) and `dfplan/Swap-v1`; and beside the latter, in `dfplan.envs.memory`,
`dfplan/TMaze-v1`, `dfplan/RememberColor3-v1`, `-Color5-v1`, `-Color9-v1`, `dfplan/TakeItBack-v1`. MuJoCo is loaded when
one that uses it is made.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import re
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from dfplan.tools.errors import one_of
from dfplan.tools.lazy import attach
from dfplan.tools.named import named

from .d4rl import make_d4rl
from .mazes import FILE, MAZES, Maze, get_maze, read_maze, resolve
from .memory import TASKS
from .pointmaze import POINT_MAZES, make_point_maze, prepare_point_maze

if TYPE_CHECKING:
    from dfplan.data import Episodes
    from dfplan.guidance import Cost

    from .arm.experts.scripted import generate_arm
    from .arm.pick import ArmPickEnv
    from .arm.reach import ArmReachEnv
    from .arm.robot.scripted import ScriptedTeleoperator, task_info
    from .arm.robot.sim import SimArm, arm_mapping
    from .controller import GridPaths
    from .disturbed import Disturbed
    from .experts import WaypointExpert, collect, generate
    from .maze2d import Maze2DEnv
    from .memory.generate import collect_memory, generate_memory
    from .obstacles import Obstacles, Room
    from .pointmaze import PointMaze, generate_point_maze
    from .pusht import PushT
    from .simulators.generate import collect_simulated, generate_simulated
    from .simulators.shown import simulated
    from .simulators.suite import Robosuite
    from .simulators.world import MetaWorld
    from .starts import Starts

__all__ = [
    "ARM_IDS",
    "ENV_IDS",
    "MAZES",
    "MEMORY_IDS",
    "POINT_MAZES",
    "ArmPickEnv",
    "ArmReachEnv",
    "Disturbed",
    "GridPaths",
    "Maze",
    "Maze2DEnv",
    "MetaWorld",
    "Obstacles",
    "PointMaze",
    "PushT",
    "Robosuite",
    "Room",
    "ScriptedTeleoperator",
    "SimArm",
    "Starts",
    "WaypointExpert",
    "arm_mapping",
    "collect",
    "collect_memory",
    "collect_simulated",
    "cost",
    "generate",
    "generate_arm",
    "generate_memory",
    "generate_point_maze",
    "generate_simulated",
    "get_maze",
    "make",
    "prepare",
    "read_maze",
    "simulated",
    "task_info",
]

_LAZY = {  # what needs MuJoCo, or an optional package
    "arm.experts.scripted": ("generate_arm",),
    "arm.pick": ("ArmPickEnv",),
    "arm.reach": ("ArmReachEnv",),
    "arm.robot.scripted": ("ScriptedTeleoperator", "task_info"),
    "arm.robot.sim": ("SimArm", "arm_mapping"),
    "controller": ("GridPaths",),
    "disturbed": ("Disturbed",),
    "experts": ("WaypointExpert", "collect", "generate"),
    "maze2d": ("Maze2DEnv",),
    "obstacles": ("Obstacles", "Room"),
    "memory.generate": ("collect_memory", "generate_memory"),
    "pointmaze": ("PointMaze", "generate_point_maze"),
    "pusht": ("PushT",),
    "simulators.generate": ("collect_simulated", "generate_simulated"),
    "simulators.shown": ("simulated",),
    "simulators.suite": ("Robosuite",),
    "simulators.world": ("MetaWorld",),
    "starts": ("Starts",),
}
__getattr__, __dir__ = attach(__name__, _LAZY)

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

ARM_IDS: dict[str, str] = {
    "arm-reach": "dfplan/ArmReach-v1",
    "arm-pick": "dfplan/ArmPick-v1",
    "swap": "dfplan/Swap-v1",
}
"""Arm task -> Gymnasium id."""

for _task, _part, _steps in (
    ("arm-reach", "arm.reach:ArmReachEnv", 150),
    ("arm-pick", "arm.pick:ArmPickEnv", 300),
    ("swap", "memory.swap:SwapEnv", 700),
):
    if ARM_IDS[_task] not in gym.registry:
        gym.register(id=ARM_IDS[_task], entry_point=f"{__name__}.{_part}", max_episode_steps=_steps)

MEMORY_IDS: dict[str, str] = {task: row.id for task, row in TASKS.items()}
"""Task that needs memory -> Gymnasium id."""

for _row in TASKS.values():
    if _row.id not in gym.registry:
        gym.register(
            id=_row.id,
            entry_point=f"{__name__}.memory.{_row.entry}",
            kwargs=dict(_row.args),
        )


_PACKAGES = ("gymnasium_robotics", "metaworld", "ogbench", "gym_pusht", "gym_aloha", "panda_gym")
"""Packages that register Gymnasium environments when they are imported."""


def make(name: str | Maze, **kwargs: Any) -> gym.Env[Any, Any]:
    """An environment with its time limit: one of ours by name, or any that Gymnasium or a module of yours has.

    Args:
        name: `maze2d-large-v1`, `maze2d-large-dense-v1`, `maze2d-eval-large-v1`, `large`, a text maze or a .txt
            file of one, a `Maze`; `pointmaze-giant-stitch` and the others of `POINT_MAZES`; `arm-reach`, `arm-pick`,
            `swap`; `tmaze`, `remember-color-3`, `-5`, `-9`, `take-it-back`; `pusht`;
            a task of D4RL's, such as `hopper-medium-v2` or `door-expert-v1`, or its robot alone (`dfplan.envs.d4rl`);
            `robosuite:Lift`, `robosuite:Can`, `metaworld:reach-v3` and any other of theirs (`Robosuite`, `MetaWorld`);
            a Gymnasium id, also one that gymnasium-robotics, Meta-World, OGBench or another of `_PACKAGES` registers;
            `module:Id` in Gymnasium's own way; `module:Name` of a class.
        **kwargs: passed to `gymnasium.make`, or to the class: `goal`, `reward` (mazes), `disturb` (mazes, arm), `action` (arm),
            `length` (T-maze), `hidden` (RememberColor), `render_mode`, `max_episode_steps`, ...

    Raises:
        ValueError: for an unknown name, with the nearest one, or a reward that the name contradicts.
        ImportError: `pusht` without gym-pusht, and the like, with the line that installs it.
    """
    if isinstance(name, str):
        if name in ARM_IDS or re.fullmatch(r"arm(-\w+)?", name):
            return gym.make(ARM_IDS[one_of("arm task", name, ARM_IDS)], **kwargs)
        if name in MEMORY_IDS:
            return gym.make(MEMORY_IDS[name], **kwargs)
        if name in POINT_MAZES:
            return make_point_maze(name, **kwargs)
        if name == "pusht":
            from .pusht import PushT

            return PushT(**kwargs)
        if name.startswith("robosuite:"):
            from .simulators.suite import make_robosuite

            return make_robosuite(name, **kwargs)
        if name.startswith("metaworld:"):
            from .simulators.world import make_metaworld

            return make_metaworld(name, **kwargs)
        if (env := make_d4rl(name, **kwargs)) is not None:
            return env
    try:
        maze, _ = resolve(name)
    except ValueError:
        if not isinstance(name, str) or name.endswith(FILE) or not (":" in name or _registered(name)):
            raise
        return _foreign(name, kwargs)
    kwargs.setdefault("max_episode_steps", maze.episode_steps)
    disturb = kwargs.pop("disturb", "")
    env = gym.make(ENV_IDS.get(maze.name, ENV_IDS["large"]), maze=name, **kwargs)
    if not disturb:
        return env
    from .disturbed import Disturbed

    return Disturbed(env, disturb)


def _registered(name: str) -> bool:
    """Whether Gymnasium knows an id, once the packages that may bring it are imported.

    Raises:
        ValueError: for what looks like an id and is not known.
    """
    if name in gym.registry:
        return True
    if "maze2d" in name or not re.search(r"-v\d+$|^[\w-]+/\w", name):
        return False
    there = [package for package in _PACKAGES if importlib.util.find_spec(package)]
    for package in there:
        with contextlib.suppress(Exception):  # one that is broken is not the one that was asked for
            importlib.import_module(package)
        if name in gym.registry:
            return True
    near = difflib.get_close_matches(name, gym.registry, 1, 0.6)
    raise ValueError(
        f"got environment '{name}', which neither Gymnasium nor {', '.join(there) or 'another package'} registers"
        + (f"; did you mean '{near[0]}'?" if near else "")
        + " (other packages: module:Id, or pip install 'dfplan[robots]')"
    )


def _foreign(name: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    module, _, rest = name.rpartition(":")
    if module and not re.search(r"-v\d+$", rest):
        made = named("environment", name, dict[str, Any](ARM_IDS))
        limit = kwargs.pop("max_episode_steps", None)
        env: gym.Env[Any, Any] = made(**kwargs)
        return env if limit is None else gym.wrappers.TimeLimit(env, limit)
    try:
        return gym.make(name, **kwargs)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"got environment '{name}', which cannot be made: {error}") from error


def prepare(task: str, episodes: Episodes) -> Episodes:
    """Demonstrations of a task as its model is trained on them: seen as its environment shows them, mirrored, or in parts.

    Args:
        task: an arm task, `pusht` or a point maze; those of any other task come back as they are.
        episodes: as recorded or generated.

    Raises:
        ValueError: they are not of this task.
    """
    ids, made = {**ARM_IDS, **MEMORY_IDS}, (episodes.info.get("env_args") or {}).get("env_name")
    if task in ids and made in ids.values() and made != ids[task]:
        raise ValueError(
            f"got demonstrations of {made} for '{task}', expected those of {ids[task]}; give its own --data, or train "
            "'imitation'"
        )
    if task == "pusht":
        from .pusht import prepare_pusht

        return prepare_pusht(episodes)
    if task in ARM_IDS:
        from .arm.mirror import mirrored

        return mirrored(episodes)
    if task in POINT_MAZES:
        return prepare_point_maze(episodes)
    return episodes


def cost(task: str) -> Cost | None:
    """What guidance may add to a policy of a task: `arm-reach` keeps the hand off the obstacle; None where there is nothing."""
    if task != "arm-reach":
        return None
    from .arm.keep_clear import keep_clear

    return keep_clear()
