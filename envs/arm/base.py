"""The arm environment that every task shares: physics, control, observation, disturbances, pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import GRIPPER_OPEN, HOME, LIMITS
from dfplan.tools.errors import one_of

from .control import Limiter
from .disturb import Disturbance, Episode
from .model import DT
from .physics import Physics
from .sensors import JOINTS, Sensor, columns, numbers, pose_sensor

Array = NDArray[np.float64]
Observation = NDArray[np.float32]

HOLD = 5
"""Control steps that success must last before an episode ends."""
_LOW = np.append(LIMITS.lower, 0.0)
_HIGH = np.append(LIMITS.upper, GRIPPER_OPEN)
_EE_LOW = np.array([-0.2, -0.7, 0.0] + [-1.0] * 6 + [0.0])
_EE_HIGH = np.array([0.9, 0.7, 1.0] + [1.0] * 6 + [GRIPPER_OPEN])


class Expert(Protocol):
    """What knows how to do the task."""

    def act(self) -> Array:
        """(8,) joint targets (rad) and gripper opening (m) for the state the environment is in now."""
        ...


class ArmEnv(gym.Env[Observation, NDArray[np.float32]], ABC):
    """A Panda-like arm at a table, 20 control steps per second. One subclass for each task.

    Observation: flat float32; `sensors` names its parts: `joints` (q rad, qd rad/s, gripper opening m), `ee`
    (TCP position m and 6D rotation in the base frame), then the task's own. `channel_names` and `units` have
    one entry per column.
    Action: joint targets (7) rad and gripper opening (1) m; or, with `action="ee"`, TCP position (3) m, 6D
    rotation (6), gripper opening (1) m. Values out of range are clipped.
    Reward: 1 on steps that end in success, else 0.
    Info: `success` (at this step), `progress` (0 to 1), `collision` (the arm touched the table or an obstacle
    in this step), `collided` (so far), `first_reach` (env step of the first success or None), `goal`,
    `clipped` (the action was out of range), `doubtful` (names of sensors that are wrong now), `disturbed`
    (the disturbance has begun).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1.0 / DT)}  # noqa: RUF012
    task_sensors: ClassVar[tuple[Sensor, ...]]
    main_sensor: ClassVar[str]
    options: ClassVar[tuple[str, ...]]
    early: ClassVar[tuple[float, float]] = (0.4, 1.6)
    """A disturbance begins between these times, s, where it does not say when."""
    failure: ClassVar[float] = 1.0
    """A sensor fails for so long, s, where the disturbance does not say how long."""

    def __init__(
        self,
        action: Literal["joint", "ee"] = "joint",
        disturb: str | Mapping[str, Any] | Disturbance | None = None,
        terminate_on_success: bool = True,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
    ) -> None:
        """Build the arm and the task's scene.

        Args:
            action: `joint` or `ee`.
            disturb: kind of a disturbance, its fields, or None; see `Disturbance`.
            terminate_on_success: end the episode once success has lasted 5 control steps.
            render_mode: None or `rgb_array`.
            height: of pictures, pixels, at most 960.
            width: of pictures, pixels, at most 1280.

        Raises:
            ValueError: for an unknown action, disturbance or render mode, or too large pictures.
        """
        if not (1 <= height <= 960 and 1 <= width <= 1280):
            raise ValueError(f"got pictures of {height} x {width}, expected 1 to 960 x 1 to 1280 pixels")
        self.action_kind = one_of("action", action, ("joint", "ee"))
        self.disturb = None if disturb is None else Disturbance.of(disturb)
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode, self.terminate_on_success = render_mode, terminate_on_success
        sensors = (JOINTS, pose_sensor("ee"), *self.task_sensors)
        self.sensors = columns(sensors)
        self.channel_names = tuple(name for sensor in sensors for name in sensor.channels)
        self.units = tuple(unit for sensor in sensors for unit in sensor.units)
        self._bounds = (_EE_LOW, _EE_HIGH) if action == "ee" else (_LOW, _HIGH)
        low, high = (bound.astype(np.float32) for bound in self._bounds)
        self.action_space = gym.spaces.Box(low, high)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (len(self.units),), np.float32)
        self.physics = Physics(self.scene())
        self._size = (height, width)
        self._limiter: Limiter | None = None
        self._episode: Episode | None = None
        self._steps, self._lasted, self._collision = 0, 0, False
        self._first_reach: int | None = None
        if self.disturb is not None:
            Episode(self.disturb, self, np.random.default_rng(0))  # refuses a wrong sensor now

    @abstractmethod
    def scene(self) -> str:
        """MJCF of the task's own bodies."""

    @abstractmethod
    def start_joints(self) -> Array:
        """(7,) joint angles to start from, drawn from `np_random`, rad."""

    @abstractmethod
    def place(self, options: Mapping[str, Any]) -> None:
        """Put the task's things in place; the arm already stands at its start."""

    @abstractmethod
    def sense(self) -> Array:
        """Values of the task's sensors, one after the other."""

    @abstractmethod
    def succeeded(self) -> bool:
        """Whether the task is done now."""

    @abstractmethod
    def progress(self) -> float:
        """How far the task is, 0 to 1."""

    def notice(self) -> None:
        """Take note of what has happened since the last observation; for tasks in which more counts than the state."""

    def told(self) -> dict[str, Any]:
        """Info of the task's own."""
        return {}

    def lose(self, rng: np.random.Generator) -> bool:
        """Perhaps take away what the hand holds or has just put down; whether it did."""
        return False

    @abstractmethod
    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move the object or the target by `distance` m if that is possible now; whether it was."""

    @abstractmethod
    def make_expert(self, seed: int) -> Expert:
        """A scripted expert of this task that drives this environment."""

    @property
    @abstractmethod
    def goal(self) -> Array:
        """What is to be reached, as the task's goal sensor gives it."""

    def tcp(self) -> tuple[Array, Array]:
        """Position (3,) m and rotation (3, 3) of the tool centre point."""
        return panda.forward(self.physics.q)

    def truth(self) -> Observation:
        """(O,) the observation without any sensor disturbance."""
        position, rotation = self.tcp()
        arm = self.physics
        opening = np.array([arm.opening])
        parts = (arm.q, arm.qd, opening, position, rotations.rot6d(rotation), self.sense())
        return np.concatenate(parts).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: new seed of all that is random from here on.
            options: `joints` (7,) rad, `disturb` (as in the constructor, for this episode), and the task's
                own; each optional and taken exactly.

        Raises:
            ValueError: for an unknown option or a value that does not fit.
        """
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            one_of("reset option", key, ("joints", "disturb", *self.options))
        q = numbers("joints", options["joints"], 7) if "joints" in options else self.start_joints()
        if (q < LIMITS.lower).any() or (q > LIMITS.upper).any():
            raise ValueError(
                f"got joints {q.tolist()}, expected them within {LIMITS.lower.tolist()} and {LIMITS.upper.tolist()}"
            )
        self.physics.reset(q)
        self._limiter = Limiter(q, GRIPPER_OPEN)
        self._steps, self._lasted, self._collision, self._first_reach = 0, 0, False, None
        self.place(options)
        self.physics.settle()
        # Drawn even without a disturbance, so that the same seed gives the same episodes with and without.
        rng = np.random.default_rng(self.np_random.integers(2**62))
        what = options.get("disturb", self.disturb)
        self._episode = None if what is None else Episode(Disturbance.of(what), self, rng)
        observation, doubtful = self.observe()
        return observation, self._info(self.succeeded(), False, doubtful)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by 0.05 s.

        Args:
            action: (8,) joint targets and gripper opening, or (10,) TCP pose and gripper opening.

        Returns:
            observation (O,), reward, terminated, truncated (always False), info.

        Raises:
            ValueError: if the action has the wrong shape, or a NaN or an infinity.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self._limiter is None:
            raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
        wanted = numbers("action", action, len(self._bounds[0]))
        command = np.clip(wanted, *self._bounds)
        clipped = bool((np.abs(command - wanted) > 1e-6).any())
        if self.action_kind == "ee":
            pose = rotations.matrix(command[3:9])
            joints, _ = panda.solve(self._limiter.target[:7], command[:3], pose, HOME)
            command = np.append(joints, command[9])
        self.meddle()
        self._collision = self.physics.advance(self._limiter.rows(self.physics.q, command))
        self._steps += 1
        success = self.succeeded()
        self._lasted = self._lasted + 1 if success else 0
        if success and self._first_reach is None:
            self._first_reach = self._steps
        observation, doubtful = self.observe()
        terminated = self.terminate_on_success and self._lasted >= HOLD
        return observation, float(success), terminated, False, self._info(success, clipped, doubtful)

    def render(self) -> NDArray[np.uint8]:
        """Picture of the scene: (height, width, 3) uint8.

        Raises:
            ValueError: if the environment was made without render_mode='rgb_array'.
            OSError: where MuJoCo finds no OpenGL.
        """
        if self.render_mode is None:
            raise ValueError("got render() with render_mode=None; make the environment with 'rgb_array'")
        return self.physics.picture(*self._size)

    def close(self) -> None:
        """Free the renderer."""
        self.physics.close()

    def meddle(self) -> None:
        """Apply the force or movement that disturbs the control step that begins now."""
        if self._episode is not None:
            self._episode.before(self, self._steps)

    def observe(self, passed: int = 0) -> tuple[Observation, tuple[str, ...]]:
        """What the sensors show, and which of them are wrong, `passed` control steps after what was last counted."""
        self._steps += passed
        self.notice()
        observation = self.truth()
        if self._episode is None:
            return observation, ()
        return observation, self._episode.corrupt(self, observation, self._steps)

    def _info(self, success: bool, clipped: bool, doubtful: tuple[str, ...]) -> dict[str, Any]:
        return {
            "success": success,
            "progress": 1.0 if success else min(self.progress(), 0.99),
            "collision": self._collision,
            "collided": self.physics.collided,
            "first_reach": self._first_reach,
            "goal": self.goal.copy(),
            "clipped": clipped,
            "doubtful": doubtful,
            "disturbed": self._episode is not None and self._episode.begun,
            **self.told(),
        }
