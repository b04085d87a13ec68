"""One seed gives the same answer on every device, and a decision comes to the host once."""

import copy
import dataclasses

import numpy as np
import pytest
from accelerator import DEVICE, Accelerator, moved
from test_decide import model as causal
from test_memory import rows as walk
from test_memory import trained
from test_planner import GOAL, checkpoint

import dfplan
from dfplan.planner import Planner, PlannerConfig
from dfplan.policies import Imitation, ImitationConfig


def on_device(made):
    made = copy.deepcopy(made)
    return dataclasses.replace(made, denoiser=moved(made.denoiser), normalizer=moved(made.normalizer))


@pytest.mark.parametrize("settings", [{}, {"candidates": 1}, {"step": "ddpm", "schedule": "pyramid"}])
def test_a_plan_is_the_same_and_is_fetched_once(settings):
    config = PlannerConfig(**({"steps": 3, "candidates": 3} | settings))
    made = checkpoint(horizon=8, goal=GOAL)
    expected = Planner(made, config).plan(np.zeros(4), seed=3)
    with Accelerator() as device:
        planner = Planner(on_device(made), config)
        assert planner.decider.device.type == DEVICE.type
        device.copies.clear()
        got = planner.plan(np.zeros(4), seed=3)
    np.testing.assert_allclose(got.candidates, expected.candidates, atol=1e-5)
    assert got.chosen == expected.chosen
    assert len(device.copies) == 1 and device.syncs == [] and device.doubles == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_decision_is_the_same_and_is_fetched_once(stream):
    made, config = causal("transformer"), ImitationConfig(memory=0, chunk=2, steps=2, stream=stream)
    rows = np.random.default_rng(0).normal(size=(7, 3))

    def play(policy):
        policy.reset(0)
        return np.stack([policy.act(row) for row in rows])

    expected = play(Imitation(made, config))
    with Accelerator() as device:
        policy = Imitation(on_device(made), config)
        device.copies.clear()
        got = play(policy)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert len(device.copies) == len(policy.seconds) == 4  # one for each decision, streamed or not
    assert device.syncs == [] and device.doubles == []


@pytest.mark.parametrize("carrier", ["attention", "compressed", "recurrent"])
def test_a_memory_stays_on_the_device(carrier, tmp_path):
    made = trained(carrier, tmp_path / "checkpoint")

    def play(policy):
        policy.reset(0)
        return np.stack([policy.act(row) for row in walk()])

    expected = play(Imitation(made))
    with Accelerator() as device:
        policy = Imitation(on_device(made))
        device.copies.clear()
        got = play(policy)
        assert all(kept.device.type == DEVICE.type for kept in policy._state.kept)
    np.testing.assert_allclose(got, expected, atol=1e-3)
    assert len(device.copies) == len(policy.seconds) and device.syncs == [] and device.doubles == []


def test_shipped_models_too():
    made = dfplan.load("maze2d-umaze").model
    expected = Planner(made).plan([1.0, 1.0, 0.0, 0.0], seed=1)
    with Accelerator() as device:
        planner = Planner(on_device(made))
        device.copies.clear()
        got = planner.plan([1.0, 1.0, 0.0, 0.0], seed=1)
    np.testing.assert_allclose(got.observations, expected.observations, atol=1e-3)
    assert len(device.copies) == 1 and device.syncs == []
