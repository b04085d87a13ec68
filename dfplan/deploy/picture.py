"""A kept run as a picture: states and refusals above, each joint as it was told and as it was measured below."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.recording.run_log import STATES
from dfplan.deploy.replaying import KeptRun
from dfplan.deploy.robot.body import body
from dfplan.show.base import BLUE, GREEN, INK, ORANGE, SKY, VERMILLION, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_LEAST = 0.02  # rad, and a tenth in m: a joint that moves less looks as if it stood
_COLOURS = dict(zip(STATES, ("#d5d8dc", SKY, GREEN, ORANGE, VERMILLION), strict=True))


def run_figure(run: KeptRun) -> Figure:
    """The run as a figure; times in s after its first tick, joints in rad or m."""
    limits = body(run.mapping.robot).limits
    count, begin = len(limits.names), float(run.column("tick/now")[0])
    figure = new_figure(9.0, 1.1 + 1.15 * count)
    rows = figure.subplots(count + 1, 1, sharex=True, height_ratios=[0.5] + [1.0] * count)
    _states(rows[0], run, begin)
    due = run.column("tick/now") - begin + run.mapping.loop.lead
    times, measured = _measured(run, begin)
    for i, (axes, name) in enumerate(zip(rows[1:], limits.names, strict=True)):
        axes.plot(times, measured[:, i], color=BLUE, lw=1.8, label="measured")
        axes.plot(due, run.column("tick/told")[:, i], color=VERMILLION, lw=1.0, ls="--", label="told")
        axes.set_ylabel(f"{name}, {'m' if limits.sliding[i] else 'rad'}", rotation=0, ha="right", va="center")
        low, high = axes.get_ylim()
        least = _LEAST * (0.1 if limits.sliding[i] else 1.0)
        if high - low < least:
            axes.set_ylim((low + high - least) / 2, (low + high + least) / 2)
        axes.grid(True, color="#e4e6e9", lw=0.7)
        plain(axes)
    figure.align_ylabels(rows[1:])
    rows[1].legend(loc="lower right", bbox_to_anchor=(1, 0.95), fontsize=8, frameon=False, ncols=2)
    rows[-1].set_xlabel("time, s")
    return figure


def _states(axes: Axes, run: KeptRun, begin: float) -> None:
    """A strip of the states, and a mark for each refusal."""
    times, states = run.column("tick/now") - begin, run.column("tick/state")
    edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    for a, b in pairwise(edges):
        name, end = STATES[int(states[a])], times[min(b, len(times) - 1)]
        axes.axvspan(times[a], end, color=_COLOURS[name], lw=0)
        if end - times[a] > 0.1 * times[-1]:
            axes.text((times[a] + end) / 2, 0.65, name, ha="center", va="center", fontsize=8, color=INK)
    counts: Counter[str] = Counter()
    events = (run.column(f"event/{key}").tolist() for key in ("time", "kind", "text", "count"))
    for time, kind, text, number in zip(*events, strict=True):
        if kind == "refused":
            counts[text] += number
            axes.axvline(time - begin, 0.0, 0.3, color=INK, lw=0.8)
    said = ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "nothing"
    axes.set_title(f"refused or changed: {said}", color=INK, fontsize=10, loc="left")
    axes.set(yticks=[], ylim=(0, 1))
    plain(axes)


def _measured(run: KeptRun, begin: float) -> tuple[Array, Array]:
    """When the joints were received (N,), s after `begin`, and where they were (N, J), rad or m; NaN where a message has none."""
    robot, rows = body(run.mapping.robot), list[tuple[float, Array]]()
    groups: Any = zip(run.column("group/source").tolist(), run.column("group/names").tolist(), strict=True)
    for number, (source, names) in enumerate(groups):
        table = run.column(f"read:{number}/position")
        if source != run.mapping.robot.state or not len(table):
            continue
        columns = {name: i for i, name in enumerate(names.split("\n"))}
        taken = [columns.get(name, -1) for name in robot.limits.names]
        values = np.where(np.array(taken) < 0, np.nan, table[:, taken]) * robot.unit
        rows += zip(run.column(f"read:{number}/received").tolist(), values, strict=True)
    rows.sort(key=lambda row: row[0])
    if not rows:
        return np.zeros(0), np.zeros((0, len(robot.limits.names)))
    return np.array([time for time, _ in rows]) - begin, np.stack([q for _, q in rows])
