from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from dfplan import envs, rollout
from dfplan.rollout import Episode, Starts

KEYS = [
    "task", "episodes", "seed", "return_mean", "return_se", "score", "score_se", "success", "first_reach_mean",
    "network_calls_mean", "plan_ms_p50", "plan_ms_p99", "hardware",
]  # fmt: skip


class Script:
    """Gives the actions of a list, then the last one for ever; or random ones by the episode's seed."""

    def __init__(self, *actions):
        self.actions, self.plans, self.resets = actions, [], []

    def reset(self, seed=None, goal=None):
        self.resets.append((seed, None if goal is None else tuple(goal)))
        self.rng, self.step = np.random.default_rng(seed), 0

    def act(self, observation):
        self.step += 1
        if not self.actions:
            return self.rng.uniform(-1, 1, 2).astype(np.float32)
        return np.array(self.actions[min(self.step, len(self.actions)) - 1], np.float32)


def plan(calls, seconds):
    return SimpleNamespace(network_calls=calls, seconds=seconds)


def episode(total, success, first, score, *plans):
    return Episode(np.zeros((2, 4)), np.zeros(2), total, success, first, score, list(plans))


def test_summary_by_hand():
    done = [
        episode(10.0, True, 40, 0.5, plan(20, 0.010), plan(20, 0.030)),
        episode(0.0, False, None, -0.1, plan(20, 0.020)),
        episode(20.0, True, 60, 1.1, plan(20, 0.040), plan(10, 0.050), plan(10, 0.060)),
    ]
    got = rollout.summary("maze2d-umaze", 7, done)
    assert list(got) == KEYS
    assert (got["task"], got["episodes"], got["seed"]) == ("maze2d-umaze", 3, 7)
    assert got["return_mean"] == pytest.approx(10)
    assert got["return_se"] == pytest.approx(np.sqrt(200 / 3) / np.sqrt(3))
    assert got["score"] == pytest.approx(50)
    assert got["score_se"] == pytest.approx(np.sqrt(7200 / 3) / np.sqrt(3))
    assert got["success"] == pytest.approx(2 / 3)
    assert got["first_reach_mean"] == pytest.approx(50)
    assert got["network_calls_mean"] == pytest.approx((40 + 20 + 40) / 3)
    assert got["plan_ms_p50"] == pytest.approx(35)
    assert got["plan_ms_p99"] == pytest.approx(50 + 10 * 0.95)
    assert "thread" in got["hardware"] and "torch" in got["hardware"]


def test_summary_says_none_where_there_is_no_number():
    got = rollout.summary("text", 0, [episode(0.0, False, None, None, plan(1, 0.01))])
    assert got["score"] is None and got["score_se"] is None and got["first_reach_mean"] is None
    assert got["success"] == 0 and got["return_se"] == 0


def test_return_is_the_standard_one_leaving_the_goal_stops_the_reward():
    env = envs.make("umaze", max_episode_steps=120)
    goal = env.unwrapped.goal
    away = [0.0, 1.0] if envs.get_maze("umaze").is_free(1, 2) else [1.0, 0.0]
    starts = Starts(np.array([[*goal, 0, 0]]), None)
    (got,) = rollout.run(env, Script(away), 1, 0, starts)
    inside = np.linalg.norm(got.observations[1:, :2] - goal, axis=1) <= 0.5
    assert got.success and got.first_reach == 0
    assert 0 < inside.sum() < 60 and not inside[-1]
    assert got.total == inside.sum()
    low, high = envs.get_maze("umaze").refs("sparse")
    assert got.score == pytest.approx((got.total - low) / (high - low))


def test_starts_and_goals_are_taken_exactly_and_in_order():
    env = envs.make("umaze", max_episode_steps=3)
    states = np.array([[1.05, 1.0, 0.5, -0.25], [3.0, 3.0, 0.0, 0.0]])
    goals = np.array([[3.0, 3.0], [1.0, 1.1]])
    policy = Script([0.0, 0.0])
    got = list(rollout.run(env, policy, 3, 10, Starts(states, goals)))
    np.testing.assert_array_equal([e.observations[0] for e in got], states[[0, 1, 0]])
    np.testing.assert_array_equal([e.goal for e in got], goals[[0, 1, 0]])
    assert [len(e.observations) for e in got] == [4, 4, 4]
    assert policy.resets == [(10, (3.0, 3.0)), (11, (1.0, 1.1)), (12, (3.0, 3.0))]


def test_same_seed_same_episodes_and_episode_i_has_seed_plus_i():
    env = envs.make("umaze", goal="random", max_episode_steps=30)
    first = list(rollout.run(env, Script(), 3, 5))
    again = list(rollout.run(env, Script(), 3, 5))
    later = list(rollout.run(env, Script(), 2, 6))
    for one, two in [*zip(first, again, strict=True), *zip(first[1:], later, strict=True)]:
        np.testing.assert_array_equal(one.observations, two.observations)
        np.testing.assert_array_equal(one.goal, two.goal)
    assert not np.array_equal(first[0].observations, first[1].observations)


@pytest.mark.parametrize("name", ["starts.npz", "starts.hdf5"])
@pytest.mark.parametrize("with_goals", [True, False])
def test_starts_are_read(tmp_path, name, with_goals):
    states, goals = np.arange(8.0).reshape(2, 4), np.arange(4.0).reshape(2, 2)
    arrays = {"start_state": states} | ({"goal_pos": goals} if with_goals else {})
    if name.endswith("npz"):
        np.savez(tmp_path / name, other=np.zeros(3), **arrays)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file.update(arrays)
    got = Starts.read(tmp_path / name)
    np.testing.assert_array_equal(got.states, states)
    assert (got.goals is not None) == with_goals
    if with_goals:
        np.testing.assert_array_equal(got.goals, goals)


GOOD = np.zeros((2, 4))


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"start": GOOD}, "expected 'start_state'"),
        ({"start_state": np.zeros(4)}, "'start_state' has shape"),
        ({"start_state": GOOD * np.nan}, "finite"),
        ({"start_state": GOOD, "goal_pos": np.zeros((3, 2))}, "'goal_pos' has shape"),
        ({"start_state": GOOD, "goal_pos": np.zeros((2, 2)) + np.inf}, "finite"),
        ({"start_state": np.array([["a", "b"]])}, "cannot be read"),
        ({"start_state": np.array([[None]])}, "cannot be read"),
    ],
)
def test_starts_refuse_other_arrays(tmp_path, arrays, what):
    np.savez(tmp_path / "starts.npz", **arrays)
    with pytest.raises(ValueError, match=what) as error:
        Starts.read(tmp_path / "starts.npz")
    assert "starts.npz" in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 cut short", b"\x89HDF\r\n\x1a\n cut short"]
)
def test_starts_refuse_other_files(tmp_path, suffix, content):
    path = tmp_path / f"starts{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"starts{suffix}.*expected"):
        Starts.read(path)


def test_starts_refuse_a_missing_file_a_folder_and_a_bare_array(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; give an \.npz or \.hdf5"):
        Starts.read(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="expected"):
        Starts.read(tmp_path)
    np.save(tmp_path / "array.npy", GOOD)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="expected"):
        Starts.read(tmp_path / "array.npz")
