"""The table of a sweep, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dfplan.outcome import wilson
from dfplan.show.base import BLUE, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each setting, over its seeds: success of all episodes with its 95 % interval, means of runs with their errors.

    Args:
        runs: `setting`, `seed`, and either the numbers of `dfplan eval` or `error`.

    Returns:
        `setting`, `seeds` that were measured, `failed`, `episodes`, `success` and `success_ci` (Wilson, over all episodes),
        `score` and `return` with `_se` (standard error over the seeds); None where not known.
    """
    rows = []
    for setting in dict.fromkeys(str(r["setting"]) for r in runs):
        mine = [r for r in runs if r["setting"] == setting]
        good = [r for r in mine if "error" not in r]
        episodes = sum(int(r["episodes"]) for r in good)
        row: dict[str, Any] = {
            "setting": setting,
            "seeds": len(good),
            "failed": len(mine) - len(good),
            "episodes": episodes,
        }
        wins = [r["success"] for r in good]
        known = bool(good) and None not in wins
        count = sum(round(r["success"] * r["episodes"]) for r in good) if known else 0
        row |= {"success": count / episodes if known else None}
        row |= {"success_ci": [round(x, 4) for x in wilson(count, episodes)] if known else None}
        for name, key in (("score", "score"), ("return", "return_mean")):
            values = [r[key] for r in good]
            told = bool(values) and None not in values
            row[name] = float(np.mean(values)) if told else None
            several = told and len(values) > 1
            row[f"{name}_se"] = float(np.std(values, ddof=1) / len(values) ** 0.5) if several else None
        rows.append(row)
    return rows


def sweep_figure(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Success of each setting with its interval, or the return with its standard error where no success is known."""
    by_success = all(r["success"] is not None for r in rows)
    figure = new_figure(5.0, 1.0 + 0.35 * len(rows))
    axes = figure.subplots()
    for y, row in enumerate(reversed(rows)):
        if by_success:
            middle, (low, high) = row["success"], row["success_ci"]
        elif row["return"] is not None:
            middle, error = row["return"], row["return_se"] or 0.0
            low, high = middle - error, middle + error
        else:
            continue
        axes.plot([low, high], [y, y], color=BLUE, lw=1.5)
        axes.plot(middle, y, "o", color=BLUE, ms=5)
    names = [f"{r['setting'] or 'as configured'} ({r['seeds']} seeds)" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylabel("setting")
    axes.set_title(title)
    if by_success:
        axes.set(xlabel="success, share of all episodes, 95 % interval", xlim=(-0.02, 1.02))
    else:
        axes.set_xlabel("return, mean over seeds, standard error")
    plain(axes)
    return figure
