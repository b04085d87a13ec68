import math

import pytest
import torch
from tiny import Perceptron
from torch import nn

from dfplan.denoiser import Denoiser
from dfplan.noise import NoiseSchedule
from dfplan.train.levels import SAMPLERS, Levels
from dfplan.train.loss import WEIGHTS, denoising_loss, weight

COSINE = NoiseSchedule()
NOTHING_KNOWN = {"start_known": 0.0}


def only(name, **more):
    return Levels(**({"independent": 0.0, name: 1.0} | NOTHING_KNOWN | more))


def draw(levels, batch=4000, steps=8, inside=None, seed=0):
    if inside is None:
        inside = torch.ones(batch, steps, dtype=torch.bool)
    return levels.sample(inside, torch.Generator().manual_seed(seed))


def test_independent_levels_are_uniform_and_uncorrelated():
    level, scored = draw(only("independent"), 20000)
    assert scored.all()
    torch.testing.assert_close(level.mean(0), torch.full((8,), 0.5), rtol=0, atol=0.01)
    torch.testing.assert_close(level.var(0), torch.full((8,), 1 / 12), rtol=0, atol=0.003)
    for q in (0.1, 0.5, 0.9):
        assert abs((level < q).float().mean() - q) < 0.01
    assert torch.corrcoef(level.T).fill_diagonal_(0).abs().max() < 0.04


def test_shared_levels_are_one_uniform_number():
    level, scored = draw(only("shared"))
    assert scored.all() and (level == level[:, :1]).all()
    assert abs(level.mean() - 0.5) < 0.02 and abs(level[:, 0].var() - 1 / 12) < 0.005


def test_pyramid_levels_rise_and_reach_both_ends():
    level, scored = draw(only("pyramid"))
    assert scored.all() and (level.diff(dim=1) >= 0).all()
    assert level.min() == 0 and level.max() == 1
    assert (level[:, 0] < level[:, -1]).float().mean() > 0.9


def test_next_token_is_clean_past_one_noisy_step_masked_future():
    level, scored = draw(only("next_token"))
    assert (scored.sum(1) == 1).all()
    current = scored.int().argmax(1)
    index = torch.arange(8)
    assert (level[index < current[:, None]] == 0).all() and (level[index > current[:, None]] == 1).all()
    torch.testing.assert_close(
        current.bincount(minlength=8) / 4000, torch.full((8,), 0.125), rtol=0, atol=0.02
    )
    assert abs(level[scored].mean() - 0.5) < 0.02


def test_mixture_weights_are_proportions():
    level, _ = draw(Levels(independent=1, shared=3, **NOTHING_KNOWN))
    same = (level == level[:, :1]).all(1).float().mean()
    assert abs(same - 0.75) < 0.03
    level, scored = draw(Levels(independent=1, next_token=1, **NOTHING_KNOWN))
    assert abs((scored.sum(1) == 1).float().mean() - 0.5) < 0.03
    assert abs(scored.all(1).float().mean() - 0.5) < 0.03


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_start_known_probability(p):
    level, scored = draw(only("independent", start_known=p))
    assert abs((level[:, 0] == 0).float().mean() - p) < 0.03
    assert (level[:, 1:] > 0).all() and scored.all()


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_goal_known_shows_the_last_step_and_only_held_ones_before_it(p):
    inside = (torch.arange(8) < 5).repeat(6000, 1)  # steps 5, 6, 7 are held
    level, scored = draw(only("independent", goal_known=p), inside=inside)
    clean = level == 0
    assert scored.all()
    assert abs(clean[:, -1].float().mean() - p) < 0.03
    assert not clean[:, :5].any()
    assert (clean.int().diff(dim=1) >= 0).all()  # clean steps are a run up to the end
    more = clean[clean[:, -1]].sum(1)
    assert abs((more > 1).float().mean() - 1 / 3) < 0.05  # half draw a part of 3 steps, 2/3 of it above 1
    assert (more == 2).any() and (more == 3).any()


def test_goal_known_without_held_steps_is_the_last_step_alone():
    level, _ = draw(only("independent", goal_known=1.0))
    assert (level[:, -1] == 0).all() and (level[:, :-1] > 0).all()


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_masked_tail_is_noise_and_not_scored(p):
    level, scored = draw(only("independent", masked_tail=p))
    tail = ~scored
    assert abs(tail.any(1).float().mean() - p) < 0.03
    assert (level[tail] == 1).all() and scored[:, 0].all()
    assert (tail.int().diff(dim=1) >= 0).all()
    assert sorted(tail[tail.any(1)].sum(1).unique().tolist()) == list(range(1, 8))


def test_same_generator_same_levels():
    levels = Levels(1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5)
    a, b, c = (draw(levels, seed=s)[0] for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_weights_may_be_whole_numbers():
    level, scored = draw(Levels(independent=1, shared=1, pyramid=1, next_token=1))
    assert level.shape == scored.shape == (4000, 8)


@pytest.mark.parametrize("name", ["start_known", "goal_known", "masked_tail"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_bad_probability(name, value):
    with pytest.raises(ValueError, match=name):
        Levels(**{name: value})


@pytest.mark.parametrize("bad", [{"independent": 0.0}, {"shared": -1.0}, dict.fromkeys(SAMPLERS, 0.0)])
def test_bad_mixture(bad):
    with pytest.raises(ValueError, match="mixture weights"):
        Levels(**bad)


def batch(parameterisation="x0", low=0.05, channels=3):
    denoiser = Denoiser(Perceptron(channels, mix=True), COSINE, parameterisation).double()
    x, noise = torch.randn(2, 4, 5, channels, dtype=torch.float64)
    level = low + (0.95 - low) * torch.rand(4, 5, dtype=torch.float64)
    return denoiser, x, level, noise, torch.ones_like(x)


@pytest.mark.parametrize("parameterisation", ["x0", "eps", "v"])
def test_uniform_is_the_plain_error_of_the_networks_own_output(parameterisation):
    denoiser, x, level, noise, scored = batch(parameterisation)
    alpha, sigma = COSINE.alpha(level)[..., None], COSINE.sigma(level)[..., None]
    target = {"x0": x, "eps": noise, "v": alpha * noise - sigma * x}[parameterisation]
    out = denoiser.backbone(alpha * x + sigma * noise, level)
    torch.testing.assert_close(
        denoising_loss(denoiser, x, level, noise, scored),
        (out - target).square().mean(),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("parameterisation", ["x0", "eps", "v"])
def test_min_snr_caps_the_weight_of_x0_at_5(parameterisation):
    level = torch.linspace(0, 1, 101)[None]
    got = weight("min_snr", level, COSINE, parameterisation)
    torch.testing.assert_close(got, COSINE.snr(level).clamp_max(5))
    assert got[0, 0] == 5 and got[0, -1] < 1e-3


def test_fused_snr_by_hand():
    """S_t = min(snr, 5) / 5 and mean M_t = 0.9 M_{t-1} + 0.1 S_t from S_0: 5 * (1 - (1 - S_t)(1 - M_{t-1}))."""
    snr = torch.tensor([[10.0, 1.0, 2.0, 0.0]])
    alpha = (snr / (1 + snr)).sqrt()
    level = alpha.acos() / (math.pi / 2 - 0.01)
    got = weight("fused_snr", level.clamp_max(1), COSINE, "x0")
    past = [0.0, 1.0, 0.9 + 0.02, 0.828 + 0.04]
    own = [1.0, 0.2, 0.4, 0.0]
    expected = [5 * (1 - (1 - s) * (1 - p)) for s, p in zip(own, past, strict=True)]
    torch.testing.assert_close(got, torch.tensor([expected]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_finite_at_both_ends(kind):
    for parameterisation in ("x0", "eps", "v"):
        got = weight(kind, torch.tensor([[0.0, 1.0, 0.0, 0.5]]), COSINE, parameterisation)
        assert got.shape == (1, 4) and torch.isfinite(got).all() and (got >= 0).all()


def test_unknown_weight():
    with pytest.raises(ValueError, match="did you mean 'min_snr'"):
        weight("min_snrr", torch.rand(1, 2), COSINE, "x0")


@pytest.mark.parametrize("kind", WEIGHTS)
def test_what_is_not_scored_sends_no_gradient(kind):
    class Free(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.out = nn.Parameter(torch.randn(shape))

        def forward(self, x, level, cond=None):
            return self.out

    _, x, level, noise, scored = (v.float() if torch.is_tensor(v) else v for v in batch())
    scored[:, 3:] = 0
    scored[..., 2] = 0
    net = Free(x.shape)
    denoising_loss(Denoiser(net, COSINE), x, level, noise, scored, kind).backward()
    assert ((net.out.grad != 0) == (scored != 0)).all()


@pytest.mark.parametrize("kind", WEIGHTS)
def test_loss_does_not_change_with_padding_channels_or_steps(kind):
    class Own(nn.Module):
        """Each channel on its own; rubbish in the padding."""

        def forward(self, x, level, cond=None):
            out = x.sin()
            out[..., 3:] = 1e3
            out[:, 5:] = 1e3
            return out

    _, x, level, noise, scored = batch()
    denoiser = Denoiser(Own(), COSINE)
    plain = denoising_loss(denoiser, x, level, noise, scored, kind)
    wide = [nn.functional.pad(v, (0, 2, 0, 1)) for v in (x, noise, scored)]
    padded = denoising_loss(denoiser, wide[0], nn.functional.pad(level, (0, 1), value=1.0), *wide[1:], kind)
    torch.testing.assert_close(padded, plain)


def test_nothing_scored_is_zero_not_nan():
    denoiser, x, level, noise, scored = batch()
    assert denoising_loss(denoiser, x, level, noise, 0 * scored) == 0


def remember(levels, steps=6, group=3, batch=4000, base=0.7):
    generator = torch.Generator().manual_seed(1)
    present = levels.present(batch, steps, generator)
    level = torch.full((batch, steps * group), base)
    committed = levels.commit(present, steps, generator)
    return levels.remember(level, present, committed, group, generator), present


@pytest.mark.parametrize("group", [1, 2, 3])
def test_history_is_clean_up_to_the_present_and_its_action_is_not(group):
    level, present = remember(only("shared", history=1.0, memory=4), group=group)
    index = torch.arange(6 * group)
    known = index < present[:, None] * group + max(1, group - 1)
    assert (level[known] == 0).all() and (level[~known] == 0.7).all()
    assert present.unique().tolist() == [0, 1, 2, 3]


def test_a_doubtful_sensor_is_noisy_over_a_span_of_the_history_alone():
    level, present = remember(only("shared", history=1.0, doubt=1.0))
    index = torch.arange(18)
    known = index < present[:, None] * 3 + 2
    assert (level[~known] == 0.7).all()
    raised = (level > 0) & known
    kinds = torch.stack([raised[:, g::3].any(1) for g in range(3)], 1)
    assert (kinds.sum(1) <= 1).all() and (kinds.float().mean(0) > 0.1).all()
    for row in raised[kinds.any(1)][:200]:
        steps = (row.nonzero()[:, 0] // 3).tolist()
        assert steps == list(range(steps[0], steps[-1] + 1))  # a span without holes
    values = level[raised]
    assert 0 < values.min() and values.max() <= 1 and abs(values.mean() - 0.5) < 0.05


def test_committed_actions_are_shown_with_the_history_and_never_the_last_step():
    levels = only("shared", history=1.0, memory=3, committed=0.5)
    level, present = remember(levels)
    action = level.view(-1, 6, 3)[:, :, 2] == 0
    known = torch.arange(6) < present[:, None]
    ahead = (action & ~known).sum(1)
    runs = torch.arange(6) < (present + ahead)[:, None]
    assert (action == runs).all() and not action[:, -1].any()
    assert (
        abs((ahead > 0).float().mean() - 0.5 * 0.8) < 0.05
    )  # a fifth to a third of the draws are of no step
    observed = level.view(-1, 6, 3)[:, :, :2] == 0
    assert (observed == (torch.arange(6) <= present[:, None])[..., None]).all()


def test_history_is_shown_as_often_as_asked_and_not_at_all_by_default():
    level, _ = remember(only("shared", history=0.3))
    assert abs((level[:, 0] == 0).float().mean() - 0.3) < 0.03
    level, present = remember(only("shared"))
    assert (level == 0.7).all() and (present == 0).all()


def test_masked_shows_nothing():
    level, scored = draw(only("masked"))
    assert (level == 1).all() and scored.all()
