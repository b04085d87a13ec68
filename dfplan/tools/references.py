"""Reference returns that turn a return into D4RL's normalised score (D4RL, `infos.py`)."""

from __future__ import annotations

import re
from typing import Any

_RETURNS = {  # (id, env steps of an episode) -> return of a random policy and of the reference
    (r"halfcheetah(-.*)?-v\d", 1000): (-280.178953, 12135.0),
    (r"hopper(-.*)?-v\d", 1000): (-20.272305, 3234.3),
    (r"walker2d(-.*)?-v\d", 1000): (1.629008, 4592.3),
    (r"ant(-.*)?-v\d", 1000): (-325.6, 3879.7),
    (r"(adroithand)?pen(-.*)?-v\d", 100): (96.262799, 3076.8331017826877),
    (r"(adroithand)?hammer(-.*)?-v\d", 200): (-274.856578, 12794.134825156867),
    (r"(adroithand)?door(-.*)?-v\d", 200): (-56.512833, 2880.5693087298737),
    (r"(adroithand)?relocate(-.*)?-v\d", 200): (-6.425911, 4233.877797728884),
    (r"(frankakitchen|kitchen-.*)-v\d", 280): (0.0, 4.0),
}
# D4RL ends these episodes at the goal, so that its return of 0 or 1 is the success; OGBench's have other names.
_REACH = re.compile(r"(antmaze-(umaze|umaze-diverse|(medium|large)-(play|diverse))|antmaze_.*)-v\d")


def normalized(spec: Any, total: float, success: bool | None) -> float | None:
    """D4RL's score of one episode as a fraction: 0 a random policy, 1 the reference; None where it does not apply.

    It applies to environments of D4RL's tasks with D4RL's number of env steps; versions of the simulator differ.
    Maze2D's references stand with its layouts, in the environment.

    Args:
        spec: Gymnasium's of the environment (`id`, `max_episode_steps`, `kwargs`), or None.
        total: undiscounted return.
        success: whether the goal was reached, if that is known.
    """
    name = "" if spec is None else spec.id.rpartition(":")[2].lower()
    if _REACH.fullmatch(name):
        return None if success is None else float(success)
    for (pattern, steps), (low, high) in _RETURNS.items():
        if re.fullmatch(pattern, name) and spec.max_episode_steps == steps:
            if name.startswith("franka") and len(spec.kwargs.get("tasks_to_complete", ())) != high:
                return None  # D4RL's kitchens ask for four of the seven tasks
            return (total - low) / (high - low)
    return None
