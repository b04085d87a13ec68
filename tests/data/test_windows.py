import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfplan.data import Episodes, Windows


def episodes(lengths, **more):
    """Rows whose observation is their own row number, action the same plus 0.5."""
    steps = sum(lengths)
    row = np.arange(steps, dtype=np.float32)
    arrays = {"observations": np.stack([row, -row], 1), "actions": row[:, None] + 0.5, **more}
    return Episodes(arrays, np.cumsum(lengths, dtype=np.int64), 0.01)


@st.composite
def cases(draw):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    steps, stack = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rows = draw(
        st.lists(
            st.lists(st.integers(-4, 20), min_size=stack, max_size=stack), min_size=steps, max_size=steps
        )
    )
    lags = (draw(st.integers(-3, 3)), draw(st.integers(-3, 3)))
    starts = draw(st.lists(st.integers(0, sum(lengths) - 1), min_size=1, max_size=8))
    return lengths, np.sort(np.array(rows), 1), lags, np.array(starts)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_gather_equals_the_definition_and_never_crosses_a_segment(case):
    lengths, frames, lags, starts = case
    data = episodes(lengths)
    batch = Windows(data, frames, ("observations", "actions"), lags).gather(starts)
    for b, start in enumerate(starts):
        segment = np.searchsorted(data.ends, start, side="right")
        begin, last = data.starts[segment], data.ends[segment] - 1
        for s, offsets in enumerate(frames):
            assert batch.inside[b, s] == (start + max(offsets[-1], 0) <= last)
            for f, offset in enumerate(offsets):
                for key, lag in zip(("observations", "actions"), lags, strict=True):
                    row = min(start + max(offset + max(lag, 0), 0), last) + min(lag, 0)
                    ok = begin <= row <= last
                    assert batch.valid[key][b, s, f] == ok
                    expected = data.arrays[key][row] if ok else 0.0
                    np.testing.assert_array_equal(batch.arrays[key][b, s, f], expected)


def test_tail_is_held_and_lagged_action_is_the_one_that_led_there():
    windows = Windows(episodes([3, 4]), np.arange(5)[:, None], ("observations", "actions"), (0, -1))
    batch = windows.gather([1])
    np.testing.assert_array_equal(batch.arrays["observations"][0, :, 0, 0], [1, 2, 2, 2, 2])
    np.testing.assert_array_equal(batch.arrays["actions"][0, :, 0, 0], [0.5, 1.5, 1.5, 1.5, 1.5])
    np.testing.assert_array_equal(batch.inside[0], [True, True, False, False, False])
    first = windows.gather([3])
    assert first.arrays["actions"][0, 0, 0, 0] == 0 and not first.valid["actions"][0, 0, 0]
    assert first.valid["actions"][0, 1:].all()


def test_stack_before_the_window_repeats_its_first_step():
    batch = Windows(episodes([9]), np.array([[-2, -1, 0], [1, 2, 3]]), ("observations",), (0,)).gather([4])
    np.testing.assert_array_equal(batch.arrays["observations"][0, :, :, 0], [[4, 4, 4], [5, 6, 7]])


def test_shapes_types_and_a_vector_key():
    data = episodes([5, 5], rewards=np.arange(10), terminals=np.arange(10) == 9)
    windows = Windows(data, np.arange(6).reshape(3, 2), ("observations", "rewards", "terminals"), (0, 0, 0))
    batch = windows.gather(np.arange(10, dtype=np.uint8))
    assert len(windows) == 10
    assert batch.arrays["observations"].shape == (10, 3, 2, 2)
    assert batch.arrays["rewards"].shape == batch.arrays["terminals"].shape == (10, 3, 2, 1)
    assert {a.dtype for a in batch.arrays.values()} == {np.dtype(np.float32)}
    assert batch.inside.shape == (10, 3) and batch.inside.dtype == bool


def test_draw_repeats_with_its_seed_and_reaches_every_start():
    windows = Windows(episodes([1, 2, 4]), np.zeros((1, 1), int), ("observations",), (0,))
    a, b = (windows.draw(np.random.default_rng(3), 500).arrays["observations"] for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.unique(a[..., 0]), np.arange(7))


def test_a_batch_is_new_memory(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "o.npy", "w+", np.float32, (6, 2))
    rows[:] = 1
    data = Episodes({"observations": rows}, np.array([6]), 0.01)
    batch = Windows(data, np.zeros((1, 1), int), ("observations",), (0,)).gather([0])
    batch.arrays["observations"][:] = 7
    assert (rows == 1).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.inside = None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.arange(3)}, r"frames has shape \(3,\)"),
        ({"frames": np.zeros((0, 1), int)}, "frames has shape"),
        ({"frames": np.zeros((2, 1))}, "dtype float64"),
        ({"frames": np.array([[0, 1], [3, 2]])}, r"frames\[1\] is \[3 2\].*sort"),
        ({"keys": ("observation",), "lags": (0,)}, "no array 'observation' to gather.*actions"),
        ({"keys": ("names",), "lags": (0,)}, "'names'.*expected numbers"),
        ({"keys": ("images",), "lags": (0,)}, r"'images' has shape \(4, 2, 2\).*flatten"),
        ({"lags": (0, 0)}, "one lag each"),
        ({"keys": ("actions", "actions"), "lags": (0, 1)}, "expected different keys"),
        ({"keys": (), "lags": ()}, "expected different keys"),
    ],
)
def test_refuses(changes, message):
    data = episodes([4], names=np.array(list("abcd")), images=np.zeros((4, 2, 2)))
    fields = {"frames": np.zeros((1, 1), int), "keys": ("observations",), "lags": (0,)} | changes
    with pytest.raises(ValueError, match=message):
        Windows(data, **fields)


@pytest.mark.parametrize(
    ("starts", "message"),
    [([[0]], "expected .B,. integers"), ([0.0], "float64"), ([0, 4], "start 4 .*0 to 3"), ([-1], "start -1")],
)
def test_refuses_starts(starts, message):
    with pytest.raises(ValueError, match=message):
        Windows(episodes([4]), np.zeros((1, 1), int), ("observations",), (0,)).gather(starts)


def test_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="got batch 0"):
        Windows(episodes([4]), np.zeros((1, 1), int), ("observations",), (0,)).draw(
            np.random.default_rng(), 0
        )
