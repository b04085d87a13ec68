"""Mazes in which something happens in mid-run, drawn by the episode's seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

from .ball import MAX_SPEED, RADIUS, Ball
from .controller import GridPaths
from .maze2d import GOAL_RADIUS, PLACE_NOISE, Maze2DEnv
from .mazes import OFFSET, Cell, Maze

Array = NDArray[np.float64]
EVENTS, UNTIL, DOOR = 2, 0.375, 0.15
"""How often something happens, and the part of an episode's env steps in which it does (doors: an earlier one): time is left."""
THROWN = 0.8
"""How far a push throws the ball, m; less where a wall is in the way."""
WIND, GUST = 0.4, 0.98
"""Standard deviation of the wind's motor command along each axis, and how much of it is left after an env step."""


class Disturbed(gym.Wrapper[Any, Any, Any, Any]):
    """A maze with disturbances.

    `push`: the ball is thrown by up to 0.8 m in a random direction, through no wall, and flies on at the largest speed;
    twice. `move`: the goal is moved to another cell; twice. `wind`: every command is added to by a force that turns and
    swells slowly. `door`: a cell on the shortest way is shut, once, where another way is left; nobody is told.

    `info["events"]` names the env steps after which something happened. `info["success"]` and `info["first_reach"]` are of
    the goal as it is since the last of them: whether, and when, it was reached again.

    Args:
        env: the maze, with its time limit.
        kind: what happens.

    Attributes:
        events: env steps of this episode after which something happened.
    """

    def __init__(self, env: gym.Env[Any, Any], kind: str) -> None:
        super().__init__(env)
        self._happens = KINDS[one_of("disturbance", kind, KINDS)]
        bare, spec = env.unwrapped, env.spec
        assert isinstance(bare, Maze2DEnv) and spec is not None
        self._maze, self._wind = bare, kind == "wind"
        self._until = (DOOR if kind == "door" else UNTIL) * (spec.max_episode_steps or 800)
        self._shut: dict[Cell, Ball] = {}
        self.events: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.rng = np.random.default_rng(seed)
        self._force, self._step, self._reached, self.events = np.zeros(2), 0, info["first_reach"], []
        parts = (np.arange(EVENTS) + self.rng.uniform(0.2, 1, EVENTS)) / EVENTS
        self._due = [] if self._wind else (parts * self._until).astype(int).tolist()
        self._at = np.asarray(observation)
        return observation, self._told(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One env step, and what happens after it."""
        if self._wind:
            self._force = GUST * self._force + WIND * (1 - GUST**2) ** 0.5 * self.rng.standard_normal(2)
            action = np.clip(np.asarray(action, np.float64) + self._force, -1, 1)
        self._at, reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        if self._reached is None and np.linalg.norm(self._at[:2] - info["goal"]) <= GOAL_RADIUS:
            self._reached = self._step
        if self._step in self._due and (changed := self._happens(self)) is not None:
            self._at = self._maze.disturb(**changed)
            self.events.append(self._step)
            self._reached = None
            info = info | {"goal": self._maze.goal}
        return self._at, reward, terminated, truncated, self._told(info)

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        reached = {"first_reach": self._reached, "success": self._reached is not None}
        return info | reached | {"events": tuple(self.events)}

    def _push(self) -> Mapping[str, Any]:
        angle = self.rng.uniform(0, 2 * np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        places = self._at[:2] + np.linspace(0, THROWN, 17)[:, None] * along
        blocked = [not self._clear(p) for p in places[1:]]
        return {"qpos": places[(*blocked, True).index(True)], "qvel": MAX_SPEED * along}

    def _clear(self, place: Array) -> bool:
        corners = place + OFFSET + 1.5 * RADIUS * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
        return all(self._maze.maze.is_free(round(x), round(y)) for x, y in corners.tolist())

    def _move(self) -> Mapping[str, Any]:
        cells = [c for c in self._maze.maze.free_cells if np.linalg.norm(c - self._maze.goal) > 1]
        return {"goal": cells[self.rng.integers(len(cells))] + self.rng.uniform(-PLACE_NOISE, PLACE_NOISE, 2)}

    def _door(self) -> Mapping[str, Any] | None:
        """A cell of the shortest way from here, neither the next one nor the goal's, that can be gone around."""
        maze, goal = self._maze.maze, self._maze.maze.cell_at(*self._maze.goal)
        way = GridPaths(maze).path(float(self._at[0]), float(self._at[1]), goal)[1:-1]
        doors = [c for c in way if _open(maze, c, maze.ball_cell(*self._at[:2]), goal)]
        if not doors or self.events:
            return None
        cell = doors[self.rng.integers(len(doors))]
        if cell not in self._shut:
            self._shut[cell] = Ball(without(maze, cell))
        return {"ball": self._shut[cell]}


def without(maze: Maze, cell: Cell) -> Maze:
    """The maze with one cell more of wall."""
    rows = [list(row) for row in maze.rows]
    rows[cell[0]][cell[1]] = "#"
    return replace(maze, name=f"{maze.name}-shut", text="\n".join("".join(row) for row in rows))


def _open(maze: Maze, cell: Cell, start: Cell, goal: Cell) -> bool:
    """Whether a way is left when a cell is shut."""
    return start in GridPaths(without(maze, cell)).distances(goal)


KINDS: dict[str, Callable[[Disturbed], Mapping[str, Any] | None]] = {
    "push": Disturbed._push,
    "move": Disturbed._move,
    "wind": lambda env: None,
    "door": Disturbed._door,
}
"""What may happen."""
