"""The robot's end of a policy server: one connection, and the policy behind it."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.remote import tls, wire
from dfplan.spec import TrajectorySpec
from dfplan.tools.errors import finite_above_zero, optional_import
from dfplan.tools.serialize import from_dict, to_dict

if TYPE_CHECKING:
    from dfplan.act import ImitationConfig
    from dfplan.deploy.loop.committed import History
    from dfplan.deploy.loop.monitor import Monitor

Array = NDArray[np.float64]

_LOGIN = 30.0  # s: the server decides once before it answers, and may have to wait for other robots
_LARGEST = 2**20  # bytes of an answer


@dataclass(frozen=True)
class Remote:
    """A policy that a `dfplan serve` elsewhere runs; takes the place of a policy's name in `deploy`.

    Attributes:
        address: such as `ws://192.168.1.20:8765`, or `wss://` where TLS encrypts the way.
        token: the shared secret, see `wire.read_token`; empty: from the environment variable DFPLAN_TOKEN.
        model: what the server must call its model; empty: any that fits the mapping.
        timeout: s without an answer after which the server is taken for dead.
        ca: PEM file of the certificates that are trusted with `wss://`; None: those that the system trusts.
    """

    address: str
    token: bytes = field(default=b"", repr=False)
    model: str = ""
    timeout: float = 2.0
    ca: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be an address or a time; ValueError names it."""
        url = urlsplit(self.address)
        if url.scheme not in ("ws", "wss") or not url.hostname:
            raise ValueError(
                f"got server '{self.address}', expected an address such as ws://192.168.1.20:8765"
            )
        finite_above_zero(self, "timeout", most=60)
        if self.ca is not None and url.scheme == "ws":
            raise ValueError(f"got ca {self.ca} for '{self.address}', expected an address with wss://")
        object.__setattr__(self, "token", wire.check_token(self.token) if self.token else wire.read_token())


class RemotePolicy:
    """A server's policy with the methods of a `CommittedPolicy`. Not for several threads, but for `close`.

    Attributes:
        spec: what the model's numbers mean.
        stride, steps, ahead, chunk: as of `CommittedPolicy`.
        scores: of the monitor, at the last decision.
        doubtful: what the monitor had left out of it.
        seconds: how long the server took for it; the rest of the time was the way there and back.
    """

    def __init__(
        self, remote: Remote, config: ImitationConfig | None = None, monitor: Monitor | None = None,
        show: str = "clean",
    ) -> None:  # fmt: skip
        """Connect; ConnectionError where there is no server, or one with another token, ValueError for what it refuses."""
        self._remote = remote
        self._hello = {
            "kind": "hello", "id": 0, "config": {} if config is None else to_dict(config), "show": show,
            "monitor": None if monitor is None else {k: dict(v) for k, v in monitor.thresholds.items()},
            "timeout": float(remote.timeout),
        }  # fmt: skip
        self._client: Any = optional_import("websockets.sync.client", "server")
        optional_import("msgpack", "server")
        self._broken = (OSError, optional_import("websockets.exceptions", "server").WebSocketException)
        self._tls = tls.trusting(remote.ca) if urlsplit(remote.address).scheme == "wss" else None
        self._socket: Any = None
        self._accepted = False
        self._reset: int | None = None
        self._welcome: dict[str, Any] = {}
        self.scores, self.doubtful, self.seconds = dict[str, float](), tuple[str, ...](), 0.0
        self.connect()

    def connect(self) -> None:
        """Connect, the first time or again; a server whose policy has changed meanwhile is refused."""
        self._accepted = False
        self.close()
        self._number, self._reset = 0, None
        try:
            self._socket = self._dial()
            challenge = self._socket.recv(5.0)
            self._channel, frame = wire.make_hello(self._remote.token, challenge, wire.pack(self._hello))
            self._socket.send(frame)
            self._accept(self._receive(0, _LOGIN))
            self._accepted = True
        except BaseException as error:
            self.close()
            if isinstance(error, (*self._broken, wire.Refused)):
                raise ConnectionError(f"{self._remote.address} {self._why(error)}") from error
            raise

    def _dial(self) -> Any:
        url = urlsplit(self._remote.address)
        port = url.port or (443 if url.scheme == "wss" else 80)
        # a socket of our own: no proxy from the environment between robot and policy
        plain = socket.create_connection((url.hostname or "", port), 5.0)
        return ExitStack().enter_context(self._client.connect(
            self._remote.address, sock=plain, ssl=self._tls, compression=None, user_agent_header=None, open_timeout=5.0,
            close_timeout=0.2, max_size=_LARGEST, logger=logging.getLogger("dfplan.deploy.websockets"),
            additional_headers={"Authorization": wire.make_knock(self._remote.token)},
        ))  # fmt: skip

    def _why(self, error: Exception) -> str:
        """What a failed login means."""
        code = getattr(getattr(error, "rcvd", None), "code", 0)
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if code == wire.NO_TOKEN or status == 401 or isinstance(error, wire.Refused):
            return "does not hold the same token; give both the same DFPLAN_TOKEN"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"shows a certificate that is not trusted ({error.verify_message}); give its file, or that of the CA that "
                "signed it, as ca, and an address that the certificate names"
            )
        if isinstance(error, ssl.SSLError):
            return f"does not speak TLS ({error.reason}); give `dfplan serve` --tls, or this robot an address with ws://"
        if isinstance(error, (ConnectionRefusedError, TimeoutError, socket.gaierror)):
            return f"is no policy server ({error}); start one there with `dfplan serve`"
        return f"did not log this robot in ({error}); where it was started with --tls, its address begins with wss://"

    def _accept(self, welcome: dict[str, Any]) -> None:
        where, integers = self._remote.address, ("stride", "steps", "ahead", "chunk")
        texts = dict.fromkeys(("model", "weights", "digest"), str)
        wire.check(welcome, spec=dict, idle=float, **texts, **dict.fromkeys(integers, int))
        if self._welcome not in ({}, welcome):
            raise ValueError(f"{where}: the policy there is another one now; start again to use it")
        if self._remote.model not in ("", welcome["model"]):
            raise ValueError(f"{where} serves '{welcome['model']}', expected '{self._remote.model}'")
        self.spec = from_dict(TrajectorySpec, welcome["spec"], f"{where}: spec")
        if wire.spec_digest(self.spec) != welcome["digest"]:
            raise ValueError(f"{where}: its model is not understood here; install the same dfplan on both")
        self.stride, self.steps, self.ahead, self.chunk = (welcome[name] for name in integers)
        if self.spec.stride != self.stride or min(self.steps, self.chunk, self.ahead - self.chunk + 1) < 1:
            raise ValueError(f"{where}: got {[welcome[name] for name in integers]} for {list(integers)}")
        self.beat, self._welcome = min(1.0, welcome["idle"] / 3), welcome

    @property
    def connected(self) -> bool:
        """Whether the login was accepted and the connection stands, as far as is known without asking."""
        return self._accepted and bool(self._socket.protocol.state.name == "OPEN")

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to a message; without one in time the connection is closed."""
        if not self._accepted:
            raise ConnectionError(f"{self._remote.address} is not connected")
        self._number += 1
        try:
            self._socket.send(self._channel.seal(wire.pack({**message, "id": self._number})))
            return self._receive(self._number, self._remote.timeout)
        except (*self._broken, wire.Refused) as error:
            self.close()
            raise ConnectionError(
                f"{self._remote.address} is gone ({error or 'no answer in time'})"
            ) from error

    def _receive(self, number: int, seconds: float) -> dict[str, Any]:
        """The answer to message `number`; answers to others are dropped."""
        end = time.monotonic() + seconds
        while True:
            frame = self._socket.recv(max(0.0, end - time.monotonic()))
            answer = wire.unpack(self._channel.open(frame))
            if answer["kind"] == "error" and answer["id"] in (0, number):
                raise ValueError(f"{self._remote.address}: {answer.get('text')}")
            if answer["id"] == number:
                return answer

    def ping(self) -> None:
        """Show that this robot is there, and see that the server is; ConnectionError where it is not."""
        wire.check(self._ask({"kind": "ping"}))

    def reset(self, seed: int | None = 0) -> None:
        """Begin anew at the next decision; the same seed draws the same noise."""
        self._reset = seed

    def decide(self, history: History, committed: Array) -> Array:
        """The actions (M, A) that follow the committed ones (C, A).

        ConnectionError where no answer came in time (the connection is closed), ValueError where it is a refusal.
        """
        reset, self._reset = self._reset, None
        answer = self._ask(wire.request_out(0, reset, history, committed))
        wire.check(answer, actions=dict, seconds=float, scores=dict, doubtful=list)
        names = [t.name for t in self.spec.tokens]
        if any(type(v) is not float for v in answer["scores"].values()) or any(
            name not in names for name in [*answer["scores"], *answer["doubtful"]]
        ):
            raise ValueError(f"{self._remote.address}: got scores of other tokens than {names}")
        self.scores, self.doubtful = answer["scores"], tuple(answer["doubtful"])
        self.seconds = answer["seconds"]
        most = self.ahead + self.steps - 1  # a short history leaves more of the window
        return wire.rows_in(answer["actions"], "actions", (1, most), self.spec.action_size)

    def close(self) -> None:
        """Disconnect; may be repeated, from any thread."""
        if self._socket is not None:
            self._socket.close()
