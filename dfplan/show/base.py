"""What every picture shares: colours, the maze, checks of what is drawn, and saving."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.tools.errors import new_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
WALL, FREE, INK = "#464a52", "#ffffff", "#22252a"
# Okabe and Ito's palette, told apart with any colour vision.
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
OFFSET = -0.2
SUFFIXES = (".png", ".pdf", ".svg")
# Of a wall that encloses the maze, this much is shown (m): the rest says nothing.
_BORDER = 0.3


def ramp(name: str, low: float, high: float) -> Colormap:
    """Part of a named colour map, without the ends that vanish on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(low, high, 256)))


def time_ramp() -> Colormap:
    """Colours from now (dark violet) to the end of the plan (light green)."""
    return ramp("viridis", 0.0, 0.88)


def level_ramp() -> Colormap:
    """Colours from a clean token (dark blue) to noise (amber)."""
    return ramp("plasma", 0.0, 0.85)


def new_figure(width: float, height: float, dpi: float = 100, layout: str | None = "constrained") -> Figure:
    """A figure of its own (inches) on the Agg canvas, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Two thin spines and small grey ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9aa0a8")
    axes.tick_params(colors="#555a62", labelsize=9, length=3)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(10)


def headed(axes: Axes, title: str) -> None:
    """What a panel shows, above it."""
    axes.set_title(title, color=INK, fontsize=10, fontweight="bold", loc="left")


def check_walls(walls: ArrayLike) -> NDArray[np.bool_]:
    """(R, C) bool, of at least one cell."""
    cells = np.asarray(walls)
    if cells.ndim != 2 or cells.dtype != np.bool_ or not cells.size:
        raise ValueError(
            f"got walls of shape {cells.shape} and type {cells.dtype}, expected (R, C) bool, True for walls; "
            "for rows of text use [[tile == '#' for tile in row] for row in rows]"
        )
    return cells


def check_place(name: str, value: ArrayLike) -> Array:
    """(2,) finite numbers, m."""
    place = np.asarray(value, np.float64)
    if place.shape != (2,) or not np.isfinite(place).all():
        raise ValueError(
            f"got {name} {place.tolist()}, expected two finite numbers (x, y) in m; pass the position alone"
        )
    return place


def check_path(name: str, value: ArrayLike) -> Array:
    """(H, 2), finite: the positions of a path (H, O) whose first two columns are x, y in m."""
    path = np.asarray(value, np.float64)
    if path.ndim != 2 or path.shape[0] < 1 or path.shape[1] < 2:
        raise ValueError(f"got {name} of shape {path.shape}, expected (H, O) whose columns begin with x, y")
    if not np.isfinite(path[:, :2]).all():
        step = int(np.argwhere(~np.isfinite(path[:, :2]))[0, 0])
        raise ValueError(
            f"{name}[{step}] is {path[step, :2]}, expected finite numbers; cut the path before it"
        )
    return path[:, :2]


def draw_maze(axes: Axes, walls: ArrayLike, offset: float = OFFSET, unit: str = "m") -> None:
    """Draw walls with x (rows) downwards and y (columns) to the right, as the maze's text reads.

    Args:
        axes: where to draw; it gets equal scales, ticks at whole numbers, names, and limits that fit the maze.
        walls: (R, C) bool, True where a wall is.
        offset: position of a cell's centre minus its (row, column).
        unit: of positions, in which a cell is 1 wide.

    Raises:
        ValueError: if `walls` is not (R, C) bool, or `offset` is not finite.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    cells = check_walls(walls)
    if not np.isfinite(offset):
        raise ValueError(f"got offset={offset}, expected a finite number, such as {OFFSET}")
    first, cut = offset - 0.5, _cut(cells)
    bottom, right = first + cells.shape[0], first + cells.shape[1]
    colours, extent = ListedColormap([FREE, WALL]), (first, right, bottom, first)
    axes.imshow(cells, cmap=colours, vmin=0, vmax=1, extent=extent, interpolation="nearest", zorder=0)
    axes.set(xlim=(first + cut, right - cut), ylim=(bottom - cut, first + cut), aspect="equal")
    axes.set(xlabel=f"y, {unit}", ylabel=f"x, {unit}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    plain(axes)
    axes.spines[:].set_visible(False)


def draw_balls(axes: Axes, balls: Sequence[Sequence[float]]) -> None:
    """Draw balls (x, y, radius), m, and name them in the legend."""
    from matplotlib.patches import Circle

    for i, (x, y, radius) in enumerate(balls):
        label = "obstacle" if i == 0 else "_"
        axes.add_patch(Circle((y, x), radius, color=VERMILLION, alpha=0.75, lw=0, zorder=3, label=label))


def maze_size(walls: ArrayLike) -> tuple[float, float]:
    """Width and height, m, of what `draw_maze` shows."""
    cells = check_walls(walls)
    return cells.shape[1] - 2 * _cut(cells), cells.shape[0] - 2 * _cut(cells)


def _cut(cells: NDArray[np.bool_]) -> float:
    closed = cells[[0, -1]].all() and cells[:, [0, -1]].all() and min(cells.shape) > 2
    return 1 - _BORDER if closed else 0.0


def mark(axes: Axes, place: Array, kind: str, scale: float = 1.0) -> Any:
    """Mark a start (ring) or a goal (star) at (x, y), m."""
    shape, size, colour = {"start": ("o", 70, "white"), "goal": ("*", 300, VERMILLION)}[kind]
    edge = INK if kind == "start" else "white"
    return axes.scatter(
        [place[1]], [place[0]], s=size * scale, marker=shape, c=colour, edgecolors=edge,
        linewidths=1.8 if kind == "start" else 1.2, zorder=8, label=kind,
    )  # fmt: skip


def picture(path: str | Path) -> Path:
    """The path, if `save` can write a figure there.

    Raises:
        ValueError: for a suffix other than .png, .pdf, .svg, or a folder that is a file.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"got '{path.name}', expected a name that ends in one of {', '.join(SUFFIXES)}")
    return new_place(path)


def save(figure: Figure, path: str | Path, dpi: float = 150) -> Path:
    """Write a figure, whole or not at all; the kind of file follows from the suffix.

    Raises:
        ValueError: see `picture`.
    """
    path = picture(path)
    with whole(path) as part:
        figure.savefig(part, dpi=dpi, format=path.suffix[1:].lower())
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes the name once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
