"""OGBench's point mazes: seeded starts, tasks and data, and the model-free floor on them."""

import importlib.util

import numpy as np
import pytest

from dfplan import envs
from dfplan.data import load
from dfplan.policies import Graph, receding
from dfplan.rollout import run, summary

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ogbench") is None, reason="needs OGBench: pip install 'dfplan[ogbench]'"
)
TASK = "pointmaze-medium-stitch"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "medium.hdf5"
    return envs.generate_point_maze(TASK, path, episodes=40, seed=0)


def test_a_seed_gives_the_task_the_start_and_the_goal():
    env = envs.make(TASK)
    state = np.random.get_state()[1].copy()
    seen = [env.reset(seed=s) for s in (7, 8, 7)]
    assert [info["task"] for _, info in seen] == [3, 4, 3]
    np.testing.assert_array_equal(seen[0][0], seen[2][0])
    np.testing.assert_array_equal(seen[0][1]["goal"], seen[2][1]["goal"])
    assert (seen[0][1]["goal"] != env.reset(seed=12)[1]["goal"]).all()  # the same task, shifted otherwise
    assert (np.random.get_state()[1] == state).all()  # nobody else's numbers are touched
    assert env.spec.max_episode_steps == 1000
    env.close()


def test_start_and_goal_can_be_told():
    env = envs.make(TASK)
    observation, info = env.reset(seed=0, options={"qpos": (0.5, 0.25), "goal": (4.5, 4.5)})
    np.testing.assert_allclose(observation, (0.5, 0.25))
    np.testing.assert_allclose(info["goal"], (4.5, 4.5))
    done = False
    while not done:
        observation, _, done, truncated, info = env.step(np.clip((np.array((4.5, 4.5)) - observation) / 0.2, -1, 1))
        assert not truncated
    assert info["success"] and np.linalg.norm(observation - (4.5, 4.5)) <= 1
    for place in ((8.0, 0.0), (-100.0, 0.0), (0.0, np.nan), (0.0,)):
        with pytest.raises(ValueError, match="expected two finite numbers in free space"):
            env.reset(options={"goal": place})


def test_data_follow_the_recipe_and_the_seed(data, tmp_path):
    episodes = load(data)
    assert len(episodes) == 40 and set(np.diff(episodes.ends)) == {201} and episodes.dt == pytest.approx(0.1)
    again = load(envs.generate_point_maze(TASK, tmp_path / "less.hdf5", episodes=3, seed=0))
    for key in ("observations", "actions"):
        np.testing.assert_array_equal(again.arrays[key], episodes.arrays[key][: 3 * 201])
    p, a = episodes.arrays["observations"], episodes.arrays["actions"]
    assert np.abs(a).max() <= 1 and 0.6 < a.std() < 0.8
    moved = np.diff(p[:201], axis=0)
    assert np.median(np.abs(moved - 0.2 * a[:200])) < 1e-4  # away from walls the ball goes where it is sent
    cells = (p.reshape(40, 201, 2)[:, [0, -1]] + 4) / 4
    assert 2.0 < np.abs(cells[:, 0] - cells[:, 1]).sum(-1).mean() < 5.0  # four cells, less round a corner


def test_navigate_goes_on_to_new_goals(tmp_path):
    episodes = load(envs.generate_point_maze("pointmaze-medium-navigate", tmp_path / "n.hdf5", episodes=1))
    places = np.rint(episodes.arrays["observations"] / 4).astype(int)
    assert episodes.steps == 1001 and len(np.unique(places, axis=0)) > 12
    parts = envs.prepare("pointmaze-medium-navigate", episodes)
    assert np.diff(parts.ends, prepend=0).tolist() == [100] * 10 + [1]
    assert parts.arrays["observations"] is episodes.arrays["observations"]


def test_the_graph_over_recorded_transitions_reaches_goals(data):
    """40 short runs hold enough of the maze for most goals; the floor says so for each task."""
    outcomes = run(lambda: envs.make(TASK), receding(Graph(load(data))), range(5))
    told = summary(TASK, outcomes)
    assert told["success"] >= 0.6 and set(told["tasks"]) == set("12345")
    assert sum(t["success"] for t in told["tasks"].values()) == pytest.approx(5 * told["success"])
    assert told["network_calls_mean"] == 0


def test_refuses_names_and_numbers(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'pointmaze-giant-stitch'"):
        envs.generate_point_maze("pointmaze-giant-stich", tmp_path / "x.hdf5")
    with pytest.raises(ValueError, match="got episodes=0"):
        envs.generate_point_maze(TASK, tmp_path / "x.hdf5", episodes=0)
