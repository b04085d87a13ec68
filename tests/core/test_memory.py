"""Memory of what has left the window: carriers, training against use, and policies that remember."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import position_spec

from dfplan.act import Actor, History
from dfplan.act.acting import taken_in
from dfplan.act.remember import emphasised, recalled, taken
from dfplan.data import Episodes
from dfplan.decide import Decider, generator_of, noise_of
from dfplan.nets.carriers import CARRIERS
from dfplan.nets.kept import BLOCKS, LIMIT
from dfplan.nets.memory import Memory, Read, Remembered
from dfplan.nets.normalize import Normalizer
from dfplan.policies import Imitation, ImitationConfig
from dfplan.train import checkpoint
from dfplan.train.imitate import imitation_config
from dfplan.train.tokens import TokenWindows
from dfplan.train.trainer import Trainer

VALID = torch.tensor([[True, True, True], [True, True, False]])
SPAN, HORIZON = 3, 4


def network(carrier, reach=50):
    torch.manual_seed(0)
    memory = Memory(VALID, carrier, 16, reach=reach)
    read = Read(24, memory)
    torch.nn.init.normal_(read.out.weight)
    torch.nn.init.normal_(read.bias)
    return memory, read


@pytest.mark.parametrize("carrier", CARRIERS)
@settings(max_examples=8, deadline=None)
@given(steps=st.integers(1, 90), known=st.integers(0, 90))
def test_one_step_after_the_other_is_the_whole_at_once(carrier, steps, known):
    memory, read = network(carrier)
    x, level = torch.randn(2, steps, 2, 3), torch.rand(2, steps, 2)
    ends = torch.arange(steps + 1).expand(2, -1)
    h = torch.randn(2, steps + 1, 24)
    with torch.no_grad():
        whole = read(h.flatten(0, 1), memory.windows(x, level, ends, min(known, steps))).unflatten(0, (2, -1))
        now = Remembered(0, ())
        torch.testing.assert_close(whole[:, 0], h[:, 0])  # of nothing, nothing is read
        for step in range(steps):
            now = memory.add(now, x[:, step], level[:, step])
            got = read(h[:, step + 1], memory.recall(now))
            torch.testing.assert_close(got, whole[:, step + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_gradients_reach_as_far_as_they_are_asked_to(carrier):
    memory, read = network(carrier)
    x = torch.randn(2, 20, 2, 3, requires_grad=True)
    read(
        torch.randn(2, 24), memory.windows(x, torch.zeros(2, 20, 2), torch.full((2, 1), 20), 12)
    ).sum().backward()
    assert x.grad[:, :12].abs().max() == 0 < x.grad[:, 12:].abs().max()


def test_compressed_memory_grows_as_the_logarithm_and_covers_all_without_a_gap():
    memory, _ = network("compressed")
    now, x = Remembered(0, ()), torch.zeros(1, 2, 3)
    for step in range(3000):
        now = memory.add(now, x, x[..., 0])
        if step % 371 == 0:
            assert sum(len(level[0]) * 2**k for k, level in enumerate(now.kept)) == now.steps
    counts = [level.shape[1] for level in now.kept]
    assert all(BLOCKS <= n <= BLOCKS + 1 for n in counts[:-1]) and len(counts) <= np.log2(3000 / BLOCKS) + 1


def test_what_was_seen_once_is_still_there_in_a_compressed_memory():
    memory, _ = network("compressed")
    kept, seen = (), torch.full((1, 16), -1.0)
    for step in range(5000):
        kept = memory.carrier.add(kept, torch.where(torch.arange(16) == 3, 1.0, seen) if step == 0 else seen)
    assert kept[-1][0, 0, 3] == 1 and kept[-1][0, 0, :3].max() == -1


def test_attention_drops_what_is_older_than_its_limit():
    memory, _ = network("attention")
    kept = (torch.zeros(1, LIMIT, 32),)
    assert memory.carrier.add(kept, torch.ones(1, 32))[0].shape[1] == LIMIT
    assert int((memory.carrier.ages(LIMIT + 5, BLOCKS)[-1] >= 0).sum()) == LIMIT


def demos(lengths=(60, 83, 47)):
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    walk = rng.normal(size=(rows, 3)).cumsum(0)
    info = {
        "names": {"observations": ["x", "y", "lamp"], "actions": ["x target", "y target"]},
        "groups": {"robot": [0, 2], "lamp": [2, 3]},
        "relative": {"x target": "x", "lamp": "y"},
    }
    arrays = {"observations": walk.astype(np.float32), "actions": (walk[:, :2] + 0.3).astype(np.float32)}
    arrays["executed"] = arrays["actions"] + 0.1
    return Episodes(arrays, np.cumsum(lengths), 0.1, "walks", info)


@pytest.fixture(scope="module", params=CARRIERS)
def model(request, tmp_path_factory):
    return trained(request.param, tmp_path_factory.mktemp("model") / "checkpoint")


def trained(carrier, folder):
    config = imitation_config(
        demos(), span=SPAN, horizon=HORIZON, steps=4, batch=32, warmup=1, save_every=4, precision="fp32", lr=0.05,
        model={"width": 32, "layers": 2, "heads": 2, "carrier": carrier, "carried": 16}, levels={"doubt": 0.5},
    )  # fmt: skip
    for _ in Trainer(config, demos(), folder).run():
        pass
    return checkpoint.load(folder)


def rows(count=60, batch=None):
    seen = np.asarray(demos().arrays["observations"][:count], np.float64)
    return seen if batch is None else np.stack([seen * (1 + 0.1 * b) for b in range(batch)], 1)


def play(policy, observations, seed=0, **kwargs):
    policy.reset(seed)
    return np.stack([policy.act(o, **kwargs) for o in observations])


def remember(decider, history, begin, noise):
    """What was before env step `begin`."""

    def add(now, x, level):
        return taken(decider, now, x, level, noise())

    return taken_in(decider.window(), history, begin, None, ImitationConfig(), add)


def test_steps_in_use_are_steps_in_training(model):
    data = demos()
    windows = TokenWindows(model.config.spec, HORIZON, data, model.normalizer)
    starts, x, ends = windows.within(np.random.default_rng(0), 4, np.zeros(8, int), 0.5)
    own = np.searchsorted(data.ends, starts[::2], side="right")
    steps = (starts - np.repeat(data.starts[own], 2)) // SPAN
    assert ends.flatten().tolist() == steps.tolist()
    seen = np.asarray(data.arrays["observations"][data.starts[own[0]] :][None, :41], np.float64)
    done = np.asarray(data.arrays["executed"][data.starts[own[0]] :][None, :40], np.float64)
    decider, taken = Decider(model), []
    memory = decider.denoiser.memory
    original, decider.denoiser.memory.add = (
        memory.add,
        lambda now, x, level: taken.append(x) or original(now, x, level),
    )
    history = History(seen, np.zeros((1, 41, 2), bool), done)
    remember(decider, history, 39, noise_of([generator_of(0)], 1, 12, 6, device=torch.device("cpu")))
    del decider.denoiser.memory.add
    assert len(taken) == 13
    torch.testing.assert_close(torch.stack(taken, 1)[0], x[0, :13])


def test_what_was_long_ago_decides_and_a_shorter_memory_is_asked_for(model):
    seen = rows()
    other = seen.copy()
    other[:9] += 2.0

    def last(readings, config):
        """Answers at the end, whatever was answered before."""
        policy = Imitation(model, config)
        policy.reset(0)
        done = [policy.act(o, executed=np.zeros(2) if i else None) for i, o in enumerate(readings)]
        return np.stack(done[-6:])

    assert np.abs(last(seen, None) - last(other, None)).max() > 1e-5
    short = ImitationConfig(memory=4)
    np.testing.assert_array_equal(last(seen, short), last(other, short))
    actor = Actor(model)
    assert actor.remembers and not Actor(model, ImitationConfig(memory=1)).remembers


def test_robots_beside_each_other_do_not_matter(model):
    both = Imitation(model)
    both.reset([5, 3])
    got = np.stack([both.act(o) for o in rows(batch=2)])
    np.testing.assert_allclose(got[:, 1], play(Imitation(model), rows(batch=2)[:, 1], seed=3), atol=1e-4)


def test_doubt_is_remembered_at_its_level(model):
    """A reading that is left out changes nothing later, also when it has long left the window."""
    seen = rows()
    wrong = seen.copy()
    wrong[6:12, 2] = 99.0

    def acted(readings):
        policy = Imitation(model, sensors={"lamp": slice(2, 3)})
        policy.reset(0)
        return np.stack([policy.act(o, ["lamp"] if 6 <= i < 12 else []) for i, o in enumerate(readings)])

    np.testing.assert_allclose(acted(seen)[6:], acted(wrong)[6:], atol=2e-2)
    assert np.abs(play(Imitation(model), seen) - play(Imitation(model), wrong)).max() > 0.1


def test_a_takeover_is_what_is_remembered(model):
    seen, policy = rows(), Imitation(model)
    policy.reset(0)
    for i, o in enumerate(seen[:40]):
        policy.act(o, executed=np.array([9.0, -9.0]) if 1 <= i else None)
    history = policy._history()
    assert (history.done == [9.0, -9.0]).all() and history.elapsed == 39


def test_what_a_decision_needs_is_bounded(model):
    policy = Imitation(model)
    play(policy, np.tile(rows(), (20, 1)))
    assert policy._history().observations.shape[1] <= policy.actor.keeps + 1 < 40
    kept = policy._state.kept
    if model.config.model.carrier == "compressed":
        assert sum(k.shape[1] for k in kept) < 80
    if model.config.model.carrier == "recurrent":
        assert kept[0].shape == (1, 16)


def test_history_guidance_is_the_formula(model):
    decider = Decider(model)
    noise = noise_of([generator_of(0)], 1, 12, 6, device=torch.device("cpu"))
    history = History(rows()[None], np.zeros((1, 60, 2), bool), np.zeros((1, 59, 2)))
    recall = recalled(decider, remember(decider, history, 50, noise))
    own, x, level = decider.denoiser, noise(), torch.rand(1, 12)
    with torch.no_grad():
        alone, with_it = own(x, level), own.recalling(recall)(x, level)
        torch.testing.assert_close(emphasised(own, recall, 0.5)(x, level), alone + 1.5 * (with_it - alone))
    assert emphasised(own, None, 0.5) is own
    moved = play(Imitation(model, ImitationConfig(history_guidance=2.0)), rows()) - play(
        Imitation(model), rows()
    )
    assert np.abs(moved).max() > 1e-5


def test_stabilised_steps_are_noisy(model):
    settings_of = ImitationConfig(stabilise=0.2)
    assert np.abs(play(Imitation(model, settings_of), rows()) - play(Imitation(model), rows())).max() > 1e-6


def test_settings_of_a_memory_are_refused_without_one(tmp_path):
    config = imitation_config(
        demos(), span=SPAN, steps=1, batch=8, precision="fp32", model={"width": 16, "carrier": ""}
    )
    for _ in Trainer(config, demos(), tmp_path / "checkpoint").run():
        pass
    with pytest.raises(ValueError, match="no memory"):
        Actor(checkpoint.load(tmp_path / "checkpoint"), ImitationConfig(stabilise=0.1))


def test_training_picks_a_memory_by_the_length_of_episodes():
    def picked(*lengths):
        return imitation_config(demos(lengths), span=SPAN).model

    assert picked(8, 7).carrier == "" and picked(60, 40).carrier == "attention"
    long = picked(400, 60)
    assert (long.carrier, long.reach) == ("compressed", 133)


def test_a_run_with_a_memory_is_resumed_bit_for_bit(model, tmp_path):
    config = replace(model.config, steps=4, save_every=2)
    for _ in Trainer(config, demos(), tmp_path / "one").run():
        pass
    half = Trainer(config, demos(), tmp_path / "two")
    for step in half.run():
        if step == 2:
            break
    for _ in Trainer(config, demos(), tmp_path / "two", resume=True).run():
        pass
    for one, two in zip(
        *(checkpoint.load(tmp_path / n).denoiser.parameters() for n in ("one", "two")), strict=True
    ):
        assert torch.equal(one, two)


def test_a_memory_longer_than_the_episode_is_the_whole_of_it(model):
    whole, asked = (Imitation(model, config) for config in (None, ImitationConfig(memory=60)))
    np.testing.assert_array_equal(play(whole, rows()), play(asked, rows()))


@pytest.mark.parametrize(("horizon", "memory"), [(4, 9), (2, 3), (1, 3)])
def test_a_window_shorter_than_its_levels_remember_still_acts(tmp_path, horizon, memory):
    config = imitation_config(
        demos(), span=SPAN, horizon=horizon, steps=1, batch=8, precision="fp32",
        model={"width": 16, "carrier": ""}, levels={"memory": memory},
    )  # fmt: skip
    for _ in Trainer(config, demos(), tmp_path / "checkpoint").run():
        pass
    actor = Actor(checkpoint.load(tmp_path / "checkpoint"))
    assert (actor.memory, actor.ahead) == (horizon, SPAN)


@pytest.mark.parametrize(
    "value", [{"history_guidance": np.inf}, {"history_guidance": 0.5, "precision": "bf16"}]
)
def test_history_guidance_that_cannot_be_is_refused_before_it_acts(value):
    with pytest.raises(ValueError, match=r"got history_guidance=.*expected"):
        ImitationConfig(**value)


def test_a_reach_of_zero_is_found_from_the_demonstrations():
    assert imitation_config(demos(), span=SPAN, model={"carrier": "attention", "reach": 0}).model.reach == 27


def test_after_a_decision_that_failed_in_mid_episode_it_goes_on(model, monkeypatch):
    policy, actor = Imitation(model), Actor
    expected, decide = play(policy, rows(18)), actor.decide
    policy.reset(0)
    got = [policy.act(o) for o in rows(12)]
    for _ in range(2):
        monkeypatch.setattr(actor, "decide", lambda *a, **k: (_ for _ in ()).throw(FloatingPointError("bad")))
        with pytest.raises(FloatingPointError):
            policy.act(rows()[12])
    monkeypatch.setattr(actor, "decide", decide)
    np.testing.assert_array_equal(got + [policy.act(o) for o in rows(18)[12:]], expected)


@pytest.mark.parametrize("actions", [{}, {"actions": np.arange(190.0)}])
def test_windows_are_drawn_where_there_are_no_actions_or_one_number_each(actions):
    data = Episodes({"observations": demos().arrays["observations"]} | actions, demos().ends, 0.1, "w")
    windows = TokenWindows(position_spec(observation_size=3), 4, data, Normalizer.fit(position_spec(), data))
    starts, x, ends = windows.within(np.random.default_rng(0), 3, np.zeros(6, int), 1.0)
    assert starts.shape == (6,) and ends.shape == (3, 2) and len(x) == 3 and torch.isfinite(x).all()
