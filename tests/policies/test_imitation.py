"""The imitation policy sees in use exactly what it was trained on, and obeys its contract."""

import dataclasses

import numpy as np
import pytest
import torch

from dfplan import envs
from dfplan.act import Actor, History
from dfplan.data import Episodes
from dfplan.policies import Imitation, ImitationConfig
from dfplan.train import Trainer, checkpoint
from dfplan.train.imitate import imitation_config
from dfplan.train.tokens import TokenWindows

SPAN, HORIZON = 2, 5


def demos(lengths=(23, 31), seed=0):
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    walk = rng.normal(size=(rows, 3)).cumsum(0)
    info = {
        "names": {"observations": ["x", "y", "lamp"], "actions": ["x target", "y target"]},
        "groups": {"robot": [0, 2], "lamp": [2, 3]},
        "relative": {"x target": "x", "lamp": "y"},
    }
    arrays = {"observations": walk.astype(np.float32), "actions": (walk[:, :2] + 0.3).astype(np.float32)}
    return Episodes(arrays, np.cumsum(lengths), 0.1, "walks", info)


@pytest.fixture(scope="module", params=["perceptron", "transformer"])
def model(request, tmp_path_factory):
    levels = {"independent": 0.3, "shared": 0.7, "history": 0.9, "memory": 3, "start_known": 0, "doubt": 0.3}
    config = imitation_config(
        demos(), span=SPAN, horizon=HORIZON, steps=3, batch=8, warmup=1, save_every=3, levels=levels,
        model={"kind": request.param, "width": 32, "layers": 1, "heads": 2, "carrier": ""}, precision="fp32",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    for _ in Trainer(config, demos(), folder).run():
        pass
    return checkpoint.load(folder)


def play(policy, observations, seed=0, since=0, **kwargs):
    """Actions for each of the observations, `kwargs` said of those from number `since` on."""
    policy.reset(seed)
    return np.stack([policy.act(o, **(kwargs if n >= since else {})) for n, o in enumerate(observations)])


@pytest.mark.parametrize("present", [0, 1, 2])
def test_history_in_use_is_history_in_training(model, present):
    data = demos()
    windows = TokenWindows(model.config.spec, HORIZON, data, model.normalizer)
    actor = Actor(model, ImitationConfig(memory=present + 1, chunk=SPAN))
    start, steps = 4, present * SPAN + 1
    seen = np.asarray(data.arrays["observations"][None, : start + steps], np.float64)
    done = np.asarray(data.arrays["actions"][None, : start + steps - 1], np.float64)
    known = actor.known(History(seen, np.zeros((*seen.shape[:2], 2), bool), done)).to(torch.device("cpu"))
    got = windows.windows.gather([start])
    parts, _ = windows._parts(got, np.array([present]))
    expected = model.normalizer.normalize(torch.from_numpy(model.config.spec.pack(parts)))
    expected = expected * torch.from_numpy(model.config.spec.valid).repeat(HORIZON, 1)
    assert known.mask[0].tolist() == [t < present * 3 + 2 for t in range(HORIZON * 3)]
    torch.testing.assert_close(known.values[known.mask], expected[known.mask])


def test_same_seed_same_actions_and_each_robot_has_its_own_noise(model):
    rows = demos().arrays["observations"][:12]
    one = play(Imitation(model), rows, seed=3)
    np.testing.assert_array_equal(one, play(Imitation(model), rows, seed=3))
    assert np.abs(one - play(Imitation(model), rows, seed=4)).max() > 1e-4
    both = Imitation(model)
    both.reset([5, 3])
    got = np.stack([both.act(np.stack([o * 0.5, o])) for o in rows])
    np.testing.assert_allclose(got[:, 1], one, atol=1e-4)  # alone or beside another robot


def test_a_chunk_is_executed_as_predicted_and_then_decided_anew(model):
    rows = demos().arrays["observations"][:9]
    policy, other = (
        Imitation(model, ImitationConfig(chunk=4, steps=3)),
        Imitation(model, ImitationConfig(chunk=4, steps=3)),
    )
    policy.reset(0)
    other.reset(0)
    chunk = other.predict(rows[0])
    acted = np.stack([policy.act(o) for o in rows])
    np.testing.assert_array_equal(acted[:4], chunk)
    assert chunk.shape == (4, 2) and len(policy.seconds) == 3 and policy.calls == 9


def test_streaming_makes_one_network_call_for_each_token(model):
    policy = Imitation(model, ImitationConfig(stream=True, ramp=3))
    rows = demos().arrays["observations"][:11]
    first = play(policy, rows)
    assert len(policy.seconds) == 6 and policy.calls == 3 + 6  # once from noise to the ramp, then one each
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, play(policy, rows))


@pytest.mark.parametrize("stream", [False, True])
def test_temperature_is_how_much_two_draws_differ(model, stream):
    rows = demos().arrays["observations"][:12]

    def spread(temperature, **more):
        policy = Imitation(model, ImitationConfig(temperature=temperature, stream=stream, **more))
        one, other = (play(policy, rows, seed, 1, doubtful=["lamp"] if more else ()) for seed in (3, 4))
        return float(np.abs(one - other).max())

    assert spread(0.0) == 0 and min(spread(0.3), spread(1.0)) > 1e-4
    # A doubtful reading is as noisy as its level says, whatever the temperature.
    assert spread(0.0, doubt=0.5) > 1e-4


@pytest.mark.parametrize("stream", [False, True])
def test_a_sensor_that_is_left_out_has_no_influence(model, stream):
    policy = Imitation(model, ImitationConfig(doubt=1.0, stream=stream))
    rows = demos().arrays["observations"][:10].copy()
    broken = rows.copy()
    broken[:, 2] = [np.nan, 1e6, -1e6, 0, 7] * 2
    np.testing.assert_array_equal(
        play(policy, rows, doubtful=["lamp"]), play(policy, broken, doubtful=["lamp"])
    )
    believed = Imitation(model, ImitationConfig(doubt=0.0, stream=stream))
    broken[0, 2] = 3
    assert np.abs(play(believed, rows) - play(believed, broken, doubtful=["lamp"])).max() > 1e-3


@pytest.mark.parametrize("stream", [False, True])
def test_a_doubtful_sensor_counts_with_what_was_last_trusted_and_before_that_not_at_all(model, stream):
    policy = Imitation(model, ImitationConfig(doubt=0.1, stream=stream))
    rows = demos().arrays["observations"][:10].copy()
    broken, frozen = rows.copy(), rows.copy()
    broken[3:, 2] = [np.nan, 1e6, -1e6, 0, 7, np.inf, 9]
    frozen[3:, 2] = rows[2, 2]
    held = play(policy, broken, since=3, doubtful=["lamp"])
    np.testing.assert_array_equal(held, play(policy, frozen, since=3, doubtful=["lamp"]))
    assert (
        np.abs(
            held - play(Imitation(model, ImitationConfig(stream=stream)), broken, since=3, doubtful=["lamp"])
        ).max()
        > 1e-3
    )
    # Never trusted, it is left out at any level.
    broken[:3, 2] = 5
    rows[:, 2] = -5
    np.testing.assert_array_equal(
        play(policy, broken, doubtful=["lamp"]), play(policy, rows, doubtful=["lamp"])
    )


def test_a_doubtful_sensor_means_the_tokens_that_show_it():
    env = envs.make("arm-reach", action="ee")
    policy = Imitation.load("arm-reach", sensors=env.get_wrapper_attr("sensors"))
    assert [t.name for t in policy.spec.tokens] == ["hand", "target", "obstacle", "action"]
    rows = [env.reset(seed=s)[0] for s in range(3)]
    believed = play(policy, rows)
    by_token = play(policy, rows, doubtful=["hand"])
    assert np.abs(by_token - believed).max() > 1e-3
    np.testing.assert_array_equal(play(policy, rows, doubtful=["ee"]), by_token)
    np.testing.assert_array_equal(play(policy, rows, doubtful=["joints"]), believed)  # it is shown by none
    with pytest.raises(ValueError, match=r"got token or sensor 'elbow', expected one of hand, .*joints"):
        policy.act(rows[0], ["elbow"])
    with pytest.raises(ValueError, match="got token or sensor 'ee'"):
        Imitation.load("arm-reach").act(rows[0], ["ee"])


def test_actions_are_clipped_and_counted(model):
    rows = demos().arrays["observations"][:8]
    free = Imitation(model, limits=(-np.inf, np.inf))
    wanted = play(free, rows)
    assert free.clipped == 0
    tight = Imitation(model, limits=(-0.1, [0.1, 0.2]))
    got = play(tight, rows)
    assert (got >= np.float32(-0.1)).all() and (got <= np.float32([0.1, 0.2])).all()
    assert 0 < tight.clipped <= 1 and np.abs(wanted).max() > 0.2
    seen = demos().arrays["actions"]
    assert np.allclose(Imitation(model).high, seen.max(0)) and np.allclose(Imitation(model).low, seen.min(0))


def test_shifting_the_world_shifts_a_relative_action(model):
    spec = model.config.spec
    assert spec.relative == ("lamp", "action")
    np.testing.assert_array_equal(spec.origin("action", np.array([[4.0, 5.0, 6.0]])), [[4.0, 0.0]])


@pytest.mark.parametrize(
    "observation, doubtful, message",
    [
        (np.zeros(2), (), r"shape \(2,\), expected \(3,\)"),
        (np.zeros((2, 3)), (), "reset with a seed each"),
        (np.array([0, np.nan, 0]), (), "NaN or infinity"),
        (np.zeros(3), ["lmap"], "did you mean 'lamp'"),
    ],
)
def test_bad_readings_are_refused(model, observation, doubtful, message):
    policy = Imitation(model)
    with pytest.raises(ValueError, match=message):
        policy.act(observation, doubtful)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"memory": -1}, "memory=-1"), ({"steps": 0}, "steps=0"), ({"doubt": 1.5}, "doubt=1.5"),
        ({"temperature": 1.1}, "temperature=1.1"), ({"temperature": float("nan")}, "temperature=nan"),
        ({"schedule": "ful"}, "did you mean 'full'"), ({"step": "dim"}, "did you mean 'ddim'"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImitationConfig(**settings)


def test_a_chunk_that_cuts_a_token_and_a_planner_checkpoint_are_refused(model):
    with pytest.raises(ValueError, match="multiple of the model's 2"):
        Imitation(model, ImitationConfig(chunk=3))
    spec = dataclasses.replace(model.config.spec, stack=1)
    config = dataclasses.replace(model.config, spec=spec)
    with pytest.raises(ValueError, match="stack = stride"):
        Imitation(dataclasses.replace(model, config=config))


def test_a_chunk_at_every_control_step(model):
    rows = demos().arrays["observations"][:12]
    policy = Imitation(model, ImitationConfig(memory=0))
    policy.reset(0)
    chunks = [policy.predict(o) for o in rows]
    assert all(c.shape == (2 * SPAN, 2) and np.isfinite(c).all() for c in chunks)


def test_what_was_executed_is_what_is_remembered(model):
    rows, config = demos().arrays["observations"][:12], ImitationConfig(memory=0, chunk=SPAN, temperature=0.0)
    told, untold, other = (Imitation(model, config) for _ in range(3))
    acted = play(untold, rows)
    told.reset(0)
    again = [told.act(o, executed=None if i == 0 else acted[i - 1]) for i, o in enumerate(rows)]
    np.testing.assert_allclose(np.stack(again), acted, atol=1e-6)  # what it said itself is no news
    other.reset(0)
    moved = [other.act(o, executed=None if i == 0 else acted[i - 1] + 0.5) for i, o in enumerate(rows)]
    np.testing.assert_array_equal(moved[0], acted[0])
    assert np.abs(np.stack(moved)[SPAN:] - acted[SPAN:]).max() > 1e-3
    assert len(other.seconds) == len(rows)  # each time what had been decided no longer held


def test_who_only_watches_remembers_as_if_it_had_driven(model):
    rows, config = demos().arrays["observations"][:6], ImitationConfig(memory=0, temperature=0.0)
    driven, watching = (Imitation(model, config) for _ in range(2))
    acted = [None]
    for o in rows:
        acted.append(driven.predict(o, executed=acted[-1])[0])
    for o, executed in zip(rows[:5], acted, strict=False):
        watching.observe(o, executed=executed)
    with pytest.raises(ValueError, match="say what was carried out"):
        watching.act(rows[5])
    assert watching.calls == 0
    np.testing.assert_allclose(watching.act(rows[5], executed=acted[5]), acted[6], atol=1e-6)


@pytest.mark.parametrize("executed", [np.zeros(3), [0.0, np.nan], np.zeros((2, 2))])
def test_executed_actions_that_cannot_be_are_refused(model, executed):
    policy = Imitation(model)
    policy.act(np.zeros(3))
    with pytest.raises(ValueError, match="got executed="):
        policy.act(np.zeros(3), executed=executed)
    policy.reset(0)
    with pytest.raises(ValueError, match="first observation"):
        policy.act(np.zeros(3), executed=np.zeros(2))


def test_a_sensor_that_is_left_out_moves_nothing_that_is_told_relative_to_it():
    policy = Imitation.load("arm-pick", ImitationConfig(memory=1, chunk=4, temperature=0.0))
    rows = [envs.make("arm-pick", action="ee").reset(seed=s)[0] for s in (1, 2)]
    hand = [policy.spec.channel(c).index for c in policy.spec.tokens[0].channels]

    def second(reading):
        policy.reset(0)
        policy.act(rows[0])
        bad = rows[1].copy()
        bad[hand] = reading
        return policy.predict(bad, [policy.spec.tokens[0].name])

    np.testing.assert_array_equal(second(0.3), second(5.0))
    np.testing.assert_array_equal(second(0.3), second(np.nan))


def test_a_decision_that_fails_is_forgotten(model):
    policy = Imitation(model, ImitationConfig(memory=0, temperature=0.0))
    policy.reset(np.int64(0))
    rows = demos().arrays["observations"]
    real, policy.actor.decide = (
        policy.actor.decide,
        lambda *a, **k: (_ for _ in ()).throw(FloatingPointError("bad")),
    )
    with pytest.raises(FloatingPointError):
        policy.act(rows[0])
    policy.actor.decide = real
    expected = play(Imitation(model, ImitationConfig(memory=0, temperature=0.0)), rows[:3])
    np.testing.assert_array_equal(np.stack([policy.act(o) for o in rows[:3]]), expected)
    with pytest.raises(ValueError, match="expected a list of names"):
        policy.act(rows[3], "lamp")


def test_a_chunk_beyond_the_window_is_refused_and_not_cut():
    for chunk in (100, 24):
        with pytest.raises(ValueError, match=f"chunk={chunk}, .* at most 20"):
            Imitation.load("arm-pick", ImitationConfig(chunk=chunk, memory=2))
    assert Imitation.load("arm-pick", ImitationConfig(chunk=20, memory=2)).actor.chunk == 20
