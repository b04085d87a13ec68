"""Demonstrations told apart by their rewards, and a policy that acts as well as it is asked to."""

import numpy as np
import pytest

from dfplan.act import ImitationConfig
from dfplan.data import Episodes
from dfplan.nets import returns
from dfplan.nets.returns import Returns, advantage, followed, labelled
from dfplan.policies import Imitation
from dfplan.train import Trainer
from dfplan.train.imitate import imitation_config


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(returns, "ROUNDS", 1)


def episodes(rewards, ends, **arrays):
    rewards = np.asarray(rewards, np.float32)
    arrays.setdefault("observations", np.zeros((len(rewards), 1), np.float32))
    return Episodes({**arrays, "rewards": rewards}, np.asarray(ends), 0.1, "toy")


def bandit(steps=2000):
    """Any action in any state; the reward falls with the square of its distance from half the observation."""
    rng = np.random.default_rng(0)
    x, a = rng.uniform(-1, 1, (2, steps, 1)).astype(np.float32)
    rewards = 5 * x - np.square(a - x / 2)  # what the state brings by itself must not count
    ends = np.arange(1, steps + 1)
    return episodes(rewards[:, 0], ends, observations=x, actions=a, terminals=np.ones(steps, bool))


def test_what_follows_is_the_discounted_sum_and_goes_on_where_time_cut_it():
    rewards, value = [1.0, 2.0, 4.0, 8.0, 16.0], np.full(5, 100.0)
    data = episodes(rewards, [3, 5], terminals=np.array([0, 0, 1, 0, 0], bool))
    g = 0.5
    found = followed(data, value, Returns(discount=g, trace=1))
    np.testing.assert_allclose(
        found, [1 + g * (2 + g * 4), 2 + g * 4, 4, 8 + g * (16 + g * 100), 16 + g * 100]
    )


def test_without_a_trace_only_the_next_state_counts():
    data, value = episodes(np.ones(4), [4]), np.array([0.0, 10.0, 20.0, 30.0])
    found = followed(data, value, Returns(discount=0.9, trace=0))
    np.testing.assert_allclose(found, [10, 19, 28, 28])


def test_a_constant_reward_for_ever_is_worth_its_sum_and_no_action_is_better():
    data = episodes(np.full(50, 3.0), [20, 50])
    value = np.full(50, 3 / (1 - 0.9))
    for trace in (0.0, 0.7, 1.0):
        np.testing.assert_allclose(followed(data, value, Returns(discount=0.9, trace=trace)), value)


def test_the_best_episodes_are_kept_in_their_order():
    data = episodes([1, 1, 9, 0, 5, 5], [2, 3, 4, 6])
    kept = labelled(data, Returns(best=0.5))
    np.testing.assert_array_equal(kept.arrays["rewards"], [9, 5, 5])
    assert labelled(data, Returns()) is data


def test_an_action_is_better_than_others_in_like_states_not_in_worse_ones():
    data = bandit()
    x, a = data.arrays["observations"][:, 0], data.arrays["actions"][:, 0]
    gain = advantage(data, Returns(discount=0.5))
    off = np.square(a - x / 2)
    assert np.corrcoef(gain, -off)[0, 1] > 0.9 and abs(np.corrcoef(gain, x)[0, 1]) < 0.1
    rank = labelled(data, Returns(discount=0.5)).arrays["returns"]
    np.testing.assert_allclose(np.sort(rank), np.linspace(0, 1, len(rank)), atol=1e-6)
    np.testing.assert_array_equal(rank, labelled(data, Returns(discount=0.5)).arrays["returns"])


def test_a_policy_acts_as_well_as_it_is_asked_to(tmp_path):
    data = labelled(bandit(), Returns(discount=0.5))
    config = imitation_config(
        data, span=1, horizon=1, batch=128, steps=200, warmup=10, lr=3e-3, precision="fp32", ema=0.98,
        model={"width": 64, "layers": 1, "fine": 0.0, "carrier": ""},
        levels={
            "independent": 0, "shared": 0, "pyramid": 0, "masked": 1, "history": 1, "memory": 1, "doubt": 0, "committed": 0
        },
    )  # fmt: skip
    assert [t.name for t in config.spec.tokens] == ["observation", "returns", "action"]
    for _ in Trainer(config, data, tmp_path / "checkpoint").run():
        pass
    policy = Imitation.load(tmp_path, ImitationConfig(steps=1, chunk=1, temperature=0, returns=1.0))
    policy.reset(range(16))
    seen = np.linspace(-0.8, 0.8, 16)[:, None]
    assert np.abs(policy.act(seen) - seen / 2).mean() < 0.15  # the mean of all actions is 0, off by 0.2 on average


def test_what_makes_no_sense_is_refused(tmp_path):
    data = bandit(20)
    for wrong in ({"best": 0}, {"discount": 1}, {"trace": 2}):
        with pytest.raises(ValueError, match=f"got returns.{next(iter(wrong))}="):
            Returns(**wrong)
    bare = Episodes({k: data.arrays[k] for k in ("observations", "actions")}, data.ends, 0.1, "bare")
    with pytest.raises(ValueError, match="no array 'rewards'"):
        labelled(bare, Returns(best=0.5))
    config = imitation_config(bare, span=1, steps=1, batch=2, precision="fp32", model={"width": 8})
    for _ in Trainer(config, bare, tmp_path / "checkpoint").run():
        pass
    policy = Imitation.load(tmp_path, ImitationConfig(returns=1.0))
    with pytest.raises(ValueError, match=r"no token of the model is one of returns"):
        policy.act(np.zeros(1))
