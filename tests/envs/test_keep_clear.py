"""The cost that keeps the hand off the obstacle: nothing far away, its depth near, and a policy that heeds it."""

import numpy as np
import pytest
import torch

from dfplan import envs
from dfplan.envs.arm.keep_clear import keep_clear
from dfplan.policies import Imitation, ImitationConfig

NAMES = [f"ee_{a}{i}" for a in "xy" for i in "xyz"]


def channels(tool, steps=3):
    """A hand that points down at `tool` (3,) from where it is now, beside a box at x in [0.2, 0.3]."""
    pose = dict(zip(NAMES, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), strict=True))
    box = dict(zip("xyz", ((0.2, 0.3), (-0.1, 0.1), (-0.5, 0.5)), strict=True))
    out = {name: torch.full((1, steps), value) for name, value in pose.items()}
    for i, (low, high) in box.items():
        out |= {
            f"obstacle_{i}_low": torch.full((1, steps), low),
            f"obstacle_{i}_high": torch.full((1, steps), high),
        }
    return out | {
        f"ee_{i} target": torch.full((1, steps), float(v)) for i, v in zip("xyz", tool, strict=True)
    }


def test_it_costs_nothing_out_of_reach_and_grows_with_the_depth():
    cost, mask = keep_clear(0.03), torch.ones(1, 3, dtype=torch.bool)
    values = [float(cost(channels((x, 0, 0)), mask)) for x in (0.0, 0.13, 0.15, 0.18, 0.22)]
    assert (
        values[0] == values[1] == 0 and 0 < values[2] < values[3] < values[4]
    )  # 0.2 - 0.03 - radius 0.032 = 0.138
    assert float(cost(channels((0.18, 0, 0)), torch.zeros_like(mask))) == 0
    turned = channels((0.11, 0, 0))
    turned |= {
        "ee_xx": turned["ee_xy"],
        "ee_xy": turned["ee_xx"],
        "ee_yx": -turned["ee_yy"],
        "ee_yy": turned["ee_yx"],
    }
    assert float(cost(turned, mask)) > 0  # the hand is 14 cm wide along its y


def test_its_gradient_points_away_and_is_that_of_finite_differences():
    cost, mask = keep_clear(0.03), torch.ones(1, 1, dtype=torch.bool)
    at = channels((0.16, 0.02, 0.0), 1)
    x = at["ee_x target"].double().requires_grad_()
    at = {k: v.double() for k, v in at.items()} | {"ee_x target": x}
    (gradient,) = torch.autograd.grad(cost(at, mask).sum(), x)
    step = 1e-6
    up, down = (float(cost(at | {"ee_x target": x.detach() + s}, mask)) for s in (step, -step))
    assert float(gradient) > 0 and float(gradient) == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_a_guided_policy_keeps_further_from_the_obstacle():
    env = envs.make("arm-reach", action="ee")
    config = {"chunk": 4, "steps": 2}
    plain = Imitation.load("arm-reach", ImitationConfig(**config))
    guided = Imitation.load("arm-reach", ImitationConfig(guidance=300, **config), cost=keep_clear(0.10))
    observation, _ = env.reset(seed=10013)  # unguided it runs into the obstacle's far corner
    for _ in range(20):
        observation, *_ = env.step(plain.act(observation))
    ways = []
    for policy in (plain, guided):
        policy.reset(0)
        ways.append(policy.predict(observation)[:, :3])
    low, high = observation[33:36], observation[36:39]
    away = [np.linalg.norm(np.maximum(np.maximum(low - w, w - high), 0), axis=1).min() for w in ways]
    assert away[1] > away[0] + 0.002


def test_guidance_without_a_cost_is_refused():
    with pytest.raises(ValueError, match="no cost"):
        Imitation.load("arm-reach", ImitationConfig(guidance=1.0))
    with pytest.raises(ValueError, match="guidance=-1"):
        ImitationConfig(guidance=-1.0)
    assert envs.cost("arm-pick") is None
