"""Scores are D4RL's where they can be, and nothing elsewhere."""

from types import SimpleNamespace

import gymnasium as gym
import pytest

from dfplan.tools.references import normalized


def spec(name, steps=1000, **kwargs):
    return SimpleNamespace(id=name, max_episode_steps=steps, kwargs=kwargs)


@pytest.mark.parametrize(
    "name, steps, low, high",
    [
        ("HalfCheetah-v4", 1000, -280.178953, 12135.0),
        ("hopper-medium-replay-v2", 1000, -20.272305, 3234.3),
        ("Walker2d-v5", 1000, 1.629008, 4592.3),
        ("module:Ant-v5", 1000, -325.6, 3879.7),
        ("pen-human-v1", 100, 96.262799, 3076.8331017826877),
        ("dfplan/AdroitDoor-v1", 200, -56.512833, 2880.5693087298737),
        ("hammer-cloned-v0", 200, -274.856578, 12794.134825156867),
        ("dfplan/AdroitRelocate-v1", 200, -6.425911, 4233.877797728884),
        ("kitchen-mixed-v0", 280, 0.0, 4.0),
    ],
)
def test_a_random_policy_has_0_and_the_reference_1(name, steps, low, high):
    assert normalized(spec(name, steps), low, None) == 0 and normalized(spec(name, steps), high, None) == 1
    assert normalized(spec(name, steps + 1), high, None) is None


@pytest.mark.parametrize("name", ["AntMaze_UMaze-v5", "antmaze-umaze-v2", "antmaze-large-diverse-v2"])
def test_antmazes_count_the_goal_once(name):
    assert normalized(spec(name, 700), 412.0, True) == 1.0 and normalized(spec(name), 0.0, False) == 0.0
    assert normalized(spec(name), 1.0, None) is None


@pytest.mark.parametrize(
    "name", ["antmaze-giant-v0", "antmaze-large-singletask-v0", "AdroitHandDoor-v1", "PointMaze_UMaze-v3", "Hopper2-v5"]
)  # fmt: skip
def test_others_have_no_score(name):
    assert normalized(spec(name, 200), 1.0, True) is None


def test_a_kitchen_has_a_score_for_four_tasks_alone():
    tasks = ["microwave", "kettle", "light switch", "slide cabinet"]
    assert normalized(spec("FrankaKitchen-v1", 280, tasks_to_complete=tasks), 3.0, None) == 0.75
    assert normalized(spec("FrankaKitchen-v1", 280), 3.0, None) is None


def test_no_spec_no_score_and_gymnasiums_own_has_one():
    assert normalized(None, 1.0, True) is None
    assert normalized(gym.spec("Hopper-v5"), 3234.3, None) == 1
