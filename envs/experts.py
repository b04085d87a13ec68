"""The Maze2D expert, and the generator of D4RL's Maze2D data sets.

The data follow D4RL's `generate_maze2d_datasets.py --noisy`, which reproduces the statistics of the released
v1 files, with its slips mended: `observations[t]` is always the true state (the script repeats the old one
for one step after each goal), and `rewards` and `timeouts` are filled as in the released files.
"""

from __future__ import annotations

import os
from array import array
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from .ball import DT, Ball
from .controller import GridPaths, Point, WaypointController
from .mazes import Maze, get_maze, resolve

DATA_STEPS = {"umaze": 1_000_000, "medium": 2_000_000, "large": 4_000_000}
NOISE, GOAL_RADIUS, GOAL_SHIFT, START_SPEED = 0.5, 0.5, 0.1, 0.1
_BLOCK = 8192


class WaypointExpert:
    """The controller as a policy: new waypoints for each episode; holds the goal once there.

    With a fresh path per episode it scores far above D4RL's reference controller, which keeps stale ones.
    """

    def __init__(self, maze: str | Maze) -> None:
        """Prepare for a maze.

        Args:
            maze: layout name, text maze or `Maze`.
        """
        self.maze = get_maze(maze)
        self._paths = GridPaths(self.maze)
        self.reset(0)

    def reset(self, seed: int | None = None, goal: ArrayLike | None = None) -> None:
        """Start an episode.

        Args:
            seed: of the waypoint shifts; None draws afresh.
            goal: (2,) position to reach, m; None means the layout's fixed goal.

        Raises:
            ValueError: if the goal is not two numbers in a free cell.
        """
        point = np.asarray(self.maze.goal if goal is None else goal, dtype=np.float64)
        if point.shape != (2,) or not np.isfinite(point).all():
            raise ValueError(f"got goal {goal!r}, expected two finite numbers (x, y) in m")
        self._goal: Point = (float(point[0]), float(point[1]))
        self.maze.cell_at(*self._goal)
        self._controller = WaypointController(self._paths, np.random.default_rng(seed))

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Command for one env step.

        Args:
            observation: (4,) x, y (m), vx, vy (m/s).

        Returns:
            (2,) float32 in [-1, 1].

        Raises:
            ValueError: if the goal cannot be reached from there.
        """
        x, y, vx, vy = np.asarray(observation, dtype=np.float64).tolist()
        self._controller.head_for(x, y, self._goal)
        ax, ay, _ = self._controller.control(x, y, vx, vy)
        return np.array([ax, ay], dtype=np.float32)


class _Stream:
    """An endless run of the noisy controller through a maze: state, goal and controller."""

    def __init__(self, maze: Maze, seed: int, noise: float) -> None:
        self.maze, self.noise = maze, noise
        place, shift, kicks = np.random.SeedSequence(seed).spawn(3)
        self._place, self._kicks = np.random.default_rng(place), np.random.default_rng(kicks)
        self._ball = Ball(maze)
        self._controller = WaypointController(GridPaths(maze), np.random.default_rng(shift))
        x, y = self._somewhere()
        vx, vy = (self._place.standard_normal(2) * START_SPEED).tolist()
        self._state = (x, y, vx, vy)
        self._goal, self._age = self._somewhere(), 0
        self._controller.head_for(x, y, self._goal)

    def _somewhere(self) -> Point:
        row, column = self.maze.free_cells[self._place.integers(len(self.maze.free_cells))]
        dx, dy = self._place.uniform(-GOAL_SHIFT, GOAL_SHIFT, 2).tolist()
        return row + dx, column + dy

    def rows(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Next rows: (count, 8) of state, action, goal; (count,) whether the goal changes after the row."""
        control, step, state, goal = self._controller.control, self._ball.step, self._state, self._goal
        limit, values, last = self.maze.episode_steps, array("f"), bytearray()
        for ex, ey in (self._kicks.standard_normal((count, 2)) * self.noise).tolist():
            ax, ay, done = control(*state)
            ax, ay = min(1.0, max(-1.0, ax + ex)), min(1.0, max(-1.0, ay + ey))
            done = done or self._age >= limit
            values.extend((*state, ax, ay, *goal))
            last.append(done)
            state = step(*state, ax, ay)
            self._age += 1
            if done:
                goal, self._age = self._somewhere(), 0
                self._controller.head_for(state[0], state[1], goal)
        self._state, self._goal = state, goal
        return np.frombuffer(values, np.float32).reshape(count, 8), np.frombuffer(last, np.bool_)


def collect(
    maze: str | Maze, steps: int, seed: int = 0, noise: float = NOISE, progress: bool = True
) -> dict[str, NDArray[np.generic]]:
    """One continuous run of `steps` env steps between random goals, as D4RL's eight arrays.

    Args:
        maze: layout name, text maze or `Maze`.
        steps: N, env steps of 0.01 s.
        seed: of the whole run; the same seed gives the same data, a longer run starts with the shorter one.
        noise: standard deviation of the Gaussian action noise; the stored action includes it, clipped to
            [-1, 1].
        progress: show a progress bar with the time left.

    Returns:
        `observations` (N, 4) x, y (m), vx, vy (m/s) before the action; `actions` (N, 2); `rewards` (N,) 1
        where `observations[t]` is within 0.5 m of the layout's fixed goal (exp(-distance) if the name says
        dense); `terminals` (N,) all False; `timeouts` (N,) True where the controller reached its goal (or
        used up the episode steps) and the goal changes after the row; `infos/goal` (N, 2) the goal it was
        heading for, m; `infos/qpos`, `infos/qvel` (N, 2). All float32 or bool.

    Raises:
        ValueError: for an unknown maze, steps below 1, negative noise, or a maze with parts out of reach.
    """
    maze, reward = resolve(maze)
    if steps < 1 or not 0 <= noise < float("inf"):
        raise ValueError(f"got steps={steps}, noise={noise}; expected steps >= 1 and a finite noise >= 0")
    GridPaths(maze).check_connected()
    stream = _Stream(maze, seed, noise)
    rows = np.empty((steps, 8), dtype=np.float32)
    timeouts = np.zeros(steps, dtype=np.bool_)
    name = f"maze2d {maze.name}"
    with tqdm(total=steps, desc=name, unit="step", unit_scale=True, disable=not progress) as bar:
        for start in range(0, steps, _BLOCK):
            end = min(start + _BLOCK, steps)
            rows[start:end], timeouts[start:end] = stream.rows(end - start)
            bar.update(end - start)
    to_goal = np.linalg.norm(rows[:, :2] - np.asarray(maze.goal, dtype=np.float32), axis=1)
    return {
        "observations": rows[:, :4],
        "actions": rows[:, 4:6],
        "rewards": np.exp(-to_goal) if reward == "dense" else (to_goal <= GOAL_RADIUS).astype(np.float32),
        "terminals": np.zeros(steps, dtype=np.bool_),
        "timeouts": timeouts,
        "infos/goal": rows[:, 6:8],
        "infos/qpos": rows[:, :2],
        "infos/qvel": rows[:, 2:4],
    }


def generate(
    name: str | Maze,
    path: str | os.PathLike[str],
    steps: int | None = None,
    seed: int = 0,
    *,
    noise: float = NOISE,
    progress: bool = True,
) -> Path:
    """Write a data set in D4RL's HDF5 layout; the file appears whole or not at all.

    Args:
        name: layout name (`large`, `maze2d-large-v1`), text maze or `Maze`.
        path: of the HDF5 file; its folder is made.
        steps: env steps; None means D4RL's size: 1, 2, 4 million for umaze, medium, large (and eval layouts).
        seed: of the run.
        noise: see `collect`.
        progress: see `collect`.

    Returns:
        the path written.

    Raises:
        ValueError: see `collect`; also if steps is None for a text maze, which has no usual size.
    """
    from dfplan.data.formats.hdf5_write import new_hdf5

    maze, target = get_maze(name), Path(path)
    steps = DATA_STEPS.get(maze.name.removesuffix("-eval")) if steps is None else steps
    if steps is None:
        raise ValueError(f"maze '{maze.name}' has no usual data size; give steps=..., e.g. steps=1_000_000")
    data = collect(name, steps, seed, noise, progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with new_hdf5(partial) as (file, check):
            file.attrs.update(
                {"generator": "dfplan", "version": version("dfplan"), "seed": seed, "noise": noise, "dt": DT}
            )
            file.attrs["maze"] = maze.text
            for key, values in data.items():
                file.create_dataset(key, data=values, compression="gzip")
                check()
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
