"""Observations as rows, in the order of the demonstrations' columns."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from dfplan.tools.spaces import entries, flat


class Goal(gym.Env):
    observation_space = Dict(
        observation=Box(-1, 1, (4,)), achieved_goal=Box(-1, 1, (2,)), desired_goal=Box(-1, 1, (2,))
    )
    action_space = Box(-1, 1, (3,))
    info: dict = {}  # noqa: RUF012

    def seen(self):
        return {
            "observation": np.arange(4.0),
            "achieved_goal": np.full(2, 7.0),
            "desired_goal": np.full(2, 9.0),
        }

    def reset(self, seed=None, options=None):
        return self.seen(), dict(self.info)

    def step(self, action):
        return self.seen(), 0, False, False, dict(self.info)


def row(size, columns=None, keys=()):
    env = flat(Goal(), size, 3, columns or {}, keys)
    assert env.observation_space.shape == (size,)
    first, _ = env.reset()
    np.testing.assert_array_equal(first, env.step(np.zeros(3))[0])
    return first.tolist()


def test_entries_are_chosen_by_the_models_tokens_then_as_minari_reads_them():
    both = {"desired_goal": 4, "observation": 0}
    assert row(6, both) == [0, 1, 2, 3, 9, 9]
    assert row(6, {"desired_goal": 0, "observation": 2}) == [9, 9, 0, 1, 2, 3]
    assert row(4) == [0, 1, 2, 3]
    assert row(8) == [7, 7, 9, 9, 0, 1, 2, 3]  # by name
    assert row(4, both) == [0, 1, 2, 3]  # so many numbers the tokens do not have
    assert row(6, both, ("achieved_goal", "observation")) == [7, 7, 0, 1, 2, 3]


def test_the_desired_goal_is_the_infos_goal_unless_that_has_one():
    env = flat(Goal(), 4, 3, {})
    assert env.reset()[1]["goal"].tolist() == [9, 9] and env.step(np.zeros(3))[4]["goal"].tolist() == [9, 9]
    other = type("Other", (Goal,), {"info": {"goal": "mine"}})
    assert flat(other(), 4, 3, {}).reset()[1]["goal"] == "mine"


def test_what_does_not_fit_names_both_sides():
    with pytest.raises(ValueError, match=r"'achieved_goal': 2, .*expected 5 numbers.*--keys"):
        flat(Goal(), 5, 3, {})
    with pytest.raises(ValueError, match=r"expected Box of \(2,\)"):
        flat(Goal(), 4, 2, {})
    with pytest.raises(ValueError, match="did you mean 'observation'"):
        flat(Goal(), 4, 3, {}, ("observatoin",))
    with pytest.raises(ValueError, match=r"expected Box of \(5,\)"):
        flat(gym.make("Pendulum-v1"), 5, 1, {})
    with pytest.raises(ValueError, match="which are for dictionaries"):
        flat(gym.make("Pendulum-v1"), 3, 1, {}, ("observation",))
    with pytest.raises(ValueError, match="Discrete"):
        flat(gym.make("CartPole-v1"), 4, 1, {})


def test_pixels_and_categories_are_no_rows():
    space = Dict(
        image=Box(0, 255, (4, 4, 3), np.uint8),
        near=Discrete(2),
        arm=Dict(q=Box(-1, 1, (2,)), grip=Box(0, 1, ())),
    )
    assert entries(space) == {"arm/grip": 1, "arm/q": 2, "image": None, "near": None}
