from types import SimpleNamespace

import numpy as np
import pytest

import dfplan
from dfplan import envs, rollout
from dfplan.envs.obstacles import Obstacles, touched
from dfplan.plan.ways import plan_of
from dfplan.policies import Around, Detour, PointMass
from dfplan.policies.around import clearance

POINT = PointMass(0.998, 0.238, 5.2, 0.01)


@pytest.fixture(scope="module")
def around():
    """With a roadmap too small to be of use: what is found is mended."""
    return Around(dfplan.load("maze2d-large"), 0.1, states=5)


def test_clearance_by_hand():
    path = np.array([[0.0, 0.0], [2.0, 0.0]])
    got = clearance(path, np.array([[1.0, 1.0, 0.25], [3.0, 0.0, 0.5]]))
    np.testing.assert_allclose(got, [0.75, 0.5], atol=1e-6)


def test_a_touched_stretch_is_mended_and_the_rest_is_the_models_own(around):
    start, goal = np.array([4.8, 5.8, 0.0, 0.0]), np.array([4.8, 9.8])
    (usual,) = around.planner.plan_batch(start[None, None], goal, seeds=[0])
    far = np.array([[1.0, 1.0, 0.1]])
    same = around.plan(start, goal, far, 0)
    np.testing.assert_allclose(same.observations[0, :2], usual.observations[0, :2], atol=1e-5)
    assert same.network_calls == usual.network_calls and touched(usual.best()[:, :2], far, 0.1).sum() == 0
    middle = usual.best()[len(usual.best()) // 2, :2]
    ball = np.array([[*(middle + [0.12, 0.0]), 0.15]])
    assert touched(usual.best()[:, :2], ball, 0.1).all()
    plan = around.plan(start, goal, ball, 0)
    assert plan.feasible[0] and not touched(plan.best()[:, :2], ball, 0.1).any()
    np.testing.assert_allclose(plan.best()[-1, :2], goal, atol=1e-4)
    np.testing.assert_array_equal(plan.observations, around.plan(start, goal, ball, 0).observations)


class Line:
    """A way through given points to the goal."""

    robot, goal, config = 0.1, np.array([0.8, 3.8]), SimpleNamespace(within=0.5)

    def __init__(self, *points):
        self.points = points or ([0.8, 2.0],)

    def plan(self, state, goal, balls, seed=0):
        spec = dfplan.load("maze2d-large").spec
        return plan_of(np.stack([state[:2], *self.points, goal]), spec, [0, 1], 5.0, True)


def test_near_an_obstacle_it_slows_down_and_keeps_to_its_way():
    """A bend beside a ball: at full speed and with the usual look-ahead the corner would be cut through it."""
    ball = np.array([[0.55, 1.7, 0.1]])
    policy = Detour(Line(), POINT, obstacles=ball)
    (episode,) = rollout.run(lambda: envs.make("large", max_episode_steps=400), policy, [0],
                             lambda _: {"qpos": (0.8, 0.8), "qvel": (0, 0), "goal": (0.8, 3.8)})  # fmt: skip
    assert episode.success and not touched(episode.observations[:, :2], ball, 0.1).any()
    speed = np.linalg.norm(episode.observations[:, 2:], axis=1)
    beside = np.linalg.norm(episode.observations[:, :2] - ball[0, :2], axis=1) < 0.4
    assert speed[beside].max() < 2.5 and speed.max() > 2.5
    assert len(policy.plans) == len(policy.seconds) == 1


def test_a_ball_that_is_passed_twice_is_not_driven_through():
    """Past it, on beyond where it slows the robot down, and back on its other side."""
    ball, goal = np.array([[3.8, 3.8, 0.3]]), (0.8, 4.4)
    policy = Detour(Line([0.8, 3.2], [6.3, 3.2], [6.3, 4.4]), POINT, obstacles=ball)
    maze = "\n".join(["#########", *["#OOOOOOO#"] * 7, "#########"])
    (episode,) = rollout.run(lambda: envs.make(maze, max_episode_steps=900), policy, [0],
                             lambda _: {"qpos": (0.8, 2.8), "qvel": (0, 0), "goal": goal})  # fmt: skip
    path = episode.observations[:, :2]
    assert episode.success and not touched(path, ball, 0.1).any() and len(policy.plans) == 1
    assert path[:, 0].max() > 6 and np.linalg.norm(path[-1] - goal) < 0.5


def test_an_episode_tells_its_obstacles():
    policy = Detour(Line(), POINT)
    env = Obstacles(envs.make("maze2d-large", goal="random", max_episode_steps=2), 2)
    rollout.run(lambda: env, policy, [4])
    _, info = env.reset(seed=4)
    np.testing.assert_array_equal(policy.balls, info["obstacles"])
