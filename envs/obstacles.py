"""Unseen obstacles on the way through a maze: balls that no demonstration knew, drawn by the episode's seed.

They are not solid: the physics stay those of the maze, and `info["collided"]` says whether the robot has touched one.
Where they stand, a robot of twice the size still gets from the cell of the start to that of the goal: through a gap beside
them, or another way round.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import one_of

from .ball import RADIUS
from .mazes import OFFSET
from .render import BALL, FREE, GOAL, WALL, Image, disc

Array = NDArray[np.float64]
Node = tuple[int, int]
Kind = Literal["beside", "across"]
KINDS = ("beside", "across")
FINE = 20  # nodes a cell, of the grid that says whether a way is left
TRIES, STARTS = 60, 50
PIXELS, OBSTACLE = 32, (213, 94, 0)
"""A cell's, and the colour of a ball, of a picture."""
BODY = "pointbody"
"""What OGBench calls its point robot's body."""


@dataclass(frozen=True)
class Room:
    """A maze as a round robot meets it.

    Attributes:
        walls: (R, C) True where a wall is.
        cell: side of a cell (unit of positions).
        origin: (2,) position of the centre of cell (0, 0).
        robot: its radius.
    """

    walls: NDArray[np.bool_]
    cell: float
    origin: tuple[float, float]
    robot: float

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> Room:
        """The room of an environment.

        Raises:
            ValueError: it is not a maze.
        """
        bare: Any = env.unwrapped
        if hasattr(bare, "maze"):
            walls = np.array([[tile == "#" for tile in row] for row in bare.maze.rows])
            return cls(walls, 1.0, (-OFFSET, -OFFSET), RADIUS)
        if hasattr(bare, "maze_map") and BODY in [bare.model.geom(i).name for i in range(bare.model.ngeom)]:
            (x, y), (right, _) = bare.ij_to_xy((0, 0)), bare.ij_to_xy((0, 1))  # OGBench: rows run along y
            return cls(bare.maze_map.T == 1, right - x, (x, y), float(bare.model.geom(BODY).size[0]))
        raise ValueError(f"got {type(bare).__name__}, which is no maze; leave obstacles out")

    def place(self, nodes: ArrayLike, fine: int = 1) -> Array:
        """Nodes (..., 2) of a grid of `fine` nodes a cell -> positions (..., 2) of their centres."""
        return ((np.asarray(nodes) + 0.5) / fine - 0.5) * self.cell + np.asarray(self.origin)

    def node(self, place: ArrayLike, fine: int = 1) -> Node:
        """The node that a position is in."""
        cells = (np.asarray(place, np.float64) - np.asarray(self.origin)) / self.cell + 0.5
        row, column = np.floor(cells * fine).astype(int).tolist()
        return row, column

    @cached_property
    def clearance(self) -> Array:
        """(R * FINE, C * FINE) distance from each fine node to the nearest wall of the cells around; 0 inside walls."""
        side = (np.arange(FINE) + 0.5) / FINE
        low, high = np.meshgrid(side, side, indexing="ij")
        out = np.full([n * FINE for n in self.walls.shape], np.inf)
        for (r, c), wall in np.ndenumerate(self.walls):
            own = out[r * FINE : (r + 1) * FINE, c * FINE : (c + 1) * FINE]
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    inside = 0 <= r + i < len(self.walls) and 0 <= c + j < self.walls.shape[1]
                    if wall or not inside or self.walls[r + i, c + j]:
                        x, y = [np.maximum(np.maximum(k - p, p - k - 1), 0) for k, p in ((i, low), (j, high))]
                        np.minimum(own, np.hypot(x, y) * (0 if wall else self.cell), out=own)
        return out

    @cached_property
    def grid(self) -> Array:
        """(R * FINE, C * FINE, 2) positions of the fine nodes."""
        return self.place(np.moveaxis(np.indices(self.clearance.shape), 0, -1), FINE)

    def free(self, balls: Array, spare: float = 1.0) -> NDArray[np.bool_]:
        """(R * FINE, C * FINE) where a robot of `spare` times the size touches neither walls nor balls (N, 3)."""
        away = [np.linalg.norm(self.grid - b[:2], axis=-1) - b[2] for b in balls]
        return np.asarray(np.minimum.reduce([self.clearance, *away]) > spare * self.robot)

    def passable(self, start: ArrayLike, goal: ArrayLike, balls: Array, spare: float = 1.0) -> bool:
        """Whether there is a `way` from the centre of the start's cell to that of the goal's."""
        from scipy.ndimage import label  # half a second that pictures do not need

        parts = label(self.free(balls, spare))[0]
        begin, end = (parts[self.node(self.place(self.node(p)), FINE)] for p in (start, goal))
        return bool(begin == end > 0)

    def way(self, start: ArrayLike, goal: ArrayLike, balls: Array, spare: float = 1.0) -> Array | None:
        """Points (n, 2) of a way on which a robot of `spare` times the size touches neither walls nor balls, or None.

        Args:
            start: (2,).
            goal: (2,).
            balls: (N, 3) centre and radius of each.
            spare: how much larger than it is.
        """
        found = search(self.free(balls, spare), self.node(start, FINE), self.node(goal, FINE))
        return None if found is None else np.array([start, *self.place(found, FINE)[1:-1], goal], np.float64)


def search(free: NDArray[np.bool_], start: Node, goal: Node) -> list[Node] | None:
    """Nodes of a shortest way over the free ones, from start to goal (breadth first), or None."""
    before: dict[Node, Node] = {start: start}
    queue = deque([start])
    while queue and goal not in before:
        r, c = queue.popleft()
        for node in ((r, c - 1), (r, c + 1), (r - 1, c), (r + 1, c)):
            if node not in before and free[node]:
                before[node] = (r, c)
                queue.append(node)
    if goal not in before:
        return None
    found = [goal]
    while found[-1] != start:
        found.append(before[found[-1]])
    return found[::-1]


def usual_way(room: Room, start: ArrayLike, goal: ArrayLike) -> Array:
    """Points (n, 2) of the shortest way through the centres of cells."""
    cells = search(~room.walls, room.node(start), room.node(goal)) or []
    return (
        np.array([start, *room.place(cells)[1:-1], goal], np.float64)
        if len(cells) > 1
        else np.stack([start, goal])
    )


def touched(path: ArrayLike, balls: Array, robot: float) -> NDArray[np.bool_]:
    """Whether a robot on the path (H, 2), straight between its points, touches each of the balls (N, 3): (N,)."""
    points = np.asarray(path, np.float64)
    a, along = points[:-1], np.diff(points, axis=0)
    to = balls[:, None, :2] - a
    part = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0, 1)
    return (np.linalg.norm(to - part[..., None] * along, axis=-1) < balls[:, 2:] + robot).any(1)


def draw(
    room: Room, start: ArrayLike, goal: ArrayLike, count: int, kind: Kind, rng: np.random.Generator
) -> Array | None:
    """Balls (N, 3), centre and radius, on the usual way from start to goal; None where that many do not fit.

    The usual way leads through every one; they stay two robots' sizes away from start and goal and from the others.

    Args:
        room: the maze.
        start: (2,).
        goal: (2,).
        count: N.
        kind: `beside`: of 1.5 to 2.5 times the robot's radius, up to that far off the way; `across`: as wide as a cell
            and in its middle, so that nothing gets past it there.
        rng: draws them.
    """
    way, balls = usual_way(room, start, goal), np.zeros((0, 3))
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    spare = 4 * room.robot
    for _ in range(TRIES * count):
        if len(balls) == count:
            break
        if kind == "across":
            if len(way) < 5:
                return None
            center, radius = way[rng.integers(2, len(way) - 2)], room.cell / 2
        else:
            at = rng.uniform(0, lengths[-1])
            radius = float(room.robot * rng.uniform(1.5, 2.5))
            center = np.array([np.interp(at, lengths, column) for column in way.T])
            center = center + rng.uniform(-1, 1, 2) * radius
        ball = np.append(center, radius)[None]
        others = np.concatenate([np.stack([np.append(start, 0.0), np.append(goal, 0.0)]), balls])
        near = np.linalg.norm(others[:, :2] - center, axis=1) - others[:, 2] - radius
        on_it = touched(way, ball, 0.0).all()
        more = np.concatenate([balls, ball])
        if on_it and near.min() >= spare and room.passable(start, goal, more, spare=2.0):
            balls = more
    return balls if len(balls) == count else None


class Obstacles(gym.Wrapper[Any, Any, Any, Any]):
    """A maze with `count` unseen balls on the way of each episode; they are not solid.

    `info["obstacles"]` (N, 3) says where they are, centre and radius; `info["collided"]` whether the way driven so far,
    straight between env steps, touches one. A start with no room for them on its way is drawn again.

    Args:
        env: the maze.
        count: N.
        kind: see `draw`.
    """

    def __init__(self, env: gym.Env[Any, Any], count: int, kind: Kind = "beside") -> None:
        super().__init__(env)
        if count < 1:
            raise ValueError(f"got obstacles={count}, expected 1 or more")
        one_of("kind", kind, KINDS)
        self.count, self.kind, self.room = count, kind, Room.of(env)
        self._balls, self._collided = np.zeros((0, 3)), False
        self._at, self._goal = np.zeros(2), np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode.

        Raises:
            ValueError: no start leaves room for the obstacles.
        """
        rng = np.random.default_rng(seed)
        for _ in range(STARTS):
            observation, info = self.env.reset(seed=seed, options=options)
            seed, self._at = int(rng.integers(2**31)), np.asarray(observation[:2], np.float64)
            self._goal = np.asarray(info["goal"][:2], np.float64)
            found = draw(self.room, self._at, self._goal, self.count, self.kind, rng)
            if found is not None:
                self._balls, self._collided = found, False
                return observation, self._told(info)
        raise ValueError(
            f"no room for {self.count} obstacles '{self.kind}' on the way of {STARTS} starts; take fewer, or another start"
        )

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One env step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        place = np.asarray(observation[:2], np.float64)
        self._collided |= bool(touched(np.stack([self._at, place]), self._balls, self.room.robot).any())
        self._at = place
        return observation, reward, terminated, truncated, self._told(info)

    def render(self) -> Image:
        """Picture (h, w, 3) uint8 from above, x downwards: walls, goal, balls, and the robot; no OpenGL."""
        colours = np.where(self.room.walls[..., None], np.array(WALL), np.array(FREE)).astype(np.uint8)
        image = colours.repeat(PIXELS, 0).repeat(PIXELS, 1)
        marks = [(self._goal, self.room.cell / 8, GOAL), *((b[:2], b[2], OBSTACLE) for b in self._balls)]
        for place, radius, colour in (*marks, (self._at, self.room.robot, BALL)):
            row, column = ((place - self.room.origin) / self.room.cell + 0.5) * PIXELS
            disc(image, float(row), float(column), float(radius) / self.room.cell * PIXELS, colour)
        return image

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        return info | {"obstacles": self._balls.copy(), "collided": self._collided}
