"""The loop's way in and out: a causal network computes each token once, and one seed is one noise."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfplan import guidance
from dfplan.act import Actor, History, ImitationConfig
from dfplan.data import Episodes
from dfplan.decide import Decider, Sampling, generator_of, noise_of
from dfplan.known import Known
from dfplan.nets.normalize import Normalizer
from dfplan.planner import Planner, PlannerConfig
from dfplan.sampling import STEPS, sample
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.checkpoint import Checkpoint
from dfplan.train.config import ModelConfig, TrainConfig
from dfplan.train.imitate import imitation_config

HORIZON, CPU = 9, torch.device("cpu")


def demos(rows=60):
    walk = np.random.default_rng(0).normal(size=(rows, 3)).cumsum(0).astype(np.float32)
    return Episodes(
        {"observations": walk, "actions": walk[:, :2] + 0.3}, np.array([rows // 2, rows]), 0.1, "w"
    )


def model(kind, horizon=HORIZON, **extra):
    network = {"kind": kind, "width": 32, "layers": 2, "heads": 2, **extra}
    if kind == "transformer":
        network["causal"] = True
    levels = {"memory": 0, "history": 0.9}
    config = imitation_config(demos(), span=2, horizon=horizon, levels=levels, model=network)
    torch.manual_seed(0)
    denoiser = config.model.build(config.spec, horizon).eval().requires_grad_(False)
    for p in denoiser.parameters():
        torch.nn.init.normal_(p, std=0.15)
    return Checkpoint(config, denoiser, Normalizer.fit(config.spec, demos()), {})


class Counting(torch.nn.Module):
    """A causal network that counts the tokens it is asked for."""

    causal = True

    def __init__(self, inner):
        super().__init__()
        self.inner, self.tokens = inner, []

    def step(self, x, level, state, keep):
        self.tokens.append(x.shape[1])
        return self.inner.step(x, level, state, keep)

    def cut(self, *args):
        return self.inner.cut(*args)


@given(
    st.sampled_from(["transformer", "recurrent"]), st.sampled_from(["full", "pyramid", "autoregressive", "trapezoid"]),
    st.sampled_from(sorted(STEPS)), st.integers(0, 10**6), st.integers(0, 12), st.booleans(),
)  # fmt: skip
def test_what_is_finished_or_fixed_need_not_be_computed(kind, schedule, step, seed, prefix, doubtful):
    made = model(kind)
    decider, torch_seed = Decider(made), generator_of(seed)
    shape = (2, HORIZON * 2, made.config.spec.width)
    x, values = (torch.randn(shape, generator=torch_seed) for _ in range(2))
    mask = (torch.arange(shape[1]) < prefix) | (torch.rand(shape[:2], generator=torch_seed) < 0.1)
    level = torch.rand(shape[:2], generator=torch_seed) * mask * doubtful
    known, config = Known(values, mask, level), Sampling(schedule, 3, 1.5, step)
    matrix = config.matrix(HORIZON).repeat(2)
    draw = noise_of([generator_of(1)], *shape, device=CPU)
    got, _ = decider.run(known, matrix, x, config, noise=draw)
    draw = noise_of([generator_of(1)], *shape, device=CPU)
    with torch.no_grad():
        plain = sample(made.denoiser, decider.schedule, matrix, x, known=known, step=STEPS[step], noise=draw)
    torch.testing.assert_close(got, plain, rtol=1e-3, atol=1e-3)


def test_a_pyramid_computes_each_token_a_few_times_only():
    made = model("transformer")
    counting = Counting(made.denoiser.backbone)
    made.denoiser.backbone = counting
    config = Sampling("autoregressive", 3)
    nothing = Known(torch.zeros(1, 18, made.config.spec.width), torch.zeros(1, 18, dtype=torch.bool))
    Decider(made).run(nothing, config.matrix(HORIZON), torch.randn(nothing.values.shape), config)
    assert len(counting.tokens) == 27 and max(counting.tokens) <= 4  # 27 x 18 without


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_history_is_computed_once(kind):
    made = model(kind, horizon=20)
    config = ImitationConfig(memory=0, chunk=2, steps=2, temperature=0.0)
    counting = Counting(made.denoiser.backbone)
    made.denoiser.backbone = counting
    actor, rng = Actor(made, config), np.random.default_rng(0)
    seen, done = rng.normal(size=(1, 31, 3)), rng.normal(size=(1, 30, 2))
    noise = noise_of([generator_of(0)], 1, 40, made.config.spec.width, device=CPU)
    state, asked = None, []
    for now in range(1, 32, 2):
        history = History(seen[:, :now], np.zeros((1, now, 1), bool), done[:, : now - 1])
        fresh = actor.decide(history, noise=noise)
        counting.tokens.clear()
        decision = actor.decide(history, noise=noise, state=state)
        asked.append(sum(counting.tokens))
        np.testing.assert_allclose(decision.actions, fresh.actions, atol=1e-4)
        state = decision.state
    assert max(asked[2:]) <= asked[1] <= 6  # not more with a longer history
    changed = done.copy()
    changed[:, 4] += 1.0  # another past is another history, not the one that is remembered
    history = History(seen, np.zeros((1, 31, 1), bool), changed)
    fresh, kept = (actor.decide(history, noise=noise, state=s).actions for s in (None, state))
    np.testing.assert_allclose(kept, fresh, atol=1e-4)


def test_noise_is_each_starts_own():
    def draws(*seeds):
        draw = noise_of([generator_of(s) for s in seeds], 2, 3, 4, device=CPU)
        return draw(), draw()

    (a, b), (c, d) = draws(1, 2), draws(2)
    assert (a[2:] == c).all() and (b[2:] == d).all() and (a[:2] != c).any()


def test_nan_is_an_error_and_never_an_answer():
    decider = Decider(model("transformer"))
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        decider.fetch(torch.ones(2, 3), torch.tensor([1.0, float("nan")]))
    one, two = decider.fetch(torch.ones(2, 3, 1), torch.tensor([1.0, 2.0]))
    assert one.shape == (2, 3, 1) and two.tolist() == [1, 2]


def test_guidance_wants_fp32():
    made = model("transformer")
    config = dataclasses.replace(Sampling(), precision="bf16")
    known = Decider(made).window().nothing(1)
    x = torch.randn(known.values.shape)
    with pytest.raises(ValueError, match="gradients need fp32"):
        Decider(made).run(known, config.matrix(HORIZON), x, config, denoise=made.denoiser)


def test_returns_are_a_known_token_and_rewards_are_read():
    spec = TrajectorySpec(
        (Channel("x", index=0), Channel("y", index=1), Channel("r", source="rewards"), Channel("g", source="returns")),
        (Token("position", ("x", "y")), Token("reward", ("r",)), Token("return", ("g",))),
        0.1, 1, 1, 2, 2,
    )  # fmt: skip
    config = TrainConfig(spec, 6, model=ModelConfig(width=16, layers=1, heads=2))
    torch.manual_seed(0)
    denoiser = config.model.build(spec, 6).eval().requires_grad_(False)
    made = Checkpoint(config, denoiser, Normalizer(torch.ones(3, 2), torch.full((3, 2), 2.0)), {})
    planner = Planner(made)
    plan = planner.plan([0.0, 0.5], returns=3.0, seed=0)
    assert plan.rewards.shape == (6, 1) and plan.observations.shape == (6, 2)
    back = planner.decider.physical(plan.tokens).view(6, 3, 2)
    assert torch.allclose(back[-1, 2, 0], torch.tensor(3.0), atol=1e-5)  # known from the arrival on
    assert (back[:-1, 2, 0] - 3.0).abs().max() > 0.1
    assert np.allclose(back[:, 1, 0], plan.rewards[:, 0], atol=1e-5)
    other = planner.plan([0.0, 0.5], returns=-3.0, seed=0)
    assert np.abs(other.observations - plan.observations).max() > 1e-4
    cost = guidance.written("returns(reward='r')")
    guided = Planner(made, PlannerConfig(guidance=1.0)).plan([0.0, 0.5], cost=cost, seed=0)
    assert np.isfinite(guided.costs).all() and guided.costs[0] == pytest.approx(
        -guided.rewards.sum(), abs=1e-4
    )
