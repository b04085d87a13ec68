"""A judgement of a policy as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dfplan.act.judge import PARTS, Judgement
from dfplan.show.base import BLUE, VERMILLION, headed, new_figure, plain
from dfplan.show.charts import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def judgement_figure(found: Judgement, title: str = "") -> Figure:
    """Errors by action beside the rules', errors along the episode, and how wide the draws are."""
    figure = new_figure(10.0, 6.4)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.35, 1))
    axes = figure.add_subplot(grid[0, :])
    scale, width = np.where(found.spread > 1e-9, found.spread, np.inf), 0.84 / len(found.errors)
    colours = iter(PALETTE * 2)
    for i, (who, errors) in enumerate(found.errors.items()):
        at = np.arange(len(errors)) + (i - (len(found.errors) - 1) / 2) * width
        colour = VERMILLION if who == "policy" else next(colours)
        axes.bar(
            at, errors / scale, width * 0.9, color=colour, label=f"{who} ({found.overall(who):.2f})", zorder=2
        )
    many = len(found.names) > 12  # too many to stand beside each other
    told = zip(found.names, found.units, found.spread, strict=True)
    labels = [f"{n}{'  ' if many else chr(10)}{s:.3g} {u}" for n, u, s in told]
    turned = 90 if many else 20 * (len(labels) > 7)
    axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=turned)
    axes.set(xlabel="action, and its spread in the demonstrations", ylabel="mean error / spread")
    headed(axes, title or "Error of what would be executed")
    axes.margins(y=0.25)  # room for the legend above the bars
    axes.legend(frameon=False, fontsize=8.5, ncols=3)
    along = figure.add_subplot(grid[1, 0])
    along.plot((np.arange(PARTS) + 0.5) / PARTS, found.where, "o-", color=VERMILLION)
    along.set(xlabel="part of the episode", ylabel="mean error / spread", xlim=(0, 1), ylim=(0, None))
    headed(along, "Where in an episode the policy errs")
    wide = figure.add_subplot(grid[1, 1])
    headed(wide, "How wide its draws are (grey: as they should be)")
    wide.plot([0, 1], [0, 1], color="#9aa0a8", lw=1)
    wide.plot(list(found.inside), list(found.inside.values()), "o-", color=BLUE)
    wide.set(
        xlabel="central interval of the draws", ylabel="share of what was done", xlim=(0, 1), ylim=(0, 1)
    )
    for each in (axes, along, wide):
        each.grid(True, color="#e4e6e9", lw=0.7, zorder=0)
        plain(each)
    return figure
