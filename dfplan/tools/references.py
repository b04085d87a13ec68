"""D4RL's tasks beyond the mazes: the environment that stands for each today, and returns that make its normalised score.

Lengths and returns are D4RL's (`infos.py` and the registrations of each suite). Maze2D's stand with its layouts, in the
environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_RUNS = ("random", "medium", "medium-replay", "full-replay", "medium-expert", "expert")
_HAND = ("human", "cloned", "expert")
_ANTMAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")


@dataclass(frozen=True)
class Family:
    """Tasks that share a robot and a reward, and differ by their data.

    Attributes:
        env: Gymnasium id of the environment; empty where there is none with D4RL's robot.
        steps: env steps of an episode.
        random: return of a random policy.
        reference: return that scores 1.
        kinds: of data, as names have them between the family and the version.
        versions: of D4RL that are known by name; the robot and the returns are the same in all.
        args: of the environment.
    """

    env: str
    steps: int
    random: float
    reference: float
    kinds: tuple[str, ...] = _RUNS
    versions: str = "012"
    args: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    # D4RL ran Gym's -v2 of these robots whatever the version of the data; -v4 has the same rewards and observations.
    "halfcheetah": Family("HalfCheetah-v4", 1000, -280.178953, 12135.0),
    "hopper": Family("Hopper-v4", 1000, -20.272305, 3234.3),
    "walker2d": Family("Walker2d-v4", 1000, 1.629008, 4592.3),
    "ant": Family("Ant-v4", 1000, -325.6, 3879.7),
    # gymnasium-robotics has the hand with rewards of its own; ours, on the same hand, have D4RL's.
    "pen": Family("dfplan/AdroitPen-v1", 100, 96.262799, 3076.8331017826877, _HAND, "01"),
    "hammer": Family("dfplan/AdroitHammer-v1", 200, -274.856578, 12794.134825156867, _HAND, "01"),
    "door": Family("dfplan/AdroitDoor-v1", 200, -56.512833, 2880.5693087298737, _HAND, "01"),
    "relocate": Family("dfplan/AdroitRelocate-v1", 200, -6.425911, 4233.877797728884, _HAND, "01"),
    "kitchen": Family("FrankaKitchen-v1", 280, 0.0, 4.0, ("complete", "partial", "mixed"), "0"),
    # D4RL's ant has a model of its own, stepped every 0.1 s; gymnasium-robotics' AntMaze has Gymnasium's, every 0.05 s.
    "antmaze": Family("", 1000, 0.0, 1.0, _ANTMAZES, "02"),
}
"""Name of a family -> what it is."""

# D4RL ends these episodes at the goal, so that its return of 0 or 1 is the success; OGBench's have other names.
_REACH = re.compile(r"(antmaze-(umaze|umaze-diverse|(medium|large)-(play|diverse))|antmaze_.*)-v\d")


def d4rl_task(name: str) -> tuple[Family, str] | None:
    """Family and kind of data of `hopper-medium-v2`; `hopper` alone has no data; None for what is not D4RL's."""
    family, _, rest = name.partition("-")
    found = FAMILIES.get(family)
    if found is None or (rest and not re.fullmatch(f"({'|'.join(found.kinds)})-v[{found.versions}]", rest)):
        return None
    return found, rest[:-3]


def normalized(spec: Any, total: float, success: bool | None) -> float | None:
    """D4RL's score of one episode as a fraction: 0 a random policy, 1 the reference; None where it does not apply.

    It applies to environments of D4RL's tasks with D4RL's rewards and number of env steps; versions of the simulator
    differ.

    Args:
        spec: Gymnasium's of the environment (`id`, `max_episode_steps`, `kwargs`), or None.
        total: undiscounted return.
        success: whether the goal was reached, if that is known.
    """
    name = "" if spec is None else spec.id.rpartition(":")[2].lower()
    if _REACH.fullmatch(name):
        return None if success is None else float(success)
    for family, row in FAMILIES.items():
        own = re.escape(row.env.lower().rpartition("-")[0])
        known = row.env and re.fullmatch(rf"({own}|{family}(-.*)?)-v\d", name)
        if not known or spec.max_episode_steps != row.steps:
            continue
        if name.startswith("franka") and len(spec.kwargs.get("tasks_to_complete", ())) != row.reference:
            return None  # D4RL's kitchens ask for four of the seven tasks
        return (total - row.random) / (row.reference - row.random)
    return None
