import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dfplan import schedules
from dfplan.show import plot
from dfplan.show.base import FREE, WALL, maze_size, new_figure
from dfplan.show.charts import ema

WALLS = np.array(
    [[tile == "#" for tile in row] for row in ("######", "#OO#O#", "##O#O#", "#OOOO#", "######")]
)
GOAL, START = (1.0, 4.0), (1.0, 1.0)
K, H = 5, 9


def plan(feasible=None, arrival=7):
    corners = np.array([START, (1, 2), (3, 2), (3, 4), GOAL], float)
    t = np.linspace(0, 4, H)
    line = np.stack([np.interp(t, range(5), corners[:, i]) for i in (0, 1)], 1)
    noise = np.random.default_rng(0).normal(0, 0.08, (K, H, 2))
    candidates = np.concatenate([line + noise, np.zeros((K, H, 2))], 2)
    observations = candidates[2]
    return SimpleNamespace(
        observations=observations, candidates=candidates, chosen=2, times=0.1 * np.arange(H),
        feasible=np.ones(K, bool) if feasible is None else np.array(feasible),
        best=lambda: observations[: arrival + 1],
    )  # fmt: skip


def cloud(frames=30, k=K, s=H):
    rng = np.random.default_rng(1)
    matrix = schedules.pyramid(s, frames - (s - 1), 1.0)
    levels = matrix.levels[1:].numpy()
    end = plan().candidates[:k, :s, :2]
    return [end + level[:, None] * rng.normal(size=end.shape) for level in levels], levels


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def colour(text):
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)])


def at(axes, picture, x, y):
    column, row = axes.transData.transform((y, x))
    return picture[picture.shape[0] - 1 - int(row), int(column)]


@pytest.mark.parametrize("offset", [-0.2, 0.0])
def test_walls_are_drawn_where_they_are(offset):
    figure = new_figure(6, 5)
    axes = figure.add_subplot()
    plot.draw_maze(axes, WALLS, offset)
    picture = pixels(figure)
    for r in range(1, 4):
        for c in range(1, 5):
            for side in (-0.45, 0, 0.45):
                expected = colour(WALL if WALLS[r, c] else FREE)
                assert (at(axes, picture, r + offset + side, c + offset + side) == expected).all(), (
                    r,
                    c,
                    side,
                )
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # row 0 at the top
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("y, m", "x, m")
    assert all(float(tick).is_integer() for tick in (*axes.get_xticks(), *axes.get_yticks()))


def test_an_open_maze_is_shown_whole():
    assert maze_size(WALLS[:, :-1]) == (5, 5)
    wide, high = maze_size(WALLS)
    assert (wide, high) == pytest.approx((4.6, 3.6))


def test_saved_files_are_whole_and_of_the_expected_size(tmp_path):
    figure = plot.plan_figure(plan(), WALLS, GOAL, plan().observations, "title")
    for suffix in (".png", ".pdf", ".svg"):
        path = plot.save(figure, tmp_path / "new" / f"plan{suffix}")
        assert path.stat().st_size > 1000
    width, height = figure.get_size_inches()
    with Image.open(tmp_path / "new" / "plan.png") as image:
        assert image.size == pytest.approx((width * 150, height * 150), abs=2)
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)
    plot.save(figure, tmp_path / "new" / "plan.png", dpi=50)
    with Image.open(tmp_path / "new" / "plan.png") as image:
        assert image.size == pytest.approx((width * 50, height * 50), abs=2)
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"plan.png", "plan.pdf", "plan.svg"}


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    figure, path = new_figure(1, 1), tmp_path / "old.png"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError("full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="full"):
        plot.save(figure, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plan_figure_says_what_it_shows():
    everything = plot.plan_figure(plan([True, False, True, False, True]), WALLS, GOAL, plan().observations)
    shown = ["candidates (3)", "infeasible (2)", "chosen plan", "executed", "start", "goal"]
    assert names(everything) == shown
    assert names(plot.plan_figure(plan(), WALLS, None)) == ["candidates (5)", "chosen plan", "start"]
    axes = everything.axes[0]
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata())]
    assert any(np.array_equal(line, plan().best()[:, 1::-1]) for line in lines)


def test_a_plan_that_is_already_there():
    pixels(plot.plan_figure(plan(arrival=0), WALLS, GOAL))


def test_gif(tmp_path):
    frames, levels = cloud()
    began = time.process_time()
    path = plot.denoise_gif(tmp_path / "a.gif", frames, levels, WALLS, GOAL, START, chosen=2)
    assert time.process_time() - began < 6
    assert path.stat().st_size < 1.5e6 and list(tmp_path.iterdir()) == [path]
    with Image.open(path) as gif:
        assert gif.n_frames == 25 and max(gif.size) <= 800 and gif.info["loop"] == 0
        times, shots = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            times.append(gif.info["duration"])
            shots.append(np.asarray(gif.convert("RGB")).astype(int))
    assert times[:-1] == [100] * 24 and times[-1] == 2000
    assert all((a != b).any() for a, b in itertools.pairwise(shots))
    # the strip shrinks from all noise to all clean
    strip = [(shot[-94:-46, 90:-12] < 250).any(-1).mean() for shot in shots]
    assert strip[0] > 0.6 and strip[-1] < 0.2 and max(np.diff(strip)) < 1e-2
    wall = [(np.abs(shot - colour(WALL)).max(-1) < 8).mean() for shot in shots]
    assert min(wall) > 0.2


def test_gif_keeps_few_frames_and_one_candidate(tmp_path):
    frames, levels = cloud(k=1)
    plot.denoise_gif(tmp_path / "a.gif", frames[-3:], levels[-3:], WALLS, None, most=2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2


def matrices():
    return {"full": schedules.full(H, 4), "pyramid": schedules.pyramid(H, 4, 0.5)}


def test_schedules_show_their_levels_and_calls():
    figure = plot.schedule_figure(matrices())
    pixels(figure)
    for axes, matrix in zip(figure.axes, matrices().values(), strict=False):
        shown = torch.as_tensor(np.asarray(axes.images[0].get_array()))
        assert torch.equal(shown, matrix.levels)
        assert f"{matrix.calls} network calls" in [text.get_text() for text in axes.texts]
    assert "1 network call" in [
        t.get_text() for t in plot.schedule_figure({"s": schedules.streaming(4)}).axes[0].texts
    ]


def test_schedules_above_their_plans():
    rows = {name: (matrix, plan([True] * 4 + [False])) for name, matrix in matrices().items()}
    figure = plot.schedule_plans_figure(rows, WALLS, GOAL)
    pixels(figure)
    assert len(figure.axes) == 5
    assert figure.axes[2].get_title() == "4 of 5 plans feasible"


def test_curves_are_smoothed_and_scaled():
    steps = np.arange(0, 2000, 10)
    values = {
        "loss": np.exp(-steps / 300) + 0.01,
        "lr": np.linspace(1, 0, 200),
        "grad_norm": np.full(200, np.nan),
    }
    values["grad_norm"][::10] = 1.0
    figure = plot.curves_figure(steps, values)
    pixels(figure)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]
    assert len(figure.axes[2].lines[1].get_xdata()) == 20
    assert all(axes.get_xlabel() for axes in figure.axes[1:])
    assert ema(np.full(9, 3.0), 0.9) == pytest.approx(np.full(9, 3.0))
    assert ema(np.array([1.0, 5.0]), 0.0).tolist() == [1, 5]
    pixels(plot.curves_figure([5], {"loss": [0.1]}))


def test_bars_stand_for_their_scores():
    rows = {"IQL": {"umaze": 47.4, "large": 58.6}, "ours": {"umaze": 120.0, "medium": -5.0}}
    figure = plot.bars_figure(rows, ours="ours")
    pixels(figure)
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [47.4, 58.6, 0, 120, 0, -5]
    assert [text.get_text() for text in axes.texts] == ["47", "59", "n/a", "120", "n/a", "-5"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["umaze", "large", "medium"]


FRAMES, LEVELS = cloud()
BAD = {
    "walls of shape": lambda _: plot.plan_figure(plan(), WALLS.astype(int), GOAL),
    r"expected \(R, C\) bool": lambda _: plot.plan_figure(plan(), WALLS[0], GOAL),
    "got offset=nan": lambda _: plot.draw_maze(new_figure(1, 1).add_subplot(), WALLS, np.nan),
    r"got goal \[1.0, 4.0, 0.0\]": lambda _: plot.plan_figure(plan(), WALLS, (1, 4, 0)),
    "trajectory of shape": lambda _: plot.plan_figure(plan(), WALLS, GOAL, np.zeros(4)),
    r"trajectory\[1\] is": lambda _: plot.plan_figure(plan(), WALLS, GOAL, [[1, 1], [np.nan, 1]]),
    r"'a.txt', .*\.png": lambda _: plot.save(new_figure(1, 1), "a.txt"),
    "ends in .gif": lambda at: plot.denoise_gif(at / "a.png", FRAMES, LEVELS, WALLS, GOAL),
    "got no frames": lambda at: plot.denoise_gif(at / "a.gif", [], LEVELS, WALLS, GOAL),
    "got frames of shape": lambda at: plot.denoise_gif(at / "a.gif", [FRAMES[0][0]], LEVELS, WALLS, GOAL),
    r"levels of shape .*matrix.levels\[1:\]": lambda at: plot.denoise_gif(
        at / "a.gif", FRAMES[1:], LEVELS, WALLS, GOAL
    ),
    r"frames\[0, 0, 0, 0\] is not finite": lambda at: plot.denoise_gif(
        at / "a.gif", [f * np.nan for f in FRAMES], LEVELS, WALLS, GOAL
    ),
    "expected 0 .clean. to 1": lambda at: plot.denoise_gif(at / "a.gif", FRAMES, LEVELS + 1, WALLS, GOAL),
    "got chosen=5": lambda at: plot.denoise_gif(at / "a.gif", FRAMES, LEVELS, WALLS, GOAL, chosen=5),
    "got most=1": lambda at: plot.denoise_gif(at / "a.gif", FRAMES, LEVELS, WALLS, GOAL, most=1),
    "got place": lambda at: plot.denoise_gif(at / "a.gif", FRAMES, LEVELS, WALLS, GOAL, [1, 2, 3]),
    "got no schedules": lambda _: plot.schedule_figure({}),
    "got steps of shape": lambda _: plot.curves_figure([2, 1], {"loss": [1, 2]}),
    "got curve 'loss'": lambda _: plot.curves_figure([1, 2], {"loss": [1]}),
    "curve 'loss' has infinite": lambda _: plot.curves_figure([1, 2], {"loss": [1, np.inf]}),
    "got no curves": lambda _: plot.curves_figure([1, 2], {}),
    "got smoothing=1": lambda _: plot.curves_figure([1, 2], {"loss": [1, 2]}, 1.0),
    "got no scores": lambda _: plot.bars_figure({"ours": {}}),
    "got ours='our', expected one of a": lambda _: plot.bars_figure({"a": {"t": 1}}, ours="our"),
    "score of 'a' on": lambda _: plot.bars_figure({"a": {"t": np.nan}}),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_refused(message, tmp_path):
    with pytest.raises(ValueError, match=message):
        BAD[message](tmp_path)
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_late_and_pyplot_never():
    code = (
        "import sys; from dfplan.show import plot; assert 'matplotlib' not in sys.modules\n"
        "plot.bars_figure({'a': {'t': 1.0}}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
