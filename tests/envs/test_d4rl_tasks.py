"""D4RL's tasks beyond the mazes: by name, with D4RL's lengths, rewards and endings."""

import os
from pathlib import Path

import numpy as np
import pytest

from dfplan import envs
from dfplan.tools.references import FAMILIES, d4rl_task, normalized

ROOT = Path(__file__).resolve().parents[2]
EXPERTS = Path(os.environ.get("DFPLAN_SHARED_DATA", ROOT / "../shared/data")) / "adroit-experts"


@pytest.mark.parametrize(
    "name", ["hopper-medium-v2", "walker2d-medium-expert-v0", "halfcheetah-random-v1", "hopper"]
)
def test_a_robot_by_the_name_of_its_data(name):
    with envs.make(name) as env:
        family, _ = d4rl_task(name)
        assert env.spec.max_episode_steps == family.steps == 1000
        assert normalized(env.spec, family.reference, None) == 1
        first, _ = env.reset(seed=1)
        assert np.array_equal(env.reset(seed=1)[0], first)


@pytest.mark.parametrize(
    "name", ["hopper-medium-v3", "hopper-mixed-v2", "hopper-v4", "pen-medium-v1", "maze2d-large-v1"]
)
def test_other_names_are_not_d4rls(name):
    assert d4rl_task(name) is None


def test_an_ant_that_nothing_simulates_is_refused():
    with pytest.raises(ValueError, match=r"every 0\.1 s"):
        envs.make("antmaze-umaze-v2")


def test_every_task_of_d4rl_is_known_by_name():
    from dfplan.data.sources import D4RL_URLS

    names = [name for name in D4RL_URLS if not name.startswith("maze2d")]
    assert len(names) > 90 and [name for name in names if d4rl_task(name) is None] == []


def expert(task):
    """The policy behind D4RL's expert data: tanh between layers, inputs and outputs shifted and scaled."""
    path = EXPERTS / f"{task}.npz"
    if not path.exists():
        pytest.skip(f"no expert at {path}; set DFPLAN_SHARED_DATA")
    with np.load(path) as file:
        w = dict(file)

    def act(row):
        if "in_shift" in w:
            row = (row - w["in_shift"]) / (w["in_scale"] + 1e-8)
        for layer in "01":
            row = np.tanh(w[f"W{layer}"] @ row + w[f"b{layer}"])
        out = w["W2"] @ row + w["b2"]
        return np.clip(w["out_scale"] * out + w["out_shift"] if "out_shift" in w else out, -1, 1)

    return act


def episodes(task, seeds):
    """Score of each episode of the expert, x100."""
    act, scores = expert(task), []
    with envs.make(f"{task}-expert-v1") as env:
        assert env.spec.max_episode_steps == FAMILIES[task].steps
        for seed in seeds:
            row, _ = env.reset(seed=seed)
            total, over = 0.0, False
            while not over:
                row, reward, ended, cut, _ = env.step(act(row))
                total, over = total + reward, ended or cut
            scores.append(100 * normalized(env.spec, total, None))
    return np.array(scores)


@pytest.mark.shared
@pytest.mark.parametrize(
    "task, score, count", [("door", 104.4, 2), ("hammer", 126.7, 2), ("relocate", 101.9, 12)]
)
def test_experts_score_what_was_measured_under_d4rls_rewards(task, score, count):
    pytest.importorskip("gymnasium_robotics")
    found = episodes(task, range(count))
    assert abs(found.mean() - score) < 2 + 3 * found.std() / count**0.5


@pytest.mark.shared
def test_a_pen_that_falls_ends_the_episode():
    pytest.importorskip("gymnasium_robotics")
    expert("pen")
    with envs.make("pen-expert-v1") as env:
        env.reset(seed=0)
        for step in range(100):
            _, reward, ended, cut, _ = env.step(np.ones(24, np.float32) * (-1) ** (step // 8))
            if ended or cut:
                break
    assert ended and step < 99 and reward < -5


@pytest.mark.parametrize("task", ["door", "hammer", "relocate"])
def test_only_the_sign_of_one_term_differs_from_the_packages_reward(task):
    """Its pull request 220 rewards the hand for being away from what it is to take."""
    pytest.importorskip("gymnasium_robotics")
    theirs = envs.make(f"AdroitHand{task.capitalize()}-v1")
    with envs.make(task) as ours, theirs:
        ours.reset(seed=0), theirs.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(20):
            action = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
            (_, mine, *_), (_, other, *_) = ours.step(action), theirs.step(action)
            data = ours.unwrapped.data
            away = data.site("S_handle").xpos if task == "door" else data.body("Object").xpos
            term = 0.2 * np.linalg.norm(data.site("S_grasp").xpos - away)
            assert mine == pytest.approx(other - term, abs=1e-9)


def test_a_kitchen_shows_d4rls_60_numbers():
    pytest.importorskip("gymnasium_robotics")
    with envs.make("kitchen-mixed-v0") as env:
        row, info = env.reset(seed=0)
        assert row.shape == env.observation_space.shape == (60,)
        assert set(info["tasks_to_complete"]) == {"microwave", "kettle", "bottom burner", "light switch"}
        data = env.unwrapped.data
        np.testing.assert_allclose(row[:30], data.qpos, atol=0.05)  # the package adds noise
        goal = row[30:]
        assert goal[22] == -0.75 and list(goal[11:13]) == [-0.88, -0.01] and not goal[[19, 20, 21]].any()
        assert normalized(env.spec, 3.0, None) == 0.75
