import dataclasses

import numpy as np
import pytest
import torch
from tiny import Echo, checkpoint
from torch import nn

from dfplan.decide import Decider, Sampling
from dfplan.denoiser import Denoiser
from dfplan.plan.rolling import roll

STEP = 0.25


class GoesOn(nn.Module):
    """A backbone whose tokens follow the cleanest of the first two, a fixed step apart."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.levels = []

    def forward(self, x, level):
        self.levels.append(level[0].clone())
        known = int((level[0] < 0.5).sum())
        first = x[:, known - 1 : known]
        ahead = STEP * torch.arange(1 - known, x.shape[1] - known + 1)
        return first + ahead[None, :, None]


def decider(backbone):
    model = checkpoint(horizon=8)
    return Decider(dataclasses.replace(model, denoiser=Denoiser(backbone, model.config.model.noise)))


def generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_a_rollout_goes_on_where_its_window_ended():
    backbone = GoesOn()
    d = decider(backbone)
    scale = d.model.normalizer.unnormalize(torch.ones(1, 1, 2)) - d.model.normalizer.unnormalize(
        torch.zeros(1, 1, 2)
    )
    history = np.zeros((2, 1, 4))
    history[1, :, :2] = 1.0
    out = roll(d, Sampling(steps=2), history, 80, generators(2), keep=3, advance=2)
    assert out.shape == (2, 81, 4)
    expected = history[:, :1, :2] + STEP * np.arange(81)[:, None] * scale.numpy()[0]
    np.testing.assert_allclose(out[..., :2], expected, atol=1e-3)
    assert (backbone.levels[-2][:3] == 0).all() and (backbone.levels[-2][3:] == 1).all()


def test_what_is_shown_is_noisy_where_it_is_stabilised():
    clean, noisy = GoesOn(), GoesOn()
    for backbone, level in ((clean, 0.0), (noisy, 0.1)):
        roll(
            decider(backbone),
            Sampling(steps=1),
            np.zeros((1, 4, 4)),
            4,
            generators(1),
            keep=4,
            advance=4,
            stabilise=level,
        )
    assert (clean.levels[0][:4] == 0).all() and torch.allclose(noisy.levels[0][:4], torch.tensor(0.1))


def test_the_same_seeds_give_the_same_whatever_runs_beside():
    d, history = decider(Echo()), np.random.default_rng(0).normal(size=(3, 2, 4))
    together = roll(d, Sampling(steps=2), history, 20, generators(3), keep=2, advance=3)
    alone = roll(d, Sampling(steps=2), history[1:2], 20, generators(3)[1:2], keep=2, advance=3)
    np.testing.assert_allclose(alone[0], together[1], atol=1e-5)


@pytest.mark.parametrize("sizes", [{"keep": 8}, {"keep": 0}, {"keep": 6, "advance": 3}])
def test_refuses_what_does_not_fit_into_the_window(sizes):
    with pytest.raises(ValueError, match="fit into 8"):
        roll(decider(Echo()), Sampling(), np.zeros((1, 1, 4)), 4, generators(1), **sizes)
