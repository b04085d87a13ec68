"""Pictures of plans, schedules, denoising and training.

Positions are in m; x is the maze's row, y its column. Functions return a `Figure` of their own, without
pyplot's global state; write it with `save`. matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dfplan.show import base
from dfplan.show.base import INK, OFFSET, ORANGE, SKY, Array, check_path, check_place, draw_maze, mark, save
from dfplan.show.charts import bars_figure, curves_figure
from dfplan.show.gif import denoise_gif

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from dfplan.planner import Plan
    from dfplan.schedules import ScheduleMatrix

__all__ = [
    "bars_figure",
    "curves_figure",
    "denoise_gif",
    "draw_maze",
    "plan_figure",
    "save",
    "schedule_figure",
    "schedule_plans_figure",
]

_NOTHING = "got no schedules, expected a name and what to draw for each; pass at least one"
_TITLE: dict[str, Any] = {"color": INK, "fontsize": 12, "fontweight": "bold"}


def plan_figure(
    plan: Plan,
    walls: ArrayLike,
    goal: ArrayLike | None,
    trajectory: ArrayLike | None = None,
    title: str = "",
    offset: float = OFFSET,
    obstacles: Sequence[Sequence[float]] = (),
    unit: str = "m",
) -> Figure:
    """The chosen plan over its candidates and what was executed.

    Args:
        plan: of a planner whose first two observation channels are x, y in m.
        walls: (R, C) bool, True where a wall is.
        goal: (x, y) in m, or None for a plan without one.
        trajectory: (H, O) executed path, x, y first.
        title: line above the maze.
        offset: position, m, of a cell's centre minus its (row, column).
        obstacles: x, y, radius in m of each ball.
        unit: of all positions, where it is not m; a cell is 1 wide.

    Raises:
        ValueError: if an array has another shape or is not finite.
    """
    chosen = check_path("plan", plan.best())
    executed = None if trajectory is None else check_path("trajectory", trajectory)
    target = None if goal is None else check_place("goal", goal)
    wide, high = base.maze_size(walls)
    scale = min(8.0 / wide, 6.0 / high)
    width = max(scale * wide, 5.0)
    figure = base.new_figure(width + 1.35, scale * high + 1.2 + 0.35 * bool(title))
    axes = figure.add_subplot()
    draw_maze(axes, walls, offset, unit)
    base.draw_balls(axes, obstacles)
    _candidates(axes, plan)
    seconds = _seconds(plan)
    line = _timed(axes, chosen, plan.times, seconds)
    if executed is not None:
        axes.plot(executed[:, 1], executed[:, 0], color=INK, lw=1.5, zorder=5.5, label="executed")
    mark(axes, chosen[0], "start")
    if target is not None:
        mark(axes, target, "goal")
    bar = figure.colorbar(line, cax=axes.inset_axes((1 + 0.12 / (scale * wide), 0, 0.18 / (scale * wide), 1)))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(colors="#555a62", labelsize=9, length=3)
    bar.set_label("time in the plan, s", color=INK, fontsize=10)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(names) if width > 7 else 3, frameon=False,
        fontsize=10, labelcolor=INK, handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip
    if title:
        axes.set_title(title, **_TITLE)
    return figure


def _seconds(plan: Plan) -> Any:
    """Colours over the time of the plan up to its arrival."""
    from matplotlib.colors import Normalize

    return Normalize(0.0, max(float(plan.times[len(plan.best()) - 1]), 1e-9))


def _candidates(axes: Axes, plan: Plan, width: float = 1.3) -> None:
    """Every candidate, the infeasible ones dashed."""
    from matplotlib.collections import LineCollection

    candidates = np.asarray(plan.candidates)[..., 1::-1]
    kinds: tuple[tuple[Any, ...], ...] = (
        ("candidates", plan.feasible, SKY, "-", 0.55),
        ("infeasible", ~plan.feasible, ORANGE, (0, (4, 2)), 0.8),
    )
    for label, which, colour, dashes, alpha in kinds:
        if which.any():
            lines = LineCollection(
                list(candidates[which]), colors=colour, linewidths=width, linestyles=[dashes], alpha=alpha,
                zorder=2, label=f"{label} ({which.sum()})",
            )  # fmt: skip
            axes.add_collection(lines, autolim=False)


def _timed(axes: Axes, path: Array, times: Array, seconds: Any, size: float = 1.0, dots: bool = True) -> Any:
    """A path (H, 2) and its steps, coloured by time."""
    from matplotlib.collections import LineCollection

    points, colours = path[:, ::-1], base.time_ramp()
    pieces = list(np.stack([points[:-1], points[1:]], 1))
    axes.plot(points[:, 0], points[:, 1], color="white", lw=5.4 * size, zorder=4, solid_capstyle="round")
    line = LineCollection(pieces, cmap=colours, norm=seconds, linewidths=3.6 * size, zorder=5)
    line.set_capstyle("round")
    line.set_array(times[: len(pieces)])
    axes.add_collection(line, autolim=False)
    if dots:
        axes.scatter(
            points[:, 0], points[:, 1], c=times[: len(points)], cmap=colours, norm=seconds, s=34,
            edgecolors="white", linewidths=0.7, zorder=6,
        )  # fmt: skip
    entry: dict[str, Any] = {
        "color": colours(0.5), "lw": 3.6, "ms": 6, "mec": "white", "mew": 0.7, "label": "chosen plan",
    }  # fmt: skip
    axes.plot([], [], "o-", **entry)  # in the legend
    return line


def schedule_figure(schedules: Mapping[str, ScheduleMatrix]) -> Figure:
    """Levels over (network call, token), a heatmap for each schedule, under its number of calls.

    Raises:
        ValueError: if there is no schedule.
    """
    if not schedules:
        raise ValueError(_NOTHING)
    figure = base.new_figure(min(9.0, 1.2 + 2.4 * len(schedules)), 3.1)
    row = figure.subplots(1, len(schedules), squeeze=False)[0]
    for axes, (name, matrix) in zip(row, schedules.items(), strict=True):
        image = _heat(axes, name, matrix)
    _level_bar(figure, image, row)
    return figure


def schedule_plans_figure(
    schedules: Mapping[str, tuple[ScheduleMatrix, Plan]],
    walls: ArrayLike,
    goal: ArrayLike,
    offset: float = OFFSET,
) -> Figure:
    """Each schedule's matrix, and below it the plans that it gives on the maze.

    Args:
        schedules: name to matrix and plan.
        walls: (R, C) bool, True where a wall is.
        goal: (x, y) in m.
        offset: position, m, of a cell's centre minus its (row, column).

    Raises:
        ValueError: if there is no schedule, or an array has another shape or is not finite.
    """
    if not schedules:
        raise ValueError(_NOTHING)
    target, count = check_place("goal", goal), len(schedules)
    wide, high = base.maze_size(walls)
    width = min(9.0, 1.2 + 3.0 * count)
    below = (width - 1.2 - 0.4 * count) / count * high / wide
    figure = base.new_figure(width, 3.1 + below)
    grid = figure.subplots(2, count, squeeze=False, height_ratios=[1.6, below])
    size = float(np.clip(2.2 * (width / count) / wide, 0.5, 0.9))
    for column, (name, (matrix, plan)) in enumerate(schedules.items()):
        image = _heat(grid[0, column], name, matrix)
        axes = grid[1, column]
        draw_maze(axes, walls, offset)
        if column:
            axes.set(yticks=[], ylabel="")
        _candidates(axes, plan, 1.0)
        _timed(axes, check_path("plan", plan.best()), plan.times, _seconds(plan), 0.65 * size, dots=False)
        mark(axes, plan.observations[0, :2], "start", size)
        mark(axes, target, "goal", size)
        lengths = f"{plan.feasible.sum()} of {len(plan.feasible)} plans feasible"
        axes.set_title(lengths, color=INK, fontsize=9)
    _level_bar(figure, image, grid[0])
    return figure


def _heat(axes: Axes, name: str, matrix: ScheduleMatrix) -> AxesImage:
    levels = matrix.levels.numpy(force=True)
    image = axes.imshow(
        levels, cmap=base.level_ramp(), vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(-0.5, levels.shape[1] - 0.5, len(levels) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_title(f"{name}\n", **_TITLE)
    calls = f"{matrix.calls} network call{'s' * (matrix.calls != 1)}"
    axes.text(0.5, 1.03, calls, transform=axes.transAxes, ha="center", va="bottom", color=INK, fontsize=10)
    axes.set(xlabel="token (time →)", ylabel="network call")
    axes.set_xticks([0, levels.shape[1] - 1] if levels.shape[1] > 1 else [0])
    axes.set_yticks([0, matrix.calls])
    base.plain(axes)
    axes.spines[["left", "bottom"]].set_visible(False)
    return image


def _level_bar(figure: Figure, image: AxesImage, row: Any) -> None:
    bar = figure.colorbar(image, ax=list(row), pad=0.02, fraction=0.03, aspect=22, ticks=[0, 1])
    bar.ax.set_yticklabels(["clean", "noise"])
    bar.set_label("noise level", color=INK, fontsize=10, labelpad=-18)
    bar.ax.tick_params(colors="#555a62", labelsize=9, length=0)
    bar.outline.set_visible(False)  # type: ignore[operator]
