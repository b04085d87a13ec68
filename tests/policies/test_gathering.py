"""Gathering rewards on a small maze, from training to the numbers, by configuration alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dfplan import cli, envs, models
from dfplan.data import load
from dfplan.planner import Planner
from dfplan.policies import gathering
from dfplan.rollout import run as play
from dfplan.train import checkpoint

TINY = ["--steps", "2", "--batch", "8", "--warmup", "1", "--model.width", "16", "--model.layers", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of the dense umaze after two steps, and its data."""
    folder = tmp_path_factory.mktemp("dense")
    envs.generate("maze2d-umaze-dense", folder / "demos.hdf5", 4000, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        words = ["dfplan", "train", "maze2d-umaze-dense", "--data", str(folder / "demos.hdf5"), *TINY]
        patch.setattr("sys.argv", [*words, "--out", str(folder / "run")])
        cli.main()
    return folder


def test_the_task_by_name_has_rewards_returns_and_no_goal(run):
    config = checkpoint.settings(run / "run/checkpoint")
    assert config.goal is None and config.returns.to_go == 0.99 and config.act["planner"]["gather"] == 300
    data = load(run / "demos.hdf5", name="maze2d-umaze-dense-v1")
    away = np.linalg.norm(data.arrays["observations"][:, :2] - 1.0, axis=1)
    np.testing.assert_allclose(data.arrays["rewards"], np.exp(-away), rtol=1e-5)


@pytest.mark.parametrize(
    "way",
    [
        [],
        ["--planner.roadmap", "0", "--planner.cost", "returns('reward')"],
        ["--planner.roadmap", "0", "--planner.returns", "0.9"],
    ],
)
def test_eval_gathers_in_each_way(run, way, monkeypatch, tmp_path):
    words = ["dfplan", "eval", "maze2d-umaze-dense", "--checkpoint", run / "run", "--episodes", 2]
    words += ["--seed", 90000, "--env-args", "max_episode_steps=20", "--json", tmp_path / "e.json"]
    words += way or ["--planner.roadmap", 20]
    monkeypatch.setattr("sys.argv", [str(w) for w in words])
    cli.main()
    values = json.loads((tmp_path / "e.json").read_text())
    assert values["episodes"] == 2 and np.isfinite(values["return_mean"]) and values["network_calls_mean"] > 0
    assert values["ceiling"] is not None  # the search, which is told the goal


def test_where_the_goal_is_changes_nothing(run):
    """The environment says where its goal is; the policy does not hear it."""
    planner = models.load(run / "run")
    for roadmap in (0, 20):
        seen = []
        for goal in ((1.0, 1.0), (3.0, 3.0)):
            policy = gathering(Planner(planner.model, replace(planner.config, roadmap=roadmap)))
            make = lambda goal=goal: envs.make("maze2d-umaze-dense", goal=goal, max_episode_steps=30)  # noqa: E731
            (outcome,) = play(make, policy, [0])
            seen.append(outcome.observations)
        np.testing.assert_array_equal(*seen)
