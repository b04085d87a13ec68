"""OGBench's point mazes (Park et al. 2025, arXiv 2410.20092): its own environments, seeded, and its recipe for their data.

A ball is moved by up to 0.2 along each axis in an env step (0.1 s); a maze cell is 4 wide, the ball's radius 0.7. An
episode ends at the goal (within 1.0) or after 1,000 env steps. Five tasks name the cells of start and goal; both are
shifted by up to 1 along each axis. `navigate` data are long runs between random goals, `stitch` data short ones to goals
four cells away, so that a task has to be put together from several.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes
from dfplan.data.files import refuse_existing
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.progress import progress as progress_bar

Array = NDArray[np.float64]
Cell = tuple[int, int]
TASKS = 5
NOISE, FAR = 0.5, 4
PART = 100
"""Env steps of the parts that runs are trained on in: a window that never holds the end of a run teaches no early arrival."""


@dataclass(frozen=True)
class Recipe:
    """How a data set is made.

    Attributes:
        env: Gymnasium id of the maze.
        far: cells from start to goal; 0: any crossing or dead end, and a new one whenever the goal is reached.
        episodes: how many.
        steps: env steps of each.
    """

    env: str
    far: int
    episodes: int
    steps: int


def _recipe(size: str, kind: str) -> Recipe:
    if kind == "stitch":
        return Recipe(f"pointmaze-{size}-v0", FAR, 5000, 201)
    return Recipe(f"pointmaze-{size}-v0", 0, *((500, 2001) if size == "giant" else (1000, 1001)))


POINT_MAZES: Mapping[str, Recipe] = {
    f"pointmaze-{size}-{kind}": _recipe(size, kind)
    for kind in ("stitch", "navigate")
    for size in ("medium", "large", "giant")
}
"""Task -> recipe of its data."""


class PointMaze(gym.Wrapper[Any, Any, Any, Any]):
    """The stock environment, in which a seed gives start, goal and one of the five tasks.

    `info["task"]` is the number of the task, 1 to 5: that of the seed, in turn, or `options["task_id"]`. As in Maze2D,
    `options["qpos"]` and `options["goal"]` (2,) are start and goal, taken exactly.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode.

        Raises:
            ValueError: a start or goal that is not two finite numbers in free space.
        """
        options, bare = dict(options or {}), cast(Any, self.env.unwrapped)
        exact = {name: self._free(name, options.pop(name)) for name in ("qpos", "goal") if name in options}
        options.pop("qvel", None)  # it has none
        if seed is not None:
            options.setdefault("task_id", 1 + seed % TASKS)
        with _numpy_seeded(seed):  # OGBench draws its shifts from numpy's global stream
            observation, info = self.env.reset(seed=seed, options=options)
        if "qpos" in exact:
            bare.set_xy(exact["qpos"])
            observation = bare.get_ob()
        if "goal" in exact:
            bare.set_goal(goal_xy=exact["goal"])
            info |= {"goal": exact["goal"]}
        return observation, info | {"task": bare.cur_task_id}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One env step; the goal is told again."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        goal = np.array(cast(Any, self.env.unwrapped).cur_goal_xy, np.float64)
        return observation, reward, terminated, truncated, info | {"goal": goal}

    def _free(self, name: str, value: Any) -> Array:
        place, walls = np.asarray(value, np.float64), cast(Any, self.env.unwrapped).maze_map
        if place.shape == (2,) and np.isfinite(place).all():
            row, column = cast(Any, self.env.unwrapped).xy_to_ij(place)
            if 0 <= row < len(walls) and 0 <= column < walls.shape[1] and not walls[row, column]:
                return place
        raise ValueError(
            f"got {name} {value!r}, expected two finite numbers in free space, such as (0.0, 0.0)"
        )


def make_point_maze(name: str, **kwargs: Any) -> PointMaze:
    """A point maze by the name of a task.

    Raises:
        ImportError: without OGBench, with the line that installs it.
    """
    optional_import("ogbench.locomaze", "ogbench")
    return PointMaze(gym.make(POINT_MAZES[one_of("point maze", name, POINT_MAZES)].env, **kwargs))


def prepare_point_maze(episodes: Episodes) -> Episodes:
    """The same runs in parts of `PART` env steps."""
    starts = np.concatenate([[0], episodes.ends[:-1]])
    cuts = [np.arange(s + PART, e, PART) for s, e in zip(starts, episodes.ends, strict=True)]
    return replace(episodes, ends=np.sort(np.concatenate([*cuts, episodes.ends])))


@contextmanager
def _numpy_seeded(seed: int | None) -> Iterator[None]:
    """Seed numpy's global stream, and put it back afterwards; None leaves it alone."""
    if seed is None:
        yield
        return
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


class _Expert:
    """Heads for the next cell of a shortest way, as the environment's own oracle says.

    Args:
        env: the maze, unwrapped.
    """

    def __init__(self, env: Any) -> None:
        self.env, self._next = env, dict[tuple[Cell, Cell], Array]()
        free = np.argwhere(env.maze_map == 0)
        self.cells: list[Cell] = [(int(i), int(j)) for i, j in free]
        self.ends = [c for c in self.cells if not self._corridor(*c)]

    def _corridor(self, i: int, j: int) -> bool:
        """Whether a cell is a straight corridor."""
        walls = self.env.maze_map == 1
        up, across = walls[[i - 1, i + 1], j], walls[i, [j - 1, j + 1]]
        return bool((not up.any() and across.all()) or (up.all() and not across.any()))

    def near(self, start: Cell, far: int) -> list[Cell]:
        """Cells so many cells from `start`; `start` where there is none."""
        _, steps = self.env.get_oracle_subgoal(self.env.ij_to_xy(start), self.env.ij_to_xy(start))
        return [c for c in self.cells if steps[c] == far] or [start]

    def direction(self) -> Array:
        """Unit vector (2,) of where to go now."""
        env, here = self.env, self.env.get_xy()
        key = (env.xy_to_ij(here), env.xy_to_ij(env.cur_goal_xy))
        if key not in self._next:
            self._next[key] = env.get_oracle_subgoal(here, env.cur_goal_xy)[0]
        ahead = self._next[key] - here
        return ahead / (np.linalg.norm(ahead) + 1e-6)


def _episode(env: Any, expert: _Expert, recipe: Recipe, seed: np.random.SeedSequence) -> tuple[Array, Array]:
    """Observations (steps, 2) and actions (steps, 2) of one run; the seed gives all of it."""
    rng = np.random.default_rng(seed)

    def draw(cells: list[Cell]) -> Cell:
        return cells[rng.integers(len(cells))]

    begin = draw(expert.cells)
    ends = expert.near(begin, recipe.far) if recipe.far else expert.ends
    with _numpy_seeded(int(rng.integers(2**32))):
        here, _ = env.reset(options={"task_info": {"init_ij": begin, "goal_ij": draw(ends)}})
        observations, actions = np.empty((recipe.steps, 2)), np.empty((recipe.steps, 2))
        for step, kick in enumerate(rng.normal(0, NOISE, (recipe.steps, 2))):
            action = np.clip(expert.direction() + kick, -1, 1)
            observations[step], actions[step] = here, action
            here, _, _, _, info = env.step(action)
            if info["success"] and not recipe.far:
                env.set_goal(goal_xy=env.add_noise(env.ij_to_xy(draw(ends))))
    return observations, actions


def generate_point_maze(
    name: str, path: str | os.PathLike[str], episodes: int | None = None, seed: int = 0
) -> Path:
    """Write a data set by OGBench's recipe: the oracle's direction, with normal noise of 0.5 on the action.

    Args:
        name: such as `pointmaze-giant-stitch`.
        path: HDF5 file, in D4RL's layout, with the training episodes alone.
        episodes: None is OGBench's number.
        seed: of the whole set; a larger one begins with the smaller one.

    Returns:
        the path written.

    Raises:
        ValueError: for an unknown name or episodes below 1.
    """
    from dfplan.data.formats.hdf5_write import new_hdf5

    recipe = POINT_MAZES[one_of("point maze", name.removesuffix("-v0"), POINT_MAZES)]
    count = recipe.episodes if episodes is None else episodes
    if count < 1:
        raise ValueError(f"got episodes={count}, expected 1 or more")
    refuse_existing(Path(path))
    env: Any = make_point_maze(name.removesuffix("-v0"), terminate_at_goal=False).unwrapped
    expert, rows = _Expert(env), []
    with progress_bar(count * recipe.steps, name, "step") as bar:
        for child in np.random.SeedSequence(seed).spawn(count):
            rows.append(_episode(env, expert, recipe, child))
            bar.update(recipe.steps)
    timeouts = np.zeros(count * recipe.steps, np.bool_)
    timeouts[recipe.steps - 1 :: recipe.steps] = True
    arrays = [np.concatenate(part).astype(np.float32) for part in zip(*rows, strict=True)]
    with new_hdf5(path) as (file, check):
        file.attrs.update({"generator": "dfplan", "version": version("dfplan"), "seed": seed, "dt": env.dt})
        for key, values in zip(("observations", "actions"), arrays, strict=True):
            file.create_dataset(key, data=values, compression="gzip")
        file.create_dataset("terminals", data=np.zeros_like(timeouts), compression="gzip")
        file.create_dataset("timeouts", data=timeouts, compression="gzip")
        check()
    return Path(path)
