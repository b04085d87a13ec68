import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SIZES, XY, A, V, action_spec, position_spec, state_spec, walks

from dfplan.data.episodes import Episodes
from dfplan.nets.normalize import Normalizer
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.tokens import TokenWindows


@st.composite
def specs(draw):
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    names = iter(f"c{i}" for i in range(sum(widths)))
    tokens = tuple(Token(f"t{i}", tuple(next(names) for _ in range(w))) for i, w in enumerate(widths))
    channels = tuple(Channel(f"c{i}", index=i) for i in range(sum(widths)))
    order = draw(st.permutations(channels))
    stride, stack = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return TrajectorySpec(tuple(order), tokens, 0.1, stride, stack, observation_size=sum(widths))


@given(spec=specs(), batch=st.integers(1, 3), steps=st.integers(1, 5))
def test_unpack_inverts_pack_and_padding_is_zero(spec, batch, steps):
    rng = np.random.default_rng(0)
    arrays = {t.name: rng.normal(size=(batch, steps, spec.stack, len(t.channels))) for t in spec.tokens}
    x = torch.from_numpy(spec.pack(arrays))
    assert x.shape == (batch, steps * spec.group_size, spec.width) and x.dtype == torch.float32
    channels = spec.unpack(x)
    assert set(channels) == {c.name for c in spec.channels}
    for token in spec.tokens:
        for i, name in enumerate(token.channels):
            np.testing.assert_array_equal(channels[name], arrays[token.name][..., i].astype(np.float32))
    padding = ~torch.from_numpy(spec.valid).repeat(steps, 1)
    assert (x[:, padding] == 0).all() and (x[:, ~padding] != 0).all()


@given(spec=specs(), steps=st.integers(1, 6))
def test_frames_are_the_stack_that_ends_at_each_step(spec, steps):
    frames = spec.frames(steps)
    assert frames.shape == (steps, spec.stack)
    for s in range(steps):
        assert frames[s].tolist() == [s * spec.stride - spec.stack + 1 + i for i in range(spec.stack)]


def test_official_stacked_setting_covers_every_env_step_once():
    """600 env steps as 60 tokens of 10 frames after a token of the present, repeated."""
    spec = position_spec(stack=10, stride=10)
    frames = spec.frames(61)
    assert (frames[0] <= 0).all() and frames[0, -1] == 0
    assert frames[1:].ravel().tolist() == list(range(1, 601))
    assert spec.width == 20 and spec.group_size == 1


def test_each_token_of_a_step_has_its_own_row():
    spec = state_spec()
    arrays = {"position": np.full((1, 2, 1, 2), 1.0), "velocity": np.full((1, 2, 1, 2), 2.0)}
    assert spec.pack(arrays)[0, :, 0].tolist() == [1, 2, 1, 2]
    assert spec.token_mask("velocity").tolist() == [False, True]


def test_array_puts_channels_in_their_columns_and_takes_the_rest_from_the_present():
    spec = position_spec()
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert spec.array(x, "observations").tolist() == [[[1, 2, 0, 0], [3, 4, 0, 0]]]
    present = torch.tensor([9.0, 9.0, 7.0, 8.0])
    assert spec.array(x, "observations", present).tolist() == [[[1, 2, 7, 8], [3, 4, 7, 8]]]
    assert spec.array(x, "actions") is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channels": (XY[0], XY[0]), "tokens": (Token("p", ("x", "x")),)}, "channel names must differ"),
        ({"tokens": (Token("p", ("x",)),)}, "exactly one token"),
        ({"tokens": (Token("p", ("x", "y")), Token("q", ("x",)))}, "exactly one token"),
        ({"tokens": (Token("p", ("x", "z")),)}, "exactly one token"),
        ({"tokens": (Token("p", ("x",)), Token("p", ("y",)))}, "token names must differ"),
        ({"stride": 0}, "stride=0"),
        ({"stack": 0}, "stack=0"),
        ({"dt": 0.0}, "dt=0.0"),
        ({"dt": float("nan")}, "dt=nan"),
        ({"channels": (XY[0], A[1]), "tokens": (Token("p", ("x", "ay")),)}, "mixes sources"),
        ({"observation_size": 1}, "column 1 of observations, which has 1 columns"),
    ],
)
def test_spec_refuses(change, message):
    base = {"channels": XY, "tokens": (Token("position", ("x", "y")),), "dt": 0.1, **SIZES}
    with pytest.raises(ValueError, match=message):
        TrajectorySpec(**(base | change))


def test_unknown_names_and_shapes():
    spec = state_spec()
    with pytest.raises(ValueError, match=r"channel 'z', expected one of \['x', 'y', 'vx', 'vy'\]"):
        spec.channel("z")
    with pytest.raises(ValueError, match=r"token 'speed', expected one of \['position', 'velocity'\]"):
        spec.token_mask("speed")
    for shape in ((1, 3, 2), (1, 4, 3)):
        with pytest.raises(ValueError, match=r"expected \(B, S\*2, 2\)"):
            spec.unpack(torch.zeros(shape))


@given(spec=specs(), steps=st.integers(1, 4))
def test_normaliser_inverts_itself(spec, steps):
    g = torch.Generator().manual_seed(0)
    shape = (spec.group_size, spec.width)
    normalizer = Normalizer(3 * torch.randn(shape, generator=g), 0.1 + torch.rand(shape, generator=g))
    x = torch.randn(2, steps * spec.group_size, spec.width, generator=g)
    torch.testing.assert_close(normalizer.unnormalize(normalizer.normalize(x)), x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Normalizer.identity(spec).normalize(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("block", [1, 7, 60, 180, 1000])
@pytest.mark.parametrize("stack", [1, 3])
def test_streaming_fit_is_numpys_mean_and_std(block, stack):
    spec, data = action_spec(stack=stack), walks()
    data.arrays["observations"][:] += 1000  # where a naive sum of squares loses digits
    normalizer = Normalizer.fit(spec, data, block)
    for g, (name, size) in enumerate((("observations", 2), ("actions", 2))):
        columns = data.arrays[name][:, :size].astype(np.float64)
        np.testing.assert_allclose(normalizer.mean[g], np.tile(columns.mean(0), stack), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(normalizer.scale[g], np.tile(columns.std(0), stack), rtol=1e-4)


def test_constant_and_padding_channels_have_scale_1():
    rows = np.zeros((50, 4), np.float32)
    rows[:, 0], rows[:, 1] = np.arange(50), 5.0
    data = Episodes({"observations": rows}, np.array([50]), 0.1)
    spec = TrajectorySpec(XY + V[:1], (Token("p", ("x", "y")), Token("v", ("vx",))), 0.1, observation_size=4)
    normalizer = Normalizer.fit(spec, data)
    assert normalizer.scale[0, 1] == 1 and normalizer.mean[0, 1] == 5
    assert normalizer.scale[1].tolist() == [1, 1] and normalizer.mean[1].tolist() == [0, 0]
    assert normalizer.scale[0, 0] == pytest.approx(rows[:, 0].std())


def test_fit_reads_flat_arrays():
    data = Episodes({"observations": np.zeros((6, 1)), "rewards": np.arange(6.0)}, np.array([6]), 0.1)
    spec = TrajectorySpec((Channel("r", source="rewards"),), (Token("reward", ("r",)),), 0.1)
    assert Normalizer.fit(spec, data, 4).mean.item() == 2.5


def drawn(spec, data, horizon, starts):
    """TokenWindows.draw with given starts."""

    class Starts:
        def integers(self, low, high, size):
            assert (low, high) == (0, data.steps)
            return np.asarray(starts).reshape(size)

    normalizer = Normalizer.fit(spec, data)
    x, inside, valid = TokenWindows(spec, horizon, data, normalizer).draw(Starts(), len(starts))
    return x, inside, valid, normalizer


@pytest.mark.parametrize("stack, stride", [(1, 1), (1, 3), (2, 2), (3, 2)])
def test_token_windows_hold_the_right_frames(stack, stride):
    spec, data = action_spec(stack=stack, stride=stride), walks(2, 12)
    starts, horizon = [0, 5, 11, 12, 17], 4
    x, inside, valid, normalizer = drawn(spec, data, horizon, starts)
    assert x.shape == (5, 2 * horizon, 2 * stack) and inside.shape == (5, horizon) and valid.shape == x.shape
    physical = normalizer.unnormalize(x).unflatten(1, (horizon, 2)).unflatten(-1, (stack, 2))
    for b, start in enumerate(starts):
        begin, last = (0, 11) if start < 12 else (12, 23)
        for s in range(horizon):
            assert bool(inside[b, s]) == (start + s * stride <= last)
            rows = [min(start + max(s * stride - stack + 1 + f, 0), last) for f in range(stack)]
            np.testing.assert_allclose(
                physical[b, s, 0], data.arrays["observations"][rows, :2], rtol=1e-4, atol=1e-5
            )
            before = [r - 1 for r in rows]
            known = min(before) >= begin
            ok, token = valid[b, 2 * s + 1], x[b, 2 * s + 1]
            assert ok.all() == known and ok.any() == known
            if known:
                np.testing.assert_allclose(
                    physical[b, s, 1], data.arrays["actions"][before], rtol=1e-4, atol=1e-5
                )
            else:
                assert (token == 0).all()  # after normalisation, not before
    assert not valid[0, 1].any() and not valid[3, 1].any() and valid[1].all()


def test_padding_channels_are_zero_and_not_valid():
    spec = TrajectorySpec(XY + V[:1], (Token("p", ("x", "y")), Token("v", ("vx",))), 0.1, **SIZES)
    x, _, valid, _ = drawn(spec, walks(), 3, [4, 5])
    assert valid[:, 0::2].all() and valid[:, 1::2, 0].all() and not valid[:, 1::2, 1].any()
    assert (x[:, 1::2, 1] == 0).all()


def test_longest_of_prefers_starts_with_more_left():
    spec, data = position_spec(), walks(1, 40)
    windows = TokenWindows(spec, 10, data, Normalizer.fit(spec, data))
    shares = [windows.draw(np.random.default_rng(0), 2000, n)[1].float().mean() for n in (1, 2, 4)]
    assert shares[0] < shares[1] - 0.05 < shares[2] - 0.06


def test_tokens_of_one_source_need_one_lag():
    spec = TrajectorySpec(XY, (Token("a", ("x",)), Token("b", ("y",), lag=1)), 0.1, **SIZES)
    with pytest.raises(ValueError, match="lags 0 and 1"):
        TokenWindows(spec, 3, walks(), Normalizer.identity(spec))
