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


def test_refusals():
    with pytest.raises(ValueError, match="obstacles=0"):
        Obstacles(envs.make("umaze"), 0)
    with pytest.raises(ValueError, match="did you mean 'across'"):
        Obstacles(envs.make("umaze"), 1, "acros")
    with pytest.raises(ValueError, match="no room"):
        Obstacles(envs.make("umaze"), 1, "across").reset(seed=0)
