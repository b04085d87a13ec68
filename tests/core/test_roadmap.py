"""The roadmap on a ring of corridors, with a planner that draws straight lines and so cuts through every wall."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import position_spec

from dfplan.plan import Plan, PlannerConfig
from dfplan.plan.evidence import Evidence
from dfplan.plan.roadmap import Roadmap
from dfplan.plan.ways import cut, dense, spread, travel

SIDE, WIDTH, STEP, HORIZON = 10.0, 1.0, 0.5, 13


def inside(p):
    """Whether places (..., 2) are in the ring: within WIDTH of the outline of a square."""
    away = np.abs(np.asarray(p) - SIDE / 2).max(-1)
    return np.abs(away - (SIDE / 2 - WIDTH / 2)) <= WIDTH / 2 + 1e-9


def ring(rows=20_000, seed=0):
    """Recorded pairs: from places in the ring, one step in any direction, where that stays in it."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0, SIDE, (rows, 2))
    angle = rng.uniform(0, 2 * np.pi, rows)
    q = p + STEP * np.stack([np.cos(angle), np.sin(angle)], 1)
    good = inside(p) & inside(q) & inside((p + q) / 2)
    return np.concatenate([p, q], 1)[good]


class Lines:
    """A planner of straight lines, a step each, that arrives if the horizon allows it."""

    def __init__(self, states=60):
        self.spec, self.place, self.goal = position_spec(), [0, 1], None
        self.config = PlannerConfig(roadmap=states, within=0.2)
        evidence = {
            "pairs": torch.from_numpy(ring()).half(),
            "step": torch.tensor(STEP),
            "limit": torch.tensor(0.6),
        }
        self.model = SimpleNamespace(
            calibration={"dynamics": {"speed": 2.0}},
            evidence=evidence,
            config=SimpleNamespace(horizon=HORIZON),
        )
        self.batches = 0

    def plan_batch(self, history, goal, candidates, seeds):
        self.batches += 1
        made = []
        for past, end in zip(history, goal, strict=True):
            line = dense(np.stack([past[-1, :2], end]), STEP)[:HORIZON]
            arrival = len(line) - 1 if np.allclose(line[-1], end) else HORIZON
            line = np.concatenate([line, np.repeat(line[-1:], HORIZON - len(line), 0)])
            observations = np.concatenate([line, np.zeros_like(line)], 1)
            made.append(
                Plan(
                    observations,
                    None,
                    np.arange(HORIZON) * 0.1,
                    observations[None],
                    0,
                    np.array([True]),
                    np.array([arrival]),
                    np.zeros(1),
                    np.zeros(1),
                    4,
                    0.0,
                    torch.zeros(1, HORIZON, 2),
                )
            )
        return made


@pytest.fixture(scope="module")
def roadmap():
    return Roadmap(Lines())


def familiar(evidence, path):
    """Whether every step of a path, or of each of some, is."""
    return evidence.distance(path).max(-1) <= evidence.limit


def test_legs_through_walls_are_not_kept(roadmap):
    for path in roadmap.net.paths:
        away = np.abs(dense(path, 0.05) - SIDE / 2).max(-1)
        assert (away >= SIDE / 2 - WIDTH - 0.35).all()  # a corner may be cut by less than a step
    assert len(roadmap.net.legs) == len(roadmap.net.paths) > 100


def test_a_far_goal_is_reached_along_the_ring(roadmap):
    plan = roadmap.plan([0.5, 0.5, 0, 0], [9.5, 9.5])
    path = plan.best()[:, :2]
    assert plan.feasible.all() and plan.network_calls in (0, 4)  # none where straight joins are familiar
    np.testing.assert_allclose(path[[0, -1]], [[0.5, 0.5], [9.5, 9.5]], atol=1e-9)
    assert (np.abs(path - SIDE / 2).max(-1) > SIDE / 2 - WIDTH - 0.35).all()
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() <= STEP + 1e-9
    assert 16.0 <= travel(path) <= 19.0  # two sides, corners cut
    assert plan.times[-1] == pytest.approx(travel(path) / 2.0)


def test_what_is_forbidden_is_gone_round(roadmap):
    goal = [9.5, 5.0]
    short = roadmap.plan([0.5, 0.5, 0, 0], goal).best()[:, :2]
    below = short[:, 1].max() < 6  # along the lower side, the nearer one
    blocked = roadmap.plan([0.5, 0.5, 0, 0], goal, lambda p: (np.abs(p[:, 0] - 5) < 0.4) & (p[:, 1] < 5))
    path = dense(blocked.best()[:, :2], 0.02)
    assert below and blocked.feasible.all()
    assert not ((np.abs(path[:, 0] - 5) < 0.39) & (path[:, 1] < 5)).any()
    assert path[:, 1].max() > 8


def test_states_of_one_plan_lead_where_its_own_are_too_few(roadmap):
    """A gap of 0.2 beside what shuts the lower side: no leg of the roadmap leads through it, places there do."""

    def forbidden(p):
        return (np.abs(p[:, 0] - 5) < 1) & (np.abs(p[:, 1] - 0.25) > 0.1) & (p[:, 1] < 5)

    legs = len(roadmap.net.legs)
    more = np.stack([np.linspace(3, 7, 9), np.full(9, 0.25)], 1)
    around = roadmap.plan([1.0, 0.5, 0, 0], [9.0, 0.5], forbidden)
    through = roadmap.plan([1.0, 0.5, 0, 0], [9.0, 0.5], forbidden, more=more)
    path = dense(through.best()[:, :2], 0.02)
    assert through.feasible.all() and not forbidden(path).any() and travel(path) < 10
    assert travel(around.best()[:, :2]) > 20 and len(roadmap.net.legs) == legs


def test_a_goal_that_is_a_little_strange_itself_is_gone_to(roadmap):
    """Half a recorded step outside the ring, which is more than a leg may be, but asked for; farther out it is told."""
    near, far = roadmap.plan([0.5, 0.5, 0, 0], [5.0, -0.3]), roadmap.plan([0.5, 0.5, 0, 0], [5.0, -1.0])
    assert roadmap.evidence.away([5.0, -0.3]) > 0.4 and near.feasible.all() and not far.feasible.any()


def test_where_no_way_is_left_the_plan_says_so(roadmap):
    wall = roadmap.plan([0.5, 0.5, 0, 0], [9.5, 5.0], lambda p: np.abs(p[:, 0] - 5) < 0.4)
    assert not wall.feasible.any() and np.isfinite(wall.observations).all()


def test_same_seed_same_plan_and_many_at_once(roadmap):
    starts, goals = np.array([[0.5, 0.5, 0, 0], [9.5, 0.5, 0, 0]]), np.array([[9.5, 9.5], [0.5, 9.5]])
    both = roadmap.plan_batch(starts[:, None], goals, seeds=[3, 4])
    for plan, start, goal, seed in zip(both, starts, goals, (3, 4), strict=True):
        np.testing.assert_array_equal(plan.observations, roadmap.plan(start, goal, seed=seed).observations)
    again = Roadmap(Lines())
    np.testing.assert_array_equal(again.net.states, roadmap.net.states)
    np.testing.assert_array_equal(again.net.legs, roadmap.net.legs)


def test_cutting_never_makes_a_way_slower_and_stays_where_the_evidence_is(roadmap):
    rng = np.random.default_rng(0)
    corner = np.array([[0.5, 9.5], [0.5, 0.5], [9.5, 0.5]])
    path = dense(corner, 0.25)
    path[1:-1] += rng.normal(0, 0.15, path[1:-1].shape)
    found = cut(path, roadmap.evidence)
    assert travel(found) < travel(path)
    assert travel(found) >= np.abs(corner[0] - corner[-1]).max()
    np.testing.assert_allclose(found[[0, -1]], path[[0, -1]])
    assert (np.abs(dense(found, 0.05) - SIDE / 2).max(-1) > SIDE / 2 - WIDTH - 0.5).all()


def test_states_are_spread_evenly():
    """99 % of the places in one half of a line: as many states in the other."""
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(0, 1, (9900, 2)), rng.uniform(1, 2, (100, 2))])
    places[:, 1] = 0
    states = spread(places, 20, 0)
    assert 7 <= (states[:, 0] > 1).sum() <= 13
    assert np.diff(np.sort(states[:, 0])).min() > 0.04


def test_refuses_what_it_cannot_do(roadmap):
    planner = Lines()
    planner.model.evidence = {}
    with pytest.raises(ValueError, match=r"scripts/evidence\.py"):
        Roadmap(planner)
    with pytest.raises(ValueError, match="forbidden="):
        roadmap.plan_batch(np.zeros((1, 1, 4)), [1.0, 1.0], cost=object())
    with pytest.raises(ValueError, match="expected a number of states"):
        PlannerConfig(roadmap=-1)


def test_evidence_of_the_ring_knows_the_walls():
    evidence = Evidence(ring(), STEP, 0.6)
    assert familiar(evidence, dense(np.array([[0.5, 2.0], [0.5, 8.0]]), STEP))
    assert not familiar(evidence, dense(np.array([[0.5, 2.0], [9.5, 2.0]]), STEP))
