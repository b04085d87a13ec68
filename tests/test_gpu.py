"""The same code on a GPU: run where there is one with `pytest -m gpu`."""

import numpy as np
import pytest
import torch

import dfplan
from dfplan.data import Episodes
from dfplan.guidance import obstacle
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.config import ModelConfig, TrainConfig
from dfplan.train.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def test_training_resumes_and_plans_on_the_gpu(tmp_path):
    rng = np.random.default_rng(0)
    walk = {
        "observations": rng.normal(size=(500, 4)).astype("f4"),
        "actions": rng.normal(size=(500, 2)).astype("f4"),
    }
    episodes = Episodes(walk, np.arange(50, 501, 50), 0.01)
    spec = TrajectorySpec(
        (Channel("x", index=0), Channel("y", index=1)), (Token("position", ("x", "y")),), 0.01, 3,
        observation_size=4, action_size=2,
    )  # fmt: skip
    config = TrainConfig(
        spec, 8, model=ModelConfig(width=16, layers=1), steps=4, batch=8, save_every=2, log_every=1
    )
    run = Trainer(config, episodes, tmp_path / "run", "cuda").run()
    assert [next(run), next(run)] == [1, 2]
    assert list(Trainer(config, episodes, tmp_path / "run", "cuda", resume=True).run())[-1] == 4
    planner = dfplan.load(tmp_path / "run", device="cuda")
    cost = obstacle({"x": 0.0, "y": 0.0}, 0.5)
    plan = planner.plan(walk["observations"][0], (1.0, 1.0), cost, seed=0)
    assert np.isfinite(plan.observations).all()
    again = planner.plan(walk["observations"][0], (1.0, 1.0), warm=plan, elapsed=0.03, seed=0)
    assert np.isfinite(again.observations).all()


def test_the_gpu_denoises_as_the_cpu_does():
    x, level = torch.randn(4, 32, 2), torch.rand(4, 32)
    cpu = dfplan.load("maze2d-large").model.denoiser(x, level)
    gpu = dfplan.load("maze2d-large", device="cuda").model.denoiser(x.cuda(), level.cuda()).cpu()
    torch.testing.assert_close(gpu, cpu, rtol=1e-3, atol=1e-3)
