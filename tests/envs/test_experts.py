from __future__ import annotations

import h5py
import numpy as np
import pytest

import dfplan
from dfplan.envs import MAZES, Maze2DEnv, WaypointExpert, collect, generate, get_maze
from dfplan.envs.ball import Ball
from dfplan.envs.controller import GridPaths

# (obs std, act std, reward mean, env steps per goal) of D4RL's released v1 files.
RELEASED = {
    "umaze": ((0.900, 0.709, 2.213, 2.468), (0.704, 0.751), 0.0813, 80),
    "medium": ((1.337, 1.521, 2.341, 2.369), (0.740, 0.746), 0.0237, 167),
    "large": ((1.807, 2.569, 2.437, 2.649), (0.725, 0.739), 0.0089, 242),
}


@pytest.fixture(scope="module")
def run() -> dict[str, np.ndarray]:
    return collect("umaze", 60_000, seed=0, progress=False)


def test_eight_arrays(run: dict[str, np.ndarray]) -> None:
    widths = {
        "observations": (4,), "actions": (2,), "rewards": (), "terminals": (), "timeouts": (),
        "infos/goal": (2,), "infos/qpos": (2,), "infos/qvel": (2,),
    }  # fmt: skip
    assert {key: value.shape[1:] for key, value in run.items()} == widths
    for key, value in run.items():
        assert len(value) == 60_000
        assert value.dtype == (np.bool_ if key in ("terminals", "timeouts") else np.float32)
    np.testing.assert_array_equal(run["observations"], np.hstack([run["infos/qpos"], run["infos/qvel"]]))
    assert not run["terminals"].any()
    assert np.abs(run["actions"]).max() == 1.0


def test_timeouts_mark_reached_goals(run: dict[str, np.ndarray]) -> None:
    ends, goals = np.flatnonzero(run["timeouts"]), run["infos/goal"]
    changes = np.flatnonzero((goals[1:] != goals[:-1]).any(axis=1))
    np.testing.assert_array_equal(changes, ends[ends < len(goals) - 1])
    reached = np.linalg.norm(run["observations"][ends, :2] - np.rint(goals[ends]), axis=1)
    assert (reached < 0.1).all()
    assert np.diff(ends).min() >= 1 and np.diff(ends).max() < 300
    # One stream: the ball is never moved by hand.
    assert np.linalg.norm(np.diff(run["observations"][:, :2], axis=0), axis=1).max() < 0.08


def test_rewards_are_those_of_the_fixed_goal(run: dict[str, np.ndarray]) -> None:
    near = np.linalg.norm(run["observations"][:, :2] - np.array([1.0, 1.0]), axis=1) <= 0.5
    np.testing.assert_array_equal(run["rewards"], near)
    dense = collect("maze2d-umaze-dense-v1", 200, progress=False)
    distance = np.linalg.norm(dense["observations"][:, :2] - 1.0, axis=1)
    np.testing.assert_allclose(dense["rewards"], np.exp(-distance), rtol=1e-5)


def test_stored_actions_replay(run: dict[str, np.ndarray]) -> None:
    ball = Ball(MAZES["umaze"])
    rows = zip(run["observations"][:5000].tolist(), run["actions"][:5000].tolist(), strict=True)
    error = np.abs(np.array([ball.step(*s, *a) for s, a in rows]) - run["observations"][1:5001])
    assert error[:, :2].max() < 2e-6 and error[:, 2:].max() < 2e-5


@pytest.mark.parametrize("name", RELEASED)
def test_statistics_are_those_of_the_released_files(name: str) -> None:
    data = collect(name, 150_000, seed=1, progress=False)
    obs_std, act_std, reward, steps = RELEASED[name]
    np.testing.assert_allclose(data["observations"].std(axis=0), obs_std, rtol=0.06)
    np.testing.assert_allclose(data["actions"].std(axis=0), act_std, rtol=0.03)
    assert data["rewards"].mean() == pytest.approx(reward, rel=0.35)
    assert len(data["timeouts"]) / data["timeouts"].sum() == pytest.approx(steps, rel=0.08)
    assert 0.28 < (np.abs(data["actions"]) == 1).mean() < 0.37


def test_same_seed_same_data_and_longer_runs_continue() -> None:
    short, again = (collect("medium", 9000, seed=3, progress=False) for _ in range(2))
    longer = collect("medium", 9500, seed=3, progress=False)
    other = collect("medium", 9000, seed=4, progress=False)
    for key, value in short.items():
        np.testing.assert_array_equal(value, again[key])
        np.testing.assert_array_equal(value, longer[key][:9000])
    assert np.abs(short["observations"] - other["observations"]).max() > 1


def test_without_noise_the_commands_are_smooth() -> None:
    change = {
        noise: np.median(np.abs(np.diff(collect("large", 20_000, 0, noise, False)["actions"], axis=0)))
        for noise in (0.0, 0.5)
    }
    assert change[0.0] < 0.01 and 0.3 < change[0.5] < 0.4


def test_generate_writes_d4rl_layout(tmp_path) -> None:
    path = generate("maze2d-umaze-v1", tmp_path / "new" / "umaze.hdf5", steps=3000, seed=5, progress=False)
    expected = collect("umaze", 3000, seed=5, progress=False)
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "generator": "dfplan", "version": dfplan.__version__, "seed": 5, "noise": 0.5, "dt": 0.01,
            "maze": MAZES["umaze"].text,
        }  # fmt: skip
        for key, value in expected.items():
            np.testing.assert_array_equal(file[key][:], value)
            assert file[key].compression == "gzip" and file[key].dtype == value.dtype
    assert [p.name for p in path.parent.iterdir()] == ["umaze.hdf5"]


def test_generate_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch) -> None:
    path = tmp_path / "umaze.hdf5"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="disk full"):
        generate("umaze", path, steps=10, progress=False)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_paths_follow_d4rl_tie_order() -> None:
    open_room = get_maze("#####\n#OOO#\n#OOO#\n#OOO#\n#####")
    paths = GridPaths(open_room)
    assert paths.path(1.0, 1.0, (3, 3)) == [(1, 2), (1, 3), (2, 3), (3, 3)]
    assert paths.path(3.0, 3.0, (1, 1)) == [(3, 2), (3, 1), (2, 1), (1, 1)]
    assert paths.path(2.0, 2.0, (2, 2)) == [(2, 2)]
    # Rounds into the wall above, or diagonally into a corner: still finds the way.
    assert paths.path(0.45, 1.0, (3, 1)) == [(1, 1), (2, 1), (3, 1)]
    assert paths.path(0.45, 0.45, (1, 2)) == [(1, 2)]


@pytest.mark.parametrize("name", MAZES)
def test_expert_reaches_the_goal_from_every_cell(name: str) -> None:
    env, expert = Maze2DEnv(name), WaypointExpert(name)
    for seed, cell in enumerate(MAZES[name].free_cells):
        obs, info = env.reset(seed=seed, options={"qpos": cell})
        expert.reset(seed)
        for _ in range(MAZES[name].episode_steps):
            if info["success"]:
                break
            action = expert.act(obs)
            obs, *_, info = env.step(action)
        assert info["success"], cell
        assert info["first_reach"] == 0 or (action.dtype == np.float32 and action.shape == (2,))


def test_expert_stays_at_a_random_goal() -> None:
    env, expert = Maze2DEnv("medium", goal="random"), WaypointExpert("medium")
    for seed in range(5):
        obs, info = env.reset(seed=seed)
        expert.reset(seed, goal=env.goal)
        rewards = []
        for _ in range(600):
            obs, reward, *_, info = env.step(expert.act(obs))
            rewards.append(reward)
        assert all(rewards[info["first_reach"] :])


def test_expert_seed() -> None:
    def first_actions(seed: int) -> list[list[float]]:
        expert = WaypointExpert("large")
        expert.reset(seed)
        return [expert.act([1.0, 1.0, 0.0, 0.0]).tolist() for _ in range(3)]

    assert first_actions(1) == first_actions(1)


TWO_ROOMS = "#####\n#O#G#\n#####"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: collect("umaze", 0), r"got steps=0"),
        (lambda: collect("umaze", 10, noise=-1.0), r"noise=-1.0"),
        (lambda: collect("umaz", 10), r"did you mean 'umaze'"),
        (lambda: collect(TWO_ROOMS, 1000, progress=False), r"got 1 of 2 free cells out of reach"),
        (lambda: generate(TWO_ROOMS, "never.hdf5"), r"no usual data size; give steps="),
        (lambda: WaypointExpert("umaze").reset(goal=(1.0,)), r"expected two finite numbers"),
        (lambda: WaypointExpert("umaze").reset(goal=(2.0, 1.0)), r"in a wall or outside"),
        (lambda: WaypointExpert(TWO_ROOMS).act([1.0, 1.0, 0.0, 0.0]), r"no way from \(1, 1\)"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
