from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dfplan.planner import Plan, Planner, PlannerConfig
from dfplan.policies import LookAhead, receding
from dfplan.policies.receding import passed

GOAL = (5.0, 0.0)
DYNAMICS = {"keep": 0.9976, "gain": 0.238, "speed": 5.2}


class Straight:
    """A planner whose plan is the straight line; it keeps what it was asked."""

    def __init__(self, goal=GOAL, dynamics=DYNAMICS):
        self.spec = SimpleNamespace(observation_size=4, action_size=2, dt=0.01, stride=10, stack=1)
        self.config = SimpleNamespace(within=0.5, cost="", stream=0)
        self.model = SimpleNamespace(calibration={} if dynamics is None else {"dynamics": dynamics})
        self.goal, self.asked = goal, []

    def plan_batch(self, history, goal, cost, warm, elapsed, seeds):
        old = [None] * len(history) if warm is None else warm
        goals, over = [None] * len(history) if goal is None else goal, np.broadcast_to(elapsed, len(history))
        return [
            self._plan(h[0], g, warm=w, elapsed=e)
            for h, g, w, e in zip(history, goals, old, over, strict=True)
        ]

    def _plan(self, history, goal, **options):
        self.asked.append(SimpleNamespace(history=np.array(history), goal=goal, **options))
        goal = GOAL if goal is None else goal
        ends = np.array([history[:2], goal])
        places = np.stack([np.interp(np.linspace(0, 1, 9), [0, 1], column) for column in ends.T], -1)
        observations = np.concatenate([places, np.zeros_like(places)], 1)
        return Plan(
            observations, None, 0.1 * np.arange(9), observations[None], 0, np.array([True]), np.array([8]),
            np.zeros(1), np.zeros(1), 1, 0.001, torch.zeros(1, 9, 2),
        )  # fmt: skip


def at(x, y=0.0, vx=0.0, vy=0.0):
    return np.array([x, y, vx, vy])


def test_plans_once_while_the_plan_fits():
    planner = Straight()
    policy = receding(planner)
    for x in np.linspace(0, 5, 100):
        policy.act(at(x))
    assert len(planner.asked) == len(policy.plans) == 1


def test_plans_every_n_steps_until_it_has_arrived():
    planner = Straight()
    policy = receding(planner, every=5)
    for i in range(21):
        policy.act(at(0.1 * i))
    assert len(planner.asked) == 5
    assert [float(q.history[0]) for q in planner.asked] == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
    for x in np.linspace(2, 4.4, 20):
        policy.act(at(x))
    before = len(planner.asked)
    for _ in range(20):
        policy.act(at(4.6))
    assert before == 9 and len(planner.asked) == before


def test_plans_anew_when_lost():
    planner = Straight()
    policy = receding(planner, lost=0.8)
    for y in (0.0, 0.7, 0.7):
        policy.act(at(1.0, y))
    assert len(planner.asked) == 1
    policy.act(at(1.0, 0.9))  # notices here, acts on it from the next observation on
    policy.act(at(1.0, 0.9))
    policy.act(at(1.0, 0.9))
    assert len(planner.asked) == 2
    np.testing.assert_array_equal(planner.asked[1].history, at(1.0, 0.9))


def test_plans_anew_when_stuck_but_not_at_the_goal():
    planner = Straight()
    policy = receding(planner, patience=10)
    for _ in range(11):
        policy.act(at(1.0))
    assert len(planner.asked) == 1
    policy.act(at(1.0))
    assert len(planner.asked) == 2
    there = Straight()
    policy = receding(there, patience=10)
    for _ in range(50):
        policy.act(at(4.9))
    assert len(there.asked) == 1


def test_motion_counts_as_progress():
    planner = Straight()
    policy = receding(planner, patience=10)
    for i in range(100):
        policy.act(at(0.04 * i))
    assert len(planner.asked) == 1


def test_goal_is_the_planners_else_the_policys_else_the_episodes():
    planner = Straight()
    receding(planner).act(at(0))
    policy = receding(planner, goal=(3.0, 1.0))
    policy.act(at(0))
    policy.reset(goal=(2.0, 2.0))
    policy.act(at(0))
    policy.reset()
    policy.act(at(0))
    assert [tuple(q.goal) for q in planner.asked] == [GOAL, (3.0, 1.0), (2.0, 2.0), (3.0, 1.0)]


def test_the_path_starts_at_the_robot_and_ends_at_the_goal():
    policy = receding(Straight())
    policy.act(at(1.0, 0.5))
    np.testing.assert_allclose(policy.trackers[0].path.points[[0, -1]], [[1.0, 0.5], GOAL])


def test_warm_start_hands_over_the_last_plan_and_how_much_of_it_is_over():
    planner = Straight()
    policy = receding(planner, every=5, warm=True)
    for i in range(6):
        policy.act(at(0.1 * i))
    assert planner.asked[0].warm is None and planner.asked[1].warm is policy.plans[0]
    assert planner.asked[1].elapsed == pytest.approx(0.08)  # a tenth of its way, whatever the time it took
    policy.act(at(0.5, 3.0))
    policy.act(at(0.5, 3.0))
    assert planner.asked[2].warm is None  # what a push has made useless is not gone on with
    policy.reset()
    policy.act(at(0))
    assert planner.asked[3].warm is None


@pytest.mark.parametrize("warm", [False, True])
def test_a_moved_goal_makes_a_new_plan_at_once(warm):
    planner = Straight()
    policy = receding(planner, warm=warm)
    for goal in (GOAL, GOAL, (1.0, 2.0), (1.0, 2.0)):
        policy.act(at(0.1), goal)
    assert [tuple(q.goal) for q in planner.asked] == [GOAL, (1.0, 2.0)]
    assert planner.asked[1].warm is None and policy.made == [[0, 2]]
    free = receding(Straight(goal=None), cost=lambda channels, mask: 0)
    for goal in ((1.0, 2.0), (3.0, 2.0)):
        free.act(at(0), goal)
    assert [q.goal for q in free.planner.asked] == [None]  # who goes by a cost is told no goal


def test_how_much_of_a_plan_is_over():
    corner = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [2, 2.0]])
    plan = SimpleNamespace(observations=corner, times=0.5 * np.arange(5))
    for place, seconds in (
        ((-1, 0), 0),
        ((0.5, 0.1), 0.25),
        ((1, -0.3), 0.5),
        ((2.1, 1.5), 1.75),
        ((5, 5), 2),
    ):
        assert passed(plan, np.array(place, float)) == pytest.approx(seconds)


def test_pd_plans_every_50_steps():
    planner = Straight()
    policy = receding(planner, tracker="pd", lost=100.0)
    for i in range(101):
        policy.act(at(0.01 * i))
    assert len(planner.asked) == 3


def test_a_tracker_of_ones_own_needs_only_follow_act_and_error():
    class Still:
        error = property(lambda self: 0.0)

        def follow(self, path):
            self.path = path

        def act(self, position, velocity):
            return np.zeros_like(position)

    action = receding(Straight(dynamics=None), tracker=Still()).act(at(0))
    assert action.dtype == np.float32 and (action == 0).all()


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[0.0] * 4] * 2, [0.0] * 5])
def test_refuses_observations_of_another_shape(bad):
    with pytest.raises(ValueError, match=r"expected \(4,\)"):
        receding(Straight()).act(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_observations_that_are_not_finite_in_mid_plan(value):
    policy = receding(Straight())
    policy.act(at(0))
    with pytest.raises(ValueError, match="finite"):
        policy.act(at(0.1, value))


def test_refusals_name_the_fix():
    with pytest.raises(ValueError, match="pass goal"):
        receding(Straight(goal=None)).act(at(0))
    with pytest.raises(ValueError, match="pass a tracker"):
        receding(Straight(dynamics=None))
    with pytest.raises(ValueError, match="'look_ahead', 'pd' or a Tracker"):
        receding(Straight(), tracker="ahead")


def test_a_cost_may_take_the_place_of_a_goal():
    planner = Straight(goal=None)
    policy = receding(planner, cost=lambda channels, mask: 0)
    policy.act(at(0))
    assert planner.asked[0].goal is None
    with pytest.raises(ValueError, match="or a cost"):
        receding(planner).act(at(0))


def test_a_robot_of_positions_alone_is_told_its_goal_by_the_episode():
    """Where it goes is known from `reset` on; its velocity is taken for 0."""
    planner = Straight(goal=None, dynamics={"keep": 0.0, "gain": 2.0, "speed": 2.0})
    planner.spec.observation_size, planner.spec.dt = 2, 0.1
    policy = receding(planner)
    policy.reset(seed=0, goal=np.array([5.0, 0.0]))
    place = np.zeros(2)
    for _ in range(30):
        place = place + 0.2 * policy.act(place)
    np.testing.assert_allclose(place, [5, 0], atol=0.1)
    assert policy.trackers[0].distance == pytest.approx(8 * 0.2)


def test_streaming_takes_one_call_a_decision_and_goes_on_with_the_last_plan(tiny_planner):
    """Near steps are settled, far ones open; what is handed over is the last plan, and the network is called once."""
    planner, seen = Planner(tiny_planner.model, PlannerConfig(stream=4, warm_level=0.8)), []
    policy = receding(planner)
    hook = planner.model.denoiser.register_forward_hook(lambda _, given, out: seen.append(given[1][0]))
    policy.reset(seed=0, goal=(3.0, 1.0))
    for i in range(13):
        policy.act(at(1 + 0.01 * i, 1))
    hook.remove()
    assert policy.made == [[0, 4, 8, 12]] and policy.calls == len(seen) == 4
    steps = planner.model.config.horizon
    assert (seen[0][1:-1] == 1).all()
    ramp = 0.8 * (torch.arange(steps) + 1) / steps
    torch.testing.assert_close(seen[1][1:-1], ramp[1:-1])  # the ends are known
    policy.act(at(1.1, 1), (1.0, 3.0))
    assert policy.made == [[0, 4, 8, 12, 13]] and policy.calls == 5


@pytest.mark.parametrize("warm", [False, True])
def test_robots_side_by_side_get_what_each_gets_alone(tiny_planner, warm):
    rows = np.random.default_rng(0).uniform(0.8, 1.2, (7, 3, 4))
    policy = receding(tiny_planner, every=3, warm=warm)
    goals = np.array([[3.0, 1.0], [1.0, 3.0], [3.0, 3.0]])
    policy.reset([4, 5, 6], goals)
    together = np.stack([policy.act(row) for row in rows])
    assert together.shape == (7, 3, 2) and len(policy.plans) == 9
    for i, seed in enumerate((4, 5, 6)):
        alone = receding(tiny_planner, every=3, warm=warm)
        alone.reset(seed, goals[i])
        np.testing.assert_allclose(np.stack([alone.act(r[i]) for r in rows]), together[:, i], atol=1e-4)


def test_same_seed_same_actions(tiny_planner):
    policy = receding(tiny_planner, every=3)
    rows = np.random.default_rng(0).uniform(0.8, 1.2, (10, 4))

    def actions(seed):
        policy.reset(seed=seed, goal=(3.0, 1.0))
        return np.array([policy.act(row) for row in rows]), np.array([p.observations for p in policy.plans])

    first, again, other = actions(3), actions(3), actions(4)
    assert first[0].dtype == np.float32 and np.abs(first[0]).max() <= 1 and len(first[1]) == 4
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first[1] - other[1]).max() > 1e-3


def test_a_trained_planner_gives_a_look_ahead_with_its_own_dynamics(tiny_planner):
    policy = receding(tiny_planner)
    assert isinstance(policy.tracker, LookAhead)
    robot = policy.tracker.robot
    assert robot.dt == 0.01 and 0.99 < robot.keep <= 1 and 0.2 < robot.gain < 0.3 and robot.speed > 1
