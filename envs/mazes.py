"""Maze layouts of D4RL Maze2D, their episode lengths and reference returns, and mazes written as text.

Rows, goals, step limits and reference returns are those of D4RL's `pointmaze/__init__.py` and `maze_model.py`
(version v1 ids). A text maze has one row per line (or rows joined by a backslash, D4RL's own separator) of
`#` for wall, `O` or `.` for free, at most one `G` for the goal cell and one `S` for a start. x is the row index, y the
column index (m).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Literal

Cell = tuple[int, int]
Reward = Literal["sparse", "dense"]
FILE = ".txt"
"""Ending of a text maze's file."""
# A ball at qpos (r, c) sits this far, in m, beyond the centre of cell (r, c) along both axes.
OFFSET = 0.2


@dataclass(frozen=True)
class Maze:
    """One layout.

    Attributes:
        name: what it is called in messages, environment ids and file names.
        text: rows joined by newlines, of `#` (wall), `O` (free) and at most one `G` (goal).
        episode_steps: env steps after which an episode is cut.
        sparse_refs: (min, max) reference return of the sparse reward, or None where there is none.
        dense_refs: the same for the dense reward.
    """

    name: str
    text: str
    episode_steps: int = 800
    sparse_refs: tuple[float, float] | None = None
    dense_refs: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a maze.

        Raises:
            ValueError: naming the row or character, what it is and what it should be.
        """
        _check_rows(self.name, self.rows)
        if self.episode_steps < 1:
            raise ValueError(f"maze '{self.name}': got episode_steps={self.episode_steps}, expected >= 1")

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """One string per row; row index is x, position in the string is y."""
        return tuple(self.text.split("\n"))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), border included."""
        return len(self.rows), len(self.rows[0])

    @cached_property
    def free_cells(self) -> tuple[Cell, ...]:
        """Every cell that is not a wall: sorted, the `G` cell last (D4RL's order)."""
        found = [(r, c) for r, row in enumerate(self.rows) for c, tile in enumerate(row) if tile != "#"]
        return tuple(sorted(found, key=lambda cell: (self.rows[cell[0]][cell[1]] == "G", cell)))

    @cached_property
    def goal(self) -> Cell:
        """The fixed goal: the `G` cell, or the first free cell where the text has none (as in D4RL)."""
        last = self.free_cells[-1]
        return last if self.rows[last[0]][last[1]] == "G" else self.free_cells[0]

    def is_free(self, row: int, column: int) -> bool:
        """Whether the cell lies inside the maze and is not a wall."""
        rows, columns = self.shape
        return 0 <= row < rows and 0 <= column < columns and self.rows[row][column] != "#"

    def cell_at(self, x: float, y: float) -> Cell:
        """Free cell of a goal position: the rounded one (D4RL's), else the one a ball at (x, y), in m, is in.

        A ball at qpos (r, c) sits 0.2 m off the centre of cell (r, c), so the two differ near cell edges.

        Raises:
            ValueError: if both are walls.
        """
        cell = (round(x), round(y))
        return cell if self.is_free(*cell) else self.ball_cell(x, y)

    def ball_cell(self, x: float, y: float) -> Cell:
        """Free cell that the centre of a ball at qpos (x, y), m, is in.

        Raises:
            ValueError: if that is a wall.
        """
        cell = (round(x + OFFSET), round(y + OFFSET))
        if self.is_free(*cell):
            return cell
        raise ValueError(
            f"maze '{self.name}': got position ({x:g}, {y:g}), which is in a wall or outside; expected a "
            f"point of a free cell, such as {self.goal} (x is the row, y the column, in m)"
        )

    def refs(self, reward: Reward = "sparse") -> tuple[float, float] | None:
        """Reference (min, max) return of a reward kind; None where the layout has none."""
        return self.sparse_refs if reward == "sparse" else self.dense_refs

    def normalized_score(self, episode_return: float, reward: Reward = "sparse") -> float:
        """D4RL's normalised score: 0 a random policy, 1 the reference controller; papers print 100 times it.

        Args:
            episode_return: sum of rewards over one episode.
            reward: which reward was summed.

        Raises:
            ValueError: if the layout has no reference returns.
        """
        refs = self.refs(reward)
        if refs is None:
            raise ValueError(
                f"maze '{self.name}' has no reference returns for the {reward} reward, so no score; "
                f"report the raw return, or use one of {', '.join(MAZES)}"
            )
        return (episode_return - refs[0]) / (refs[1] - refs[0])


def _check_tiles(name: str, rows: Sequence[str], tiles: str) -> None:
    for index, row in enumerate(rows):
        if strange := sorted(set(row) - set(tiles)):
            expected = ", ".join(f"'{tile}'" for tile in tiles)
            raise ValueError(f"maze '{name}': got {strange} in row {index} '{row}', expected {expected}")


def _check_rows(name: str, rows: tuple[str, ...]) -> None:
    _check_tiles(name, rows, "#OG")
    width = len(rows[0])
    for index, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(
                f"maze '{name}': row {index} '{row}' has {len(row)} cells, row 0 has {width}; "
                "all rows need the same length"
            )
    ends = [rows[0], rows[-1], "".join(r[:1] for r in rows), "".join(r[-1:] for r in rows)]
    if any(set(side) != {"#"} for side in ends):
        raise ValueError(f"maze '{name}': the border is open; first and last rows and columns need '#' only")
    tiles = "".join(rows)
    if tiles.count("#") == len(tiles):
        raise ValueError(f"maze '{name}': got no free cell, expected at least one 'O' or 'G'")
    if tiles.count("G") > 1:
        raise ValueError(f"maze '{name}': got {tiles.count('G')} goal cells 'G', expected at most one")


def _maze(name: str, rows: str, steps: int, sparse: tuple[float, float], dense: tuple[float, float]) -> Maze:
    return Maze(name, rows.replace(" ", "\n"), steps, sparse, dense)


MAZES: dict[str, Maze] = {
    maze.name: maze
    for maze in (
        _maze(
            "umaze", "##### #GOO# ###O# #OOO# #####",
            300, (23.85, 161.86), (68.537689, 193.66285642381482),
        ),
        _maze(
            "medium", "######## #OO##OO# #OO#OOO# ##OOO### #OO#OOO# #O#OO#O# #OOO#OG# ########",
            600, (13.13, 277.39), (44.264742, 297.4552547777125),
        ),
        _maze(
            "large",
            "############ #OOOO#OOOOO# #O##O#O#O#O# #OOOOOO#OOO# #O####O###O# "
            "#OO#O#OOOOO# ##O#O#O#O### #OO#OOO#OGO# ############",
            800, (6.7, 273.99), (30.569041, 303.4857382709002),
        ),
        _maze(
            "umaze-eval", "##### #OOG# #O### #OOO# #####",
            300, (36.63, 141.4), (56.95455, 178.21373133248397),
        ),
        _maze(
            "medium-eval", "######## #OOOOOG# #O#O##O# #OOOO#O# ###OO### #OOOOOO# #OO##OO# ########",
            600, (13.07, 204.93), (42.28578, 235.5658957482388),
        ),
        # D4RL gives large-eval the dense minimum of umaze-eval; kept as it is, for the same scores.
        _maze(
            "large-eval",
            "############ #OO#OOO#OGO# ##O###O#O#O# #OO#O#OOOOO# #O##O#OO##O# "
            "#OOOOOO#OOO# #O##O#O#O### #OOOO#OOOOO# ############",
            800, (16.4, 302.22), (56.95455, 326.09647655082637),
        ),
    )
}  # fmt: skip

_NAME = re.compile(
    r"^(?:maze2d-)?(?:(eval)-)?(umaze|medium|large)(?:-(eval))?(?:-(sparse|dense))?(?:-v(\d+))?$"
)


def parse_name(name: str) -> tuple[Maze, Reward | None]:
    """Layout and reward kind behind a D4RL or short name.

    `maze2d-large-v1`, `maze2d-large`, `large`, `maze2d-large-dense-v1`, `maze2d-eval-large-v1`, `large-eval`.

    Returns:
        the layout, and the reward kind, None if the name says none (D4RL then means sparse).

    Raises:
        ValueError: for an unknown name, with the nearest known one, and for versions other than v1.
    """
    match = _NAME.match(name.strip().lower())
    if match is None:
        known = [*MAZES, *d4rl_names()]
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"got maze name '{name}', expected one of {', '.join(MAZES)}, a D4RL name such as "
            f"'maze2d-large-v1', a .txt file, or the maze itself as text of '#', 'O', 'G'; did you mean '{near}'?"
        )
    before, size, after, reward, version = match.groups()
    if version not in (None, "1"):
        raise ValueError(
            f"got maze name '{name}' (version v{version}), expected v1: other versions have other step "
            f"limits and reference returns; use '{name[: name.rindex('-v')]}-v1'"
        )
    layout = MAZES[f"{size}-eval" if before or after else size]
    if reward is None:
        return layout, None
    return layout, "dense" if reward == "dense" else "sparse"


def d4rl_names() -> tuple[str, ...]:
    """D4RL's own v1 environment names that `parse_name` understands."""
    kinds = ("", "-dense")
    sizes = ("umaze", "medium", "large", "eval-umaze", "eval-medium", "eval-large")
    return tuple(f"maze2d-{size}{kind}-v1" for kind in kinds for size in sizes)


def get_maze(maze: str | Maze) -> Maze:
    """The layout of `resolve`, without the reward kind."""
    return resolve(maze)[0]


def resolve(maze: str | Maze) -> tuple[Maze, Reward | None]:
    """Layout and reward kind behind a name (see `parse_name`), a file, a text maze, or a `Maze` itself.

    Args:
        maze: what ends in `.txt` is the file of a text maze, see `read_maze`; a text with `#` in it is read as the maze:
            rows one per line or joined by a backslash; blank lines and spaces around rows are dropped. It has 800
            episode steps and no reference returns, unless it is one of the known layouts.

    Raises:
        ValueError: for an unknown name or a text that is not a maze.
    """
    if isinstance(maze, Maze):
        return maze, None
    if not isinstance(maze, str):
        raise ValueError(
            f"got maze of type {type(maze).__name__}, expected a name such as 'large', a text maze, a Maze"
        )
    if maze.endswith(FILE):
        return read_maze(maze)[0], None
    if "#" not in maze and "\n" not in maze:
        return parse_name(maze)
    return _written("text", maze)[0], None


def read_maze(path: str | PathLike[str]) -> tuple[Maze, Cell | None]:
    """The maze of a text file, and the cell of its `S`, or None.

    Raises:
        ValueError: there is no such file, or what is in it is not a maze.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"got maze file '{path}', which is no file; give a text file of rows of '#' and '.'")
    try:
        return _written(file.name, file.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"got maze file '{path}', which is no text ({error}); give rows of '#' and '.'"
        ) from error


def _written(name: str, maze: str) -> tuple[Maze, Cell | None]:
    """A text maze and its start; the known layout where it is one."""
    rows = [row for line in maze.replace("\\", "\n").split("\n") if (row := line.strip())]
    if not rows:
        raise ValueError(f"maze '{name}': got no rows, expected some of '#' and '.', such as '#####'")
    _check_tiles(name, rows, "#.OGS")
    starts = [(r, c) for r, row in enumerate(rows) for c, tile in enumerate(row) if tile == "S"]
    if len(starts) > 1:
        raise ValueError(
            f"maze '{name}': got {len(starts)} starts 'S', expected at most one; write '.' there"
        )
    text = "\n".join(rows).replace(".", "O").replace("S", "O")
    known = next((layout for layout in MAZES.values() if layout.text == text), None)
    return known or Maze(name, text), starts[0] if starts else None
