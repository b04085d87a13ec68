"""Push-T: features, mirror symmetry, and what a recorded set becomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfplan import envs
from dfplan.data import Episodes
from dfplan.envs import pusht

STATE = st.tuples(*[st.floats(50, 450)] * 4, st.floats(0, 6.28)).map(np.array)


@given(STATE)
def test_mirroring_twice_changes_nothing_and_keeps_all_distances(state):
    np.testing.assert_allclose(np.cos(pusht.mirror(pusht.mirror(state))[4] - state[4]), 1, atol=1e-9)
    np.testing.assert_allclose(pusht.mirror(pusht.mirror(state))[:4], state[:4], atol=1e-9)
    corners, mirrored = (pusht.features(s)[2:].reshape(8, 2) for s in (state, pusht.mirror(state)))
    reflected = pusht.SIZE - corners[:, ::-1]
    away = np.linalg.norm(mirrored[:, None] - reflected[None], axis=-1)
    assert away.min(1).max() < 1e-9 and away.min(0).max() < 1e-9  # the same T, its corners renamed


def test_the_goal_is_its_own_mirror_image():
    goal = np.array([256.0, 256, 256, 256, np.pi / 4])
    np.testing.assert_allclose(pusht.mirror(goal), goal)


def test_prepare_appends_the_mirrored_demonstrations():
    rng = np.random.default_rng(0)
    data = Episodes(
        {"observations": rng.uniform(50, 450, (9, 5)), "actions": rng.uniform(0, 512, (9, 2))},
        np.array([4, 9]),
        0.1,
        "p",
    )
    both = pusht.prepare_pusht(data)
    assert both.ends.tolist() == [4, 9, 13, 18] and both.arrays["observations"].shape == (18, 18)
    np.testing.assert_allclose(both.arrays["actions"][9:], 512 - both.arrays["actions"][:9, ::-1], rtol=1e-5)
    with pytest.raises(ValueError, match="expected Push-T's"):
        pusht.prepare_pusht(Episodes({"observations": np.zeros((3, 4))}, np.array([3]), 0.1, "x"))


def test_the_simulator_is_as_symmetric_as_the_data_are_taken_to_be():
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed (extra pusht)")
    rng = np.random.default_rng(3)
    env, twin = pusht.PushT(), pusht.PushT()
    state = np.array([150.0, 300, 230, 290, 1.0])
    seen, _ = env.reset(seed=0, options={"reset_to_state": state})
    twin.reset(seed=0)
    own = pusht.mirror(env.unwrapped.get_obs())
    body = twin.unwrapped.block
    body.angle, body.position = own[4], own[2:4].tolist()  # its reset moves what it is given, by the angle
    twin.unwrapped.agent.position = own[:2].tolist()
    start = seen
    for _ in range(25):
        action = seen[:2] + rng.uniform(-10, 40, 2)
        seen, reward, *_ = env.step(action)
        other, mirrored, *_ = twin.step(pusht.SIZE - action[::-1])
        np.testing.assert_allclose(pusht.SIZE - seen[1::-1], other[:2], atol=0.5)
        assert abs(reward - mirrored) < 0.02
    assert np.abs(seen[2:] - start[2:]).max() > 5  # the T was pushed


def test_it_is_made_by_name():
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed (extra pusht)")
    env = envs.make("pusht", render_mode="rgb_array", max_episode_steps=2)
    observation, _ = env.reset(seed=4)
    np.testing.assert_array_equal(observation, pusht.PushT().reset(seed=4)[0])
    assert env.render().shape[2] == 3
    assert [env.step(observation[:2])[3] for _ in range(2)] == [False, True]


def test_the_environment_reports_the_largest_coverage_so_far():
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed (extra pusht)")
    env = pusht.PushT()
    observation, info = env.reset(seed=4)
    assert observation in env.observation_space and info["progress"] == 0 and info["first_reach"] is None
    again, _ = pusht.PushT().reset(seed=4)
    np.testing.assert_array_equal(observation, again)
    best = 0.0
    for _ in range(30):
        observation, reward, *_, info = env.step(observation[2:4])
        best = max(best, reward)
        assert info["progress"] == best
