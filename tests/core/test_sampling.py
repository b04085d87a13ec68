import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Gaussian

from dfplan import schedules
from dfplan.known import Known
from dfplan.nets.transformer import Transformer
from dfplan.noise import KINDS, NoiseSchedule
from dfplan.sampling import STEPS, ddim, ddpm, dpm_solver_2m, sample
from dfplan.schedules import ScheduleMatrix

COSINE = NoiseSchedule()


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draws(generator, *shape):
    return lambda: torch.randn(shape, generator=generator)


def exact(matrix):
    return ScheduleMatrix(matrix.levels.double())


def flow_errors(step, kind, counts, high=1.0, low=0.0):
    """Root mean square distance to the probability flow, per number of steps."""
    model, x = Gaussian(schedule=NoiseSchedule(kind)), noise(64, 1, 1, dtype=torch.float64)
    out = []
    for steps in counts:
        matrix = ScheduleMatrix(torch.linspace(high, low, steps + 1, dtype=torch.float64)[:, None])
        y = sample(model, model.schedule, matrix, x, step=step)
        out.append(float((y - model.flow(x, high, low)).square().mean().sqrt()))
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name, order", [("ddim", 1), ("dpm_solver_2m", 2)])
def test_order_of_convergence_to_the_probability_flow(kind, name, order):
    errors = flow_errors(STEPS[name], kind, [256, 512, 1024], 0.9, 0.1)
    assert errors[0] > errors[1] > errors[2]
    slope = math.log2(errors[0] / errors[2]) / 2
    assert abs(slope - order) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_from_noise_to_clean_ddim_is_first_order_and_dpm_solver_better(kind):
    first, second = (flow_errors(f, kind, [64, 128, 256]) for f in (ddim, dpm_solver_2m))
    assert 0.8 < math.log2(first[0] / first[2]) / 2 < 1.25
    assert all(b < 0.5 * a for a, b in zip(first, second, strict=True))


def test_ddim_error_at_many_steps_is_small():
    assert flow_errors(ddim, "cosine", [512])[0] < 2e-3


def test_ddpm_draws_the_right_gaussian():
    model = Gaussian(0.7, 0.5)
    g = torch.Generator().manual_seed(3)
    y = sample(
        model, COSINE, schedules.full(1, 200), noise(20000, 1, 1), step=ddpm, noise=draws(g, 20000, 1, 1)
    )
    assert abs(y.mean() - 0.7) < 0.02
    assert abs(y.std() - 0.5) < 0.02
    start = noise(1, 1, 1).expand(500, 1, 1)  # it is stochastic: the same start spreads out
    spread = sample(model, COSINE, schedules.full(1, 50), start, step=ddpm, noise=draws(g, 500, 1, 1)).std()
    assert spread > 0.3


@pytest.mark.parametrize("high, low", [(0.8, 0.3), (1.0, 0.5), (0.5, 0.45), (0.4, 0.0)])
def test_one_ddpm_step_with_the_true_x0_keeps_the_marginal(high, low):
    high, low = torch.tensor([[high]]), torch.tensor([[low]])
    x0, eps = torch.tensor(1.5), noise(100000, 1, 1)
    x = COSINE.add_noise(x0, high, eps)
    matrix = ScheduleMatrix(torch.cat([high, low]))
    g = torch.Generator().manual_seed(1)
    y = sample(lambda x, level: x0.expand_as(x), COSINE, matrix, x, step=ddpm, noise=draws(g, 100000, 1, 1))
    assert abs(y.mean() - COSINE.alpha(low) * 1.5) < 0.01
    assert abs(y.std() - COSINE.sigma(low)) < 0.01


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_2m"])
@pytest.mark.parametrize("shape", ["pyramid", "autoregressive", "trapezoid"])
def test_independent_tokens_do_not_care_when_their_turn_comes(name, shape):
    model, x = Gaussian(), noise(32, 5, 2, dtype=torch.float64)
    staggered = schedules.make(shape, 5, 16, 3.0)
    together = sample(model, COSINE, exact(schedules.full(5, 16)), x, step=STEPS[name])
    apart = sample(model, COSINE, exact(staggered), x, step=STEPS[name])
    torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-6)


def test_pyramid_with_half_steps_still_gives_the_gaussian():
    model = Gaussian(0.7, 0.5)
    g = torch.Generator().manual_seed(0)
    y = sample(
        model,
        COSINE,
        schedules.pyramid(4, 100, 2.5),
        noise(8000, 4, 1),
        step=ddpm,
        noise=draws(g, 8000, 4, 1),
    )
    torch.testing.assert_close(y.mean(0)[:, 0], torch.full((4,), 0.7), rtol=0, atol=0.03)
    torch.testing.assert_close(y.std(0)[:, 0], torch.full((4,), 0.5), rtol=0, atol=0.03)
    assert torch.corrcoef(y[..., 0].T).fill_diagonal_(0).abs().max() < 0.05


def transformer(tokens=6, channels=2):
    torch.manual_seed(0)
    net = Transformer(channels, tokens, 1, width=16, layers=1, heads=2)
    for p in net.parameters():  # residual branches start near zero; make attention matter
        p.data += 0.2 * torch.randn_like(p)
    return net.eval().requires_grad_(False)


def test_full_matrix_equals_textbook_ddim():
    net, x = transformer(), noise(3, 6, 2)
    steps = 9
    y = x.clone()
    for i in range(steps, 0, -1):
        t, s = i / steps, (i - 1) / steps
        abar_t, abar_s = (math.cos(u * (math.pi / 2 - 0.01)) ** 2 for u in (t, s))
        x0 = net(y, torch.full((3, 6), t))
        eps = (y - math.sqrt(abar_t) * x0) / math.sqrt(1 - abar_t)
        y = math.sqrt(abar_s) * x0 + math.sqrt(1 - abar_s) * eps
    torch.testing.assert_close(sample(net, COSINE, schedules.full(6, steps), x), y, rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(data=st.data(), name=st.sampled_from(sorted(STEPS)))
def test_only_tokens_whose_level_falls_are_changed(data, name):
    tokens, rows = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    drops = data.draw(
        st.lists(st.lists(st.booleans(), min_size=tokens, max_size=tokens), min_size=rows, max_size=rows)
    )
    drop = torch.tensor(drops)
    levels = 1 - torch.cat([torch.zeros(1, tokens), drop.float().cumsum(0)]) / (rows + 1)
    snapshots = [noise(2, tokens, 3)]
    sample(
        Gaussian(), COSINE, ScheduleMatrix(levels), snapshots[0], step=STEPS[name],
        noise=draws(torch.Generator(), 2, tokens, 3), callback=lambda m, x, x0: snapshots.append(x),
    )  # fmt: skip
    for m in range(rows):
        same = (snapshots[m] == snapshots[m + 1]).all(-1).all(0)
        assert (same == ~drop[m]).all()


@pytest.mark.parametrize("name", sorted(STEPS))
def test_exactly_known_tokens_stay_exact_and_are_seen_at_level_0(name):
    net, values = transformer(), noise(3, 6, 2, seed=5)
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) < 0.4
    seen = []

    def spy(x, level):
        seen.append((x.clone(), level.clone()))
        return net(x, level)

    y = sample(
        spy, COSINE, schedules.pyramid(6, 4), noise(3, 6, 2), known=Known(values, mask), step=STEPS[name],
        noise=draws(torch.Generator(), 3, 6, 2),
    )  # fmt: skip
    assert mask.any() and (y[mask] == values[mask]).all() and (y[~mask] != values[~mask]).any()
    assert len(seen) == 9
    for x, level in seen:
        assert (x[mask] == values[mask]).all() and (level[mask] == 0).all()
    assert (seen[0][1][~mask] == 1).all()


def test_doubtful_tokens_start_at_their_level_and_end_clean():
    values, mask = noise(2, 4, 1, seed=5), torch.tensor([[True, False, True, False]] * 2)
    own = torch.tensor([[0.3, 0.9, 0.6, 0.9]] * 2)
    seen = []

    def spy(x, level):
        seen.append((x.clone(), level.clone()))
        return Gaussian(0.0, 1.0)(x, level)

    x = noise(2, 4, 1)
    y = sample(spy, COSINE, schedules.full(4, 10), x, known=Known(values, mask, own))
    first_x, first_level = seen[0]
    torch.testing.assert_close(first_x[mask], (COSINE.alpha(own)[..., None] * values)[mask])
    assert (first_x[~mask] == x[~mask]).all() and (first_level[~mask] == 1).all()
    for i, (_, level) in enumerate(seen):
        torch.testing.assert_close(
            level, torch.where(mask, own.clamp(max=1 - i / 10), torch.tensor(1 - i / 10))
        )
    alone = sample(
        Gaussian(0.0, 1.0), COSINE, ScheduleMatrix(torch.tensor([0.3, 0.3, 0.2, 0.1, 0])[:, None]),
        COSINE.alpha(torch.tensor(0.3)) * values[:, :1],
    )  # fmt: skip
    torch.testing.assert_close(y[:, :1], alone)


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_2m"])
def test_one_sample_does_not_depend_on_its_batch(name):
    net, x = transformer(), noise(5, 6, 2)
    values, mask = noise(5, 6, 2, seed=2), torch.rand(5, 6) < 0.3
    matrix = schedules.pyramid(6, 5, 0.5)
    whole = sample(net, COSINE, matrix, x, known=Known(values, mask), step=STEPS[name])
    for b in range(5):
        row = slice(b, b + 1)
        one = sample(net, COSINE, matrix, x[row], known=Known(values[row], mask[row]), step=STEPS[name])
        torch.testing.assert_close(one, whole[row], rtol=1e-4, atol=1e-5)


def test_the_noise_that_is_passed_in_decides():
    net, matrix = transformer(), schedules.full(6, 6)

    def draw(seed):
        torch.rand(seed + 1)  # the global state does not matter
        g = torch.Generator().manual_seed(seed)
        return sample(net, COSINE, matrix, noise(2, 6, 2), step=ddpm, noise=draws(g, 2, 6, 2))

    assert (draw(7) == draw(7)).all()
    assert (draw(7) != draw(8)).any()


def test_callback_gets_every_row_and_may_spoil_what_it_gets():
    net, x, rows = transformer(), noise(2, 6, 2), []

    def spoil(m, x, x0):
        rows.append((m, x.clone(), x0.clone()))
        x.fill_(9), x0.fill_(9)

    plain = sample(net, COSINE, schedules.full(6, 4), x, step=dpm_solver_2m)
    spoilt = sample(net, COSINE, schedules.full(6, 4), x, step=dpm_solver_2m, callback=spoil)
    assert (plain == spoilt).all()
    assert [m for m, _, _ in rows] == [0, 1, 2, 3]
    assert (rows[-1][1] == spoilt).all() and (rows[0][1] != rows[1][1]).any()


def test_input_noise_is_not_written_to():
    x = noise(2, 6, 2)
    before = x.clone()
    sample(
        transformer(), COSINE, schedules.full(6, 3), x, known=Known(torch.ones(2, 6, 2), torch.ones(2, 6) > 0)
    )
    assert (x == before).all()
