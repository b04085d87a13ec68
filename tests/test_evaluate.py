"""Closed-loop evaluation: bookkeeping with made-up environments, intervals, shares over processes."""

import numpy as np
import pytest

from dfplan.evaluate import Job, evaluate, run_together, summary, wilson
from dfplan.models import find
from dfplan.policies import Imitation, ImitationConfig
from dfplan.show import video


class Counter:
    """Succeeds after `seed` steps of action 1; is over a step later, or after 9."""

    def reset(self, seed):
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
        return (
            np.array([float(self.left)]),
            float(self.left <= 0),
            self.left < 0,
            self.steps >= 9,
            self.info(),
        )

    def render(self):
        return np.full((4, 4, 3), self.steps, np.uint8)

    def close(self):
        pass


class Ones:
    seconds, calls, clipped = (0.1, 0.2), 7, 0.0

    def reset(self, seed=None, goal=None):
        self.seeds, self.told = seed, []

    def act(self, observation, doubtful=()):
        self.told.append(list(doubtful))
        return np.ones((len(observation), 1), np.float32)


def test_each_episode_runs_to_its_own_end():
    policy = Ones()
    ended = []
    got = run_together(Counter, policy, [2, 4, 20], film=[2, 20], done=ended.append)
    assert policy.seeds == [2, 4, 20] and sum(ended) == 3
    assert policy.told[1] == [("x",)] * 3 and policy.told[0] == [()] * 3
    assert [o.steps for o in got] == [3, 5, 9]
    assert [o.success for o in got] == [True, True, False]
    assert [o.first_reach for o in got] == [2, 4, None]
    assert [o.total for o in got] == [2.0, 2.0, 0.0]
    assert [round(o.progress, 2) for o in got] == [1.0, 1.0, 0.45]
    assert [len(o.frames) for o in got] == [2, 0, 5]
    values = summary("counter", got, policy.seconds, policy.calls, policy.clipped)
    assert values["success"] == pytest.approx(2 / 3) and values["episodes"] == 3
    assert values["first_reach_mean"] == 3 and values["plan_ms_p50"] == pytest.approx(150)


@pytest.mark.parametrize("sensor", ["ee", "obstacle"])
def test_a_sensor_that_fails_in_the_arm_is_doubted_by_the_model_that_ships(sensor, monkeypatch):
    seen = []
    honest = Imitation._observe

    def observe(self, observation, doubtful):
        single = honest(self, observation, doubtful)
        seen.append(self._doubts[-1].tolist())
        return single

    monkeypatch.setattr(Imitation, "_observe", observe)
    frozen = {"kind": "freeze", "sensor": sensor, "start": 0.2, "span": 0.3}
    evaluate(Job("arm-reach", str(find("arm-reach")), ImitationConfig(), frozen), [3])
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
