"""Training curves and tables of scores as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dfplan.show.base import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION, Array, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#8a9099", SKY, ORANGE, GREEN, PURPLE, BLUE)


def curves_figure(
    steps: ArrayLike,
    curves: Mapping[str, ArrayLike],
    smoothing: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Training curves, one panel for each name, faint as recorded and bold as smoothed.

    A curve that stays positive and spans more than a factor of ten gets a log scale.

    Args:
        steps: (N,) rising training steps.
        curves: name to (N,) values; NaN where a value was not recorded at that step.
        smoothing: weight of the past in the exponential moving average, 0 for none; None: an average over
            about a thirtieth of the curve. On a log scale the logarithm is averaged.
        labels: name to what its values are, with a unit where they have one.

    Raises:
        ValueError: for another shape, infinity, or steps that do not rise.
    """
    at, labels = np.asarray(steps, np.float64), labels or {}
    if at.ndim != 1 or not at.size or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise ValueError(f"got steps of shape {at.shape}, expected (N,), finite and rising; drop repeats")
    if not curves:
        raise ValueError("got no curves, expected a name and (N,) values for each; pass at least one")
    if smoothing is not None and not 0 <= smoothing < 1:
        raise ValueError(f"got smoothing={smoothing}, expected 0 (none) to below 1")
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure = new_figure(8.0 if columns > 1 else 6.0, 0.35 + 2.45 * rows + 0.6 * (rows == 1))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (name, given) in zip(panels, curves.items(), strict=False):
        values = _curve(name, given, at)
        seen = np.isfinite(values)
        x, y = at[seen], values[seen]
        axes.plot(x, y, color=SKY, lw=0.9, alpha=0.6)
        weight = max(1 - 30 / len(y), 0.0) if smoothing is None else smoothing
        log = bool((y > 0).all() and y.max() > 10 * y.min())
        axes.plot(x, np.exp(ema(np.log(y), weight)) if log else ema(y, weight), color=BLUE, lw=2.0)
        if log:
            _log_scale(axes)
        axes.set_title(name.replace("_", " "), color=INK, fontsize=11, fontweight="bold", loc="left")
        axes.set_ylabel(labels.get(name, name.replace("_", " ")))
        axes.grid(True, color="#e4e6e9", lw=0.7)
        axes.margins(x=0.02)
        plain(axes)
    for axes in panels[len(curves) :]:
        axes.remove()
    for axes in panels[max(len(curves) - columns, 0) : len(curves)]:
        axes.set_xlabel("training step", color=INK, fontsize=10)
        axes.tick_params(labelbottom=True)
    return figure


def _log_scale(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def ema(values: Array, smoothing: float) -> Array:
    """Exponential moving average (N,) with the bias of the first values removed."""
    out, total, weight = np.empty_like(values), 0.0, 0.0
    for i, value in enumerate(values):
        total, weight = smoothing * total + value, smoothing * weight + 1
        out[i] = total / weight
    return out


def _curve(name: str, given: ArrayLike, at: Array) -> Array:
    values = np.asarray(given, np.float64)
    if values.shape != at.shape:
        raise ValueError(
            f"got curve '{name}' of shape {values.shape}, expected {at.shape}: a value for each step"
        )
    if np.isinf(values).any() or np.isnan(values).all():
        raise ValueError(
            f"curve '{name}' has infinite values or no value at all; expected numbers, NaN where not recorded"
        )
    return values


def bars_figure(
    rows: Mapping[str, Mapping[str, float]], ours: str | None = None, label: str = "normalised score"
) -> Figure:
    """Scores as grouped bars: a group for each task, a bar for each method, in the given order.

    Args:
        rows: method to task to score; a task that a method lacks is marked n/a.
        ours: method to put forward in colour.
        label: what the scores are.

    Raises:
        ValueError: if there is nothing to draw, a score is not finite, or `ours` is no method.
    """
    tasks = list(dict.fromkeys(task for scores in rows.values() for task in scores))
    if not tasks:
        raise ValueError("got no scores, expected {method: {task: score}}; pass at least one")
    if ours is not None and ours not in rows:
        raise ValueError(f"got ours='{ours}', expected one of {', '.join(rows)}")
    for method, scores in rows.items():
        if strange := [task for task, score in scores.items() if not np.isfinite(score)]:
            raise ValueError(f"score of '{method}' on {strange} is not finite; leave out tasks not run")
    figure = new_figure(8.0, 3.7)
    axes = figure.add_subplot()
    width = 0.84 / len(rows)
    palette = iter(PALETTE * len(rows))
    for i, (method, scores) in enumerate(rows.items()):
        x = np.arange(len(tasks)) + (i - (len(rows) - 1) / 2) * width
        colour = VERMILLION if method == ours else next(palette)
        heights = [scores.get(task, 0.0) for task in tasks]
        axes.bar(x, heights, width * 0.9, color=colour, label=method, zorder=2)
        for place, task in zip(x, tasks, strict=True):
            score = scores.get(task)
            axes.annotate(
                "n/a" if score is None else f"{score:.0f}", (place, max(score or 0.0, 0.0)), (0, 2),
                textcoords="offset points", ha="center", va="bottom", color=INK,
                fontsize=9 if len(rows) * len(tasks) < 25 else 7.5,
                fontweight="bold" if method == ours else "normal",
            )  # fmt: skip
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set(xlabel="task", ylabel=label)
    axes.grid(True, axis="y", color="#e4e6e9", lw=0.7, zorder=0)
    axes.axhline(0, color="#9aa0a8", lw=0.8, zorder=3)
    axes.margins(x=0.02, y=0.08)
    plain(axes)
    axes.tick_params(axis="x", length=0, labelsize=11, labelcolor=INK)
    figure.legend(
        loc="outside upper center", ncols=min(len(rows), 6), frameon=False, fontsize=9.5, labelcolor=INK,
        handlelength=1.0, handleheight=1.0, columnspacing=1.3,
    )  # fmt: skip
    return figure
