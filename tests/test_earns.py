"""The study of what Diffusion Forcing earns: what it counts, what it trains, what it prints."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def earns(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import earns

    return earns


def test_a_step_through_a_corner_is_not_free_though_its_ends_are(earns):
    """Cells are a metre; the middle of cell (r, c) is at (r - 0.2, c - 0.2), and the ring's wall fills (2, 2) to (2, 4)."""
    cells = np.array([[[1, 1], [1, 3], [3, 3], [3, 1]], [[1, 2], [2, 1], [3, 1], [3, 5]]])
    assert earns.free("ring", cells - 0.2).tolist() == [[True, False, True], [False, True, True]]


def test_problems_are_as_far_as_was_asked_and_the_same_for_everybody(earns):
    starts, goals = earns.problems("ring", 40, lambda d: d == 6)
    again, _ = earns.problems("ring", 40, lambda d: d == 6)
    np.testing.assert_array_equal(starts, again)
    away = np.abs(np.round(starts[:, 0, :2]) - np.round(goals)).sum(1)
    assert set(away) == {2.0, 4.0, 6.0}  # opposite cells of a ring of 12: across the wall, or along it


def test_pieces_are_as_short_as_was_asked(earns):
    whole, cut = earns.demonstrations("ring", 3000), earns.demonstrations("ring", 3000, 60)
    assert np.diff(cut.ends, prepend=0).max() <= 60 < np.diff(whole.ends, prepend=0).max()
    assert set(whole.ends) <= set(cut.ends)


@pytest.mark.parametrize("method", range(4))
def test_every_method_trains_once_and_plans(earns, tmp_path, method):
    name = [*earns.METHODS][method]
    config = earns.settings("ring", earns.METHODS[name], 1, 2)
    assert config.seed == 1 and config.levels.goal_known == 0.9
    shown = partial(earns.demonstrations, "ring", 3000)
    folder = earns.trained(tmp_path / "run", config, shown)
    assert earns.trained(tmp_path / "run", config, lambda: 1 / 0) == folder  # once is enough
    planner = earns.Planner.load(folder)
    found = earns.good_plans(planner, "ring", lambda d: d > 0, 4)
    assert 0 <= found["good"] <= min(found["free"], found["possible"]) <= 1
    row = earns.rolled(folder, "ring", 2, next_token=name == "next token")
    assert 0 <= row["free"] <= 1 and row["moved"] > 0


def test_the_table_gives_standard_errors_over_training_seeds(earns):
    method = next(iter(earns.METHODS))
    rows = {
        f"plans, any distance|full|{method}|{seed}": {"good": g} for seed, g in enumerate((0.5, 0.6, 0.7))
    }
    mean, error, count = earns.over_seeds(rows, "plans, any distance|full", method, "good")
    assert (mean, count) == (pytest.approx(0.6), 3) and error == pytest.approx(0.1 / 3**0.5)
    assert "| plans, any distance | full | 60.0 ± 5.8 % |" in earns.table(rows)
