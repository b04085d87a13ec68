from __future__ import annotations

import numpy as np
import pytest

from dfplan.envs import MAZES, Maze, get_maze
from dfplan.envs.mazes import d4rl_names, parse_name, resolve

# D4RL `pointmaze/__init__.py`: steps, goal, sparse refs, number of free cells.
D4RL = {
    "umaze": (300, (1, 1), (23.85, 161.86), 7),
    "medium": (600, (6, 6), (13.13, 277.39), 26),
    "large": (800, (7, 9), (6.7, 273.99), 46),
    "umaze-eval": (300, (1, 3), (36.63, 141.4), 7),
    "medium-eval": (600, (1, 6), (13.07, 204.93), 26),
    "large-eval": (800, (1, 9), (16.4, 302.22), 47),
}


@pytest.mark.parametrize("name", D4RL)
def test_layouts_are_those_of_d4rl(name: str) -> None:
    maze, (steps, goal, refs, free) = MAZES[name], D4RL[name]
    assert (maze.episode_steps, maze.goal, maze.sparse_refs) == (steps, goal, refs)
    assert maze.free_cells[-1] == goal and list(maze.free_cells[:-1]) == sorted(maze.free_cells[:-1])
    assert maze.is_free(*goal) and not maze.is_free(0, 0) and not maze.is_free(-1, 1)
    assert maze.dense_refs is not None and maze.dense_refs[0] < maze.dense_refs[1]
    assert len(maze.free_cells) == free == maze.text.count("O") + 1


def test_normalized_score_is_linear_between_the_references() -> None:
    large = MAZES["large"]
    assert large.normalized_score(6.7) == 0.0
    assert large.normalized_score(273.99) == 1.0
    assert large.normalized_score((6.7 + 273.99) / 2) == pytest.approx(0.5)
    assert MAZES["umaze"].normalized_score(193.66285642381482, "dense") == 1.0
    with pytest.raises(ValueError, match=r"no reference returns for the sparse reward.*raw return"):
        get_maze("####\n#OO#\n####").normalized_score(1.0)


@pytest.mark.parametrize(
    ("name", "layout", "reward"),
    [
        ("maze2d-large-v1", "large", None),
        ("maze2d-large", "large", None),
        ("large", "large", None),
        ("MAZE2D-UMaze-v1", "umaze", None),
        ("maze2d-large-dense-v1", "large", "dense"),
        ("maze2d-umaze-sparse-v1", "umaze", "sparse"),
        ("maze2d-eval-large-v1", "large-eval", None),
        ("maze2d-eval-medium-dense-v1", "medium-eval", "dense"),
        ("umaze-eval", "umaze-eval", None),
    ],
)
def test_names(name: str, layout: str, reward: str | None) -> None:
    assert parse_name(name) == (MAZES[layout], reward)


def test_every_d4rl_name_is_known() -> None:
    assert len({parse_name(name) for name in d4rl_names()}) == 12


def test_text_mazes() -> None:
    lines = get_maze("  #####\n  #OGO#\n  #####\n")
    assert lines == get_maze(r"#####\#OGO#\#####")
    assert lines.shape == (3, 5) and lines.goal == (1, 2) and lines.free_cells == ((1, 1), (1, 3), (1, 2))
    assert get_maze("####\n#OO#\n####").goal == (1, 1)
    assert resolve(MAZES["large"].text) == (MAZES["large"], None)
    assert get_maze(lines) is lines


@pytest.mark.parametrize(
    ("maze", "message"),
    [
        ("maze2d-lrage-v1", r"got maze name 'maze2d-lrage-v1'.*did you mean 'maze2d-large-v1'"),
        ("hallway", r"expected one of umaze, medium, large"),
        ("maze2d-large-v0", r"version v0.*use 'maze2d-large-v1'"),
        ("####\n#O#\n####", r"row 1 '#O#' has 3 cells, row 0 has 4"),
        ("####\n#OX#\n####", r"got \['X'\] in row 1"),
        ("####\n#OO#\n#O##", r"border is open"),
        ("####\nOOO#\n####", r"border is open"),
        ("####\n####", r"no free cell"),
        ("####\n#GG#\n####", r"got 2 goal cells"),
        (7, r"maze of type int"),
    ],
)
def test_bad_mazes(maze: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_maze(maze)  # type: ignore[arg-type]


def test_bad_episode_steps() -> None:
    with pytest.raises(ValueError, match=r"episode_steps=0, expected >= 1"):
        Maze("text", "###\n#O#\n###", episode_steps=0)


def test_cells_of_positions() -> None:
    umaze = MAZES["umaze"]
    assert umaze.cell_at(1.0, 1.4) == (1, 1)
    assert umaze.ball_cell(1.0, 1.4) == (1, 2)
    # Rounds into the border, but the ball itself is in the free cell beside it.
    assert umaze.cell_at(0.45, 1.0) == (1, 1) == umaze.ball_cell(0.45, 1.0)
    for point in [(2.0, 1.0), (-5.0, 1.0), (1.0, 99.0)]:
        with pytest.raises(ValueError, match="in a wall or outside"):
            umaze.cell_at(*point)


def test_free_cells_are_one_piece_in_every_layout() -> None:
    for maze in MAZES.values():
        grid = np.array([[tile != "#" for tile in row] for row in maze.rows])
        seen = np.zeros_like(grid)
        seen[maze.goal] = True
        for _ in range(grid.size):
            grown = seen.copy()
            grown[1:] |= seen[:-1]
            grown[:-1] |= seen[1:]
            grown[:, 1:] |= seen[:, :-1]
            grown[:, :-1] |= seen[:, 1:]
            seen = grown & grid
        assert (seen == grid).all(), maze.name
