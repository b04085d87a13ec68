"""What the planar tasks share: a hand, sensors that may fail, a time limit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import one_of

from ..arm.disturb import Disturbance
from ..arm.model import DT
from ..arm.sensors import Sensor, columns, numbers
from .disturb import SENSOR_KINDS, Episode

if TYPE_CHECKING:
    from .sketch import Sketch

Array = NDArray[np.float64]
Observation = NDArray[np.float32]
Point = tuple[float, float]

TOP, EASE = 0.4, 0.1
"""Top speed of the hand along each axis, m/s, and the most it changes in a step, m/s."""


class Driver(Protocol):
    """What knows how to do the task."""

    def act(self) -> Array:
        """(A,) action for the state the environment is in now."""
        ...


class Meddler(Protocol):
    """What goes wrong in a demonstration."""

    def meddle(self, env: Any, command: Array, step: int) -> Array:
        """Disturb the scene; the action (A,) to execute instead of `command` (A,) in env step `step`."""
        ...


class PlanarEnv(gym.Env[Observation, NDArray[np.float32]], ABC):
    """A hand that moves in a plane, 20 steps per second. One subclass for each task.

    Observation: flat float32; `sensors` names its parts. `channel_names` and `units` have one entry per column.
    Action: wanted velocity along each axis as a fraction of the top speed (0.4 m/s), and the task's own; in [-1, 1],
    values beyond are clipped. The velocity changes by at most 0.1 m/s in a step.
    Reward: 1 on steps that end in success, else 0.
    Info: `success` (at this step), `progress` (0 to 1), `first_reach` (env step of the first success or None), `goal`
    (the answer: nothing that acts may read it), `doubtful` (names of sensors that are wrong now), `disturbed` (the
    disturbance has begun). The environment itself truncates an episode after `limit` steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1.0 / DT)}  # noqa: RUF012
    main_sensor: ClassVar[str]
    options: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]] = ("move", *SENSOR_KINDS)
    actions: ClassVar[tuple[str, ...]]
    offset: ClassVar[tuple[float, float]] = (0.03, 0.06)
    """Size of an `offset` where none is given, m."""

    def __init__(
        self,
        sensors: Sequence[Sensor],
        early: tuple[float, float],
        disturb: str | Mapping[str, Any] | Disturbance | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build what all tasks have.

        Args:
            sensors: of the task, in the order of the observation.
            early: from when to when a disturbance may begin that has no `start` of its own, s.
            disturb: kind of a disturbance, its fields, or None; see `Disturbance`. There is no `push`.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: for an unknown disturbance or render mode.
        """
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode, self.early = render_mode, early
        self.sensors = columns(sensors)
        self.channel_names = tuple(name for sensor in sensors for name in sensor.channels)
        self.units = tuple(unit for sensor in sensors for unit in sensor.units)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (len(self.units),), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(self.actions),), np.float32)
        self.disturb = None if disturb is None else Disturbance.of(disturb)
        if self.disturb is not None:
            Episode(self.disturb, self, np.random.default_rng(0))  # refuses what this task does not have now
        self.x = self.y = self.vx = self.vy = 0.0
        self._steps, self._ready = 0, False
        self._first_reach: int | None = None
        self._episode: Episode | None = None

    @property
    @abstractmethod
    def limit(self) -> int:
        """Env steps after which this episode is truncated."""

    @property
    @abstractmethod
    def goal(self) -> Array:
        """What is right in this episode."""

    @abstractmethod
    def place(self, options: Mapping[str, Any]) -> None:
        """Draw hand and things; what is drawn never depends on `options`, only what is taken of it does."""

    @abstractmethod
    def reach(self, axis: int) -> tuple[float, float]:
        """From where to where the hand may be along an axis now, m."""

    @abstractmethod
    def follow(self, wanted: Sequence[float]) -> bool:
        """What a step does after the hand has moved; whether the episode is over."""

    @abstractmethod
    def sense(self) -> list[float]:
        """Values of all sensors, one after the other."""

    @abstractmethod
    def succeeded(self) -> bool:
        """Whether the task is done now."""

    @abstractmethod
    def progress(self) -> float:
        """How far the task is, 0 to 1."""

    @abstractmethod
    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move a thing by `distance` m if that is possible now; whether it was."""

    @abstractmethod
    def make_expert(self, seed: int) -> Driver:
        """A scripted expert that drives this environment."""

    @abstractmethod
    def mischief(self, rng: np.random.Generator) -> Meddler:
        """What goes wrong in a demonstration."""

    def describe(self) -> dict[str, Any]:
        """`info` of demonstrations: what the columns are, and which of them is told relative to which."""
        return {
            "names": {"observations": list(self.channel_names), "actions": list(self.actions)},
            "units": {"observations": list(self.units), "actions": ["1"] * len(self.actions)},
            "groups": {name: [part.start, part.stop] for name, part in self.sensors.items()},
            "relative": {
                n: f"hand{n[-2:]}" for n in self.channel_names if n[-2:] in ("_x", "_y") and n[:4] != "hand"
            },
        }

    @abstractmethod
    def sketch(self) -> Sketch:
        """A picture of the scene."""

    @property
    def steps(self) -> int:
        """Env steps of this episode so far."""
        return self._steps

    def truth(self) -> Observation:
        """(O,) the observation without any sensor disturbance."""
        return np.array(self.sense(), np.float32)

    def shifted(self, sensor: str) -> list[int]:
        """Columns of a sensor that an offset moves: its lengths."""
        part = self.sensors[sensor]
        return [i for i in range(part.start, part.stop) if self.units[i] == "m"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: new seed of all that is random from here on.
            options: `disturb` (as in the constructor, for this episode), and the task's own; each optional and taken exactly.

        Raises:
            ValueError: for an unknown option or a value that does not fit.
        """
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            one_of("reset option", key, ("disturb", *self.options))
        self.vx = self.vy = 0.0
        self._steps, self._first_reach, self._ready = 0, None, True
        # Drawn first, so that the same seed gives the same episodes with and without a disturbance.
        rng = np.random.default_rng(self.np_random.integers(2**62))
        self.place(options)
        what = options.get("disturb", self.disturb)
        self._episode = None if what is None else Episode(Disturbance.of(what), self, rng)
        observation, doubtful = self._observe()
        return observation, self._info(self.succeeded(), doubtful)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by 0.05 s.

        Args:
            action: (A,) wanted velocity, and the task's own; clipped to [-1, 1].

        Returns:
            observation (O,), reward, terminated, truncated, info.

        Raises:
            ValueError: if the action has the wrong shape, or a NaN or an infinity.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if not self._ready:
            raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
        wanted = self._command(action)
        if self._episode is not None:
            self._episode.before(self, self._steps)
        self.vx += min(max(wanted[0] * TOP - self.vx, -EASE), EASE)
        self.vy += min(max(wanted[1] * TOP - self.vy, -EASE), EASE)
        self.x, self.vx = _within(self.x + self.vx * DT, self.vx, *self.reach(0))
        self.y, self.vy = _within(self.y + self.vy * DT, self.vy, *self.reach(1))
        self._steps += 1
        terminated = self.follow(wanted)
        success = self.succeeded()
        if success and self._first_reach is None:
            self._first_reach = self._steps
        observation, doubtful = self._observe()
        truncated = not terminated and self._steps >= self.limit
        return observation, float(success), terminated, truncated, self._info(success, doubtful)

    def render(self) -> NDArray[np.uint8]:
        """Picture of the scene: (H, W, 3) uint8.

        Raises:
            ValueError: if the environment was made without render_mode='rgb_array'.
        """
        if self.render_mode is None:
            raise ValueError("got render() with render_mode=None; make the environment with 'rgb_array'")
        return self.sketch().image

    def _command(self, action: ArrayLike) -> list[float]:
        try:
            wanted: list[float] = action.tolist()  # type: ignore[union-attr]
            if len(wanted) == len(self.actions) and all(-1.0 <= value <= 1.0 for value in wanted):
                return wanted
        except (AttributeError, TypeError):
            pass
        return [min(max(v, -1.0), 1.0) for v in numbers("action", action, len(self.actions)).tolist()]

    def _observe(self) -> tuple[Observation, tuple[str, ...]]:
        observation = self.truth()
        if self._episode is None:
            return observation, ()
        return observation, self._episode.corrupt(self, observation, self._steps)

    def _info(self, success: bool, doubtful: tuple[str, ...]) -> dict[str, Any]:
        return {
            "success": success,
            "progress": 1.0 if success else min(self.progress(), 0.99),
            "first_reach": self._first_reach,
            "goal": self.goal,
            "doubtful": doubtful,
            "disturbed": self._episode is not None and self._episode.begun,
        }


def inside(what: str, value: ArrayLike, half: float) -> Point:
    """A point (m) of a square table around the origin.

    Raises:
        ValueError: for what is not two numbers within -`half` and `half`.
    """
    x, y = numbers(what, value, 2).tolist()
    if max(abs(x), abs(y)) > half:
        raise ValueError(f"got {what} at ({x}, {y}), expected it on the table, within -{half} and {half} m")
    return x, y


def _within(value: float, velocity: float, low: float, high: float) -> tuple[float, float]:
    """Position and velocity along an axis: a wall stops what runs into it."""
    if value < low:
        return low, 0.0
    return (high, 0.0) if value > high else (value, velocity)
