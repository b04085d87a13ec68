import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import Echo
from torch import nn

from dfplan.denoiser import PARAMETERISATIONS, Denoiser
from dfplan.noise import KINDS, NoiseSchedule

every = pytest.mark.parametrize("kind", KINDS)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_variance_is_preserved_and_signal_falls(kind, dtype):
    noise, level = NoiseSchedule(kind), torch.linspace(0, 1, 2001, dtype=dtype)
    alpha, sigma = noise.alpha(level), noise.sigma(level)
    assert alpha[0] == 1 and sigma[0] == 0
    assert 0.005 <= alpha[-1] <= 0.0101
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(level))
    torch.testing.assert_close(NoiseSchedule(kind).snr(level[1:]), (alpha / sigma)[1:].square())
    assert torch.isinf(noise.snr(level[:1])).all()
    if dtype == torch.float64:
        assert (alpha.diff() < 0).all() and (sigma.diff() > 0).all() and (noise.snr(level).diff() < 0).all()


def test_linear_is_the_discrete_schedule_of_1000_steps():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    discrete = (1 - beta).cumprod(0).sqrt()
    level = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(NoiseSchedule("linear").alpha(level), discrete, rtol=0, atol=2e-3)
    assert (
        NoiseSchedule("cosine").alpha(level) - discrete
    ).abs().max() > 0.1  # the tolerance tells kinds apart


@every
@given(shape=st.lists(st.integers(1, 4), max_size=4))
def test_levels_of_any_shape(kind, shape):
    level = torch.rand(shape)
    noise = NoiseSchedule(kind)
    for f in (noise.alpha, noise.sigma, noise.snr):
        assert f(level).shape == level.shape
        torch.testing.assert_close(f(level).flatten(), f(level.flatten()))


@every
def test_add_noise_has_the_mean_and_variance_of_each_tokens_level(kind):
    noise = NoiseSchedule(kind)
    level = torch.tensor([[0.0, 0.2, 0.6, 1.0]])
    x = torch.full((40000, 4, 1), 2.0)
    noisy = noise.add_noise(x, level.expand(40000, 4), torch.randn(x.shape))
    torch.testing.assert_close(noisy.mean(0)[:, 0], 2 * noise.alpha(level)[0], rtol=0, atol=0.02)
    torch.testing.assert_close(noisy.std(0)[:, 0], noise.sigma(level)[0], rtol=0, atol=0.02)
    assert (noisy[:, 0] == 2).all()


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"'cosin'.*did you mean 'cosine'"):
        NoiseSchedule("cosin")
    with pytest.raises(ValueError, match=r"'epss'.*x0, eps, v.*did you mean 'eps'"):
        Denoiser(Echo(), NoiseSchedule(), "epss")


class Oracle(nn.Module):
    """Knows the clean tokens and answers in one parameterisation."""

    def __init__(self, x0, schedule, kind):
        super().__init__()
        self.x0, self.schedule, self.kind = x0, schedule, kind

    def forward(self, x, level, cond=None):
        alpha, sigma = self.schedule.alpha(level)[..., None], self.schedule.sigma(level)[..., None]
        eps = (x - alpha * self.x0) / sigma
        return {"x0": self.x0, "eps": eps, "v": alpha * eps - sigma * self.x0}[self.kind]


@every
@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
def test_oracle_of_each_parameterisation_gives_x0_exactly(kind, parameterisation):
    schedule = NoiseSchedule(kind)
    x0, eps = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    level = 0.02 + 0.98 * torch.rand(3, 5, dtype=torch.float64)
    denoiser = Denoiser(Oracle(x0, schedule, parameterisation), schedule, parameterisation)
    noisy = schedule.add_noise(x0, level, eps)
    torch.testing.assert_close(denoiser(noisy, level), x0, rtol=1e-9, atol=1e-9)
    if parameterisation != "x0":  # a wrong answer in its space is a wrong x0
        wrong = Denoiser(Oracle(x0 + 1, schedule, parameterisation), schedule, parameterisation)
        assert (wrong(noisy, level) - x0).abs().min() > 0.5
