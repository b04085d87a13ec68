import importlib.util

import numpy as np
import pytest

from dfplan import envs, rollout
from dfplan.envs.obstacles import Obstacles, Room, draw, touched, usual_way
from dfplan.policies import PointMass, search

OPEN = "######\n#OOOO#\n#OOOO#\n#OOOG#\n######"


def room(maze="large"):
    return Room.of(envs.make(maze))


def test_clearance_is_the_distance_to_the_nearest_wall():
    here = room(OPEN)
    assert here.clearance[here.node((2.8, 1.8), 20)] == pytest.approx(
        0.5, abs=0.04
    )  # the centre of cell (3, 2)
    assert here.clearance[here.node((0.4, 0.4), 20)] == pytest.approx(0.1, abs=0.04)
    assert (here.clearance[:20] == 0).all()


def test_a_way_keeps_its_distance_or_there_is_none():
    here, balls = room("umaze"), np.array([[1.8, 2.8, 0.2]])
    way = here.way((0.8, 0.8), (2.8, 0.8), balls[:0], 2.0)
    assert (
        way is not None and here.way((0.8, 0.8), (2.8, 0.8), balls, 2.0) is None
    )  # the only corridor is shut
    clear = [here.clearance[here.node(p, 20)] for p in way[1:-1]]
    assert min(clear) > 0.2
    assert here.way((0.8, 0.8), (2.8, 0.8), np.array([[1.8, 2.45, 0.1]]), 1.0) is not None


def test_touching_is_seen_between_two_points():
    balls = np.array([[1.0, 0.05, 0.1], [5.0, 0.0, 0.1]])
    assert touched([[0, 0], [2, 0]], balls, 0.0).tolist() == [True, False]
    assert touched([[0, 0.2], [2, 0.2]], balls, 0.04).tolist() == [False, False]
    assert touched([[0, 0.2], [2, 0.2]], balls, 0.06).tolist() == [True, False]


@pytest.mark.parametrize("kind", ["beside", "across"])
def test_obstacles_are_on_the_way_away_from_its_ends_and_leave_one(kind):
    here, rng = room(), np.random.default_rng(0)
    for start, goal in (((1.0, 1.0), (6.8, 8.8)), ((7.0, 1.0), (1.0, 10.0))):
        balls = draw(here, start, goal, 2, kind, rng)
        way = usual_way(here, start, goal)
        assert touched(way, balls, 0.0).all()
        for end in (start, goal):
            assert (np.linalg.norm(balls[:, :2] - end, axis=1) - balls[:, 2] >= 0.4).all()
        assert here.way(start, goal, balls, 2.0) is not None


def test_an_episode_is_drawn_by_its_seed_and_tells_of_touches():
    env = Obstacles(envs.make("maze2d-large", goal="random"), 1)
    first, told = env.reset(seed=3)
    again, same = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(told["obstacles"], same["obstacles"])
    assert not told["collided"]
    usual = search(PointMass(0.998, 0.238, 5.2, 0.01), envs.GridPaths("large"))
    (episode,) = rollout.run(lambda: env, usual, [3])
    assert episode.collided and episode.success


@pytest.mark.skipif(
    importlib.util.find_spec("ogbench") is None, reason="needs OGBench: pip install 'dfplan[ogbench]'"
)
def test_a_point_maze_of_ogbench_is_a_room():
    env = envs.make("pointmaze-giant-stitch")
    here, bare = Room.of(env), env.unwrapped
    assert (here.cell, here.robot) == (4.0, 0.7) and here.walls.shape == (16, 12)
    for row, column in ((1, 1), (3, 6), (10, 14)):
        place = bare.ij_to_xy((row, column))
        assert here.node(place) == (column, row) and not here.walls[column, row]
        np.testing.assert_allclose(here.place((column, row)), place)
        assert here.clearance[here.node(place, 20)] == pytest.approx(2.0, abs=0.2)
    blocked = Obstacles(env, 3)
    first, told = blocked.reset(seed=20001)
    again, same = blocked.reset(seed=20001)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(told["obstacles"], same["obstacles"])
    assert touched(usual_way(here, first, told["goal"]), told["obstacles"], 0.0).all()
    assert here.passable(first, told["goal"], told["obstacles"], 2.0)


def test_a_picture_shows_walls_balls_goal_and_robot():
    env = Obstacles(envs.make("maze2d-large", goal="random"), 1)
    observation, info = env.reset(seed=3)
    picture = env.render()

    def colour(place):
        row, column = (np.asarray(place)[:2] + 0.7) * 32
        return tuple(picture[int(row), int(column)].tolist())

    assert picture.shape == (9 * 32, 12 * 32, 3) and picture.dtype == np.uint8
    seen = [colour(p) for p in (info["obstacles"][0], info["goal"], observation, (0.0, 0.0), (-0.2, -0.2))]
    assert seen == [(213, 94, 0), (196, 45, 45), (31, 99, 196), seen[3], (70, 74, 82)]


def test_refusals():
    with pytest.raises(ValueError, match="obstacles=0"):
        Obstacles(envs.make("umaze"), 0)
    with pytest.raises(ValueError, match="did you mean 'across'"):
        Obstacles(envs.make("umaze"), 1, "acros")
    with pytest.raises(ValueError, match="no room"):
        Obstacles(envs.make("umaze"), 1, "across").reset(seed=0)
