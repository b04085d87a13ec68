"""Numbers about a running loop."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import numpy as np

from dfplan.deploy.motion.chunks import Handover

WINDOW = 3000
"""Values that the quantiles are of."""


def quantiles(values: Iterable[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest; 0 where there are none."""
    row = np.fromiter(values, np.float64)
    if not len(row):
        return 0.0, 0.0, 0.0
    p50, p99 = np.quantile(row, [0.5, 0.99])
    return float(p50), float(p99), float(row.max())


class Stats:
    """What the loop counts. Quantiles are over the last 3,000 values.

    Attributes:
        ticks: so far.
        sent: commands handed over.
        dropped: commands that the transport did not take.
        overruns: chunks that came too late.
        slips: ticks that were missed altogether.
        handovers: the last ones.
        counts: reason -> how often.
        state_age: age of the joint state at each tick, s.
    """

    def __init__(self) -> None:
        """Start at nothing."""
        self.ticks = self.sent = self.dropped = self.overruns = self.slips = 0
        self.periods: deque[float] = deque(maxlen=WINDOW)
        self.inference: deque[float] = deque(maxlen=WINDOW)
        self.state_age: deque[float] = deque(maxlen=WINDOW)
        self.busy: deque[float] = deque(maxlen=WINDOW)
        self.handovers: deque[Handover] = deque(maxlen=WINDOW)
        self.counts: Counter[str] = Counter()
        self._last: float | None = None

    def tick(self, now: float) -> None:
        """A tick began."""
        if self._last is not None:
            self.periods.append(now - self._last)
        self._last, self.ticks = now, self.ticks + 1

    @property
    def rate(self) -> float:
        """Ticks per s over the window."""
        total = sum(self.periods)
        return len(self.periods) / total if total > 0 else 0.0

    def slowest(self, count: int = 10) -> float:
        """The longest of the last inferences, s: what the next one is taken to need."""
        return max(list(self.inference)[-count:], default=0.0)
