"""One WebSocket connection to rosbridge that drops what is late instead of keeping it."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: written bytes cannot be counted there
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)
_FRAME = 14
"""Bytes that a WebSocket frame adds at most."""
_TIOCOUTQ = 0x5411
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
_STARTING = threading.Lock()
_REACTOR: list[threading.Thread] = []


class Wire:
    """A connection: writes in the reactor's thread, and cuts itself where written bytes do not arrive."""

    def __init__(self, protocol: Any, stall: float) -> None:
        """Take over an open connection.

        Args:
            protocol: roslibpy's protocol, in the reactor's thread.
            stall: longest time that bytes may be unacknowledged, s.
        """
        reactor: Any = import_module("twisted.internet.reactor")
        self._protocol, self._stall, self._reactor = protocol, stall, reactor
        self._gone: Any = import_module("autobahn.exception").Disconnected
        self._open, self._waiting = True, 0
        self._sent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        handle = protocol.transport.getHandle()
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            handle.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, max(1, round(1000 * stall)))
        except OSError:  # not on Linux: `_stalled` is what remains
            pass
        self._handle = handle

    def open(self) -> bool:
        """Whether it can be written to."""
        return self._open

    def end(self, _: Any = None) -> None:
        """It is closed."""
        self._open = False

    def post(self, payload: bytes, late: Callable[[], bool]) -> bool:
        """From any thread: write `payload` soon, unless `late()` by then. False where the reactor is far behind."""
        with self._lock:
            if self._waiting > 50:
                return False
            self._waiting += 1
        self._reactor.callFromThread(self._posted, payload, late)
        return True

    def _posted(self, payload: bytes, late: Callable[[], bool]) -> None:
        with self._lock:
            self._waiting -= 1
        self.write(payload, late)

    def write(self, payload: bytes, late: Callable[[], bool]) -> None:
        """In the reactor's thread: write now or never."""
        if not self._open or late():
            return
        if self._stalled():
            self.cut()
            return
        self._sent.append((time.perf_counter(), len(payload) + _FRAME))
        try:
            self._protocol.sendMessage(payload, False)
        except self._gone:  # the other side has closed it, and that has not been said yet
            self._open = False

    def _stalled(self) -> bool:
        """Whether more is unacknowledged than was written in the last `stall` s."""
        recent = time.perf_counter() - self._stall
        while self._sent and self._sent[0][0] < recent:
            self._sent.popleft()
        if fcntl is None:
            return False
        try:
            waiting = struct.unpack("i", fcntl.ioctl(self._handle.fileno(), _TIOCOUTQ, b"\0" * 4))[0]
        except (OSError, ValueError):
            return True
        transport = self._protocol.transport
        waiting += len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
        waiting += getattr(transport, "_tempDataLen", 0)
        return bool(waiting > sum(size for _, size in self._sent))

    def cut(self) -> None:
        """Break the connection off: what was not delivered never is."""
        self._open = False
        self._protocol.transport.abortConnection()

    def leave(self) -> None:
        """From any thread: close it politely."""
        self._open = False
        self._reactor.callFromThread(self._protocol.send_close)

    def ask(self, goal: Mapping[str, Any], finished: Callable[[Any], None], late: Callable[[], bool]) -> bool:
        """From any thread: send an action goal soon, unless `late()` by then; `finished` is called with its result."""
        if not self._open:
            return False
        request = json.loads(as_json(goal))

        def send() -> None:
            if self._open and not late():
                self._protocol.send_ros_action_goal(request, finished, lambda _: None, finished)

        self._reactor.callFromThread(send)
        return True


def outspoken(protocol: Any, unknown: type[Exception]) -> Any:
    """roslibpy's protocol, that logs what it has no handler for, such as what the server says of itself."""

    class Outspoken(protocol):  # type: ignore[misc]
        def on_message(self, payload: bytes) -> None:
            try:
                super().on_message(payload)
            except unknown:
                _LOG.warning("rosbridge says %s", payload.decode(errors="replace"))

    return Outspoken


def start_reactor() -> None:
    """Run the reactor in a daemon thread, with its messages logged: once in a process, whoever asks first."""
    reactor: Any = import_module("twisted.internet.reactor")
    with _STARTING:
        if reactor.running or _REACTOR:
            return
        import_module("twisted.python.log").PythonLoggingObserver().start()
        _REACTOR.append(threading.Thread(target=reactor.run, args=(False,), name="rosbridge", daemon=True))
        _REACTOR[0].start()


def run_in_reactor(call: Callable[[], Any]) -> None:
    """Have the reactor's thread call something; what it raises is logged there."""
    import_module("twisted.internet.reactor").callFromThread(call)


def as_json(request: Mapping[str, Any]) -> bytes:
    """A request in rosbridge's JSON."""
    return json.dumps(request, default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"got {type(value).__name__} in a ROS message, expected numbers, text, lists and tables")


def ros1_fields(fields: Any) -> Any:
    """A table with ROS 1's names of times."""
    if isinstance(fields, Mapping):
        if set(fields) == {"sec", "nanosec"}:
            return {"secs": fields["sec"], "nsecs": fields["nanosec"]}
        return {key: ros1_fields(value) for key, value in fields.items()}
    return [ros1_fields(row) for row in fields] if isinstance(fields, list) else fields
