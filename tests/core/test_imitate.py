"""From demonstrations to tokens: sensors, names, relative actions, mistakes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfplan.data import Episodes
from dfplan.train import Trainer
from dfplan.train.imitate import imitation_config, imitation_spec, suitable_steps
from dfplan.train.tokens import TokenWindows


def demos(groups=None, relative=None, **info):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)).cumsum(0).astype(np.float32)
    a = x[:, :2] + np.array([0.5, -2], np.float32) + rng.normal(size=(40, 2)).astype(np.float32) * 0.1
    extra = {"groups": groups} if groups else {}
    extra |= {"relative": relative} if relative else {}
    return Episodes(
        {"observations": x, "actions": a.astype(np.float32)}, np.array([17, 40]), 0.1, "toy", extra | info
    )


def test_a_token_for_each_sensor_then_the_actions():
    spec = imitation_spec(demos({"arm": [0, 2], "cube": [2, 5]}), span=3)
    assert [t.name for t in spec.tokens] == ["arm", "cube", "action"]
    assert spec.tokens[1].channels == ("o2", "o3", "o4")
    assert (spec.stride, spec.stack, spec.tokens[-1].lag) == (3, 3, 2)


def test_many_sensors_share_a_token_unless_told_otherwise():
    groups = {f"s{i}": [i, i + 1] for i in range(5)}
    assert [t.name for t in imitation_spec(demos(groups)).tokens] == ["observation", "action"]
    spec = imitation_spec(demos(groups), tokens={"a": ["s0", "s3"], "b": ["s4"]})
    assert spec.tokens[0].channels == ("o0", "o3") and len(spec.channels) == 5  # s1 and s2 are left out


def test_an_array_of_its_own_is_a_token_of_its_own_and_comes_with_the_action_before():
    """A reward is never taken for an observation's column, nor known before it was given."""
    data = demos({"arm": [0, 2], "cube": [2, 5]})
    rewards = np.arange(40, dtype=np.float32)
    data = Episodes({**data.arrays, "rewards": rewards}, data.ends, data.dt, data.name, data.info)
    tokens = {"arm": ["arm"], "reward": ["rewards"]}
    config = imitation_config(data, span=2, horizon=3, batch=4, tokens=tokens, steps=1)
    reward = config.spec.channel("rewards")
    assert [t.name for t in config.spec.tokens] == ["arm", "reward", "action"]
    assert (reward.source, reward.index, config.spec.tokens[1].lag) == ("rewards", 0, -1)
    windows = Trainer(config, data, "nowhere/checkpoint").windows
    parts, valid = windows._parts(windows.windows.gather([4]), 0)
    np.testing.assert_array_equal(parts["reward"][0, :, :, 0], [[3, 3], [4, 5], [6, 7]])
    assert valid[1].all()
    assert "reward" not in [t.name for t in imitation_spec(data).tokens]
    with pytest.raises(ValueError, match="give 'rewards' a token of its own"):
        imitation_spec(data, tokens={"all": ["arm", "rewards"]})
    with pytest.raises(ValueError, match="did you mean 'rewards'"):
        imitation_spec(data, tokens={"reward": ["reward"]})


@pytest.mark.parametrize(("hz", "span"), [(5, 4), (10, 4), (20, 4), (30, 4), (50, 8), (100, 16), (1000, 32)])
def test_span_suits_the_rate(hz, span):
    """Unless it is told, a token lasts about 0.16 s at any rate, within 4 to 32 env steps."""
    data = replace(demos(), dt=1 / hz)
    assert imitation_config(data).spec.stride == span
    assert imitation_config(data, span=2).spec.stride == 2


def test_steps_suit_the_size():
    """Few demonstrations are not trained on for hours, nor many too briefly; what is told counts."""
    size = {n: suitable_steps(n, 4, 1024) for n in (40, 30_000, 10**7)}
    assert size == {40: 1500, 30_000: 5859, 10**7: 8000}
    assert suitable_steps(60_000, 16, 1024) == suitable_steps(15_000, 4, 1024)
    assert imitation_config(demos()).steps == 1500 and imitation_config(demos(), steps=7).steps == 7


def test_a_token_counts_the_same_however_wide():
    weight = imitation_spec(demos({"arm": [0, 1], "cube": [1, 5]})).weight
    np.testing.assert_allclose(weight.sum(1)[[0, 1]] / weight.sum(1)[[1, 0]], 1, rtol=1.0)
    valid = imitation_spec(demos({"arm": [0, 1], "cube": [1, 5]})).valid
    np.testing.assert_allclose([weight[g, valid[g]].sum() for g in range(3)], [0.2, 0.2, 1.0], rtol=1e-6)


def test_relative_actions_are_differences_from_the_present_and_unit_scale():
    data = demos(relative={"a0": "o0"})
    config = imitation_config(data, span=2, horizon=4, batch=4, steps=1)
    trainer = Trainer(config, data, "nowhere/checkpoint")
    present = np.array([2, 1, 0])
    starts = np.array([0, 18, 3])
    got = trainer.windows.windows.gather(starts)
    parts, _ = trainer.windows._parts(got, present)
    for b in range(3):
        now = data.arrays["observations"][starts[b] + 2 * present[b], 0]
        np.testing.assert_allclose(
            parts["action"][b, 1, :, 0],
            data.arrays["actions"][starts[b] + 2 : starts[b] + 4, 0] - now,
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            parts["action"][b, 1, :, 1], data.arrays["actions"][starts[b] + 2 : starts[b] + 4, 1]
        )
    x, _, _ = trainer.windows.draw(
        np.random.default_rng(1), 2000, present=np.random.default_rng(2).integers(0, 4, 2000)
    )
    actions = x.unflatten(1, (4, 2))[:, :, 1]
    assert abs(actions.mean()) < 0.3 and 0.6 < actions.std() < 1.4


def test_the_relative_scale_is_what_a_checkpoint_stores(tmp_path):
    data = demos(relative={"a0": "o0", "a1": "o1"})
    config = imitation_config(
        data,
        span=2,
        horizon=4,
        batch=4,
        steps=2,
        save_every=1,
        warmup=1,
        model={"kind": "perceptron", "width": 8, "layers": 1},
    )
    runs = [Trainer(config, data, tmp_path / n / "checkpoint") for n in "ab"]
    for _ in runs[0].run():
        pass
    next(runs[1].run())
    resumed = Trainer(config, data, tmp_path / "b" / "checkpoint", resume=True)
    torch.testing.assert_close(resumed.normalizer.scale, runs[0].normalizer.scale)
    for _ in resumed.run():
        pass
    for a, b in zip(runs[0].model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"span": 0}, "span=0"),
        ({"span": "2"}, r"span: got '2' \(str\), expected int"),
        ({"tokens": []}, r"tokens: got \[\], expected a table"),
        ({"model": 3}, "model=3, expected a table"),
        ({"tokens": {"x": ["amr"]}}, "did you mean 'arm'"),
        ({"relative": {"a9": "o0"}}, "relative column 'a9'"),
        ({"relative": {"a0": "o9"}}, "channel 'o9'"),
        ({"relative": {"a0": "a1"}}, "only to another one, of the observations"),
    ],
)
def test_mistakes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        imitation_config(demos({"arm": [0, 2], "cube": [2, 5]}), **settings)


def test_demonstrations_without_actions_are_refused():
    data = Episodes({"observations": np.zeros((4, 2))}, np.array([4]), 0.1, "mute")
    with pytest.raises(ValueError, match="mute: no array 'actions'"):
        imitation_config(data)


def test_other_data_are_normalised_as_the_model_was_trained(tmp_path):
    data, other = demos(relative={"a0": "o0"}), demos(relative={"a0": "o0"})
    other.arrays["actions"] = 7 * other.arrays["actions"] + 3
    config = imitation_config(data, span=2, horizon=4, batch=4, steps=1)
    normalizer = Trainer(config, data, tmp_path / "c").normalizer
    before = {k: v.clone() for k, v in normalizer.state_dict().items()}
    windows = TokenWindows(config.spec, 4, other, normalizer)
    for normal in (normalizer, windows.normalizer):
        assert all(torch.equal(before[k], v) for k, v in normal.state_dict().items())

    class Start:
        def integers(self, low, high, size):
            return np.full(size, 3)

    x, _, valid = windows.draw(Start(), 1, present=1)
    parts, _ = windows._parts(windows.windows.gather([3]), 1)
    raw = config.spec.pack(parts).reshape(4, 2, -1)
    scaled = torch.from_numpy((raw - before["mean"].numpy()) / before["scale"].numpy()).flatten(0, 1)
    torch.testing.assert_close(x[0], scaled * valid[0])
    assert x[0, 1::2].abs().max() > 10  # far from what it was trained on


def test_lags_read_ahead(tmp_path):
    data = demos()
    config = imitation_config(data, span=4, horizon=2, batch=4)
    windows = TokenWindows(config.spec, 2, data, Trainer(config, data, tmp_path / "c").normalizer)
    got = windows.windows.gather([3, 15])
    np.testing.assert_array_equal(got.arrays["actions"][0, 0], data.arrays["actions"][3:7])
    np.testing.assert_array_equal(
        got.arrays["actions"][1, 0], data.arrays["actions"][[15, 16, 16, 16]]
    )  # held


def test_the_past_shows_what_was_executed_and_the_future_what_should_have_been(tmp_path):
    data = demos()
    executed = data.arrays["actions"] + 100
    data = Episodes({**data.arrays, "executed": executed}, data.ends, data.dt, data.name, data.info)
    config = imitation_config(data, span=2, horizon=4, batch=4)
    windows = Trainer(config, data, tmp_path / "c").windows
    got = windows.windows.gather([2, 20])
    parts, _ = windows._parts(got, np.array([1, 3]))
    np.testing.assert_array_equal(parts["action"][0, 0], executed[2:4])
    np.testing.assert_array_equal(parts["action"][0, 1:3].reshape(-1, 2), data.arrays["actions"][4:8])
    np.testing.assert_array_equal(parts["action"][1, :3].reshape(-1, 2), executed[20:26])


def test_targets_are_learned_relative_to_what_they_move():
    """Where the demonstrations do not say; what they say, or is asked for, counts."""
    x = np.random.default_rng(0).normal(size=(200, 3)).cumsum(0)
    acts = np.vstack([x[1:, :2], x[-1:, :2]]) + 0.1

    def told(info, **layout):
        rows = {"observations": x, "actions": acts}
        spec = imitation_config(Episodes(rows, np.array([200]), 0.1, "arm", info), **layout).spec
        return {c.name: c.reference for c in spec.channels if c.reference}

    assert told({}) == {"a0": "o0", "a1": "o1"}
    assert told({"relative": {"a0": "o1"}}) == {"a0": "o1"}
    assert told({}, relative={}) == {}
