"""Maze2D with D4RL's exact physics, as a Gymnasium environment.

State and reward follow D4RL's `maze_model.py` (v1): observation x, y, vx, vy; the sparse reward is 1 for
every step that ends within 0.5 m of the goal, the dense one exp(-distance); an episode never terminates,
only the time limit of the registered ids cuts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, hypot
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import one_of

from .ball import DT, Ball, State
from .mazes import Maze, Reward, resolve
from .render import Image, MazePicture

GOAL_RADIUS, PLACE_NOISE, SPEED_NOISE = 0.5, 0.1, 0.1
_OPTIONS = ("qpos", "qvel", "goal")

Observation = NDArray[np.float64]
Action = NDArray[np.float32]
Point = tuple[float, float]


class Maze2DEnv(gym.Env[Observation, Action]):
    """A ball pushed through a maze.

    Observation: (4,) float64 x, y (m; x along the rows, y along the columns), vx, vy (m/s).
    Action: (2,) float32 in [-1, 1], motor command per axis (1 is 100 N); values beyond are clipped.
    Info: `success` (the goal has been within 0.5 m in this episode), `first_reach` (number of steps when it
    first was, None before), `normalized_score` (D4RL's, of the return so far; None for mazes without
    reference returns) and `goal` (2,) in m.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1.0 / DT)}  # noqa: RUF012

    def __init__(
        self,
        maze: str | Maze = "large",
        goal: Literal["fixed", "random"] | Sequence[float] = "fixed",
        reward: Reward | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the maze.

        Args:
            maze: layout name (`large`, `umaze-eval`, `maze2d-large-v1`), text maze or `Maze`.
            goal: `fixed` is the layout's goal cell; `random` a new one each episode (random free cell plus
                U(-0.1, 0.1) m: Multi2D); or a position (x, y) in m.
            reward: `sparse` or `dense`; None means what the maze name says, else sparse.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: for an unknown maze, goal, reward or render mode, or one the name contradicts.
        """
        self.maze, named = resolve(maze)
        if reward is not None and named not in (None, one_of("reward", reward, ("sparse", "dense"))):
            raise ValueError(
                f"got maze '{maze}' with reward='{reward}', which contradict each other; leave one out"
            )
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.reward_kind: Reward = reward or named or "sparse"
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._ball = Ball(self.maze)
        self._random_goal = isinstance(goal, str) and one_of("goal", goal, ("fixed", "random")) == "random"
        self._default_goal = self._goal_at(self.maze.goal if isinstance(goal, str) else goal)
        refs = self.maze.refs(self.reward_kind)
        self._score = None if refs is None else (refs[0], 1.0 / (refs[1] - refs[0]))
        self._advance: Callable[[float, float, float, float, float, float], State] = _not_reset
        self._state: State = (0.0, 0.0, 0.0, 0.0)
        self._picture: MazePicture | None = None
        self._scene: Image | None = None
        self._first_reach: int | None = None
        self._begin(self._default_goal)

    @property
    def goal(self) -> Observation:
        """(2,) position to reach in this episode, m."""
        return self._goal_array.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode: a random free cell plus U(-0.1, 0.1) m, speed 0.1 N(0, 1) m/s (D4RL's reset).

        Args:
            seed: new seed of all that is random from here on.
            options: `qpos` (2,) m, `qvel` (2,) m/s, `goal` (2,) m: taken exactly, each optional.

        Raises:
            ValueError: for an unknown option, or a value that is not two finite numbers in free space.
        """
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            one_of("reset option", key, _OPTIONS)
        x, y = self._somewhere()
        vx, vy = (self.np_random.standard_normal(2) * SPEED_NOISE).tolist()
        goal = self._somewhere() if self._random_goal else self._default_goal
        if "qpos" in options:
            x, y = self._free_point(options["qpos"])
        if "qvel" in options:
            vx, vy = _two_numbers("qvel", options["qvel"])
        self._state, self._advance = (x, y, vx, vy), self._ball.step
        self._begin(self._goal_at(options["goal"]) if "goal" in options else goal)
        return np.array(self._state), self._info()

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by 0.01 s.

        Args:
            action: (2,) motor command per axis, clipped to [-1, 1].

        Returns:
            observation (4,), reward after the step, terminated and truncated (both always False), info.

        Raises:
            ValueError: if the action is not two numbers, or NaN.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        try:
            ax, ay = action.tolist()  # type: ignore[union-attr]
            fits = -1.0 <= ax <= 1.0 and -1.0 <= ay <= 1.0
        except (AttributeError, TypeError, ValueError):
            fits = False
        if not fits:
            ax, ay = _command(action)
        self._state = state = self._advance(*self._state, ax, ay)
        distance = hypot(state[0] - self._goal[0], state[1] - self._goal[1])
        self._steps += 1
        reward = exp(-distance)
        if self.reward_kind == "sparse":
            reward = 1.0 if distance <= GOAL_RADIUS else 0.0
        if distance <= GOAL_RADIUS and self._first_reach is None:
            self._first_reach = self._steps
        self._return += reward
        return np.array(state), reward, False, False, self._info()

    def disturb(
        self, qpos: ArrayLike | None = None, qvel: ArrayLike | None = None, goal: ArrayLike | None = None,
        ball: Ball | None = None,
    ) -> Observation:  # fmt: skip
        """What happens in mid-run: another position, velocity or goal, or other walls; each optional.

        Args:
            qpos: (2,) m, in free space.
            qvel: (2,) m/s.
            goal: (2,) m; whether it has been reached is asked anew.
            ball: the physics of another maze of the same size.

        Returns:
            (4,) the observation now.
        """
        place = self._state[:2] if qpos is None else self._free_point(qpos)
        speed = self._state[2:] if qvel is None else _two_numbers("qvel", qvel)
        self._state = (*place, *speed)
        if ball is not None:
            self._advance = ball.step
        if goal is not None:
            self._goal, self._scene, self._first_reach = self._goal_at(goal), None, None
            self._goal_array = np.array(self._goal)
        return np.array(self._state)

    def render(self) -> Image:
        """Picture of the maze (rows down, columns right), ball, goal with its reward area, and start.

        Returns:
            (H, W, 3) uint8, 40 pixels per cell.

        Raises:
            ValueError: if the environment was made without render_mode='rgb_array'.
        """
        if self.render_mode is None:
            raise ValueError("got render() with render_mode=None; make the environment with 'rgb_array'")
        self._picture = self._picture or MazePicture(self.maze)
        if self._scene is None:
            self._scene = self._picture.scene(self._goal, self._start)
        return self._picture.frame(self._scene, self._state[:2])

    def _begin(self, goal: Point) -> None:
        self._goal, self._start = goal, self._state[:2]
        self._goal_array = np.array(goal)
        self._steps, self._return = 0, 0.0
        self._scene = None
        near = hypot(self._state[0] - goal[0], self._state[1] - goal[1]) <= GOAL_RADIUS
        self._first_reach = 0 if near else None

    def _info(self) -> dict[str, Any]:
        score = self._score
        return {
            "success": self._first_reach is not None,
            "first_reach": self._first_reach,
            "normalized_score": None if score is None else (self._return - score[0]) * score[1],
            "goal": self._goal_array.copy(),
        }

    def _somewhere(self) -> Point:
        cells = self.maze.free_cells
        row, column = cells[self.np_random.integers(len(cells))]
        dx, dy = self.np_random.uniform(-PLACE_NOISE, PLACE_NOISE, 2).tolist()
        return row + dx, column + dy

    def _goal_at(self, goal: ArrayLike) -> Point:
        x, y = _two_numbers("goal", goal)
        self.maze.cell_at(x, y)
        return x, y

    def _free_point(self, qpos: ArrayLike) -> Point:
        x, y = _two_numbers("qpos", qpos)
        self.maze.ball_cell(x, y)
        return x, y


def _two_numbers(what: str, value: ArrayLike) -> Point:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (2,) or not np.isfinite(array).all():
        raise ValueError(f"got {what} {value!r}, expected two finite numbers along x and y")
    return float(array[0]), float(array[1])


def _command(action: ArrayLike) -> Point:
    """Check and clip an action that is not simply two floats in range."""
    try:
        array = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (2,) or np.isnan(array).any():
        raise ValueError(f"got action {action!r}, expected two numbers in [-1, 1], one per axis, and no NaN")
    ax, ay = np.clip(array, -1.0, 1.0).tolist()
    return ax, ay


def _not_reset(*_: float) -> State:
    raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
