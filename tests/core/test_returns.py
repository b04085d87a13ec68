"""Demonstrations told apart by their rewards, and a policy that acts as well as it is asked to."""

import numpy as np
import pytest

from dfplan.act import ImitationConfig
from dfplan.data import Episodes
from dfplan.nets import returns
from dfplan.nets.returns import Returns, advantage, followed, labelled, to_go
from dfplan.policies import Imitation
from dfplan.train import Trainer
from dfplan.train.imitate import imitation_config


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in (("ROUNDS", 1), ("FIT_STEPS", 300), ("WIDTH", 32)):
        monkeypatch.setattr(returns, name, value)


def episodes(rewards, ends, **arrays):
    rewards = np.asarray(rewards, np.float32)
    arrays.setdefault("observations", np.zeros((len(rewards), 1), np.float32))
    return Episodes({**arrays, "rewards": rewards}, np.asarray(ends), 0.1, "toy")


def bandit(steps=1000):
    """Any action in any state; the reward falls with the square of its distance from half the observation."""
    rng = np.random.default_rng(0)
    x, a = rng.uniform(-1, 1, (2, steps, 1)).astype(np.float32)
    rewards = 5 * x - np.square(a - x / 2)  # what the state brings by itself must not count
    ends = np.arange(1, steps + 1)
    return episodes(rewards[:, 0], ends, observations=x, actions=a, terminals=np.ones(steps, bool))


def test_what_follows_is_the_discounted_sum_and_goes_on_where_time_cut_it():
    rewards, value, g = [1.0, 2.0, 4.0, 8.0, 16.0], np.full(5, 100.0), 0.5
    data = episodes(rewards, [3, 5], terminals=np.array([0, 0, 1, 0, 0], bool))
    found = followed(data, value, g)
    np.testing.assert_allclose(
        found, [1 + g * (2 + g * 4), 2 + g * 4, 4, 8 + g * (16 + g * 100), 16 + g * 100]
    )


def test_a_constant_reward_for_ever_is_worth_its_sum_and_no_action_is_better():
    value = np.full(50, 3 / (1 - 0.9))
    np.testing.assert_allclose(followed(episodes(np.full(50, 3.0), [20, 50]), value, 0.9), value)


def test_a_return_to_go_is_the_mean_of_what_follows_and_the_last_reward_goes_on():
    g, rewards = 0.5, [1.0, 2.0, 4.0, 8.0, 16.0]
    data = episodes(rewards, [3, 5], terminals=np.array([0, 0, 0, 0, 1], bool))
    last = (1 - g) * 16  # nothing follows a terminal step
    expected = [0.5 + 0.5 * (1 + 2), 1 + 2, 4, (1 - g) * 8 + g * last, last]
    np.testing.assert_allclose(to_go(data, g), expected)
    np.testing.assert_allclose(to_go(episodes(np.full(50, 3.0), [20, 50]), 0.99), 3.0)
    np.testing.assert_array_equal(
        labelled(data, Returns(to_go=g)).arrays["returns"], np.float32(to_go(data, g))
    )
    with pytest.raises(ValueError, match="which make one label"):
        Returns(discount=0.9, to_go=0.9)


def test_the_best_episodes_are_kept_in_their_order_by_the_share_of_their_steps():
    data = episodes([1, 1, 9, 0, 5, 5], [2, 3, 4, 6])  # returns 2, 9, 0, 10
    for share, kept in ((0.5, [9, 5, 5]), (0.4, [5, 5]), (0.01, [5, 5]), (0.9, [1, 1, 9, 5, 5])):
        np.testing.assert_array_equal(labelled(data, Returns(best=share)).arrays["rewards"], kept)
    assert labelled(data, Returns()) is data


def test_an_action_is_better_than_others_in_like_states_not_in_worse_ones():
    data = bandit()
    x, a = data.arrays["observations"][:, 0], data.arrays["actions"][:, 0]
    gain, off = advantage(data, 0.5), np.square(a - x / 2)
    assert np.corrcoef(gain, -off)[0, 1] > 0.9 and abs(np.corrcoef(gain, x)[0, 1]) < 0.1
    label = labelled(data, Returns(discount=0.5, good=0.3)).arrays["returns"]
    assert set(label) == {0, 1} and label.mean() == pytest.approx(0.3, abs=1e-3)
    assert off[label == 1].mean() < 0.3 * off.mean()
    np.testing.assert_array_equal(label, labelled(data, Returns(discount=0.5, good=0.3)).arrays["returns"])


def test_labels_compare_with_all_episodes_also_with_those_that_are_left_out():
    data = bandit()
    whole = advantage(data, 0.5)
    kept = labelled(data, Returns(best=0.25, discount=0.5))
    rows = np.isin(data.arrays["rewards"], kept.arrays["rewards"])
    best = whole[rows] >= np.quantile(whole[rows], 0.8)
    assert (best == kept.arrays["returns"].astype(bool)).mean() > 0.999


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
    assert config.act["policy"]["returns"] == 1  # asked for the best, as no other wish was given
    policy = Imitation.load(tmp_path, ImitationConfig(steps=1, chunk=1, temperature=0, returns=1.0))
    policy.reset(range(16))
    seen = np.linspace(-0.8, 0.8, 16)[:, None]
    assert (
        np.abs(policy.act(seen) - seen / 2).mean() < 0.15
    )  # the mean of all actions is 0, off by 0.2 on average


def test_what_makes_no_sense_is_refused(tmp_path):
    data = bandit(20)
    for wrong in ({"best": 0}, {"discount": 1}, {"good": 2}):
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
