"""One WebSocket connection to rosbridge that drops what is late instead of keeping it."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from dfplan.tools.errors import optional_import

if sys.platform == "linux":
    import fcntl

_FRAME = 14
"""Bytes that a WebSocket frame adds at most."""
_TIOCOUTQ = 0x5411


class Wire:
    """A connection: what it takes is written at once, and where written bytes do not arrive it is cut.

    Closed in whatever way, it leaves nothing in the kernel that could be delivered later.
    """

    def __init__(self, host: str, port: int, stall: float) -> None:
        """Connect; bytes may be unacknowledged for `stall` s. Without a server OSError or WebSocketException."""
        client: Any = optional_import("websockets.sync.client", "ros")
        self._broken = optional_import("websockets.exceptions", "ros").WebSocketException
        self._stall, self._socket = stall, socket.create_connection((host, port), 2.0)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if sys.platform == "linux":
            whole, part = divmod(round(1e6 * stall), 1_000_000)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", whole, part))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(1000 * stall)))
        self.connection: Any = client.connect(
            f"ws://{host}:{port}", sock=self._socket, compression=None, max_size=None,
            open_timeout=2.0, close_timeout=0.5,
        )  # fmt: skip
        self._sent: deque[tuple[float, int]] = deque()
        self._lock, self.open = threading.Lock(), True

    def write(self, payload: str) -> bool:
        """Write now, from any thread; False where it is closed, or was cut because it stalls."""
        with self._lock:
            if not self.open:
                return False
            if self._stalled():
                self.cut()
                return False
            self._sent.append((time.perf_counter(), len(payload) + _FRAME))
        try:
            self.connection.send(payload)
        except (OSError, self._broken):  # the other side has closed it, and that has not been said yet
            self.open = False
        return self.open

    def _stalled(self) -> bool:
        """Whether more is unacknowledged than was written in the last `stall` s; not known but on Linux."""
        recent = time.perf_counter() - self._stall
        while self._sent and self._sent[0][0] < recent:
            self._sent.popleft()
        if sys.platform != "linux":
            return False
        try:
            waiting = struct.unpack("i", fcntl.ioctl(self._socket.fileno(), _TIOCOUTQ, b"\0" * 4))[0]
        except (OSError, ValueError):
            return True
        return bool(waiting > sum(size for _, size in self._sent))

    def cut(self) -> None:
        """Break the connection off: whoever reads it sees its end, and closes it."""
        self.open = False
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:  # it is closed already
            pass


def as_json(request: Mapping[str, Any]) -> str:
    """A request in rosbridge's JSON, in ASCII."""
    return json.dumps(request, default=_plain, allow_nan=False)


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
