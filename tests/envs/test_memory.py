from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dfplan.envs as envs
from dfplan.envs.memory import TASKS, PlanarEnv


def make(task: str, **kwargs: Any) -> PlanarEnv:
    env = envs.make(task, **kwargs).unwrapped
    assert isinstance(env, PlanarEnv)
    return env


def drive(env: PlanarEnv, seed: int) -> dict[str, Any]:
    """Info at the end of an episode of the expert."""
    env.reset(seed=seed)
    driver, over = env.make_expert(seed), False
    while not over:
        _, _, terminated, truncated, info = env.step(driver.act())
        over = terminated or truncated
    return info


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_contract(task: str) -> None:
    env = gym.make(envs.MEMORY_IDS[task], render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity.*")
        check_env(env.unwrapped)
    assert env.unwrapped.render().dtype == np.uint8


@pytest.mark.parametrize("task", TASKS)
def test_its_expert_does_it(task: str) -> None:
    env = make(task, **({"length": 40} if task == "tmaze" else {}))
    assert sum(drive(env, seed)["success"] for seed in range(100)) >= 99
