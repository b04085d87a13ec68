from __future__ import annotations

import math
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dfplan.envs as envs
from dfplan.envs import ENV_IDS, MAZES, Maze2DEnv, make

ZERO = np.zeros(2, np.float32)


@pytest.mark.parametrize("layout", ENV_IDS)
def test_gymnasium_contract(layout: str) -> None:
    env = gym.make(ENV_IDS[layout], render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An unbounded observation is D4RL's, and a Maze2D speed has no bound at reset.
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity.*")
        check_env(env.unwrapped)
    assert env.spec is not None and env.spec.max_episode_steps == MAZES[layout].episode_steps
    assert env.unwrapped.maze is MAZES[layout]


def test_ids() -> None:
    assert ENV_IDS["umaze"] == "dfplan/Maze2D-UMaze-v1"
    assert ENV_IDS["large-eval"] == "dfplan/Maze2D-LargeEval-v1"
    assert set(envs.__all__) <= set(dir(envs))
    assert all(hasattr(envs, name) for name in envs.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = envs.nothing


def test_import_registers_and_does_not_load_mujoco() -> None:
    code = (
        "import sys, gymnasium, dfplan.envs\n"
        "assert 'dfplan/Maze2D-Medium-v1' in gymnasium.registry and 'mujoco' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("layout", ["umaze", "medium", "large"])
def test_time_limit_cuts_and_nothing_terminates(layout: str) -> None:
    env = make(layout)
    env.reset(seed=0)
    for step in range(1, MAZES[layout].episode_steps + 1):
        _, _, terminated, truncated, _ = env.step(ZERO)
        assert not terminated
        assert truncated == (step == MAZES[layout].episode_steps)


def test_spaces_and_state_order() -> None:
    env = Maze2DEnv("umaze")
    obs, _ = env.reset(options={"qpos": (3.0, 2.0), "qvel": (0.5, -0.25)})
    assert obs.dtype == np.float64 and obs.tolist() == [3.0, 2.0, 0.5, -0.25]
    assert env.action_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    obs, *_ = env.step(np.array([0.0, 1.0], np.float32))
    assert obs[1] > 2.0 - 0.0025 and obs[3] > -0.25 and obs[2] < 0.5
    np.testing.assert_allclose(obs[:2], [3.0 + 0.01 * obs[2], 2.0 + 0.01 * obs[3]])


def test_sparse_reward_counts_steps_within_half_a_metre() -> None:
    env = Maze2DEnv("umaze")
    for y, expected in [(1.499, 1.0), (1.501, 0.0)]:
        env.reset(options={"qpos": (1.0, y), "qvel": (0.0, 0.0)})
        assert env.step(ZERO)[1] == expected


def test_dense_reward() -> None:
    env = Maze2DEnv("umaze", reward="dense")
    env.reset(options={"qpos": (1.0, 1.3), "qvel": (0.0, 0.0)})
    assert env.step(ZERO)[1] == pytest.approx(math.exp(-0.3))
    _, _, _, _, info = env.step(ZERO)
    low, high = MAZES["umaze"].dense_refs
    assert info["normalized_score"] == pytest.approx((2 * math.exp(-0.3) - low) / (high - low))


def test_info_success_first_reach_and_score() -> None:
    env = Maze2DEnv("umaze")
    _, info = env.reset(options={"qpos": (1.0, 1.6), "qvel": (0.0, 0.0)})
    assert info["success"] is False and info["first_reach"] is None
    assert info["normalized_score"] == pytest.approx(-23.85 / (161.86 - 23.85))
    total, first = 0.0, None
    for step in range(1, 101):
        # In, then out again: success and first_reach stay, the return does not grow.
        obs, reward, _, _, info = env.step([0.0, -1.0 if step < 20 else 1.0])
        total += reward
        first = step if first is None and reward else first
        assert reward == (np.hypot(*(obs[:2] - [1, 1])) <= 0.5)
        assert info["first_reach"] == first and info["success"] == (first is not None)
        assert info["normalized_score"] == pytest.approx(MAZES["umaze"].normalized_score(total))
    assert reward == 0.0 and 0 < total < 100 - first
    _, info = env.reset(options={"qpos": (1.0, 1.2)})
    assert info["success"] is True and info["first_reach"] == 0


def test_fixed_goal_and_given_goal() -> None:
    assert Maze2DEnv("large").goal.tolist() == [7.0, 9.0]
    env = Maze2DEnv("large", goal=(1.05, 2.0))
    _, info = env.reset(options={"goal": (3.0, 3.0)})
    assert info["goal"].tolist() == env.goal.tolist() == [3.0, 3.0]
    _, info = env.reset()
    assert info["goal"].tolist() == [1.05, 2.0]
    info["goal"][:] = 0
    assert env.goal.tolist() == [1.05, 2.0]


def test_random_goals_and_starts_cover_all_cells() -> None:
    env = Maze2DEnv("umaze", goal="random")
    env.reset(seed=0)
    resets = [env.reset() for _ in range(400)]
    for points in (np.array([o[:2] for o, _ in resets]), np.array([i["goal"] for _, i in resets])):
        cells = np.rint(points).astype(int)
        assert {tuple(cell) for cell in cells.tolist()} == set(MAZES["umaze"].free_cells)
        assert 0.09 < np.abs(points - cells).max() <= 0.1
    speeds = np.array([o[2:] for o, _ in resets])
    assert 0.08 < speeds.std() < 0.12


def test_seed_decides_everything() -> None:
    def run(seed: int) -> np.ndarray:
        env = make("medium", goal="random")
        rows = []
        for k in range(2):
            obs, info = env.reset(seed=seed if k == 0 else None)
            rows.append(np.concatenate([obs, info["goal"]]))
            env.action_space.seed(seed)
            for _ in range(100):
                obs, *_, info = env.step(env.action_space.sample())
                rows.append(np.concatenate([obs, info["goal"]]))
        return np.array(rows)

    np.testing.assert_array_equal(run(4), run(4))
    assert np.abs(run(4) - run(5)).max() > 0.1


def test_an_episode_does_not_depend_on_the_one_before() -> None:
    env, rng = Maze2DEnv("umaze"), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    runs = []
    for extra in (0, 57):
        env.reset(seed=1)
        for action in actions[:extra]:
            env.step(-action)
        env.reset(seed=2)
        runs.append([env.step(action)[0] for action in actions])
    np.testing.assert_array_equal(*runs)


def test_actions_are_clipped_and_any_array_will_do() -> None:
    env = Maze2DEnv("umaze")
    outcomes = []
    for action in ([2.0, -7.0], (1, -1), np.array([1.0, -1.0], np.float32), np.array([np.inf, -np.inf])):
        env.reset(options={"qpos": (3.0, 2.0), "qvel": (0.0, 0.0)})
        outcomes.append(env.step(action)[0].tolist())
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_d4rl_names() -> None:
    env = make("maze2d-large-v1").unwrapped
    assert (env.maze.name, env.reward_kind) == ("large", "sparse")
    env = make("maze2d-eval-umaze-dense-v1", goal="random")
    assert (env.unwrapped.maze.name, env.unwrapped.reward_kind) == ("umaze-eval", "dense")
    assert env.spec.id == "dfplan/Maze2D-UMazeEval-v1" and env.spec.max_episode_steps == 300
    assert make("maze2d-medium", reward="dense").unwrapped.reward_kind == "dense"
    assert make("dfplan/Maze2D-Large-v1", max_episode_steps=5).spec.max_episode_steps == 5


def test_text_maze() -> None:
    text = "######\n#OO#G#\n##OOO#\n######"
    for env in (make(text), gym.make(ENV_IDS["umaze"], maze=text)):
        _, info = env.reset(seed=0)
        assert info["normalized_score"] is None and info["goal"].tolist() == [1.0, 4.0]
        assert env.step(ZERO)[4]["normalized_score"] is None
        env.reset(options={"qpos": (2.0, 4.0)})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"maze": "larg"}, r"did you mean 'large'"),
        ({"goal": "randm"}, r"got goal 'randm', expected one of fixed, random; did you mean 'random'"),
        ({"goal": (1.0, 2.0, 3.0)}, r"got goal .*expected two finite numbers"),
        ({"goal": (2.0, 1.0), "maze": "umaze"}, r"in a wall or outside.*such as \(1, 1\)"),
        ({"reward": "spars"}, r"got reward 'spars'.*did you mean 'sparse'"),
        ({"reward": "sparse", "maze": "maze2d-large-dense-v1"}, r"contradict each other"),
        ({"render_mode": "human"}, r"got render_mode 'human', expected one of rgb_array"),
    ],
)
def test_bad_arguments(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Maze2DEnv(**kwargs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qpso": (1, 1)}, r"got reset option 'qpso', expected one of qpos, qvel, goal; did you mean 'qpos'"),
        ({"qpos": (1.0,)}, r"got qpos \(1.0,\), expected two finite numbers"),
        ({"qpos": (2.0, 1.0)}, r"got position \(2, 1\), which is in a wall or outside"),
        ({"qvel": (np.nan, 0.0)}, r"got qvel"),
        ({"qvel": "fast"}, r"got qvel 'fast'"),
        ({"goal": (0.0, 0.0)}, r"in a wall or outside"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Maze2DEnv("umaze").reset(options=options)


@pytest.mark.parametrize("action", [[np.nan, 0.0], [1.0], np.zeros((1, 2)), np.zeros((2, 1)), "up", None])
def test_bad_actions(action: object) -> None:
    env = Maze2DEnv("umaze")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"(?s)got action .*expected two numbers in \[-1, 1\]"):
        env.step(action)


def test_step_before_reset_and_render_without_mode() -> None:
    env = Maze2DEnv("umaze")
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(ZERO)
    env.reset()
    with pytest.raises(ValueError, match="'rgb_array'"):
        env.render()


def pixel(point: tuple[float, float]) -> tuple[int, int]:
    """Row and column of a qpos in the picture: 40 pixels a cell, cells centred at qpos - 0.2."""
    return int((point[0] + 0.7) * 40), int((point[1] + 0.7) * 40)


def test_picture() -> None:
    from dfplan.envs import render

    env = Maze2DEnv("umaze", render_mode="rgb_array")
    env.reset(options={"qpos": (3.0, 1.0), "qvel": (0.0, 0.0)})
    for _ in range(40):
        obs = env.step([0.0, 0.3])[0]
    image = env.render()
    assert image.shape == (200, 200, 3) and image.dtype == np.uint8
    # Rows go down with x and columns right with y, as in the text.
    for (row, column), tile in np.ndenumerate(np.array([list(r) for r in MAZES["umaze"].rows])):
        if tile == "#":
            assert tuple(image[row * 40 + 20, column * 40 + 20]) == render.WALL
    assert tuple(image[pixel((2.8, 2.8))]) == render.FREE
    assert tuple(image[pixel((1.0, 1.0))]) == render.GOAL
    assert tuple(image[pixel((1.0, 1.3))]) == render.GOAL_AREA
    assert tuple(image[pixel((3.0, 1.0))]) == render.START
    assert tuple(image[pixel((obs[0], obs[1]))]) == render.BALL
    env.reset(options={"qpos": (3.0, 3.0), "goal": (3.0, 2.0)})
    again = env.render()
    assert tuple(again[pixel((3.0, 2.0))]) == render.GOAL
    assert tuple(again[pixel((1.0, 1.0))]) == render.FREE


def test_works_in_vector_and_recording_wrappers() -> None:
    vector = gym.make_vec(ENV_IDS["umaze"], num_envs=3, goal="random")
    obs, info = vector.reset(seed=0)
    assert obs.shape == (3, 4) and info["goal"].shape == (3, 2)
    obs, reward, *_ = vector.step(np.zeros((3, 2), np.float32))
    assert reward.shape == (3,)
    vector.close()
