"""Answers that come late, in simulated time: what each way of going on does, without a claim about how well."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dfplan.act import Actor, ImitationConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import delay
from delayed import METHODS, Cell, Delayed, inpaint

SEEN = np.random.default_rng(0).normal(size=(2, 36)) * 0.05 + 0.5


@pytest.fixture(scope="module")
def actor():
    return Actor.load("arm-pick", ImitationConfig(memory=1, temperature=0.0))


def played(actor, steps=40, **cell):
    """Actions (B, steps, A) to readings that stay the same, and the policy after them."""
    policy = Delayed(actor, Cell("arm-pick", **cell))
    policy.reset([0, 1])
    actions = np.stack([policy.act(SEEN) for _ in range(steps)], 1)
    return actions, policy


def test_without_delay_three_ways_are_the_same(actor):
    naive, policy = played(actor, method="naive", chunk=8)
    np.testing.assert_array_equal(naive, played(actor, method="committed", chunk=8)[0])
    np.testing.assert_array_equal(naive[:, :8], played(actor, method="ensemble", chunk=8)[0][:, :8])
    assert policy.joins == [8, 16, 24, 32] and policy.starved == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_robot_stays_until_the_first_answer(actor, method):
    actions, policy = played(actor, method=method, delay=4, chunk=8)
    stays = SEEN[:, [*range(15, 24), 14]].astype(np.float32)
    np.testing.assert_array_equal(actions[:, :4], np.repeat(stays[:, None], 4, 1))
    undelayed, _ = played(actor, method=method, delay=0, chunk=8)
    np.testing.assert_allclose(actions[:, 4:8], undelayed[:, :4], atol=1e-6)
    assert policy.joins == [12, 20, 28, 36]


def test_what_is_committed_is_executed_whatever_the_answer(actor):
    naive, _ = played(actor, method="naive", delay=4, chunk=8)
    ours, policy = played(actor, method="committed", delay=4, chunk=8)
    assert policy.given == 4
    np.testing.assert_array_equal(naive[:, :12], ours[:, :12])
    assert np.abs(naive[:, 12] - ours[:, 12]).max() > 1e-4
    policy = played(actor, method="committed", delay=4, chunk=8, error=2)[1]
    assert policy.given == 6 and policy.joins[0] == 12  # there after 4, used after 6, asked for 2 sooner


def test_a_delay_that_the_window_does_not_hold_is_waited_for(actor):
    actions, policy = played(actor, steps=80, method="committed", delay=20, chunk=20)
    assert not policy.cell.fits(actor.ahead) and policy.starved == 2 * 32  # 24 actions, then 4 of every 20
    np.testing.assert_array_equal(actions[:, 44:60], np.repeat(actions[:, 43:44], 16, 1))


def test_lost_answers_leave_the_rest_of_the_chunk_before(actor):
    whole, _ = played(actor, method="naive", delay=4, chunk=8)
    lost, policy = played(actor, method="naive", delay=4, chunk=8, lost=1.0)
    np.testing.assert_array_equal(whole[:, :12], lost[:, :12])
    assert policy.starved == 2 * (40 - 4 - actor.ahead)
    np.testing.assert_array_equal(lost[:, 28:], np.repeat(lost[:, 27:28], 12, 1))


def test_a_slow_first_answer_is_not_believed_for_ever(actor):
    _, policy = played(actor, steps=200, method="committed", delay=1, chunk=8, first=20)
    assert policy.took[0] == 20 and set(policy.took[1:]) == {1}
    assert policy.given == 1 and len(policy.took) > 11


def test_inpainting_pulls_a_linear_model_to_its_target(actor):
    schedule, target = actor.decider.schedule, torch.tensor([[[1.0, 2.0]]])
    pull, x, level = torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 2), torch.full((1, 1), 0.5)
    found = inpaint(lambda x, level: 0.5 * x, schedule, target, pull)(x, level)
    alpha, sigma = float(schedule.alpha(level)), float(schedule.sigma(level))
    expected = min(2 * sigma, 1 / alpha) * 0.5
    np.testing.assert_allclose(found.numpy(), [[[expected, 0.0]]], rtol=1e-5)


def test_cells_are_measured_tabled_and_drawn(tmp_path):
    cells = delay.cells("arm-pick", 24)
    assert len({c.name for c in cells}) == len(cells)
    assert {c.chunk for c in cells if c.delay == 16} == {16}  # shorter and longer ones come to the same
    rows = [delay.measured(Cell("arm-pick", m, 4, 16), "arm-pick", range(2)) for m in METHODS]
    assert all(r["episodes"] == 2 and r["seams"] > 0 for r in rows)
    assert len(delay.table(rows).splitlines()) == 3
    delay.picture(rows, tmp_path / "delay.png")
    assert (tmp_path / "delay.png").stat().st_size > 10_000
