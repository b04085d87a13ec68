import numpy as np
import pytest
import torch
from test_planner import GOAL, PRESENT, planner
from tiny import Gaussian

from dfplan import costs, schedules
from dfplan.guidance import Particles
from dfplan.noise import NoiseSchedule
from dfplan.planner import PlannerConfig
from dfplan.sampling import ddpm, sample

COSINE = NoiseSchedule()
BALL = costs.obstacle({"x": 0.6, "y": 0.5}, 1.5)


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def test_weighed_candidates_are_the_tilted_gaussian():
    """N(m, s^2) tilted by exp(-k x) is N(m - k s^2, s^2)."""
    count, k = 20_000, 2.4
    torch.manual_seed(0)
    particles = Particles(lambda x0: x0.sum((1, 2)), k, count, 150, generators(0))
    x = sample(
        Gaussian(0.7, 0.5),
        COSINE,
        schedules.full(1, 150),
        torch.randn(count, 1, 1),
        step=ddpm,
        select=particles,
    )
    weights, x = particles.log_weights.softmax(1)[0], x[:, 0, 0]
    mean = (weights * x).sum()
    assert abs(mean - (0.7 - k * 0.25)) < 0.05
    assert abs((weights * (x - mean).square()).sum().sqrt() - 0.5) < 0.05
    assert 1 < particles.survivors().item() < count


def test_the_light_make_room_for_the_heavy_and_starts_are_apart():
    cost = torch.tensor([9.0, 0.0, 9.0, 9.0, 0.0, 1e-3, 2e-3, 0.0])  # two starts of four candidates
    particles = Particles(lambda x0: x0[:, 0, 0], 5.0, 4, 3, generators(0, 1))
    index = particles(0, cost[:, None, None])
    assert index[:4].tolist() == [1, 1, 1, 1]
    assert index[4:].tolist() == [4, 5, 6, 7]  # nearly alike: nothing is drawn
    assert particles.survivors().tolist() == [1, 4]
    alone = Particles(lambda x0: x0[:, 0, 0], 5.0, 4, 3, generators(1))
    assert (alone(0, cost[4:, None, None]) + 4).tolist() == index[4:].tolist()


def test_after_the_last_row_nothing_is_drawn():
    particles = Particles(lambda x0: x0[:, 0, 0], 5.0, 4, 1, generators(0))
    assert particles(0, torch.tensor([0.0, 9.0, 9.0, 9.0])[:, None, None]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("schedule", ["full", "pyramid"])
def test_particles_lower_the_cost_of_plans_and_a_seed_gives_them_again(schedule):
    settings = {"step": "ddpm", "steps": 8, "candidates": 16, "guidance": 0.0, "schedule": schedule}
    alone = planner(**settings).plan(PRESENT, GOAL, cost=BALL, seed=3)
    steered = planner(**settings, particles=3.0).plan(PRESENT, GOAL, cost=BALL, seed=3)
    assert steered.costs.mean() < alone.costs.mean() and alone.survivors is None
    assert 1 <= steered.survivors < 16
    assert (
        planner(**settings, particles=3.0).plan(PRESENT, GOAL, cost=BALL, seed=3).tokens == steered.tokens
    ).all()
    weak = planner(**settings, particles=1e-9).plan(PRESENT, GOAL, cost=BALL, seed=3)
    assert weak.survivors == 16


def test_starts_in_a_batch_do_not_touch_each_other():
    p = planner(step="ddpm", steps=6, candidates=8, guidance=1.0, particles=3.0)
    starts = np.stack([PRESENT, -PRESENT])[:, None]
    both = p.plan_batch(starts, GOAL, cost=BALL, seeds=[5, 6])
    for plan, start, seed in zip(both, starts, (5, 6), strict=True):
        alone = p.plan(start[0], GOAL, cost=BALL, seed=seed)
        np.testing.assert_allclose(plan.candidates, alone.candidates, atol=1e-5)
        assert plan.survivors == alone.survivors


@pytest.mark.parametrize(
    "how, message",
    [
        ({"candidates": 1}, "several candidates"),
        ({"cost": None}, "no cost"),
        ({"arrivals": [3, 5]}, "one arrival"),
    ],
)
def test_particles_that_do_not_go_together_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        planner(step="ddpm", particles=1.0).plan(PRESENT, GOAL, **({"cost": BALL, "seed": 0} | how))


@pytest.mark.parametrize("bad", [{"particles": -1.0, "step": "ddpm"}, {"particles": 1.0, "step": "ddim"}])
def test_settings_without_a_sense_are_refused(bad):
    with pytest.raises(ValueError, match="particles"):
        PlannerConfig(**bad)
