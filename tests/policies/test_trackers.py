import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfplan.policies import LookAhead, PointMass, ProportionalDerivative
from dfplan.policies.trackers import Path

ROBOT = PointMass(keep=0.9976, gain=0.238, speed=5.2, dt=0.01)
L_SHAPE = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [3, 3]], float)
coordinate = st.floats(-10, 10, allow_nan=False)
polylines = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12).map(np.array)
shares = st.floats(0, 1)


def drive(robot, tracker, path, steps, velocity=(0.0, 0.0)):
    """Positions, velocities (steps + 1, 2) and actions (steps, 2) of a point mass that follows `path`."""
    x, v = [np.array(path[0], float)], [np.array(velocity, float)]
    actions = []
    tracker.follow(np.array(path, float))
    for _ in range(steps):
        actions.append(tracker.act(x[-1], v[-1]))
        v.append(robot.keep * v[-1] + robot.gain * actions[-1])
        x.append(x[-1] + robot.dt * v[-1])
    return np.array(x), np.array(v), np.array(actions)


def off_path(path, places):
    line = Path(np.array(path, float))
    fine = line.at(np.linspace(0, line.lengths[-1], 2001))
    return np.linalg.norm(places[:, None] - fine, axis=-1).min(1)


@pytest.mark.parametrize("turn", [1, -1])
def test_look_ahead_keeps_to_the_path_and_stops_at_its_end(turn):
    path = L_SHAPE * [1, turn]
    x, v, a = drive(ROBOT, LookAhead(ROBOT), path, 400)
    assert off_path(path, x).max() < 0.45  # it cuts the corner, within half a corridor of 1 m less the robot
    assert np.linalg.norm(x[-50:] - path[-1], axis=-1).max() < 0.05
    assert np.abs(v[-50:]).max() < 0.2
    assert np.abs(a).max() <= 1


def test_look_ahead_holds_the_speed_limit_and_uses_it():
    x, v, _ = drive(ROBOT, LookAhead(ROBOT), L_SHAPE * 4, 1000)
    assert np.abs(v).max() <= ROBOT.speed * (1 + 1e-9)
    assert np.abs(v).max() > 0.95 * ROBOT.speed
    arrived = int(np.argmax(np.linalg.norm(x - 4 * L_SHAPE[-1], axis=-1) < 0.5))
    assert 0 < arrived * ROBOT.dt < 1.3 * 24 / ROBOT.speed  # 24 m of path


def test_look_ahead_slows_down_when_it_starts_too_fast():
    _, v, _ = drive(ROBOT, LookAhead(ROBOT), L_SHAPE * 4, 200, velocity=(8.0, 0.0))
    too_fast = np.abs(v).max(1) > ROBOT.speed * (1 + 1e-9)
    assert too_fast[0] and not too_fast[30:].any()


def test_look_ahead_reports_its_distance_from_the_path():
    tracker = LookAhead(ROBOT)
    tracker.follow(np.array([[0.0, 0.0], [4.0, 0.0]]))
    tracker.act(np.array([0.5, 0.3]), np.zeros(2))
    assert tracker.error == pytest.approx(0.3, abs=0.01)


def test_look_ahead_does_not_jump_to_a_later_branch_that_passes_close_by():
    there_and_back = np.array([[0, 0], [4, 0], [4, 0.2], [0, 0.2]], float)
    tracker = LookAhead(ROBOT)
    tracker.follow(there_and_back)
    action = tracker.act(np.array([0.0, 0.15]), np.zeros(2))
    assert action[0] > 0


def test_look_ahead_on_a_path_of_one_point_stays_there():
    x, v, a = drive(ROBOT, LookAhead(ROBOT), [[1.0, 2.0]] * 3, 20)
    assert np.isfinite(a).all() and np.abs(x - [1, 2]).max() < 1e-6 and np.abs(v).max() < 1e-6


@given(
    points=polylines, position=st.tuples(coordinate, coordinate), velocity=st.tuples(coordinate, coordinate)
)
def test_look_ahead_actions_are_finite_and_in_range(points, position, velocity):
    tracker = LookAhead(ROBOT)
    tracker.follow(points)
    action = tracker.act(np.array(position), np.array(velocity))
    assert action.shape == (2,) and np.isfinite(action).all() and np.abs(action).max() <= 1


def test_pd_is_the_official_law():
    path = np.array([[0.0, 0.0], [0.1, 0.2], [0.3, 0.2]])
    tracker = ProportionalDerivative(stride=2)
    tracker.follow(path)
    fine = np.array([[0, 0], [0.05, 0.1], [0.1, 0.2], [0.2, 0.2], [0.3, 0.2], [0.3, 0.2]])  # then it stays
    position, velocity = np.array([0.01, 0.06]), np.array([0.02, -0.03])
    for t in range(5):
        step = min(t + 1, 4)
        want = 12.5 * (fine[step] - position) + 1.2 * ((fine[step] - fine[step - 1]) - velocity)
        np.testing.assert_allclose(tracker.act(position, velocity), np.clip(want, -1, 1), rtol=1e-12)
        assert tracker.error == pytest.approx(np.linalg.norm(fine[step - 1] - position))


def test_pd_follows_a_slow_path():
    path = np.stack([np.linspace(0, 2, 21), np.zeros(21)], 1)
    x, _, _ = drive(ROBOT, ProportionalDerivative(10), path, 400)
    assert np.linalg.norm(x[-1] - path[-1]) < 0.2


@given(points=polylines)
def test_path_passes_through_its_points_at_their_arc_lengths(points):
    path = Path(points)
    assert path.lengths[0] == 0 and (np.diff(path.lengths) > 0).all()
    np.testing.assert_allclose(path.at(path.lengths), path.points)
    whole = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert path.lengths[-1] == pytest.approx(whole, abs=1e-4)


@given(points=polylines, one=shares, other=shares)
def test_path_is_never_longer_than_its_arc_length(points, one, other):
    path = Path(points)
    a, b = one * path.lengths[-1], other * path.lengths[-1]
    straight = np.linalg.norm(path.at(np.asarray(a)) - path.at(np.asarray(b)))
    assert straight <= abs(a - b) + 1e-9


@given(points=polylines, share=shares, position=st.tuples(coordinate, coordinate), ahead=st.floats(0.1, 20))
def test_projection_stays_in_its_window_and_finds_the_nearest_point(points, share, position, ahead):
    path, position = Path(points), np.array(position)
    low = share * path.lengths[-1]
    high = min(low + ahead, path.lengths[-1])
    length, away = path.project(position, low, low + ahead)
    assert low - 1e-9 <= length <= high + 1e-9
    assert away == pytest.approx(np.linalg.norm(path.at(np.asarray(length)) - position))
    fine = np.linalg.norm(path.at(np.linspace(low, high, 500)) - position, axis=-1).min()
    assert away <= fine + (high - low) / 32 + 1e-9
