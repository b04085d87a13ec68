"""At the door of a policy server: what anyone may ask of it before and after a login."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("dfplan.deploy")

_BEFORE_LOGIN = 65_536  # bytes: what a connection may send before it has logged in
_WINDOW = 60.0  # s over which failed logins are counted
_ADDRESSES = 1000  # whose failed logins are remembered


@dataclass(frozen=True)
class ServerLimits:
    """What anyone may ask of a policy server.

    Attributes:
        robots: logged in at a time.
        waiting: connections at a time that have not logged in; more are dropped.
        login: s in which a connection must have logged in.
        idle: s of silence after which a robot is taken for gone.
        failures: connections without a login, per address and minute, after which the address is dropped for a while.
        calls: network calls that a decision may take.
    """

    robots: int = 4
    waiting: int = 32
    login: float = 5.0
    idle: float = 15.0
    failures: int = 20
    calls: int = 500

    def __post_init__(self) -> None:
        for name in ("robots", "waiting", "login", "idle", "failures", "calls"):
            if not getattr(self, name) > 0:
                raise ValueError(f"got {name}={getattr(self, name)}, expected more than 0")


class Gate:
    """Who may try to log in: so many at a time, and nobody who has failed too often."""

    def __init__(self, limits: ServerLimits, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: a clock, s."""
        self.limits, self.waiting, self._now = limits, 0, now
        self._failed: dict[str, deque[float]] = {}

    def enter(self, address: str) -> bool:
        """Whether a new connection is let in."""
        failed = self._failed.get(address) or deque[float]()
        often = len(failed) == self.limits.failures and self._now() - failed[0] < _WINDOW
        if often or self.waiting >= self.limits.waiting:
            return False
        self.waiting += 1
        return True

    def leave(self, address: str, failed: bool) -> None:
        """A connection that was let in has logged in, or `failed` to."""
        self.waiting -= 1
        if not failed:
            return
        times = self._failed.pop(address, deque(maxlen=self.limits.failures))
        times.append(self._now())
        self._failed[address] = times
        if len(times) == self.limits.failures:
            LOG.warning("%s failed to log in %d times; dropped for up to a minute", address, len(times))
        if len(self._failed) > _ADDRESSES:
            del self._failed[next(iter(self._failed))]


def guarded(server_connection: Any, gate: Gate) -> Any:
    """A kind of `websockets.asyncio.server.ServerConnection` that the gate lets in, and that sends little before a login."""

    class Connection(server_connection):  # type: ignore[misc]  # websockets is an extra: its class is an argument
        address, received, admitted, known = "", 0, False, False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.address = str((transport.get_extra_info("peername") or ("",))[0])
            self.admitted = gate.enter(self.address)
            if not self.admitted:
                transport.abort()

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            if self.known or self.received <= _BEFORE_LOGIN:
                super().data_received(data)
            else:  # whatever it is made of: headers, pings, fragments
                self.transport.abort()

        def log_in(self) -> None:
            self.known = True
            gate.leave(self.address, failed=False)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.admitted and not self.known:
                gate.leave(self.address, failed=True)

    return Connection
