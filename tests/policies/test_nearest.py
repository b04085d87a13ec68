"""The policy that trains nothing: it repeats what followed the most similar moment."""

import numpy as np
import pytest

from dfplan.data import Episodes
from dfplan.policies import Nearest


def demos(relative=None):
    seen = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0], [0, 5], [1, 5], [2, 5], [3, 5]], np.float32)
    done = seen + np.array([[1.0, 0.5]], np.float32)
    names = {"observations": ["x", "y"], "actions": ["x target", "y target"]}
    return Episodes(
        {"observations": seen, "actions": done},
        np.array([4, 8]),
        0.1,
        "rows",
        {"names": names, **(relative or {})},
    )


def test_a_demonstration_is_repeated_on_its_own_observations():
    policy = Nearest(demos(), chunk=1, apart=1)
    for row, expected in zip(demos().arrays["observations"][4:], demos().arrays["actions"][4:], strict=True):
        np.testing.assert_allclose(policy.act(row), expected, atol=1e-6)


def test_relative_actions_are_repeated_relative_to_now():
    policy = Nearest(demos({"relative": {"x target": "x"}}), chunk=1, apart=1)
    np.testing.assert_allclose(policy.act([1.2, 5.0]), [2.2, 5.5], atol=1e-6)
    np.testing.assert_allclose(Nearest(demos(), chunk=1, apart=1).act([1.2, 5.0]), [3.0, 5.5], atol=1e-6)


def test_a_chunk_ends_with_its_demonstration():
    policy = Nearest(demos(), chunk=4, apart=1)
    assert [policy.act(row)[0] for row in ([2.0, 0], [2.0, 0], [0.0, 0])] == [3.0, 4.0, 1.0]


def test_a_faithful_one_stays_with_its_demonstration_and_never_goes_back():
    rows = [[0.0, 5], [1, 0], [2, 0], [0, 0]]
    faithful, free = Nearest(demos(), 1, 1, faithful=True), Nearest(demos(), 1, 1)
    assert [float(free.act(row)[1]) for row in rows] == [5.5, 0.5, 0.5, 0.5]
    assert [faithful.act(row).tolist() for row in rows] == [[1.0, 5.5], [2.0, 5.5], [3.0, 5.5], [3.0, 5.5]]
    faithful.reset()
    assert faithful.act([0.0, 0])[1] == 0.5


def test_limits_and_bad_sizes():
    assert Nearest(demos(), limits=(-1, 1)).act([3.0, 5]).max() == 1
    with pytest.raises(ValueError, match="1 or more"):
        Nearest(demos(), chunk=0)


def test_what_is_not_of_this_task_is_refused():
    with pytest.raises(ValueError, match=r"rows: got actions of shape \(2,\), expected \(3,\)"):
        Nearest(demos(), limits=(np.zeros(3), np.ones(3)))
    for bad in ([1.0, 2.0, 3.0], [np.nan, 0.0]):
        with pytest.raises(ValueError, match=r"got observation .* expected \(2,\)"):
            Nearest(demos()).act(bad)
    bare = Episodes({"observations": demos().arrays["observations"]}, demos().ends, 0.1, "bare", {})
    with pytest.raises(ValueError, match=r"bare: got arrays .* expected observations .* and actions"):
        Nearest(bare)
