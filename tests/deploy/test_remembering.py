"""A policy that remembers, behind committed actions: what has left the history that is sent still counts."""

import numpy as np
import pytest

from dfplan.act import Actor, ImitationConfig
from dfplan.data import Episodes
from dfplan.deploy.loop.committed import ACT, CommittedPolicy, History
from dfplan.deploy.loop.inference import doubting
from dfplan.deploy.remote import wire
from dfplan.train import checkpoint
from dfplan.train.imitate import imitation_config
from dfplan.train.trainer import Trainer

SPAN = 2


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(150, 3)).cumsum(0).astype(np.float32)
    data = Episodes({"observations": seen, "actions": seen[:, :2] + 0.3}, np.array([70, 150]), 0.1, "walks")
    config = imitation_config(
        data, span=SPAN, horizon=5, steps=6, batch=32, warmup=1, save_every=6, precision="fp32", lr=0.05,
        model={"width": 32, "layers": 1, "heads": 2, "carrier": "compressed", "carried": 16},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    for _ in Trainer(config, data, folder).run():
        pass
    return CommittedPolicy(Actor(checkpoint.load(folder), ImitationConfig(**ACT))), np.asarray(
        seen, np.float64
    )


def decided(policy, seen, every=3, whole=False, moved=0.0):
    """The answers every so many env steps, with no more history than the loop keeps, or with all of it."""
    policy.reset(0)
    seen = seen.copy()
    seen[:4] += moved
    out = []
    for now in range(0, 60, every):
        begin = 0 if whole else max(0, now + 1 - policy.steps)
        rows = seen[begin : now + 1]
        history = History(rows, ((),) * len(rows), 0.1 * seen[begin:now, :2], now)
        out.append(policy.decide(history, 0.2 * seen[now : now + 2, :2])[0])
    return np.stack(out)


def test_the_history_that_the_loop_keeps_is_enough(policy):
    policy, seen = policy
    assert policy.steps < 30
    np.testing.assert_array_equal(decided(policy, seen), decided(policy, seen, whole=True))
    assert np.abs(decided(policy, seen, moved=3.0)[-5:] - decided(policy, seen)[-5:]).max() > 1e-6


def test_a_run_that_begins_anew_has_forgotten(policy):
    policy, seen = policy
    first = decided(policy, seen)[0]
    decided(policy, seen)
    policy._generator.manual_seed(0)
    one = History(seen[:1], ((),), np.zeros((0, 2)), 0)
    np.testing.assert_array_equal(policy.decide(one, 0.2 * seen[:2, :2])[0], first)


def test_steps_that_nobody_saw_are_left_out(policy):
    policy, seen = policy
    policy.reset(0)
    for now in (9, 50_000):
        history = History(seen[:10], ((),) * 10, seen[:9, :2], now)
        assert np.isfinite(policy.decide(history, np.zeros((0, 2)))).all()
    assert policy._state.steps > 24_000 and sum(len(k[0]) for k in policy._state.kept) < 20


def test_a_server_is_told_how_long_the_run_is():
    history = History(np.zeros((2, 3)), ((), ("lamp",)), np.zeros((1, 2)), 77)
    sent = wire.request_out(0, None, doubting(history, ("hand",)), np.zeros((0, 2)))
    _, got, _ = wire.request_in(sent, wire.Shape(3, 2, 5, 4))
    assert got.since == 77 and got.doubtful == (("hand",), ("lamp", "hand"))
    for wrong in (0, -1, 2**40):
        with pytest.raises(ValueError, match="since"):
            wire.request_in({**sent, "since": wrong}, wire.Shape(3, 2, 5, 4))
