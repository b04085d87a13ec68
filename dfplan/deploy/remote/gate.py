"""At the door of a policy server: strangers wait outside, who knocks with the token is let in."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dfplan.deploy.remote import wire
from dfplan.tools.errors import finite_above_zero

_BEFORE_LOGIN = 65_536  # bytes: what a connection may send before it has logged in
_HEAD = 8192  # bytes of a request in which the knock must be
_KNOCKS = 100_000  # that are remembered, so that none opens twice
_NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class ServerLimits:
    """What anyone may ask of a policy server.

    Attributes:
        robots: logged in at a time.
        waiting: connections at a time that have not shown that they hold the token; when there are more, the address
            that has most of them loses its oldest.
        login: s in which a connection must have logged in.
        idle: s of silence after which a robot is taken for gone.
        calls: network calls that a decision may take.
    """

    robots: int = 4
    waiting: int = 256
    login: float = 5.0
    idle: float = 15.0
    calls: int = 500

    def __post_init__(self) -> None:
        finite_above_zero(self, "robots", "waiting", "login", "idle", "calls")


class Gate:
    """Who waits outside, and who may come in. No address is ever shut out: a robot may share it with strangers."""

    def __init__(self, limits: ServerLimits, token: bytes) -> None:
        self.limits, self._token, self.count = limits, token, 0
        self._waiting: dict[str, dict[Any, None]] = {}  # address -> its connections, the oldest first
        self._used: dict[bytes, None] = {}

    def enter(self, connection: Any) -> None:
        """A connection waits from now on. Where there is no place left, another one is aborted for it."""
        self._waiting.setdefault(connection.address, {})[connection] = None
        self.count += 1
        if self.count > self.limits.waiting:
            most = max(self._waiting, key=lambda address: len(self._waiting[address]))
            oldest = next(iter(self._waiting[most]))
            self.leave(oldest)
            oldest.abort()

    def leave(self, connection: Any) -> None:
        """A connection waits no longer; may be repeated."""
        same = self._waiting.get(connection.address, {})
        if connection in same:
            del same[connection]
            self.count -= 1
            if not same:
                del self._waiting[connection.address]

    def opens(self, head: bytes) -> bool:
        """Whether a request's head has a knock of one who holds the token, which has not opened before."""
        nonce = wire.take_knock(self._token, head)
        if nonce is None or nonce in self._used:
            return False
        self._used[nonce] = None
        if len(self._used) > _KNOCKS:
            del self._used[next(iter(self._used))]
        return True


class Door(asyncio.Protocol):
    """A connection until it knocked. What strangers send reaches neither the WebSocket library nor the challenge."""

    def __init__(self, gate: Gate, tls: ssl.SSLContext | None, make: Callable[[], Any]) -> None:
        """`make`: what takes over once it knocked."""
        self._gate, self._tls, self._make, self._head = gate, tls, make, b""
        self._loop = asyncio.get_running_loop()
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait."""
        self._plain, self.address = transport, str((transport.get_extra_info("peername") or ("",))[0])
        self._gate.enter(self)
        self._timer = self._loop.call_later(self._gate.limits.login, self.abort)
        if self._tls is None:
            self._line = transport
        else:  # here and not in the listening socket: who never ends the handshake waits, too
            self._task = self._loop.create_task(self._encrypt(self._tls))

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            self._line = await self._loop.start_tls(
                self._plain, self, tls, server_side=True, ssl_handshake_timeout=self._gate.limits.login
            )
        if self._line is None:
            self.connection_lost(None)  # nobody else says so
        else:
            self.data_received(b"")  # some may have come meanwhile

    def data_received(self, data: bytes) -> None:
        """Look for the knock as soon as the head of the request is there."""
        head = self._head = self._head + data
        more = head[:4] == b"GET "[: len(head)] and b"\r\n\r\n" not in head and len(head) < _HEAD
        if len(head) > _BEFORE_LOGIN:
            self.abort()
        elif more or self._line is None or self._line.is_closing():
            return
        elif self._gate.opens(head):
            self.connection_lost(None)
            connection = self._make()
            self._line.set_protocol(connection)
            connection.connection_made(self._line)
            connection.data_received(head)
        else:
            self._line.write(_NO)
            self._line.close()  # it waits on until that is done

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._timer.cancel()
        self._gate.leave(self)

    def abort(self) -> None:
        """End it, and do not wait for the other side."""
        self._plain.abort()


def guarded(server_connection: Any, gate: Gate, tls: ssl.SSLContext | None) -> Callable[..., Door]:
    """Makes a `websockets.asyncio.server.ServerConnection` once a connection knocked; it takes little before a login."""

    class Connection(server_connection):  # type: ignore[misc]  # websockets is an extra: its class is an argument
        received, known = 0, False

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            if self.known or self.received <= _BEFORE_LOGIN:
                super().data_received(data)
            else:  # whatever it is made of: headers, pings, fragments
                self.transport.abort()

    return lambda *args, **options: Door(gate, tls, partial(Connection, *args, **options))
