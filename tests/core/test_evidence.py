"""Recorded steps: what is kept of them, and how a path is judged by them."""

import numpy as np
import pytest
import torch
from tiny import config, position_spec, walks

from dfplan.data.episodes import Episodes
from dfplan.plan.evidence import Evidence
from dfplan.train import checkpoint, pairs
from dfplan.train.trainer import Trainer


def corridor(rows=400, y=0.0):
    """Back and forth along x from 0 to 10, 0.1 an env step."""
    x = np.abs((np.arange(rows) * 0.1 + 10) % 20 - 10)
    states = np.stack([x, np.full(rows, y), np.zeros(rows), np.zeros(rows)], 1)
    arrays = {"observations": states.astype(np.float32), "actions": np.zeros((rows, 2), np.float32)}
    return Episodes(arrays, np.array([rows]), 0.1, "corridor")


def familiar(evidence, path):
    """Whether every step of a path, or of each of some, is."""
    return evidence.distance(path).max(-1) <= evidence.limit


def test_distance_has_a_closed_form():
    """One recorded step (0, 0) -> (2, 0): a step shifted by d lies sqrt(2) |d| off it, over its length 2."""
    evidence = Evidence([[0, 0, 2, 0]], step=2.0, limit=0.5)
    assert evidence.distance([[0, 0], [2, 0]]) == pytest.approx(0)
    assert evidence.distance([[0, 0.6], [2, 0.6]]) == pytest.approx(0.6 * np.sqrt(2) / 2)
    assert evidence.distance([[2, 0], [0, 0]]) == pytest.approx(np.sqrt(2))  # there and not back
    paths = np.array([[[0, 0], [2, 0]], [[0, 3], [2, 3]]])
    assert evidence.distance(paths).shape == (2, 1)
    assert familiar(evidence, paths).tolist() == [True, False]


def test_what_was_done_is_familiar_and_a_jump_out_of_it_is_not():
    spec, data = position_spec(stride=4), corridor()
    found = pairs.collect(config(spec), data)
    evidence = Evidence(found["pairs"].numpy(), float(found["step"]), float(found["limit"]))
    recorded = np.asarray(data.arrays["observations"])[:80:4, :2]
    assert evidence.step == pytest.approx(0.4, rel=0.1)
    assert familiar(evidence, recorded)
    broken = recorded.copy()
    broken[7:] += (0, 0.6)  # one step out of the corridor, and on beside it
    assert np.flatnonzero(evidence.distance(broken) > evidence.limit).tolist() == list(range(6, 19))


def test_seldom_visited_places_are_kept_like_others():
    """1,000 rows in one place and 100 along a way: of 60 pairs most lie on the way."""
    still = np.zeros((1000, 4), np.float32)
    way = np.zeros((100, 4), np.float32)
    way[:, 0] = np.arange(100) * 0.1
    rows = np.concatenate([still, way])
    data = Episodes({"observations": rows, "actions": rows[:, :2]}, np.array([1000, 1100]), 0.1, "rare")
    kept = pairs.collect(config(position_spec()), data, count=60)["pairs"]
    assert len(kept) <= 60 and (kept[:, 0] > 0.05).float().mean() > 0.8
    assert kept.dtype == torch.float16


def test_no_pair_joins_two_episodes():
    spec, data = position_spec(stride=3), walks(count=5, length=8)
    kept = pairs.collect(config(spec), data)["pairs"].float().numpy()
    rows = np.asarray(data.arrays["observations"])[:, :2]
    true = {(8 * k + i, 8 * k + i + 3) for k in range(5) for i in range(5)}
    for pair in kept:
        near = np.abs(rows - pair[:2]).sum(1).argmin(), np.abs(rows - pair[2:]).sum(1).argmin()
        assert near in true


def test_training_a_planner_stores_it_and_a_model_without_it_works(tmp_path):
    trainer = Trainer(config(steps=4), walks(), tmp_path / "run")
    list(trainer.run())
    model = checkpoint.load(tmp_path / "run")
    assert familiar(Evidence.of(model), np.asarray(walks().arrays["observations"])[:5, :2])
    checkpoint.export(tmp_path / "run", tmp_path / "small")
    assert (checkpoint.load(tmp_path / "small").evidence["pairs"] == model.evidence["pairs"]).all()
    (tmp_path / "small" / checkpoint.EVIDENCE).unlink()
    assert Evidence.of(checkpoint.load(tmp_path / "small")) is None
    pairs.add(tmp_path / "small", walks())
    assert (checkpoint.load(tmp_path / "small").evidence["pairs"] == model.evidence["pairs"]).all()


@pytest.mark.parametrize("path", [np.zeros((3, 3)), np.zeros((1, 2)), np.zeros(2)])
def test_refuses_paths_of_another_shape(path):
    with pytest.raises(ValueError, match=r"expected \(\.\.\., S, 2\)"):
        Evidence([[0, 0, 1, 0]], 1.0, 1.0).distance(path)


def test_refuses_evidence_that_is_none():
    with pytest.raises(ValueError, match=r"expected \(N, 2 C\)"):
        Evidence(np.zeros((0, 4)), 1.0, 1.0)


def test_doubt_sees_a_corner_cut_between_two_familiar_places():
    """Recorded steps go round a corner in one step of 4; half way on the straight line nobody has been."""
    rows = [[0, 0, 3, 3], [0, 0, 0, 3], [0, 3, 3, 3]]
    evidence = Evidence(rows, step=4.0, limit=0.5)
    assert evidence.distance([[0, 0], [3, 3]])[0] == 0
    np.testing.assert_allclose(evidence.away([[0.0, 0.0], [0.0, 5.0]]), [0.0, 0.5])
    away = np.hypot(1.5, 1.5) / 4  # of the middle of the line
    np.testing.assert_allclose(evidence.doubt([[[0, 0], [0, 3]], [[0, 0], [3, 3]]])[0], 1.5 / 4 / 0.4)
    assert evidence.doubt([[0, 0], [3, 3]]) >= away / 0.4
