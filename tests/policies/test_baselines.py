"""What models are held against."""

import gymnasium as gym
import numpy as np
import pytest

import dfplan
from dfplan import envs
from dfplan.policies import PointMass, Search, Uniform, search
from dfplan.rollout import run

ROBOT = PointMass(0.9976, 0.238, 5.2, 0.01)


def test_the_way_goes_through_the_centres_of_neighbouring_free_cells():
    for name in ("umaze", "medium", "large"):
        maze = envs.get_maze(name)
        paths = envs.GridPaths(maze)
        for row, column in maze.free_cells:
            way = paths.way((row - 0.1, column + 0.05), maze.goal)
            assert tuple(way[0]) == (row - 0.1, column + 0.05) and tuple(way[-1]) == maze.goal
            cells = np.round(way + 0.2).astype(int)
            assert all(maze.is_free(*cell) for cell in cells.tolist())
            assert (np.abs(np.diff(cells, axis=0)).sum(1) <= 1).all()
            np.testing.assert_allclose(way[1:-1], cells[1:-1] - 0.2)


def test_it_arrives_from_everywhere_and_plans_do_so_with_the_same_tracker():
    policy = search(dfplan.load("maze2d-umaze"), envs.GridPaths("umaze"))
    assert isinstance(policy, Search) and policy.tracker.robot.dt == 0.01
    got = run(lambda: envs.make("umaze", goal="random"), policy, range(6))
    assert all(o.success for o in got)


def test_goal_and_map_are_checked():
    policy = search(ROBOT, envs.GridPaths("umaze"))
    with pytest.raises(ValueError, match="pass goal"):
        policy.act([1.0, 1.0, 0.0, 0.0])
    policy.reset(goal=(2, 2))
    with pytest.raises(ValueError, match="in a wall"):
        policy.act([1.0, 1.0, 0.0, 0.0])


def test_random_actions_fill_the_range_and_repeat_by_the_seed():
    env = gym.make("Pendulum-v1")
    policy = Uniform(env)
    policy.reset(3)
    first = np.array([policy.act(np.zeros(3)) for _ in range(400)])
    policy.reset(3)
    np.testing.assert_array_equal(first, [policy.act(np.zeros(3)) for _ in range(400)])
    assert first.shape == (400, 1) and -2 <= first.min() < -1.9 and 1.9 < first.max() <= 2
    env.action_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    assert np.abs(Uniform(env).act(None)).max() <= 1
