"""D4RL's waypoint controller for Maze2D in plain floats (source: D4RL `waypoint_controller.py`).

Shortest grid path, each waypoint but the last shifted by -U(0, 0.2) m per axis, and PD control towards it.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .mazes import OFFSET, Cell, Maze, get_maze

# D4RL's tie order between equally short ways, as (row, column) moves.
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
P_GAIN, D_GAIN = 10.0, 1.0
REACHED, WAYPOINT_SHIFT = 0.1, 0.2

Point = tuple[float, float]


class GridPaths:
    """Shortest ways between cells, one breadth-first search per goal cell, kept."""

    def __init__(self, maze: str | Maze) -> None:
        """Remember the maze, its name or its text; nothing is searched yet."""
        self.maze = get_maze(maze)
        self._distances: dict[Cell, dict[Cell, int]] = {}

    def distances(self, goal: Cell) -> dict[Cell, int]:
        """Number of moves to the goal from each cell that can reach it.

        Raises:
            ValueError: if the goal is not a free cell.
        """
        if goal not in self._distances:
            if not self.maze.is_free(*goal):
                raise ValueError(f"maze '{self.maze.name}': got goal cell {goal}, expected a free cell")
            found, queue = {goal: 0}, deque([goal])
            while queue:
                r, c = queue.popleft()
                for dr, dc in MOVES:
                    cell = (r + dr, c + dc)
                    if cell not in found and self.maze.is_free(*cell):
                        found[cell] = found[(r, c)] + 1
                        queue.append(cell)
            self._distances[goal] = found
        return self._distances[goal]

    def check_connected(self) -> None:
        """Raise ValueError where some free cell cannot be reached from another; says which."""
        cells = self.maze.free_cells
        near = self.distances(cells[0])
        if away := [cell for cell in cells if cell not in near]:
            raise ValueError(
                f"maze '{self.maze.name}': got {len(away)} of {len(cells)} free cells out of reach of {cells[0]}, such as "
                f"{away[0]} (row, column from 0), expected none; open a wall between them, or close them"
            )

    def longest(self, most: int) -> tuple[Cell, Cell]:
        """The two free cells that are furthest apart.

        Args:
            most: moves between them that are allowed.

        Raises:
            ValueError: there is one free cell, not all are connected, or they are further apart.
        """
        self.check_connected()
        maze, cells = self.maze, self.maze.free_cells
        if len(cells) < 2:
            raise ValueError(f"maze '{maze.name}': got 1 free cell, expected 2 or more; open a wall")
        near = self.distances(cells[0])
        starts = cells if max(near.values()) <= most else cells[:1]  # else it is long enough already
        moves, start = max((max(self.distances(cell).values()), cell) for cell in starts)
        goal = self.farthest(start)
        if moves > most:
            raise ValueError(
                f"maze '{maze.name}': got a way of {moves} cells from {start} to {goal}, expected {most} at most; open a "
                "shorter one, or take a part of the maze"
            )
        return start, goal

    def farthest(self, cell: Cell) -> Cell:
        """The free cell that is furthest from another, of those with a way there."""
        distances = self.distances(cell)
        return max(distances, key=lambda other: distances[other])

    def path(self, x: float, y: float, goal: Cell) -> list[Cell]:
        """Cells after the one at (x, y) up to the goal, by D4RL's tie order; [goal] if already there.

        D4RL rounds the position, which near a wall may name the wall's cell: it then leaves by the best side.

        Raises:
            ValueError: if no way leads from there to the goal.
        """
        distances = self.distances(goal)
        far = len(distances)
        inside = (round(x + OFFSET), round(y + OFFSET))
        if inside not in distances:
            raise ValueError(f"maze '{self.maze.name}': no way from ({x:g}, {y:g}) to goal cell {goal}")
        cell = (round(x), round(y))
        if cell not in distances and all((cell[0] + r, cell[1] + c) not in distances for r, c in MOVES):
            cell = inside
        path: list[Cell] = []
        while cell != goal:
            around = [(cell[0] + r, cell[1] + c) for r, c in MOVES]
            cell = min(around, key=lambda near: distances.get(near, far))
            path.append(cell)
        return path or [goal]

    def way(self, start: Point, goal: Point) -> NDArray[np.float64]:
        """Points (n, 2) of a shortest way: the start, the centres of the cells between, the goal, m.

        Raises:
            ValueError: if either is in a wall, or no way leads from one to the other.
        """
        cells = self.path(*start, self.maze.cell_at(*goal))[:-1]
        return np.array([start, *((r - OFFSET, c - OFFSET) for r, c in cells), goal], np.float64)


class WaypointController:
    """D4RL's controller in plain floats; `head_for` a cell, then `control` once per env step."""

    def __init__(self, paths: GridPaths, rng: np.random.Generator) -> None:
        """Share the paths of a maze; `rng` draws the shifts of the waypoints."""
        self._paths, self._rng = paths, rng
        self._cell: Cell | None = None
        self._goal: Point = (0.0, 0.0)
        self._waypoints: list[Point] = []
        self._next = 0
        self._previous: Point = (0.0, 0.0)

    def head_for(self, x: float, y: float, goal: Point) -> None:
        """Set the goal. A goal in the same cell as before changes nothing (as in D4RL).

        Raises:
            ValueError: if the goal is not in a free cell or cannot be reached.
        """
        cell = self._paths.maze.cell_at(*goal)
        if cell == self._cell:
            return
        path = self._paths.path(x, y, cell)
        shifts = (self._rng.random((len(path) - 1, 2)) * WAYPOINT_SHIFT).tolist()
        self._waypoints = [(p[0] - s[0], p[1] - s[1]) for p, s in zip(path[:-1], shifts, strict=True)]
        self._waypoints.append((float(cell[0]), float(cell[1])))
        self._cell, self._goal, self._next = cell, self._waypoints[-1], 0
        self._previous = (float(round(x)), float(round(y)))

    def control(self, x: float, y: float, vx: float, vy: float) -> tuple[float, float, bool]:
        """Command in [-1, 1] per axis at a state (m, m/s), and whether the goal cell is reached."""
        (px, py), (gx, gy) = self._previous, self._goal
        self._previous = (x, y)
        slow = (px - x) ** 2 + (py - y) ** 2 < REACHED * REACHED
        solved = slow and (gx - x) ** 2 + (gy - y) ** 2 < REACHED * REACHED
        if not solved:
            gx, gy = self._waypoints[self._next]
        dx, dy = gx - x, gy - y
        if slow and not solved and dx * dx + dy * dy < REACHED * REACHED:
            self._next += 1
        ax, ay = P_GAIN * dx - D_GAIN * vx, P_GAIN * dy - D_GAIN * vy
        return min(1.0, max(-1.0, ax)), min(1.0, max(-1.0, ay)), solved
