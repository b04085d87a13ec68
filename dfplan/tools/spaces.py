"""An environment's observation as one row of numbers, in the order of the demonstrations' columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

Row = NDArray[np.floating[Any]]


class Flat(gym.Wrapper[Row, Row, Any, Any]):
    """Dictionary observations as rows of `keys`, one after the other; a `desired_goal` is the info's `goal`."""

    def __init__(self, env: gym.Env[Any, Any], keys: Sequence[str]) -> None:
        """Wrap; `keys` are names of `entries`."""
        super().__init__(env)
        self.keys = tuple(keys)
        size = sum(entries(env.observation_space)[key] or 0 for key in keys)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def reset(self, **kwargs: Any) -> tuple[Row, dict[str, Any]]:
        """Begin an episode."""
        return self._flat(*self.env.reset(**kwargs))

    def step(self, action: Row) -> tuple[Row, float, bool, bool, dict[str, Any]]:
        """Advance by one env step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        row, info = self._flat(observation, info)
        return row, float(reward), terminated, truncated, info

    def _flat(self, observation: Any, info: dict[str, Any]) -> tuple[Row, dict[str, Any]]:
        parts = []
        for key in self.keys:
            part: Any = observation
            for name in key.split("/"):
                part = part[name]
            parts.append(np.ravel(part))
        goal = {"goal": observation["desired_goal"]} if "desired_goal" in observation else {}
        return np.concatenate(parts).astype(np.float64), goal | info


def entries(space: gym.Space[Any], name: str = "") -> dict[str, int | None]:
    """Entries of a dictionary space, `a/b` where nested, sorted by name: numbers in each, None where it is no row."""
    if isinstance(space, gym.spaces.Dict):
        parts = [entries(space[key], f"{name}/{key}" if name else key) for key in sorted(space)]
        return {key: size for part in parts for key, size in part.items()}
    row = isinstance(space, gym.spaces.Box) and len(space.shape) <= 1
    return {name: int(np.prod(space.shape or ())) if row else None}


def flat(
    env: gym.Env[Any, Any], size: int, actions: int, columns: Mapping[str, int], keys: Sequence[str] = ()
) -> gym.Env[Any, Any]:
    """The environment with observations (O,) as a model was trained on, if it can give them.

    Of a dictionary observation these entries are used, in this order: `keys`; else the model's tokens, in the order
    of the columns, where all are called as entries; else `observation` alone, as Minari's sets of goal environments
    are read, or all entries by name, whichever has the right number of columns.

    Args:
        env: any with Box actions (A,), and Box observations (O,) or a dictionary of them.
        size: O.
        actions: A.
        columns: observation token of the model -> its first column.
        keys: of the entries to use.

    Raises:
        ValueError: naming what the environment gives and what the model takes.
    """
    if not isinstance(env.action_space, gym.spaces.Box) or env.action_space.shape != (actions,):
        raise ValueError(
            f"got an environment with actions {env.action_space}, expected Box of ({actions},), as the model was "
            "trained to give; choose another environment or model"
        )
    found = entries(env.observation_space)
    if not isinstance(env.observation_space, gym.spaces.Dict):
        if found[""] != size or keys:
            raise ValueError(
                f"got an environment with observations {env.observation_space}"
                + (f" and keys {list(keys)}, which are for dictionaries" if keys else "")
                + f", expected Box of ({size},), as the model was trained on; choose another environment or model"
            )
        return env
    named = sorted(columns, key=lambda token: columns[token])
    ways = [[one_of("key", k, found) for k in keys]] if keys else [named, ["observation"], list(found)]
    for way in ways:
        sizes = [found.get(key) for key in way]
        if None not in sizes and sum(s or 0 for s in sizes) == size:
            return Flat(env, way)
    raise ValueError(
        f"got observations {found} (numbers in each; None: pixels or categories), expected {size} numbers, as the "
        "model was trained on; name the entries in the order of the demonstrations' columns with --keys"
    )
