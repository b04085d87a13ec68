"""What a policy server and a robot say to each other. No sockets here.

    robot -> server   knock: nonce (16 bytes), HMAC-SHA256, in hex, in the header Authorization of the WebSocket's request
    server -> robot   challenge: MAGIC, how many versions, the versions, nonce (32 bytes)
    robot -> server   hello: version (1 byte), nonce (32), then a sealed message
    both ways         sealed messages: HMAC-SHA256 (32 bytes), then a msgpack table

The key of a connection is an HMAC of the shared token over challenge and hello, so the token never travels, the first
sealed message of each side proves that it holds the token, and nothing that was recorded fits another connection.
A knock opens the door once, and shows only that strangers need not be dealt with; it logs nobody in.
Messages are numbered: none can be changed, repeated or left out. Nothing is unpacked before its seal was verified.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import optional_import
from dfplan.tools.serialize import to_dict

if TYPE_CHECKING:
    from dfplan.deploy.loop.committed import History
    from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]

VERSIONS = (2,)
MAGIC = b"dfplan policy\n"
TOKEN = "DFPLAN_TOKEN"
NO_TOKEN = 4401
"""WebSocket close code: the other side does not hold the token."""
NO_VERSION = 4406
"""WebSocket close code: no version in common."""
_NONCE, _SEAL = 32, 32
_KNOCK = re.compile(rb"\r\nauthorization: *dfplan ([0-9a-f]{96})\r\n", re.IGNORECASE)
_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Refused(ValueError):
    """Not authentic: whoever sent it does not hold the token, or it was changed on the way."""


class OtherVersion(ValueError):
    """No version in common."""


def read_token(file: str | os.PathLike[str] | None = None) -> bytes:
    """The token from a file or DFPLAN_TOKEN; ValueError where there is none, it is short, or others may read the file."""
    if file is None:
        text, where = os.environ.get(TOKEN, ""), f"environment variable {TOKEN}"
    else:
        path = Path(file)
        if not path.is_file():
            raise ValueError(f"token file {path} does not exist; make one: {_MAKE_ONE} > {path}")
        if sys.platform != "win32" and path.stat().st_mode & 0o077:
            raise ValueError(f"token file {path} can be read by others; run: chmod 600 {path}")
        text, where = path.read_text(encoding="utf-8"), f"token file {path}"
    return check_token(text.strip().encode(), where)


def check_token(token: bytes, where: str = "token") -> bytes:
    """The token; ValueError for less than 24 bytes, which who listens to a login might guess."""
    if len(token) < 24:
        raise ValueError(
            f"{where}: got a token of {len(token)} characters, expected 24 random ones or more, the same on server and "
            f"robot; make one: {_MAKE_ONE}"
        )
    return token


class Channel:
    """Seals what one side sends and opens what the other did, in order."""

    def __init__(self, key: bytes, mine: bytes, theirs: bytes) -> None:
        """`mine`, `theirs`: what tells the two directions apart, so that no message can be sent back."""
        self._key, self._mine, self._theirs = key, mine, theirs
        self._sent = self._opened = 0

    def _tag(self, way: bytes, number: int, payload: bytes) -> bytes:
        return hmac.digest(self._key, way + number.to_bytes(8, "little") + payload, "sha256")

    def seal(self, payload: bytes) -> bytes:
        """The next message to send."""
        self._sent += 1
        return self._tag(self._mine, self._sent, payload) + payload

    def open(self, frame: object) -> bytes:
        """The payload of the next message received; Refused where its seal is not the one it must have."""
        if not isinstance(frame, bytes) or len(frame) < _SEAL:
            raise Refused("got no sealed message")
        tag, payload = frame[:_SEAL], frame[_SEAL:]
        if not hmac.compare_digest(tag, self._tag(self._theirs, self._opened + 1, payload)):
            raise Refused("the seal of a message is wrong")
        self._opened += 1
        return payload


def _key(token: bytes, challenge: bytes, head: bytes) -> bytes:
    return hmac.digest(token, challenge + head, "sha256")


def make_knock(token: bytes) -> str:
    """What a robot says first, as the value of the header Authorization; never the same twice."""
    nonce = secrets.token_bytes(16)
    return "dfplan " + (nonce + hmac.digest(token, b"dfplan knock\n" + nonce, "sha256")).hex()


def take_knock(token: bytes, head: bytes) -> bytes | None:
    """The nonce of the knock in the head of a request; None where there is none of one who holds the token."""
    found = _KNOCK.search(head)
    knock = bytes.fromhex(found[1].decode()) if found else b""
    nonce, tag = knock[:16], knock[16:]
    return (
        nonce if hmac.compare_digest(tag, hmac.digest(token, b"dfplan knock\n" + nonce, "sha256")) else None
    )


def make_challenge() -> bytes:
    """What a server says first; never the same twice."""
    return MAGIC + bytes([len(VERSIONS), *VERSIONS]) + secrets.token_bytes(_NONCE)


def make_hello(token: bytes, challenge: object, payload: bytes) -> tuple[Channel, bytes]:
    """A robot's answer to the challenge, in the newest version that both know; Refused, or OtherVersion without one."""
    count = challenge[len(MAGIC)] if isinstance(challenge, bytes) and len(challenge) > len(MAGIC) else 0
    size = len(MAGIC) + 1 + count + _NONCE
    if not isinstance(challenge, bytes) or not challenge.startswith(MAGIC) or len(challenge) != size:
        raise Refused("got something else than a policy server's challenge")
    theirs = challenge[len(MAGIC) + 1 : len(MAGIC) + 1 + count]
    common = set(VERSIONS) & set(theirs)
    if not common:
        raise OtherVersion(
            f"the server speaks versions {list(theirs)}, this dfplan {list(VERSIONS)}; install the same dfplan on both"
        )
    head = bytes([max(common)]) + secrets.token_bytes(_NONCE)
    channel = Channel(_key(token, challenge, head), b"robot", b"server")
    return channel, head + channel.seal(payload)


def take_hello(token: bytes, challenge: bytes, frame: object) -> tuple[Channel, bytes]:
    """The server's end, and what the hello said; Refused without the token, OtherVersion for one that was not offered."""
    if not isinstance(frame, bytes) or len(frame) < 1 + _NONCE + _SEAL:
        raise Refused("got no hello")
    if frame[0] not in VERSIONS:
        raise OtherVersion(f"got version {frame[0]}, expected one of {list(VERSIONS)}")
    head = frame[: 1 + _NONCE]
    channel = Channel(_key(token, challenge, head), b"server", b"robot")
    return channel, channel.open(frame[len(head) :])


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    out: bytes = optional_import("msgpack", "server").packb(message)
    return out


def unpack(payload: bytes) -> dict[str, Any]:
    """Bytes -> a message, with a `kind` and an `id`; ValueError for anything else."""
    try:  # the library takes no claimed length that is longer than the payload
        message = optional_import("msgpack", "server").unpackb(payload)
    except Exception as error:  # whatever the parser raises, it is not a message
        raise ValueError(
            f"got {len(payload)} bytes that are not a message ({type(error).__name__})"
        ) from error
    table = message if isinstance(message, dict) else {}
    if type(table.get("kind")) is not str or type(table.get("id")) is not int:
        raise ValueError("got a message without kind or id")
    return table


def check(message: Mapping[str, Any], **types: type | tuple[type, ...]) -> None:
    """Raise where a message has not exactly these fields, of these types."""
    expected = {"kind": str, "id": int, **types}
    if set(message) != set(expected):
        raise ValueError(f"got the fields {str(list(message))[:200]}, expected {list(expected)}")
    for key, kinds in expected.items():
        if type(message[key]) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
            raise ValueError(f"got {key} of type {type(message[key]).__name__}")


def rows_out(rows: Array) -> dict[str, Any]:
    """An array (N, C) for a message."""
    return {"dtype": "<f8", "shape": list(rows.shape), "data": np.ascontiguousarray(rows, "<f8").tobytes()}


def rows_in(value: Any, name: str, count: tuple[int, int], columns: int, finite: bool = True) -> Array:
    """An array (N, C) of a message, N from `count[0]` to `count[1]`; ValueError for anything else, or NaN where `finite`."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data"} or value["dtype"] != "<f8":
        raise ValueError(f"got {name} that is not an array of <f8")
    shape, data = value["shape"], value["data"]
    if not isinstance(shape, list) or len(shape) != 2 or any(type(n) is not int for n in shape):
        raise ValueError(f"got {name} whose shape is not two numbers")
    if not count[0] <= shape[0] <= count[1] or shape[1] != columns:
        raise ValueError(f"got {name} of shape {shape}, expected {count[0]} to {count[1]} rows of {columns}")
    if type(data) is not bytes or len(data) != 8 * shape[0] * shape[1]:
        raise ValueError(f"got {name} whose bytes do not fill its shape {shape}")
    rows = np.frombuffer(data, "<f8").reshape(shape).astype(np.float64)
    if finite and not np.isfinite(rows).all():
        raise ValueError(f"got {name} with NaN or infinity")
    return rows


@dataclass(frozen=True)
class Shape:
    """What limits a decision: O, A, the longest history, and the env steps from the present to the window's end."""

    observations: int
    actions: int
    steps: int
    ahead: int


def request_out(number: int, reset: int | None, history: History, committed: Array) -> dict[str, Any]:
    """A robot's question; `reset`: begin anew with that seed."""
    return {
        "kind": "decide", "id": number, "reset": reset, "observations": rows_out(history.observations),
        "doubtful": [list(row) for row in history.doubtful], "done": rows_out(history.done),
        "committed": rows_out(committed), "since": history.since,
    }  # fmt: skip


def request_in(message: Mapping[str, Any], shape: Shape) -> tuple[int | None, History, Array]:
    """Seed or None, history (NaN passes: the policy refuses it where it is trusted), committed actions; or ValueError."""
    from dfplan.deploy.loop.committed import History  # with torch, which a robot need not have

    whole = (int, type(None))
    check(message, reset=whole, observations=dict, doubtful=list, done=dict, committed=dict, since=whole)
    seed, doubtful, since = message["reset"], message["doubtful"], message["since"]
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"got reset={seed}, expected a seed of 0 or more")
    seen = rows_in(
        message["observations"], "observations", (1, shape.steps), shape.observations, finite=False
    )
    if since is not None and not len(seen) - 1 <= since < 2**31:
        raise ValueError(f"got since={since} with {len(seen)} observations, expected {len(seen) - 1} or more")
    done = rows_in(message["done"], "done", (len(seen) - 1, len(seen) - 1), shape.actions)
    committed = rows_in(message["committed"], "committed", (0, shape.ahead - 1), shape.actions)
    if len(doubtful) != len(seen) or any(
        type(row) is not list or len(row) > shape.observations or any(type(name) is not str for name in row)
        for row in doubtful
    ):
        raise ValueError(f"got doubtful that is not {len(seen)} lists of token names")
    return seed, History(seen, tuple(tuple(row) for row in doubtful), done, since), committed


def spec_digest(spec: TrajectorySpec) -> str:
    """SHA-256 of what a model's numbers mean: the same here and there, or the two dfplan differ."""
    return hashlib.sha256(json.dumps(to_dict(spec), sort_keys=True).encode()).hexdigest()
