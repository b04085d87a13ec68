"""What is known is an algebra: it can be put together, and contradicts itself aloud."""

import numpy as np
import pytest
import torch
from hypothesis import given as cases
from hypothesis import strategies as st

from dfplan import known
from dfplan.known import Known, Window
from dfplan.nets.normalize import Normalizer
from dfplan.noise import NoiseSchedule
from dfplan.spec import Channel, Token, TrajectorySpec

SPEC = TrajectorySpec(
    (
        Channel("x", index=0), Channel("y", index=1), Channel("r", source="rewards"),
        Channel("a", source="actions", index=0, reference="x"),
    ),
    (Token("place", ("x", "y")), Token("reward", ("r",)), Token("action", ("a",), lag=1)),
    0.1, 2, 2, 3, 1,
)  # fmt: skip
STEPS, GROUP, CPU = 5, 3, torch.device("cpu")


def window():
    torch.manual_seed(0)
    shape = (GROUP, SPEC.width)
    return Window(SPEC, Normalizer(torch.randn(shape), torch.rand(shape) + 0.5), STEPS)


def masks(draw_seed, share):
    rng = np.random.default_rng(draw_seed)
    mask = rng.random((2, STEPS * GROUP)) < share
    return Known(rng.normal(size=(*mask.shape, SPEC.width)), mask, rng.random(mask.shape) * mask)


@cases(st.integers(0, 10**6), st.floats(0, 1))
def test_together_knows_what_either_does(number, share):
    a, rng = masks(number, share), np.random.default_rng(number + 1)
    b = Known(rng.normal(size=a.values.shape), (rng.random(a.mask.shape) < 0.5) & ~a.mask)
    both, turned = a | b, b | a
    assert (both.mask == (a.mask | b.mask)).all()
    assert (both.values[a.mask] == a.values[a.mask]).all() and (both.values[b.mask] == b.values[b.mask]).all()
    assert (both.levels()[a.mask] == a.levels()[a.mask]).all() and (both.levels()[b.mask] == 0).all()
    assert (turned.mask == both.mask).all() and (turned.values[both.mask] == both.values[both.mask]).all()
    assert (turned.levels()[both.mask] == both.levels()[both.mask]).all()


@cases(st.integers(0, 10**6))
def test_a_token_known_twice_is_refused(number):
    a = masks(number, 0.3)
    b = Known(a.values, np.random.default_rng(number + 1).random(a.mask.shape) < 0.3)
    if (a.mask & b.mask).any():
        with pytest.raises(ValueError, match="known twice"):
            a | b
    with pytest.raises(ValueError, match="make both for one window"):
        a | Known(a.values[:, 1:], a.mask[:, 1:])


def test_history_shows_sensors_and_executed_actions_and_nothing_else():
    w, rng = window(), np.random.default_rng(0)
    seen, done = rng.normal(size=(2, 3, 2, 3)), rng.normal(size=(2, 2, 2, 1))
    found = known.past(w, seen, done).to(CPU)
    expected = torch.tensor([[True, False, True]] * 2 + [[True, False, False]] + [[False] * 3] * 2).flatten()
    assert (found.mask == expected).all()
    back = w.normalizer.unnormalize(found.values)
    np.testing.assert_allclose(back[:, 3, :4].view(2, 2, 2), seen[:, 1, :, :2], atol=1e-5)
    origin = seen[:, -1, -1, 0]  # actions are told relative to the present x
    np.testing.assert_allclose(back[:, 2, :2] + origin[:, None], done[:, 0, :, 0], atol=1e-5)
    assert not known.past(w, seen).mask.reshape(2, STEPS, GROUP)[..., 1:].any()  # actions that nobody told


def test_any_token_can_be_given_but_not_a_relative_one():
    w = window()
    where = np.tile(np.arange(STEPS) >= 3, (2, 1))
    found = known.given(w, "reward", [[1.5], [2.5]], where, level=0.25).to(CPU)
    where = torch.from_numpy(where)
    assert (found.mask.view(2, STEPS, GROUP) == (where[..., None] & SPEC.token_mask("reward"))).all()
    back = w.normalizer.unnormalize(found.values).view(2, STEPS, GROUP, -1)[:, 3:, 1, :2]
    np.testing.assert_allclose(back, np.broadcast_to([[[1.5]], [[2.5]]], (2, 2, 2)), atol=1e-5)
    assert (found.level[found.mask] == 0.25).all()
    with pytest.raises(ValueError, match="did you mean 'reward'"):
        known.given(w, "rewards", [1.0], where)
    with pytest.raises(ValueError, match="expected 1 finite numbers: r"):
        known.given(w, "reward", [np.nan], where)
    with pytest.raises(ValueError, match="relative to the present"):
        known.given(w, "action", [1.0], where)


@pytest.mark.parametrize("count, clean", [(0, True), (1, True), (2, True), (3, True), (3, False)])
def test_committed_actions_are_whole_tokens_or_single_numbers(count, clean):
    w, rng = window(), np.random.default_rng(1)
    actions, present = rng.normal(size=(1, count, 1)), rng.normal(size=(1, 3))
    found = known.committed(w, actions, present, 1, clean).to(CPU)
    whole = [5 + 3 * i for i in range(count // 2)] if clean else []
    assert found.mask.nonzero()[:, 1].tolist() == whole
    numbers = 0 if found.part is None else int(found.part.sum())
    assert numbers == count - 2 * len(whole)
    back = w.normalizer.unnormalize(found.values).view(STEPS, GROUP, -1)[1:, 2, :2].flatten()[:count]
    np.testing.assert_allclose(back + present[0, 0], actions[0, :, 0], atol=1e-5)


def test_doubt_lowers_trust_and_full_doubt_takes_it_away():
    w, rng = window(), np.random.default_rng(0)
    seen = rng.normal(size=(1, 2, 2, 3))
    flags = np.zeros((1, 2, GROUP), bool)
    flags[0, 1, 0] = True
    half, none = (known.doubt(known.past(w, seen), flags * level).to(CPU) for level in (0.5, 1.0))
    assert half.level[0, 3] == 0.5 and half.mask[0, 3] and not none.mask[0, 3] and none.mask[0, 0]
    schedule, noise = NoiseSchedule(), torch.randn(1, STEPS * GROUP, SPEC.width)
    shown = known.noised(half, noise, schedule)
    level = torch.tensor(0.5)
    expected = half.values[0, 3] + noise[0, 3] * schedule.sigma(level) / schedule.alpha(level)
    torch.testing.assert_close(shown.values[0, 3], expected)
    assert (shown.values[0, 0] == half.values[0, 0]).all()
