"""robosuite's tasks as Gymnasium environments, with settings and observations of robomimic's low-dimensional sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of, optional_import

Array = NDArray[np.float64]
SHORT = {"Can": "PickPlaceCan", "Square": "NutAssemblySquare"}
"""robomimic's name of a task -> robosuite's."""
LOW_DIM = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""What robomimic's policies see of a task with one arm, in the order of its columns."""
STEPS = 400
"""Env steps of an episode, as robomimic evaluates on sets of one skilled operator."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without robosuite's remarks on optional parts of it, which it makes at every import and for every environment."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def settings(robots: Any = "Panda", **changes: Any) -> dict[str, Any]:
    """Arguments of `robosuite.make` as robomimic's sets were recorded: 20 Hz, steps of the hand's pose, sparse rewards."""
    controllers: Any = optional_import("robosuite.controllers", "robots")
    arm = robots if isinstance(robots, str) else robots[0]
    return {
        "robots": robots, "controller_configs": controllers.load_composite_controller_config(robot=arm), "control_freq": 20,
        "has_renderer": False, "has_offscreen_renderer": False, "use_camera_obs": False, "use_object_obs": True,
        "reward_shaping": False, "ignore_done": True,
    } | changes  # fmt: skip


class Robosuite(gym.Env[Any, Any]):
    """A task of robosuite's.

    Observations are all rows of numbers that robosuite shows, under its names, and `object` in place of `object-state`, as
    robomimic calls it. Actions are within [-1, 1]: steps of the hand and the gripper's direction. `info["success"]` is
    what robosuite says.

    Args:
        task: `Lift`, `PickPlaceCan` (or `Can`), `NutAssemblySquare` (or `Square`), or another of robosuite's.
        terminate_on_success: end the episode when the task is done.
        render_mode: None or `rgb_array`.
        camera: which camera draws.
        **changes: see `settings`.

    Attributes:
        suite: robosuite's environment.
        kwargs: what it was made with.
        beside: how many are run at once; each takes 130 MB.

    Raises:
        ImportError: without robosuite, with the line that installs it.
        ValueError: for an unknown task, with the nearest one.
    """

    beside = 10
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  as Gymnasium has it

    def __init__(
        self,
        task: str,
        terminate_on_success: bool = True,
        render_mode: str | None = None,
        camera: str = "agentview",
        **changes: Any,
    ) -> None:
        with _quiet():
            package: Any = optional_import("robosuite", "robots")
            self.task = one_of("robosuite task", SHORT.get(task, task), sorted(package.ALL_ENVIRONMENTS))
            self.kwargs = settings(**changes)
            drawn = {"has_offscreen_renderer": True} if render_mode else {}
            self.suite: Any = package.make(self.task, **self.kwargs | drawn)
        self.terminate_on_success, self.render_mode, self.camera = terminate_on_success, render_mode, camera
        first = self._rows(self.suite.reset())
        self.observation_space = gym.spaces.Dict(
            {key: gym.spaces.Box(-np.inf, np.inf, row.shape, np.float64) for key, row in first.items()}
        )
        low, high = self.suite.action_spec
        self.action_space = gym.spaces.Box(np.asarray(low, np.float32), np.asarray(high, np.float32))

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode; the seed gives where things lie, how large they are, and the arm's posture."""
        super().reset(seed=seed)
        if seed is not None:  # samplers hold the same generator
            self.suite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        return self._rows(self.suite.reset()), {"success": self.success()}

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Advance by one env step."""
        seen, reward, _, _ = self.suite.step(np.asarray(action, np.float64))
        done = self.success()
        return self._rows(seen), float(reward), done and self.terminate_on_success, False, {"success": done}

    def success(self) -> bool:
        """What robosuite says now."""
        return bool(self.suite._check_success())

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """A picture (256, 256, 3)."""
        if self.render_mode is None:
            raise ValueError("got no render_mode, expected rgb_array; make the environment with it")
        picture = self.suite.sim.render(camera_name=self.camera, width=256, height=256)
        return np.asarray(picture[::-1], np.uint8)

    def close(self) -> None:
        """Let go of the simulation."""
        self.suite.close()

    def _rows(self, seen: Mapping[str, Any]) -> dict[str, Array]:
        return {
            key.replace("object-state", "object"): np.array(value, np.float64)
            for key, value in seen.items()
            if np.ndim(value) == 1 and np.size(value)
        }


def make_robosuite(name: str, max_episode_steps: int = STEPS, **kwargs: Any) -> gym.Env[Any, Any]:
    """An environment with its time limit by `robosuite:Lift` and the like; see `Robosuite`."""
    return gym.wrappers.TimeLimit(Robosuite(name.partition(":")[2], **kwargs), max_episode_steps)
