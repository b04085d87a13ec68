"""Every picture: an axis that can be read has a name, and each panel says what it shows."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_plot as drawn

import dfplan
from dfplan import envs, schedules
from dfplan.act.judge import PARTS, Judgement
from dfplan.cli.plan import LABELS
from dfplan.data import Episodes, inspect_figure
from dfplan.deploy.picture import run_figure
from dfplan.deploy.replaying import KeptRun
from dfplan.deploy.robot.mapping import load_mapping
from dfplan.show import base, plot
from dfplan.show.judgement import judgement_figure
from dfplan.show.sweeps import sweep_figure

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import delay
import earns
import memory

N = np.arange(1, 201)


def recorded(columns, units):
    rng, info = np.random.default_rng(0), {"units": {"observations": units}} if units else {}
    return Episodes({"observations": rng.normal(size=(60, columns))}, np.array([20, 60]), 0.1, "a", info)


def judged():
    errors = {"policy": np.array([0.2, 0.3]), "repeat": np.array([0.5, 0.9])}
    inside, where = {0.5: 0.6, 0.9: 0.95}, np.linspace(0.1, 0.3, PARTS)
    return Judgement(("fx", "fy"), ("N", "N"), np.ones(2), errors, {}, inside, where, 4, 3, 9)


def kept():
    tables = {"tick/now": 0.1 * N, "tick/state": N // 70, "tick/told": 0.01 * N[:, None] * np.ones(6)}
    return KeptRun(load_mapping("ur5e"), SimpleNamespace(), {}, tables)


def delays():
    same = {"task": "pusht", "error": 0, "first": 1, "lost": 0.0, "chunk": 16, "ahead": 24}
    cell = {"success": 0.5, "success_ci": (0.4, 0.6), "delay": 4}
    return [same | cell | {"method": method} for method in delay.METHODS]


def earned():
    (method, *_), own = earns.METHODS, {"good": 0.5, "return_mean": 9.0}
    cells = [f"plans, there by token {by}" for by in earns.ARRIVALS]
    cells += [f"driven, {kind}" for kind in earns.WORLDS]
    return {f"{cell}|full|{method}|{seed}": own for cell in cells for seed in (0, 1)}


def of_script(draw):
    """What a script's picture function drew: it saves its one figure itself."""

    def made(tmp_path, figures):
        draw(tmp_path / "picture.png")
        return figures[-1]

    return made


def remembered(path):
    rows = {f"swap|back {n}|0|none": {"success": 0.5} for n in (1, 10)}
    name = next(iter(memory.METHODS))
    rows |= {f"tmaze|{name}|0|length {n}": {"success": 1.0} for n in (10, 100, 1000)}
    memory.picture(rows, ["swap", "tmaze"], path)


def moving(tmp_path, figures):
    frames, levels = drawn.cloud()
    plot.denoise_gif(tmp_path / "a.gif", frames, levels, drawn.WALLS, drawn.GOAL, drawn.START)
    return figures[-1]


PLAN = (drawn.plan(), drawn.WALLS, drawn.GOAL)
ROWS = {name: (matrix, drawn.plan()) for name, matrix in drawn.matrices().items()}
SWEPT = [
    {
        "setting": f"lr={lr}",
        "seeds": 3,
        "success": 0.8,
        "success_ci": [0.7, 0.9],
        "return": 9.0,
        "return_se": 1.0,
    }
    for lr in (0.001, 0.003)
]
PICTURES = {
    "plan_figure": lambda *_: plot.plan_figure(*PLAN, drawn.plan().observations, "reached after 3 steps"),
    "plan_figure, larger cells": lambda *_: plot.plan_figure(*PLAN, title="room", unit="units of 4 m"),
    "schedule_figure": lambda *_: plot.schedule_figure(
        {n: schedules.make(n, 32, 10, 0.5) for n in schedules.SCHEDULES}
    ),
    "schedule_plans_figure": lambda *_: plot.schedule_plans_figure(ROWS, drawn.WALLS, drawn.GOAL),
    "curves_figure": lambda *_: plot.curves_figure(N, dict.fromkeys(LABELS, 1.0 / N), labels=LABELS),
    "curves_figure, one": lambda *_: plot.curves_figure(N, {"held_out": 1.0 / N}),
    "bars_figure": lambda *_: plot.bars_figure({"ours": {"umaze": 120.0, "large": 90.0}}),
    "inspect_figure": lambda *_: inspect_figure(recorded(3, ["m", "m", "m/s"])),
    "inspect_figure, many": lambda *_: inspect_figure(recorded(12, [])),
    "judgement_figure": lambda *_: judgement_figure(judged()),
    "run_figure": lambda *_: run_figure(kept()),
    "sweep_figure": lambda *_: sweep_figure(SWEPT, "arm-pick"),
    "sweep_figure, returns": lambda *_: sweep_figure([r | {"success": None} for r in SWEPT], "hopper"),
    "denoise_gif": moving,
    "delay.py": of_script(lambda path: delay.picture(delays(), path)),
    "earns.py": of_script(lambda path: earns.picture(earned(), path)),
    "memory.py": of_script(remembered),
}
TITLED = {"bars_figure", "run_figure", "denoise_gif"}
"""In which the names of the axes, or a line above them all, say what a panel shows."""


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is made, in order."""
    made = []

    def new_figure(*args, real=base.new_figure, **kwargs):
        made.append(real(*args, **kwargs))
        return made[-1]

    for module in (base, delay, earns, memory):
        monkeypatch.setattr(module, "new_figure", new_figure)
    return made


def read(axis):
    """Whether something can be read off an axis: it is shown, and has ticks with texts."""
    axes = axis.axes
    shown = axes.get_visible() and axes.axison and axis.get_visible()
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return shown and any(
        (t.label1.get_visible() and t.label1.get_text()) or (t.label2.get_visible() and t.label2.get_text())
        for t in ticks
    )


def bare(figure):
    """Axes of a figure that can be read and have no name."""
    figure.canvas.draw()
    every = [axis for axes in panels(figure) for axis in (axes.xaxis, axes.yaxis)]
    assert any(map(read, every))
    return [
        f"{axis.axis_name} of panel {axis.axes.get_title()!r}"
        for axis in every
        if read(axis) and not axis.get_label_text()
    ]


def panels(figure):
    """Its axes, those inside others too."""
    return [axes for outer in figure.axes for axes in (outer, *outer.child_axes)]


@pytest.mark.parametrize("name", PICTURES)
def test_every_axis_that_can_be_read_has_a_name_and_each_panel_a_title(name, figures, tmp_path):
    figure = PICTURES[name](tmp_path, figures)
    assert not bare(figure)
    if name not in TITLED:
        shown = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert all(axes.get_title("left") or axes.get_title("center") for axes in shown)


def test_an_axis_without_a_name_is_found():
    figure = base.new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([1, 2], [3, 4])
    assert len(bare(figure)) == 2
    axes.set(xlabel="time, s", yticks=[])
    assert not bare(figure)


def test_every_public_figure_is_looked_at():
    root = Path(dfplan.__file__).parent
    files = [*root.rglob("*.py"), *Path(envs.__file__).parent.rglob("*.py")]
    found = {
        node.name
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_figure") and node.name != "new_figure"
    }
    assert len(found) > 6 and found <= {name.split(",")[0] for name in PICTURES}
