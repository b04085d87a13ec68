"""Scripted experts by name, and demonstrations recorded with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes, write_robomimic
from dfplan.data.files import refuse_existing
from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import HOME
from dfplan.tools.attempts import successes
from dfplan.tools.errors import one_of
from dfplan.tools.progress import progress as progress_bar

from ..model import DT
from .mischief import Mischief
from .motion import ArmExpert

if TYPE_CHECKING:
    from ..base import ArmEnv

Array = NDArray[np.float64]

TASKS = {"arm-reach": "dfplan/ArmReach-v1", "arm-pick": "dfplan/ArmPick-v1", "swap": "dfplan/Swap-v1"}
"""Task -> Gymnasium id. The time limit there is that of a demonstration."""
_PARTS = {"swap": 3}
"""How many times as long as to pick and place a task is, where it is longer; as much more goes wrong in it."""
_HOLD = 10
"""Control steps that a demonstration stays at success."""


_FAILING = 0.4
"""Share of the episodes driven in turns in which a sensor of the student fails."""


class Student(Protocol):
    """Who drives instead of the expert for spells: a policy of `ee` actions, such as `dfplan.policies.Imitation`."""

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode."""

    def act(
        self, observation: Any, doubtful: Sequence[str] = (), executed: Array | None = None
    ) -> NDArray[np.float32]:
        """Observation (O,), sensors not to be trusted, what was executed since (10,) -> pose and gripper opening (10,)."""

    def observe(self, observation: Any, doubtful: Sequence[str] = (), executed: Array | None = None) -> None:
        """As `act`, while the expert drives."""


class _Turns:
    """The student drives for spells of 2 to 8 s, the expert for 1 to 3 s between them.

    The expert says all along what it would do, so the student's own mistakes are shown with the way out of them (DAgger,
    arXiv 1011.0686). In some episodes the student's sensor fails for a while; what is recorded is what there was to see.
    """

    def __init__(self, student: Student, rng: np.random.Generator) -> None:
        self._student, self._rng = student, rng
        self._drives, self._until = bool(rng.random() < 0.5), 0
        self._last: Array | None = None
        student.reset(int(rng.integers(2**31)))

    def drive(self, observation: Any, doubtful: Sequence[str], q: Array, command: Array, step: int) -> Array:
        """The command (8,) to execute in control step `step`, from joint angles `q` (7,): the student's, or `command`."""
        if step >= self._until:
            self._drives = not self._drives
            self._until = step + int(self._rng.integers(*((40, 161) if self._drives else (20, 61))))
        if not self._drives:
            self._student.observe(observation, doubtful, self._last)
            self._last = _pose(command)
            return command
        self._last = np.asarray(self._student.act(observation, doubtful, self._last), np.float64)
        joints, _ = panda.solve(q, self._last[:3], rotations.matrix(self._last[3:9]), HOME)
        return np.append(joints, self._last[9])


def _task(name: str) -> str:
    return one_of("task", name if name in TASKS or name.startswith("arm-") else f"arm-{name}", TASKS)


def _make(task: str) -> ArmEnv:
    return gym.make(TASKS[task], terminate_on_success=False).unwrapped  # type: ignore[return-value]


def expert(task: str, env: gym.Env[Any, Any], seed: int) -> ArmExpert:
    """Scripted expert of a task, for one episode.

    Args:
        task: `arm-reach`, `arm-pick` or `swap`.
        env: an environment of that task, already reset; wrappers are looked through.
        seed: of the episode's manner.

    Returns:
        an object with `act() -> (8,)` joint targets (rad) and gripper opening (m).

    Raises:
        ValueError: for an unknown task, or an environment of another one.
    """
    task, inner = _task(task), env.unwrapped
    entry = gym.spec(TASKS[task]).entry_point
    if type(inner).__name__ != str(entry).rpartition(":")[2]:
        raise ValueError(f"got task '{task}' with a {type(inner).__name__}; make it with make('{task}')")
    return inner.make_expert(seed)  # type: ignore[attr-defined, no-any-return]


def demonstrate(
    env: ArmEnv, seed: int, steps: int, parts: int = 1, student: Student | None = None
) -> dict[str, Array] | None:
    """One demonstration, in more than half of the cases with disturbances to recover from.

    Args:
        env: made with `terminate_on_success=False`.
        seed: of the episode.
        steps: give up after this many control steps.
        parts: how many times as long as to pick and place the task is; as much more goes wrong.
        student: takes turns with the expert.

    Returns:
        `observations` (n, O), `actions` (n, 8), `executed` (n, 8), `rewards` (n,), ending half a second after success; None if
        the expert failed or, in reaching, touched something.
    """
    rng = np.random.default_rng(seed)
    options = {"disturb": "push"} if rng.random() < 0.2 else {}
    if student is not None and rng.random() < _FAILING:
        options = {"disturb": str(rng.choice(["freeze", "blank"]))}
    observation, info = env.reset(seed=int(rng.integers(2**31)), options=options)
    driver = env.make_expert(int(rng.integers(2**31)))
    mischief = Mischief(rng, parts)
    turns = None if student is None else _Turns(student, rng)
    rows: list[tuple[Any, Array, Array, float]] = []
    lasted = 0
    for step in range(steps):
        truth, command = env.truth(), driver.act()
        executed = mischief.meddle(env, command, step)
        if turns is not None:
            executed = turns.drive(observation, info["doubtful"], env.physics.q, executed, step)
        observation, reward, _, _, info = env.step(executed)
        rows.append((truth, command, executed, reward))
        lasted = lasted + 1 if info["success"] else 0
        if lasted >= _HOLD:
            keys = ("observations", "actions", "executed", "rewards")
            return {key: np.array(part) for key, part in zip(keys, zip(*rows, strict=True), strict=True)}
        if info["collided"] and "obstacle" in env.sensors:
            return None
    return None


def collect(
    task: str,
    episodes: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    action: Literal["joint", "ee"] = "joint",
    student: Student | None = None,
) -> Episodes:
    """Demonstrations of a task by its expert; only successful ones are kept.

    Args:
        task: `arm-reach`, `arm-pick` or `swap`.
        episodes: how many to return, exactly.
        seed: the same seed gives the same data.
        progress: called after each kept episode with the number kept so far.
        action: what is recorded as the action: `joint` targets, or the `ee` pose they stand for.
        student: takes turns with the expert in each.

    Returns:
        `observations` (N, O), `actions` (N, A) the expert's commands, `executed` (N, A) what was carried out
        instead where the demonstration was disturbed, `rewards` (N,) of the step from there on; float32. Their
        `info` names sensors, columns and units, and says which column is told relative to which.

    Raises:
        ValueError: for an unknown task or episodes below 1.
    """
    task = _task(task)
    env = _make(task)
    steps = gym.spec(TASKS[task]).max_episode_steps
    assert steps is not None
    kept = successes(
        lambda child: demonstrate(env, child, steps, _PARTS.get(task, 1), student), episodes, seed, progress
    )
    arrays = {key: np.concatenate([demo[key] for demo in kept]).astype(np.float32) for key in kept[0]}
    if action == "ee":
        for key in ("actions", "executed"):
            arrays[key] = np.stack([_pose(command) for command in arrays[key]]).astype(np.float32)
    ends = np.cumsum([len(demo["rewards"]) for demo in kept])
    return Episodes(arrays, ends, DT, task, describe(env, action))


def _pose(command: Array) -> Array:
    """Joint targets and opening (8,) -> TCP position, 6D rotation and opening (10,)."""
    position, rotation = panda.forward(command[:7])
    return np.concatenate([position, rotations.rot6d(rotation), command[7:]])


def describe(env: ArmEnv, action: str) -> dict[str, Any]:
    """What the columns are; positions of things are told relative to the hand, commands to what they move."""
    names, units = list(env.channel_names), list(env.units)
    part = slice(0, 7) if action == "joint" else env.sensors["ee"]
    moved = [*names[part], "gripper"]
    relative = {f"{name} target": name for name in moved[:-1]}
    for sensor in env.task_sensors:  # of the cube's axes only x is the hand's when it grasps
        axes = ("x", "y", "z", "xx", "xy", "xz", *(("yx", "yy", "yz") if sensor.name == "target" else ()))
        told = {axis: f"ee_{axis}" for axis in axes}
        for name in sensor.channels:
            axis = name.removesuffix("_low").removesuffix("_high").rpartition("_")[2]
            relative |= {name: told[axis]} if axis in told else {}
    groups = {"joints": [0, 14], "gripper": [14, 15]}
    groups |= {key: [where.start, where.stop] for key, where in env.sensors.items() if key != "joints"}
    return {
        "names": {"observations": names, "actions": [f"{name} target" for name in moved]},
        "units": {"observations": units, "actions": [*units[part], "m"]},
        "groups": groups,
        "relative": relative,
        "env_args": {"env_name": f"dfplan/{type(env).__name__.removesuffix('Env')}-v1", "type": 2,
                     "env_kwargs": {"action": action}},
    }  # fmt: skip


def generate_arm(
    task: str, path: str | os.PathLike[str], episodes: int = 200, seed: int = 0,
    action: Literal["joint", "ee"] = "ee",
) -> Path:  # fmt: skip
    """Write demonstrations in robomimic's layout; see `collect`. The file appears whole or not at all."""
    task, target = _task(task), Path(path)
    refuse_existing(target)
    with progress_bar(episodes, f"generate {task}", "episode") as bar:
        data = collect(task, episodes, seed, lambda done: bar.update(done - bar.n), action)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_robomimic(data, target, rescale=True)
    return target
