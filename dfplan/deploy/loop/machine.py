"""The state machine: what may be sent, and who must agree before the arm moves again."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dfplan.tools.clock import Clock

LOG = logging.getLogger("dfplan.deploy")

DISARMED, READY, RUNNING, HOLD, FAULT = ("DISARMED", "READY", "RUNNING", "HOLD", "FAULT")
"""DISARMED: nothing is sent; not everything that is needed is there, or the connection was lost.
READY: nothing is sent; everything is there and fresh, and `arm` is accepted.
RUNNING: the policy drives.
HOLD: the arm was stopped and stands; `arm` is accepted while everything is fresh.
FAULT: something that a person must look at; `stop` acknowledges it, then it is DISARMED."""


@dataclass(frozen=True)
class Change:
    """One change of state, at `time` s on the loop's clock."""

    time: float
    old: str
    new: str
    reason: str


class Machine:
    """States and their changes; may be called from any thread.

    Nothing but `arm` ever leads to RUNNING.

    Attributes:
        changes: the last 1,000.
        run: counts up each time it is armed.
    """

    def __init__(self, clock: Clock, settle: float = 1.0) -> None:
        """`settle`: everything must have been fresh for so long before READY, s."""
        self._clock, self._settle = clock, settle
        self._lock = threading.RLock()
        self._state, self._reason = DISARMED, "just started"
        self._since: float | None = None
        self._missing = "nothing received yet"
        self.changes: deque[Change] = deque(maxlen=1000)
        self.run = 0

    @property
    def state(self) -> str:
        """The state now."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is in that state; while DISARMED, what is missing."""
        with self._lock:
            return self._missing or self._reason if self._state == DISARMED else self._reason

    def _to(self, new: str, reason: str) -> None:
        if new == self._state:
            return
        self.changes.append(Change(self._clock.now(), self._state, new, reason))
        level = logging.WARNING if new in (HOLD, FAULT) else logging.INFO
        LOG.log(level, "%s -> %s: %s", self._state, new, reason)
        self._state, self._reason = new, reason

    def arm(self, unfit: Callable[[], str] = str) -> tuple[bool, str]:
        """READY or HOLD -> RUNNING, unless `unfit()` says why not; whether it was done, and why not."""
        with self._lock:
            if self._state == RUNNING:
                return True, "already running"
            if self._state == FAULT:
                return False, f"fault: {self._reason}; look at the arm, then stop to acknowledge, then arm"
            if self._missing or self._since is None or not self._settled():
                return False, f"not ready: {self._missing or 'readings are not yet fresh for long enough'}"
            if flaw := unfit():
                return False, f"not ready: {flaw}"
            self.run += 1
            self._to(RUNNING, "armed")
            return True, "running"

    def stop(self, reason: str = "stop was asked for") -> tuple[bool, str]:
        """RUNNING -> HOLD; acknowledges a FAULT. Always done."""
        with self._lock:
            if self._state in (FAULT, READY):
                self._since = None
                self._to(DISARMED, "fault acknowledged" if self._state == FAULT else reason)
            self.hold(reason)
            return True, self._state

    def hold(self, reason: str) -> None:
        """RUNNING -> HOLD, by a watchdog or the monitor."""
        with self._lock:
            if self._state == RUNNING:
                self._to(HOLD, reason)

    def halt(self, reason: str) -> None:
        """RUNNING -> HOLD, READY -> DISARMED: as `stop`, but that a fault stays."""
        with self._lock:
            if self._state != FAULT:
                self.stop(reason)

    def fault(self, reason: str) -> None:
        """Any state -> FAULT."""
        with self._lock:
            self._to(FAULT, reason)

    def lost(self, reason: str) -> None:
        """The connection was lost: anything but FAULT -> DISARMED."""
        with self._lock:
            self._since, self._missing = None, reason
            if self._state != FAULT:
                self._to(DISARMED, reason)

    def update(self, missing: str) -> None:
        """Told at every tick what is missing for moving, or nothing."""
        with self._lock:
            self._missing = missing
            if not missing:
                self._since = self._clock.now() if self._since is None else self._since
                if self._state == DISARMED and self._settled():
                    self._to(READY, "everything is fresh")
                return
            self._since = None
            self.hold(missing)
            if self._state == READY:
                self._to(DISARMED, missing)

    def _settled(self) -> bool:
        return self._since is not None and self._clock.now() - self._since >= self._settle - 1e-9
