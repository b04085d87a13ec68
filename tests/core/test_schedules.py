import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfplan import schedules
from dfplan.schedules import ScheduleMatrix

sizes = {"tokens": st.integers(1, 24), "steps": st.integers(1, 20)}
eighths = st.integers(0, 80).map(lambda n: n / 8)  # exact in binary, so that ceil has one answer


@given(name=st.sampled_from(sorted(schedules.SCHEDULES)), uncertainty=st.floats(0, 12), **sizes)
def test_every_schedule_runs_from_noise_to_clean_and_never_rises(name, tokens, steps, uncertainty):
    matrix = schedules.make(name, tokens, steps, uncertainty)
    levels = matrix.levels
    assert levels.shape == (matrix.calls + 1, tokens)
    assert (levels[0] == 1).all() and (levels[-1] == 0).all() and matrix.finished
    assert (levels.diff(dim=0) <= 0).all() and (levels >= 0).all() and (levels <= 1).all()


@given(uncertainty=eighths, **sizes)
def test_call_counts(tokens, steps, uncertainty):
    assert schedules.full(tokens, steps).calls == steps
    assert schedules.pyramid(tokens, steps, uncertainty).calls == steps + math.ceil(
        uncertainty * (tokens - 1)
    )
    assert schedules.autoregressive(tokens, steps).calls == steps * tokens


@given(uncertainty=eighths, **sizes)
def test_pyramid_has_a_clean_near_future_and_each_token_the_same_slope(tokens, steps, uncertainty):
    levels = schedules.pyramid(tokens, steps, uncertainty).levels
    assert (levels.diff(dim=1) >= 0).all()
    assert (-levels.diff(dim=0)).max() <= 1 / steps + 1e-6
    if uncertainty <= steps:  # no call is wasted
        assert (levels.diff(dim=0) < 0).any(1).all()


@given(**sizes)
def test_autoregressive_moves_one_token_at_a_time(tokens, steps):
    moving = schedules.autoregressive(tokens, steps).levels.diff(dim=0) < 0
    assert (moving.sum(1) == 1).all()
    assert moving.int().argmax(1).tolist() == [t for t in range(tokens) for _ in range(steps)]


@given(tokens=st.integers(1, 25), steps=st.integers(1, 12), uncertainty=st.floats(0, 5))
def test_trapezoid_is_symmetric_and_finished_for_odd_and_even_lengths(tokens, steps, uncertainty):
    matrix = schedules.trapezoid(tokens, steps, uncertainty)
    torch.testing.assert_close(matrix.levels, matrix.levels.flip(1), rtol=0, atol=0)
    half = matrix.levels[:, : (tokens + 1) // 2]
    assert matrix.finished and (half.diff(dim=1) >= 0).all()
    if uncertainty > 0.5 and tokens > 2:
        assert (half.diff(dim=1) > 0).any()


@given(**sizes)
def test_no_uncertainty_is_full(tokens, steps):
    expected = schedules.full(tokens, steps).levels
    for shape in (schedules.pyramid, schedules.trapezoid):
        torch.testing.assert_close(shape(tokens, steps, 0.0).levels, expected, rtol=0, atol=0)
    torch.testing.assert_close(expected[:, 0], 1 - torch.arange(steps + 1) / steps)


@given(tokens=st.integers(1, 40))
def test_streaming_tick_restores_itself(tokens):
    matrix = schedules.streaming(tokens)
    assert matrix.calls == 1 and matrix.levels[1, 0] == 0
    shifted = torch.cat([matrix.levels[1, 1:], torch.ones(1)])
    torch.testing.assert_close(shifted, matrix.levels[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    "levels, message",
    [
        ([[1.0, 0.5], [0.5, 0.6]], "token 1 rises from row 0 to 1"),
        ([[1.0], [0.2], [0.4]], "token 0 rises from row 1 to 2"),
        ([[1.5], [0.0]], r"must lie in \[0, 1\]"),
        ([[1.0], [-0.1]], r"must lie in \[0, 1\]"),
        ([[1.0], [float("nan")]], r"must lie in \[0, 1\]"),
        ([[float("inf")], [0.0]], r"must lie in \[0, 1\]"),
        ([[1.0, 1.0]], "at least two rows"),
        ([1.0, 0.0], "at least two rows"),
        ([[], []], "one token"),
        ([[[1.0]], [[0.0]]], "expected"),
    ],
)
def test_matrix_refuses(levels, message):
    with pytest.raises(ValueError, match=message):
        ScheduleMatrix(torch.tensor(levels))


def test_matrix_that_stops_early_is_not_finished():
    assert not ScheduleMatrix(torch.tensor([[1.0, 1.0], [0.0, 0.1]])).finished


@given(level=st.floats(0.01, 1), **sizes)
def test_scaled_starts_lower_with_the_same_calls(level, tokens, steps):
    matrix = schedules.pyramid(tokens, steps)
    scaled = matrix.scaled(level)
    torch.testing.assert_close(scaled.levels, matrix.levels * level)
    assert scaled.calls == matrix.calls and scaled.finished


@pytest.mark.parametrize("level", [0.0, -0.1, 1.01, float("nan")])
def test_scaled_refuses(level):
    with pytest.raises(ValueError, match="starting level"):
        schedules.full(2, 2).scaled(level)


def test_repeat_gives_each_token_of_a_step_the_same_column():
    matrix = schedules.pyramid(3, 2).repeat(2)
    assert matrix.levels.shape[1] == 6
    torch.testing.assert_close(matrix.levels[:, 0::2], matrix.levels[:, 1::2], rtol=0, atol=0)
    torch.testing.assert_close(matrix.levels[:, ::2], schedules.pyramid(3, 2).levels, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
def test_no_steps_is_refused(name):
    with pytest.raises(ValueError, match="steps=0"):
        schedules.make(name, 4, 0, 1.0)


@pytest.mark.parametrize("shape", [schedules.pyramid, schedules.trapezoid])
def test_negative_uncertainty_is_refused(shape):
    with pytest.raises(ValueError, match="uncertainty=-1"):
        shape(4, 4, -1.0)


def sudden(tokens, steps, uncertainty):
    """A schedule of one's own: from noise to clean in one call."""
    return ScheduleMatrix(torch.tensor([[1.0], [0.0]]).expand(2, tokens))


def too_few(tokens, steps, uncertainty):
    return sudden(tokens - 1, steps, uncertainty)


def test_a_schedule_of_ones_own_is_named_by_its_module():
    assert schedules.make(f"{__name__}:sudden", 5, 4, 0.5).calls == 1
    with pytest.raises(ValueError, match="expected a ScheduleMatrix of 5 columns"):
        schedules.make(f"{__name__}:too_few", 5, 4, 0.5)
    with pytest.raises(ValueError, match="did you mean 'pyramid'"):
        schedules.make("pyramd", 5, 4, 0.5)
    with pytest.raises(ValueError, match="cannot be imported"):
        schedules.make("no_such_module:sudden", 5, 4, 0.5)
