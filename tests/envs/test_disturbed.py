import numpy as np
import pytest

from dfplan import envs
from dfplan.envs.disturbed import EVENTS, without

STILL = np.zeros(2)


def run(kind, seed, maze="large", policy=lambda seen, info: STILL, steps=400):
    """Observations, infos and the environment."""
    env = envs.make(f"maze2d-{maze}", goal="random", disturb=kind)
    seen, info = env.reset(seed=seed)
    rows, infos = [seen], [info]
    for _ in range(steps):
        seen, _, _, _, info = env.step(policy(seen, info))
        rows.append(seen)
        infos.append(info)
    return np.array(rows), infos, env


@pytest.mark.parametrize("kind", ["push", "move", "door", "wind"])
def test_the_same_seed_disturbs_in_the_same_way(kind):
    first, again, other = (run(kind, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_push_throws_the_ball_and_never_through_a_wall():
    for seed in range(8):
        rows, infos, env = run("push", seed)
        assert len(env.events) == EVENTS == len(infos[-1]["events"])
        for event in env.events:
            before, after = rows[event - 1], rows[event]
            assert np.linalg.norm(after[2:]) == pytest.approx(5) and np.linalg.norm(before[2:]) < 4
            assert np.linalg.norm(after[:2] - before[:2]) < 0.9
            for part in np.linspace(0, 1, 9):
                env.unwrapped.maze.ball_cell(*(before[:2] + part * (after[:2] - before[:2])))


def test_success_is_asked_anew_after_every_event():
    """Who stands at the first goal has reached it, and not the next one."""
    env = envs.make("maze2d-umaze", disturb="move")
    _, info = env.reset(seed=0, options={"qpos": (1.0, 1.0), "qvel": (0.0, 0.0), "goal": (1.0, 1.0)})
    assert info["success"] and info["first_reach"] == 0
    while not info["events"]:
        *_, info = env.step(STILL)
    assert not info["success"] and info["first_reach"] is None
    assert np.linalg.norm(info["goal"] - 1) > 0.7
    np.testing.assert_array_equal(info["goal"], env.unwrapped.goal)


def goes_in(env, cell, beside):
    """Whether the ball gets from a neighbouring cell into a cell."""
    env.unwrapped.disturb(qpos=np.subtract(beside, 0.2), qvel=(0.0, 0.0))
    for _ in range(25):  # 0.75 m, where nothing is in the way
        seen, *_ = env.step(np.subtract(cell, beside).astype(float))
    return env.unwrapped.maze.ball_cell(*seen[:2]) == cell


def test_the_door_is_solid_leaves_a_way_and_is_open_again_in_the_next_episode():
    found = 0
    for seed in range(6):
        rows, _, env = run("door", seed, "medium")
        if not env.events:
            continue
        found, maze, ((r, c),) = found + 1, env.unwrapped.maze, tuple(env._shut)
        goal, start = maze.cell_at(*env.unwrapped.goal), maze.ball_cell(*rows[-1][:2])
        assert start in envs.GridPaths(without(maze, (r, c))).distances(goal)
        beside = next(n for n in ((r + 1, c), (r, c + 1), (r - 1, c), (r, c - 1)) if maze.is_free(*n))
        assert not goes_in(env, (r, c), beside)
        env.reset(seed=seed)
        env.step(STILL)
        assert goes_in(env, (r, c), beside)
    assert found >= 3


def test_wind_moves_who_does_nothing():
    rows, _, env = run("wind", 0, steps=100)
    assert np.linalg.norm(rows[-1][:2] - rows[0][:2]) > 0.1 and env.events == []


def test_a_maze_refuses_what_only_the_arm_knows():
    with pytest.raises(ValueError, match="push, move, wind, door"):
        envs.make("maze2d-large", disturb="freeze")
