"""Successes out of attempts."""

import pytest

from dfplan.tools.attempts import successes


def test_as_many_as_asked_for_and_the_same_for_any_number():
    asked, told = [], []

    def attempt(seed):
        asked.append(seed)
        return seed if seed % 3 else None

    five = successes(attempt, 5, 7, told.append)
    assert len(five) == 5 and told == [1, 2, 3, 4, 5] and five == [s for s in asked if s % 3]
    assert successes(attempt, 3, 7) == five[:3] and successes(attempt, 3, 8) != five[:3]
    with pytest.raises(ValueError, match="got episodes=0"):
        successes(attempt, 0, 7)
