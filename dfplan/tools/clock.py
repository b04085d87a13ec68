"""Time, passed in: the real clock, or a fake one that only moves when it is told to."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock, s."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep_until(self, when: float) -> None:
        """Return at `when`, or at once if that is past."""
        ...


class RealClock:
    """`time.perf_counter`. Sleeps, and spins for the last part of a wait, which the scheduler would overshoot."""

    def __init__(self, spin: float = 0.0002) -> None:
        """`spin`: how long before the time to stop sleeping, s."""
        self.spin = spin

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.perf_counter()

    def sleep_until(self, when: float) -> None:
        """Return at `when`, or at once if that is past."""
        left = when - time.perf_counter() - self.spin
        if left > 0:
            time.sleep(left)
        while time.perf_counter() < when:
            pass


class FakeClock:
    """Stands still until somebody waits for it or moves it: a test of ten minutes takes as long as its arithmetic."""

    def __init__(self, now: float = 0.0) -> None:
        """Start at `now`, s."""
        self._now = now

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return self._now

    def sleep_until(self, when: float) -> None:
        """Jump to `when`."""
        self._now = max(self._now, when)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += seconds
