"""What a model says of rewards, and the richest way on a ring of corridors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_roadmap import SIDE, STEP, Lines
from tiny import SIZES, XY, checkpoint, config, walks
from torch import nn

from dfplan.denoiser import Denoiser
from dfplan.nets.normalize import Normalizer
from dfplan.plan import richest
from dfplan.plan.rewards import Seeking, expected, recorded
from dfplan.plan.richest import Richest
from dfplan.plan.roadmap import Roadmap
from dfplan.plan.ways import dense, travel
from dfplan.planner import Planner, PlannerConfig
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train import pairs

REWARD = Channel("reward", source="rewards")
RETURNS = Channel("returns", source="returns")
TOKENS = (Token("position", ("x", "y")), Token("reward", ("reward",)), Token("returns", ("returns",)))
SPEC = TrajectorySpec((*XY, REWARD, RETURNS), TOKENS, 0.1, **SIZES)
GROUP = len(TOKENS)


class Field(nn.Module):
    """Knows a reward of 3 - |x| - |y| of each step's own position, and answers what it is shown elsewhere."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, level):
        out = x.clone()
        out[:, 1::GROUP, 0] = 3 - x[:, ::GROUP].abs().sum(-1)
        return out


def model(horizon=8, **act):
    made = checkpoint(SPEC, {"step": 9.0}, Normalizer.identity(SPEC), horizon=horizon)
    return replace(made, denoiser=Denoiser(Field(), made.config.model.noise))


def test_the_reward_at_a_place_is_what_the_model_fills_in_beside_it():
    places = np.random.default_rng(0).uniform(-2, 2, (2000, 2))  # more than one batch
    np.testing.assert_allclose(expected(model(), places), 3 - np.abs(places).sum(1), atol=1e-5)
    with pytest.raises(ValueError, match="no token of it is one of rewards"):
        expected(checkpoint(), places)


def test_recorded_rewards_are_those_of_the_nearest_places():
    """A plane is its own mean over the four corners round a place."""
    x, y = (v.ravel() for v in np.meshgrid(np.arange(11.0), np.arange(11.0)))
    pairs = torch.from_numpy(np.stack([x, y, x, y], 1)).half()
    known = {"pairs": pairs, "rewards": torch.from_numpy(2 * x - y).float()}
    places = np.random.default_rng(0).integers(0, 10, (50, 2)) + 0.5
    found = recorded(replace(model(), evidence=known), places)
    np.testing.assert_allclose(found, 2 * places[:, 0] - places[:, 1])
    with pytest.raises(ValueError, match=r"without recorded rewards; add them"):
        recorded(model(), places)


def test_training_keeps_the_rewards_of_the_places():
    data = walks()
    rewards = data.arrays["observations"][:, 0] + 2 * data.arrays["observations"][:, 1]
    data = replace(data, arrays={**data.arrays, "rewards": rewards, "returns": rewards})
    for count in (100_000, 40):
        found = pairs.collect(config(SPEC), data, count)
        places = found["pairs"][:, :2].float()
        torch.testing.assert_close(found["rewards"], places @ torch.tensor([1.0, 2.0]), rtol=0, atol=1e-2)
    assert "rewards" not in pairs.collect(config(), data)


def test_returns_are_asked_for_from_the_arrival_on():
    planner = Planner(model(), PlannerConfig(steps=2, returns=0.7))
    for asked, first in (({}, 7), ({"returns": 0.2, "arrivals": [5]}, 5)):
        tokens = planner.plan(np.zeros(4), **asked, seed=0).tokens[0, 2::GROUP, 0].numpy()
        is_asked = np.isclose(tokens, asked.get("returns", 0.7), atol=1e-5)
        np.testing.assert_array_equal(is_asked, np.arange(8) >= first)


def test_a_plan_without_a_goal_ends_where_its_reward_is_greatest():
    planner = Planner(model(), PlannerConfig(steps=2))
    for seed in range(5):
        plan = planner.plan(np.ones(4), seed=seed)
        (cut,) = Seeking(planner).plan_batch(np.ones((1, 1, 4)), seeds=[seed])
        best = 3 - np.abs(plan.observations[1:, :2]).sum(1)
        np.testing.assert_array_equal(cut.best(), plan.observations[: best.argmax() + 2])


def on_the_ring(monkeypatch, reward, gather):
    """The richest ways by a reward that is told instead of modelled; 2 units a second, so 0.2 an env step."""
    monkeypatch.setattr(richest, "REWARDS", {"recorded": lambda model, places: reward(np.asarray(places))})
    planner = Lines()
    planner.spec = SPEC
    return Richest(Roadmap(planner), PlannerConfig(gather=gather))


def bump(place, height):
    return lambda p: height * np.exp(-np.linalg.norm(p - np.array(place), axis=-1))


def test_the_richest_way_is_worth_its_length_or_not(monkeypatch):
    """A small reward beside the start, a great one in the opposite corner, 18 units or 90 env steps away."""
    start = np.array([0.5, 0.5, 0, 0])

    def reward(p):
        return bump((0.5, 1.5), 1.0)(p) + bump((9.5, 9.5), 3.0)(p)

    for gather, end in ((60, (0.5, 1.5)), (600, (9.5, 9.5))):
        plan = on_the_ring(monkeypatch, reward, gather).plan(start)
        np.testing.assert_allclose(plan.best()[-1, :2], end, atol=0.15)
        assert plan.feasible.all()
    assert 16.0 <= travel(plan.best()[:, :2]) <= 19.0  # nothing is gathered on the way: the quickest one


def test_what_costs_on_the_way_is_gone_round(monkeypatch):
    """The nearer way leads through a loss, for 20 env steps; the other one takes 40 env steps more, which are worth 1 each."""
    start = np.array([0.5, 3.0, 0, 0])

    def reward(p, loss):
        near = (p[..., 0] > 3) & (p[..., 0] < 7) & (p[..., 1] < SIDE / 2)
        return bump((9.5, 3.0), 1.0)(p) - loss * near

    for loss, above in ((0.0, False), (4.0, True)):
        way = on_the_ring(monkeypatch, lambda p, loss=loss: reward(p, loss), 600).plan(start).best()[:, :2]
        np.testing.assert_allclose(way[-1], (9.5, 3.0), atol=0.15)
        assert (dense(way, STEP)[:, 1].max() > 8) == above


def test_a_way_is_worth_no_less_than_any_other_the_roadmap_has(monkeypatch):
    """Against all walks of up to three legs, tried one by one."""
    rich = on_the_ring(monkeypatch, bump((0.5, 5.0), 1.0), 40)
    net, steps = rich.roadmap.net, rich._steps

    def walks(at, left, depth):
        best = rich.rewards[rich.rest[at]] * left
        for leg in np.flatnonzero(net.legs[:, 0] == at) if depth else ():
            if steps[leg] <= left:
                best = max(best, rich._gain[leg] + walks(net.legs[leg, 1], left - steps[leg], depth - 1))
        return best

    tried = np.array([walks(s, 40, 3) for s in range(len(net.states))])
    assert (rich.worth[40] >= tried - 1e-9).all()
    near = np.linalg.norm(net.states - np.array([0.5, 5.0]), axis=1) < 1.5
    np.testing.assert_allclose(rich.worth[40][near], tried[near])


def test_same_seed_same_way_and_no_way_to_stay_is_too_short(monkeypatch):
    rich = on_the_ring(monkeypatch, bump((0.5, 5.0), 1.0), 40)
    one, other = (rich.plan_batch(np.array([[[0.5, 1.0, 0, 0]]]), seeds=[3])[0] for _ in range(2))
    np.testing.assert_array_equal(one.observations, other.observations)
    there = np.append(one.best()[-1, :2], [0.0, 0.0])
    assert travel(rich.plan(there).best()[:, :2]) < 0.2


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="gather=-1"):
        PlannerConfig(gather=-1)
    with pytest.raises(ValueError, match="rewards='modelled' with gather=0"):
        PlannerConfig(rewards="modelled")
