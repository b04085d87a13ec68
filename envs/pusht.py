"""Push-T (Chi et al. 2023, arXiv 2303.04137) on `gym-pusht`: corners of the T as observation, and its mirror symmetry.

The scene (walls, goal, T) is its own mirror image in the line x + y = 512, so every demonstration is also one of the
mirrored task. Lengths are pixels of the 512 x 512 scene, angles rad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.data import Episodes
from dfplan.tools.errors import optional_import

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[np.float64]
SIZE = 512.0
TEE: Array = np.array(
    [(-60, 30), (60, 30), (60, 0), (-60, 0), (-15, 30), (-15, 120), (15, 120), (15, 30)], np.float64
)
NAMES = ("agent_x", "agent_y", *(f"corner{i}_{axis}" for i in range(1, 9) for axis in "xy"))
SENSORS: Mapping[str, slice] = {"agent": slice(0, 2), "block": slice(2, 18)}


def features(state: ArrayLike) -> Array:
    """(..., 5) agent x, y and block x, y, angle -> (..., 18) agent x, y and the eight corners of the T."""
    state = np.asarray(state, np.float64)
    cos, sin = np.cos(state[..., 4:5]), np.sin(state[..., 4:5])
    x = state[..., 2:3] + cos * TEE[:, 0] - sin * TEE[:, 1]
    y = state[..., 3:4] + sin * TEE[:, 0] + cos * TEE[:, 1]
    corners = np.stack([x, y], -1).reshape(*state.shape[:-1], 16)
    return np.concatenate([state[..., :2], corners], -1)


def mirror(state: ArrayLike) -> Array:
    """(..., 5) the state reflected in the goal's axis of symmetry, x + y = 512."""
    state = np.asarray(state, np.float64)
    return np.stack(
        [
            SIZE - state[..., 1], SIZE - state[..., 0], SIZE - state[..., 3], SIZE - state[..., 2],
            (np.pi / 2 - state[..., 4]) % (2 * np.pi),
        ],
        -1,
    )  # fmt: skip


def prepare_pusht(episodes: Episodes) -> Episodes:
    """Recorded states -> what the policy sees, each demonstration followed by its mirror image.

    Args:
        episodes: observations (N, 5) as in Diffusion Policy's `data/state`, actions (N, 2) target positions.

    Raises:
        ValueError: other widths.
    """
    state = np.asarray(episodes.arrays["observations"], np.float64)
    action = np.asarray(episodes.arrays.get("actions", np.zeros((len(state), 0))), np.float64)
    if state.shape[1:] != (5,) or action.shape[1:] != (2,):
        raise ValueError(
            f"{episodes.name}: got observations {state.shape} and actions {action.shape}, expected Push-T's "
            "(N, 5) agent x, y, block x, y, angle and (N, 2) target x, y"
        )
    arrays = {
        "observations": np.concatenate([features(state), features(mirror(state))]).astype(np.float32),
        "actions": np.concatenate([action, SIZE - action[:, ::-1]]).astype(np.float32),
    }
    ends = np.concatenate([episodes.ends, episodes.ends + len(state)])
    info = {
        "names": {"observations": list(NAMES), "actions": ["target_x", "target_y"]},
        "units": {"observations": ["px"] * 18, "actions": ["px"] * 2},
        "groups": {key: [part.start, part.stop] for key, part in SENSORS.items()},
        "relative": {"target_x": "agent_x", "target_y": "agent_y"},
    }
    return Episodes(arrays, ends, 0.1, f"{episodes.name} and its mirror image", info)


class PushT(gym.Wrapper[NDArray[np.float32], NDArray[np.float32], Any, Any]):
    """gym-pusht with `features` as observation, and the info that evaluation reads.

    Info: `success` (coverage above 0.95), `progress` (largest coverage so far over 0.95, at most 1: the number that is
    published), `collided` (there is nothing to touch), `first_reach`, `goal`.
    """

    sensors = SENSORS
    channel_names = NAMES

    def __init__(self, **kwargs: Any) -> None:
        """Build it; `kwargs`, such as `render_mode`, are passed to `gymnasium.make`."""
        optional_import("gym_pusht", "pusht")  # registers the environment
        super().__init__(gym.make("gym_pusht/PushT-v0", disable_env_checker=True, **kwargs))
        self.observation_space = gym.spaces.Box(-SIZE, 2 * SIZE, (18,), np.float32)
        self._begin()

    def _begin(self) -> None:
        self._best, self._step = 0.0, 0
        self._first: int | None = None

    def reset(self, **kwargs: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A random start by the seed."""
        state, info = self.env.reset(**kwargs)
        self._begin()
        return features(state).astype(np.float32), self._info(info, 0.0)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Action (2,): target position of the agent."""
        target: Any = np.asarray(action, np.float64)
        state, reward, terminated, truncated, info = self.env.step(target)
        self._step += 1
        if info["is_success"] and self._first is None:
            self._first = self._step
        return (
            features(state).astype(np.float32), float(reward), bool(terminated), truncated,
            self._info(info, float(reward)),
        )  # fmt: skip

    def _info(self, info: dict[str, Any], reward: float) -> dict[str, Any]:
        self._best = max(self._best, reward)
        return info | {
            "success": bool(info["is_success"]),
            "progress": self._best,
            "collided": False,
            "first_reach": self._first,
            "goal": np.asarray(info["goal_pose"], np.float64),
        }
