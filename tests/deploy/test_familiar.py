"""Readings unlike all demonstrations are said before the arm moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dfplan import envs
from dfplan.act import Actor, ImitationConfig
from dfplan.deploy.loop.committed import ACT
from dfplan.deploy.loop.familiar import Familiar
from dfplan.deploy.loop.machine import DISARMED, READY
from dfplan.deploy.run import build
from dfplan.envs import SimArm, arm_mapping
from dfplan.models import find
from dfplan.tools.clock import FakeClock
from dfplan.train import checkpoint

TASKS = {name: checkpoint.load(find(name)) for name in ("arm-pick", "arm-reach", "swap")}


@pytest.mark.parametrize("task", TASKS)
def test_where_episodes_begin_and_lead_is_familiar(task):
    seen, env = Familiar(TASKS[task]), envs.make(task)
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        expert = env.unwrapped.make_expert(seed)
        for _ in range(40):
            assert seen.unlike(np.asarray(observation, np.float64)) == ""
            observation, *_ = env.step(expert.act())


def joints(old):
    """Six columns of an arm's joints, and an observation like those of training: with ranges, or as of an older checkpoint."""
    model, rng = TASKS["swap"], np.random.default_rng(0)
    spec, size = model.config.spec, model.config.spec.observation_size
    middle, spread = np.array([0.0, -0.8, 0.1, -2.4, 0.05, 1.6]), 0.1
    names = [c.name for c in spec.channels if c.source == "observations" and not c.reference][:6]
    channels = tuple(replace(c, unit="rad") if c.name in names else c for c in spec.channels)
    index = [spec.channel(name).index for name in names]
    low, high = np.full(size, -9.0), np.full(size, 9.0)
    low[index], high[index] = middle - 3 * spread, middle + 3 * spread
    for g, token in enumerate(spec.tokens[:-1]):
        for i, name in enumerate(token.channels):
            if name in names:
                model.normalizer.mean[g, i], model.normalizer.scale[g, i] = middle[names.index(name)], spread
            else:
                model.normalizer.scale[g, i] = 9.0
    ranges = {} if old else {"observations": {"low": low.tolist(), "high": high.tolist()}}
    made = replace(
        model, config=replace(model.config, spec=replace(spec, channels=channels)), calibration=ranges
    )
    observation = np.zeros(size)
    observation[index] = middle + rng.uniform(-2 * spread, 2 * spread, 6)
    return Familiar(made), observation, index


@pytest.mark.parametrize("old", [False, True])
def test_degrees_are_named_for_what_they_are(old):
    seen, observation, index = joints(old)
    assert seen.unlike(observation) == ""
    observation[index] = np.rad2deg(observation[index])
    assert "degrees for radians?" in seen.unlike(observation)


@pytest.mark.parametrize("one, two", [(1, 3), (3, 5), (0, 5)])
def test_an_exchange_of_two_joints_is_named(one, two):
    seen, observation, index = joints(False)
    observation[[index[one], index[two]]] = observation[[index[two], index[one]]]
    assert "exchanged with" in seen.unlike(observation)


def test_what_is_elsewhere_is_asked_about_and_what_is_not_finite_is_not_judged():
    seen, observation, index = joints(False)
    observation[index[2]] = 77.0
    assert "are units and order" in seen.unlike(observation)
    assert seen.unlike(np.full_like(observation, np.nan)) == ""


class Off(SimArm):
    """The simulated arm, whose driver gives the place of the target in mm."""

    def read(self):
        place = np.array([1e3] * 3 + [1.0] * 6)
        return [
            replace(r, values={k: place * v for k, v in r.values.items()}) if r.source == "target" else r
            for r in super().read()
        ]


@pytest.mark.parametrize("sure", [False, True])
def test_the_arm_does_not_get_ready_unless_somebody_is_sure(sure):
    env, clock = envs.make("arm-reach", action="ee").unwrapped, FakeClock()
    observation, _ = env.reset(seed=0)
    low, high = (np.asarray(observation, float) + sign * 0.5 for sign in (-1, 1))
    model = TASKS["arm-reach"]
    model.calibration["observations"] = {"low": low.tolist(), "high": high.tolist()}
    arm = Off(env, clock)
    arm.reset(0)
    loop = build(
        Actor(model, ImitationConfig(**ACT)), arm_mapping(env), arm, worker="inline", clock=clock, sure=sure
    )
    loop.connect()
    for _ in range(300):
        loop.tick()
        clock.sleep_until(clock.now() + loop.dt)
    assert loop.machine.state == (READY if sure else DISARMED)
    granted, why = loop.arm()
    assert granted == sure
    assert sure or ("target" in why and "millimetres for metres?" in why)
