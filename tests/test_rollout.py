"""One runner: made-up environments and policies, mazes, and the arm; alone, side by side and over processes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfplan import envs
from dfplan.act import Actor
from dfplan.envs import Starts
from dfplan.policies import Imitation, receding
from dfplan.rollout import Job, Outcome, evaluate, run, summary, wilson
from dfplan.show import video

KEYS = [
    "task", "episodes", "seed", "return_mean", "return_se", "score", "score_se", "success", "success_ci",
    "success_at_end", "progress_mean", "progress_se", "first_reach_mean", "steps_mean", "collided", "clipped",
    "network_calls_mean", "plan_ms_p50", "plan_ms_p99", "tasks", "hardware",
]  # fmt: skip


class Counter:
    """Succeeds after `seed` steps of action 1; is over a step later, or after 9."""

    spec = None

    def reset(self, seed, options=None):
        self.left, self.steps, self.seed = seed, 0, seed
        return np.array([float(seed)]), self.info()

    def info(self):
        gone = self.steps / max(1, self.seed)
        return {
            "success": self.left <= 0, "progress": min(1.0, gone), "first_reach": self.seed if self.left <= 0 else None,
            "collided": self.steps == 2 and self.seed == 2, "doubtful": ("x",) if self.steps == 1 else (),
        }  # fmt: skip

    def step(self, action):
        self.left -= int(action[0])
        self.steps += 1
        over = self.left < 0, self.steps >= 9
        return np.array([float(self.left)]), float(self.left <= 0), *over, self.info()

    def render(self):
        return np.full((4, 4, 3), self.steps, np.uint8)

    def close(self):
        pass


class Blink(Counter):
    """Another's environment: no progress, no first reach, and success in the middle alone."""

    key = "is_success"

    def info(self):
        return {} if self.key is None else {self.key: np.float32(self.steps == 3)}


class Ones:
    """Batched."""

    batched = True
    seconds, calls, clipped = (0.1, 0.2), 7, 0.25

    def reset(self, seed=None, goal=None):
        self.seeds, self.goal, self.told = seed, goal, []

    def act(self, observation, doubtful=()):
        self.told.append(list(doubtful))
        return np.ones((len(observation), 1), np.float32)


class One:
    """A stranger's policy: nothing but act."""

    def act(self, observation):
        return np.ones(1, np.float32)


class Script:
    """Gives the actions of a list, then the last one for ever; or random ones by the episode's seed."""

    def __init__(self, *actions):
        self.actions, self.resets = actions, []

    def reset(self, seed=None, goal=None):
        self.resets.append((seed, None if goal is None else tuple(goal)))
        self.rng, self.step = np.random.default_rng(seed), 0

    def act(self, observation):
        self.step += 1
        if not self.actions:
            return self.rng.uniform(-1, 1, 2).astype(np.float32)
        return np.array(self.actions[min(self.step, len(self.actions)) - 1], np.float32)


def maze(name="umaze", **options):
    return partial(envs.make, name, **options)


def outcome(total, success, first, score, calls, *seconds, **other):
    made = {
        "seed": 7, "at_end": success, "progress": None, "steps": 9, "collided": False, "clipped": None,
        "observations": np.zeros((2, 4)), "goal": None, "frames": [],
    }  # fmt: skip
    return Outcome(
        **{
            **made,
            "total": total,
            "success": success,
            "first_reach": first,
            "score": score,
            "calls": calls,
            "seconds": seconds,
            **other,
        }
    )


def test_summary_by_hand():
    done = [
        outcome(10.0, True, 40, 0.5, 40, 0.010, 0.030),
        outcome(0.0, False, None, -0.1, 20, 0.020),
        outcome(20.0, True, 60, 1.1, 40, 0.040, 0.050, 0.060),
    ]
    got = summary("maze2d-umaze", done)
    assert list(got) == KEYS
    assert (got["task"], got["episodes"], got["seed"]) == ("maze2d-umaze", 3, 7)
    assert got["return_mean"] == pytest.approx(10)
    assert got["return_se"] == pytest.approx(np.sqrt(200 / 3) / np.sqrt(3))
    assert got["score"] == pytest.approx(50)
    assert got["score_se"] == pytest.approx(np.sqrt(7200 / 3) / np.sqrt(3))
    assert got["success"] == pytest.approx(2 / 3) and got["success_ci"] == list(wilson(2, 3))
    assert got["first_reach_mean"] == pytest.approx(50)
    assert got["network_calls_mean"] == pytest.approx((40 + 20 + 40) / 3)
    assert got["plan_ms_p50"] == pytest.approx(35)
    assert got["plan_ms_p99"] == pytest.approx(50 + 10 * 0.95)
    assert "thread" in got["hardware"] and "torch" in got["hardware"]


def test_summary_tells_the_tasks_of_an_environment_apart():
    parts = ((1, True, 40), (1, False, None), (2, True, 60))
    done = [outcome(0.0, success, first, None, 0, part=part) for part, success, first in parts]
    assert summary("two", done)["tasks"] == {
        "1": {"episodes": 2, "success": 0.5, "first_reach_mean": 40.0},
        "2": {"episodes": 1, "success": 1.0, "first_reach_mean": 60.0},
    }


def test_summary_says_none_where_there_is_no_number():
    got = summary("text", [outcome(0.0, None, None, None, 1, 0.01), outcome(0.0, None, None, 0.5, 1)])
    for key in ("score", "score_se", "first_reach_mean", "success", "success_ci", "progress_mean", "clipped"):
        assert got[key] is None, key
    assert got["return_se"] == 0


def test_each_episode_runs_to_its_own_end():
    policy = Ones()
    ended = []
    got = run(Counter, policy, [2, 4, 20], film=[2, 20], done=ended.append)
    assert policy.seeds == [2, 4, 20] and policy.goal is None and sum(ended) == 3
    assert policy.told[1] == [("x",)] * 3 and policy.told[0] == [()] * 3
    assert [o.steps for o in got] == [3, 5, 9]
    assert [o.success for o in got] == [True, True, False]
    assert [o.first_reach for o in got] == [2, 4, None]
    assert [o.total for o in got] == [2.0, 2.0, 0.0]
    assert [round(o.progress, 2) for o in got] == [1.0, 1.0, 0.45]
    assert [[f.step for f in o.frames] for o in got] == [[0, 2, 3], [], [0, 2, 4, 6, 8, 9]]
    assert all(f.picture[0, 0, 0] == f.step and f.time is None for o in got for f in o.frames)
    assert [(f.reached, f.success, f.progress) for f in got[0].frames] == [
        (None, False, 0.0), (2, True, 1.0), (2, True, 1.0),
    ]  # fmt: skip
    values = summary("counter", got)
    assert values["success"] == pytest.approx(2 / 3) and values["episodes"] == 3
    assert values["first_reach_mean"] == 3 and values["plan_ms_p50"] == pytest.approx(50)
    assert values["clipped"] == 0.25 and values["network_calls_mean"] == 7


def test_a_policy_that_only_acts_is_enough_and_each_call_is_timed():
    together, alone = run(Counter, Ones(), [2, 4, 20]), run(Counter, One(), [2, 4, 20])
    for a, b in zip(together, alone, strict=True):
        assert (a.seed, a.total, a.success, a.first_reach, a.steps) == (
            b.seed,
            b.total,
            b.success,
            b.first_reach,
            b.steps,
        )
        assert len(b.seconds) == b.steps and b.clipped is None and b.calls == 0


@pytest.mark.parametrize("key, expected", [("success", True), ("is_success", True), (None, None)])
def test_success_of_others_is_at_any_step_and_apart_at_the_last(key, expected):
    (got,) = run(type("Env", (Blink,), {"key": key}), One(), [5])
    assert got.success is expected and got.at_end is (None if key is None else False)
    assert (
        got.first_reach == (None if key is None else 3)
        and got.progress is None
        and got.score is None
        and got.collided is None
    )


def test_a_simulator_that_cannot_draw_says_so_with_the_way_out():
    class Blind(Counter):
        def render(self):
            raise RuntimeError("no display")

    with pytest.raises(OSError, match=r"no display.*MUJOCO_GL"):
        run(Blind, One(), [3], film=[3])
    assert run(Blind, One(), [3])[0].frames == []


class Walk:
    """An environment whose noise is its own; a policy below whose noise is each robot's own."""

    spec = None

    def reset(self, seed, options=None):
        self.rng, self.place, self.steps = np.random.default_rng(seed), float(seed), 0
        self.length = 1 + seed % 7
        return np.array([self.place]), {}

    def step(self, action):
        self.steps += 1
        self.place += action[0] + self.rng.normal()
        return np.array([self.place]), self.place, False, self.steps >= self.length, {}

    def close(self):
        pass


class Drunk:
    batched = True

    def reset(self, seed):
        self.rngs = [np.random.default_rng(s) for s in seed]

    def act(self, observation):
        return observation * 0.5 + np.array([[rng.normal()] for rng in self.rngs])


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True))
def test_what_one_start_gets_does_not_depend_on_its_neighbours(seeds):
    together = run(Walk, Drunk(), seeds)
    assert [o.seed for o in together] == seeds
    for got in together:
        (alone,) = run(Walk, Drunk(), [got.seed])
        assert got == alone
        np.testing.assert_array_equal(got.observations, alone.observations)


def test_no_more_run_at_once_than_the_environment_says():
    class Large(Walk):
        unwrapped = type("Inner", (), {"beside": 2})
        made = 0

        def __init__(self):
            Large.made += 1

    seeds, ended = [3, 9, 4, 20, 8], []
    assert run(Large, Drunk(), seeds, done=ended.append) == run(Walk, Drunk(), seeds)
    assert Large.made == 2 and sum(ended) == 5


def test_neighbours_do_not_matter_to_the_model_that_ships():
    def policy():
        return Imitation.load("arm-reach", limits=None)

    together = run(maze("arm-reach", action="ee", max_episode_steps=12), policy(), [3, 4, 5])
    (alone,) = run(maze("arm-reach", action="ee", max_episode_steps=12), policy(), [4])
    np.testing.assert_allclose(together[1].observations, alone.observations, atol=1e-4)


def test_neighbours_do_not_matter_to_a_planner():
    import dfplan

    policy = receding(dfplan.load("maze2d-umaze", dfplan.PlannerConfig(steps=2, candidates=2)), every=10)
    make = maze(goal="random", max_episode_steps=25)
    together, (alone,) = run(make, policy, [3, 4, 5]), run(make, policy, [4])
    np.testing.assert_allclose(together[1].observations, alone.observations, atol=1e-3)
    assert not np.allclose(together[0].observations, alone.observations, atol=0.1)


def test_several_processes_give_the_same_in_the_order_of_the_seeds():
    job = Job("maze", maze(max_episode_steps=8), _script)
    (one, first), (two, again) = evaluate(job, range(4, 9)), evaluate(job, range(4, 9), workers=2)
    assert [o.seed for o in again] == [*range(4, 9)]
    timing = {"plan_ms_p50", "plan_ms_p99", "hardware"}
    assert {k: v for k, v in one.items() if k not in timing} == {
        k: v for k, v in two.items() if k not in timing
    }
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)


def _script(env):
    return Script()


def test_a_seed_gives_the_maze_and_the_policy_its_episode():
    def go(count, seed):
        return run(maze(goal="random", max_episode_steps=30), Script(), range(seed, seed + count))

    first, again, later = go(3, 5), go(3, 5), go(2, 6)
    for one, two in [*zip(first, again, strict=True), *zip(first[1:], later, strict=True)]:
        np.testing.assert_array_equal(one.observations, two.observations)
        np.testing.assert_array_equal(one.goal, two.goal)
    assert not np.array_equal(first[0].observations, first[1].observations)


def test_return_is_the_standard_one_leaving_the_goal_stops_the_reward():
    goal = envs.make("umaze").unwrapped.goal
    away = [0.0, 1.0] if envs.get_maze("umaze").is_free(1, 2) else [1.0, 0.0]
    starts = Starts(np.array([[*goal, 0, 0]]))
    (got,) = run(maze(max_episode_steps=120), Script(away), [0], starts.options)
    inside = np.linalg.norm(got.observations[1:, :2] - goal, axis=1) <= 0.5
    assert got.success and got.first_reach == 0
    assert 0 < inside.sum() < 60 and not inside[-1]
    assert got.total == inside.sum()
    low, high = envs.get_maze("umaze").refs("sparse")
    assert got.score == pytest.approx((got.total - low) / (high - low))


def test_starts_and_goals_are_taken_exactly_and_in_order():
    states = np.array([[1.05, 1.0, 0.5, -0.25], [3.0, 3.0, 0.0, 0.0]])
    goals = np.array([[3.0, 3.0], [1.0, 1.1]])
    policy = Script([0.0, 0.0])
    got = run(maze(max_episode_steps=3), policy, [10, 11, 12], Starts(states, goals, 10).options)
    np.testing.assert_array_equal([e.observations[0] for e in got], states[[0, 1, 0]])
    np.testing.assert_array_equal([e.goal for e in got], goals[[0, 1, 0]])
    assert [o.steps for o in got] == [3, 3, 3]
    assert policy.resets == [(10, (3.0, 3.0)), (11, (1.0, 1.1)), (12, (3.0, 3.0))]


def test_planning_reports_its_calls_and_the_time_of_each_plan():
    import dfplan

    policy = receding(dfplan.load("maze2d-umaze", dfplan.PlannerConfig(steps=3, candidates=2)), every=8)
    (got,) = run(maze(max_episode_steps=20), policy, [1], Starts(np.array([[1.0, 3.0]])).options)
    assert len(got.seconds) == 3 and all(s > 0 for s in got.seconds)
    assert got.calls == sum(p.network_calls for p in policy.plans) > 0


@pytest.mark.parametrize("sensor", ["ee", "obstacle"])
def test_a_sensor_that_fails_in_the_arm_is_doubted_by_the_model_that_ships(sensor, monkeypatch):
    seen = []
    honest = Actor.flags

    def flags(self, doubtful):
        found = honest(self, doubtful)
        seen.append(found.tolist())
        return found

    monkeypatch.setattr(Actor, "flags", flags)
    frozen = {"kind": "freeze", "sensor": sensor, "start": 0.2, "span": 0.3}

    def policy(env):
        return Imitation.load("arm-reach", sensors=env.get_wrapper_attr("sensors"))

    run(maze("arm-reach", action="ee", disturb=frozen), policy(envs.make("arm-reach")), [3])
    token = ["hand", "target", "obstacle"].index({"ee": "hand"}.get(sensor, sensor))
    expected = [[[g == token and 4 <= step < 10 for g in range(3)]] for step in range(len(seen))]
    assert len(seen) > 10 and seen == expected


@pytest.mark.parametrize(
    "wins, episodes, low, high", [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433)]
)
def test_wilson_interval_against_published_values(wins, episodes, low, high):
    assert wilson(wins, episodes) == pytest.approx((low, high), abs=5e-4)


def test_video_is_written_and_nothing_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = video.write_gif(
        [rng.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(3)], tmp_path / "a" / "v.gif", 10
    )
    assert path.read_bytes()[:6] == b"GIF89a"
    with pytest.raises(ValueError, match="no frames"):
        video.write_gif([], tmp_path / "v.gif", 10)
