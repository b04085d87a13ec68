import pytest
import torch
from tiny import Gaussian, Perceptron, position_spec, state_spec

from dfplan import guidance, schedules
from dfplan.guidance import evaluate, goal, guide, limits, obstacle, returns, smoothness, total
from dfplan.nets.normalize import Normalizer
from dfplan.nets.transformer import Transformer
from dfplan.noise import NoiseSchedule
from dfplan.sampling import sample
from dfplan.spec import Channel, Token, TrajectorySpec

COSINE = NoiseSchedule()
LINE = TrajectorySpec((Channel("x"),), (Token("position", ("x",)),), 0.1, observation_size=1)


def scaled(spec, mean=0.5, scale=2.0):
    return Normalizer(
        torch.full((spec.group_size, spec.width), mean), torch.full((spec.group_size, spec.width), scale)
    )


def guided(denoiser, cost, scale=1.0, spec=None, normalizer=None, **more):
    spec = spec or position_spec()
    normalizer = normalizer or scaled(spec)
    return guide(denoiser, cost, scale, schedule=COSINE, spec=spec, normalizer=normalizer, **more)


def bowl(channels, mask):
    return sum(((v - 0.3).square() * mask).sum(-1) for v in channels.values())


def finite_difference(net, cost, x, level, spec, normalizer, step=1e-5):
    """d cost(x0(x)) / dx in double precision, one number at a time."""
    net, normalizer = net.double(), normalizer.double()
    x, level = x.double(), level.double()
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        moved = torch.zeros_like(x).view(-1)
        moved[i] = step
        up, down = (
            evaluate(cost, net(y, level), spec, normalizer)
            for y in (x + moved.view_as(x), x - moved.view_as(x))
        )
        gradient.view(-1)[i] = ((up - down) / (2 * step)).sum()
    net.float(), normalizer.float()
    return gradient


@pytest.mark.parametrize("futures", [1, 3])
@pytest.mark.parametrize(
    "cost",
    [bowl, goal({"x": 1.0, "y": -1.0}), obstacle({"x": 0.4, "y": 0.5}, 3.0), smoothness(["x", "y"])],
    ids=["bowl", "goal", "obstacle", "smoothness"],
)
def test_correction_is_the_finite_difference_gradient_through_the_network(cost, futures):
    spec = state_spec()
    normalizer, net = scaled(spec), Perceptron(2, mix=True)
    x, level = torch.randn(2, 8, 2), torch.full((2, 8), 0.4)
    if futures == 1:  # levels may differ: nothing is redrawn
        level = torch.rand(2, 8)
    x0 = net(x, level).detach()
    expected = finite_difference(net, cost, x, level, spec, normalizer)
    alpha, sigma = COSINE.alpha(level)[..., None], COSINE.sigma(level)[..., None]
    got = guided(net, cost, 0.7, spec, normalizer, futures=futures)(x, level)
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(
        (x0 - got) * alpha / (0.7 * sigma.square()), expected.float(), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("futures", [1, 4])
def test_no_scale_is_no_guidance(futures):
    net, x, level = Perceptron(2, mix=True), torch.randn(2, 4, 2), torch.rand(2, 4)
    torch.testing.assert_close(guided(net, bowl, 0.0, futures=futures)(x, level), net(x, level))
    assert (guided(net, bowl, 1.0, futures=futures)(x, level) - net(x, level)).abs().max() > 1e-3


def test_result_does_not_depend_on_batch():
    net, x, level = Perceptron(2, mix=True), torch.randn(3, 4, 2), torch.rand(3, 4)
    one = guided(net, bowl)(x, level)
    twice = guided(net, bowl)(x.repeat(2, 1, 1), level.repeat(2, 1))
    torch.testing.assert_close(twice[:3], one)
    torch.testing.assert_close(twice[3:], one)
    for b in range(3):
        torch.testing.assert_close(guided(net, bowl)(x[b : b + 1], level[b : b + 1]), one[b : b + 1])


def test_result_does_not_depend_on_masked_padding():
    net = Transformer(2, 7, 1, width=16, layers=1, heads=2, causal=True)
    for p in net.parameters():
        p.data += 0.2 * torch.randn_like(p)
    x, level = torch.randn(3, 7, 2), torch.rand(3, 7)
    mask = (torch.arange(7) < 4).repeat(3, 1)
    short = guided(net, bowl)(x[:, :4], level[:, :4])
    long = guided(net, bowl, mask=mask)(x, level)
    torch.testing.assert_close(long[:, :4], short, rtol=1e-4, atol=1e-5)
    assert (guided(net, bowl)(x, level)[:, :4] - short).abs().max() > 1e-4  # unmasked, the tail does pull


def test_mask_covers_every_frame_and_token_of_its_step():
    spec = state_spec(stack=3)
    x0 = torch.randn(2, 8, spec.width)
    mask = torch.tensor([[True, False, True, False]] * 2)
    got = evaluate(bowl, x0, spec, scaled(spec), mask)
    physical = (0.5 + 2.0 * x0).unflatten(1, (4, 2))[:, [0, 2]]
    torch.testing.assert_close(got, (physical - 0.3).square().flatten(1).sum(1))


@pytest.mark.parametrize("level", [0.05, 0.4, 0.8, 1.0])
def test_linear_cost_gives_the_tilted_posterior_mean(level):
    """x ~ N(m, s^2), tilted by exp(-k b x): N(m - k b s^2, s^2) in normalised units."""
    model, tilted = Gaussian(0.7, 0.5), Gaussian(0.7 - 0.8 * 2.0 * 0.5**2, 0.5)
    x, levels = torch.randn(5, 3, 1), torch.full((5, 3), level)
    slope = returns("x")  # cost -x, physical x = 0.5 + 2 * normalised, so b = -2
    cost = total((-1.0, slope))
    got = guided(model, cost, 0.8, LINE, scaled(LINE))(x, levels)
    torch.testing.assert_close(got, tilted(x, levels), rtol=1e-4, atol=1e-4)
    assert (got - model(x, levels)).abs().min() > 1e-4


def test_quadratic_cost_matches_the_tilted_posterior_to_first_order_in_scale():
    """cost (x-c)^2 / 2 of the posterior mean: d/dscale of the tilted mean is -var * (mean - c)."""
    model, scale, c = Gaussian(0.0, 1.0), 1e-2, 1.5
    x, level = torch.randn(50, 1, 1), torch.full((50, 1), 0.5)

    def cost(channels, mask):
        return 0.5 * ((channels["x"] - c).square() * mask).sum(-1)

    mean, alpha, sigma = model(x, level), COSINE.alpha(level[:1])[0], COSINE.sigma(level[:1])[0]
    var = sigma**2 / (alpha**2 + sigma**2)
    exact = (mean + scale * var * c) / (1 + scale * var)
    got = guided(model, cost, scale, LINE, Normalizer.identity(LINE))(x, level)
    assert (got - exact).abs().max() < 0.02 * (mean - exact).abs().max()


def test_guided_sampling_reaches_the_tilted_gaussian():
    model = Gaussian(0.7, 0.5)
    denoise = guided(model, returns("x"), 0.8, LINE, scaled(LINE))
    y = sample(denoise, COSINE, schedules.pyramid(2, 100, 1.0), torch.randn(20000, 2, 1))
    assert abs(y.mean() - (0.7 + 0.8 * 2.0 * 0.25)) < 0.02
    assert abs(y.std() - 0.5) < 0.02


@pytest.mark.parametrize("known", [False, True])
def test_futures_change_nothing_when_unfinished_tokens_share_a_level(known):
    net, x = Perceptron(2, mix=True), torch.randn(3, 5, 2)
    level = torch.full((3, 5), 0.6)
    if known:
        level[:, 0] = 0
    once = guided(net, bowl)(x, level)
    for futures in (2, 5):
        torch.testing.assert_close(guided(net, bowl, futures=futures)(x, level), once, rtol=1e-4, atol=1e-5)


def test_more_futures_less_variance():
    net, x = Perceptron(2, mix=True), torch.randn(1, 5, 2).expand(200, -1, -1)
    level = torch.tensor([[0.2, 0.5, 0.8, 1.0, 1.0]]).expand(200, -1)
    g = torch.Generator().manual_seed(0)
    few, many = (
        guided(net, bowl, futures=n, noise=lambda: torch.randn(x.shape, generator=g))(x, level).var(0).mean()
        for n in (2, 16)
    )
    assert 4 < few / many < 16  # 8, as variance falls with 1 / n


def test_futures_redraw_only_what_is_noisier_than_the_front():
    seen = []

    def spy(x, level):
        seen.append(x.detach().clone())
        return x * 0.5

    x, level = torch.randn(2, 4, 2), torch.tensor([[0.0, 0.3, 0.3, 0.7]] * 2)
    guided(spy, bowl, futures=3, noise=lambda: torch.randn(x.shape))(x, level)
    copies = seen[-1]
    assert copies.shape == (6, 4, 2)
    assert (copies[:, :3] == x.repeat(3, 1, 1)[:, :3]).all()
    assert len(copies[:, 3, 0].unique()) == 6


def test_works_under_no_grad_and_leaves_parameters_alone():
    net, x, level = Perceptron(2), torch.randn(2, 4, 2), torch.rand(2, 4)
    with torch.no_grad():
        out = guided(net, bowl)(x, level)
    assert not out.requires_grad and all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("bad", [{"futures": 0}, {"scale": -1.0}, {"scale": float("nan")}])
def test_guide_refuses(bad):
    with pytest.raises(ValueError, match="expected futures >= 1 and scale >= 0"):
        guided(Gaussian(), bowl, **bad)


CHANNELS = {
    "x": torch.tensor([[0.0, 1.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]]),
    "y": torch.tensor([[0.0, 0.0, 4.0, 0.0], [0.0, 1.0, 0.0, 3.0]]),
}
ALL = torch.ones(2, 4, dtype=torch.bool)
SHORT = torch.tensor([[True, True, True, False]] * 2)


@pytest.mark.parametrize(
    "cost, mask, expected",
    [
        (
            goal({"x": 0.0, "y": 0.0}, 5.0),
            ALL,
            [0 + 1 / 26 + 25 / 50 + 16 / 41, 4 / 29 + 5 / 30 + 4 / 29 + 13 / 38],
        ),
        (goal({"x": 3.0}, 1.0), SHORT, [9 / 10 + 4 / 5 + 0, 3 / 2]),
        (obstacle({"x": 0.0, "y": 0.0}, 2.5), ALL, [6.25 + 2.25, 3 * 0.25]),
        (obstacle({"x": 0.0, "y": 0.0}, 2.5), ~SHORT, [0, 0]),
        (smoothness(["x"]), ALL, [1 + 1, 0]),
        (smoothness(["x", "y"]), ALL, [1 + 1 + 16 + 64, 4 + 16]),
        (smoothness(["x", "y"]), SHORT, [1 + 16, 4]),
        (limits({"x": 1.0}, {"x": 3.5, "y": 1.0}), ALL, [1 + 0.25 + 9, 4]),
        (limits({}, {"y": 1.0}), SHORT, [9, 0]),
        (returns("y"), ALL, [-4, -4]),
        (returns("y"), SHORT, [-4, -1]),
        (total((2.0, returns("y")), (0.5, returns("x"))), ALL, [-8 - 4, -8 - 4]),
    ],
)
def test_costs_by_hand(cost, mask, expected):
    torch.testing.assert_close(
        cost(CHANNELS, mask), torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-3
    )


def test_goal_is_half_saturated_at_within_and_flat_far_away():
    cost = goal({"x": 0.0}, 0.3)
    one = torch.ones(1, 1, dtype=torch.bool)
    assert cost({"x": torch.tensor([[0.3]])}, one).item() == pytest.approx(0.5)
    assert cost({"x": torch.tensor([[100.0]])}, one).item() == pytest.approx(1, abs=1e-4)


def test_obstacle_has_a_finite_gradient_at_its_centre():
    x = torch.zeros(1, 1, requires_grad=True)
    obstacle({"x": 0.0}, 1.0)({"x": x}, torch.ones(1, 1, dtype=torch.bool)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_cost_can_be_written():
    text = "obstacle(center={'x': 0.2, 'y': 0.1}, radius=1.5) + 0.25 * smoothness(['x', 'y'])"
    by_hand = guidance.total(
        (1.0, guidance.obstacle({"x": 0.2, "y": 0.1}, 1.5)), (0.25, guidance.smoothness(["x", "y"]))
    )
    channels = {n: torch.randn(3, 7) for n in "xy"}
    mask = torch.ones(3, 7, dtype=torch.bool)
    assert (guidance.written(text)(channels, mask) == by_hand(channels, mask)).all()
    own = guidance.written("dfplan.guidance:limits(low={'x': -0.1}, high={})")
    assert (own(channels, mask) == guidance.limits({"x": -0.1}, {})(channels, mask)).all()


@pytest.mark.parametrize(
    "text, message",
    [
        ("obstcle(radius=1)", "did you mean 'obstacle'"), ("obstacle(radius=1)", r"obstacle\(center, radius\)"),
        ("obstacle(center=open('x'), radius=1)", "got cost"), ("goal(target={'x': 1}) goal", "joined by"),
        ("no.module:Name()", "cannot be imported"), ("2 *", "got cost"), ("+ goal", "got cost"),
    ],
)  # fmt: skip
def test_written_costs_that_are_none_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        guidance.written(text)
