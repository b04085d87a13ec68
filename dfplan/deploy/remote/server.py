"""Policy server: the network on a workstation, for robots whose own computer runs only the loop. See docs/server.md."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from dfplan.deploy.loop.committed import ACT, CommittedPolicy, History
from dfplan.deploy.loop.inference import doubting
from dfplan.deploy.loop.monitor import Monitor
from dfplan.deploy.remote import wire
from dfplan.deploy.remote.gate import Gate, ServerLimits, guarded
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.serialize import from_dict, to_dict

if TYPE_CHECKING:
    from dfplan.act import ImitationConfig
    from dfplan.train.checkpoint import Checkpoint

LOG = logging.getLogger("dfplan.deploy")

LIMITS = ServerLimits()
_BACKLOG = 4096  # connections that the system keeps until they are accepted: one that finds no place tries again after 1 s
Message = dict[str, Any]


class Session:
    """One robot's policy: the shared network, with settings and noise of its own."""

    def __init__(self, model: Checkpoint, limits: ServerLimits, hello: Mapping[str, Any]) -> None:
        """Set up as the hello asks, and decide once: the first decision is slow; ValueError names the setting."""
        from dfplan.act import Actor, ImitationConfig

        wire.check(hello, config=dict, show=str, monitor=(dict, type(None)), timeout=float)
        for key, value in hello["config"].items():
            if ":" in str(value):  # it would be imported here
                raise ValueError(
                    f"got {key}={value!r}, expected one of the server's own; no module is imported for it"
                )
        config = from_dict(ImitationConfig, ACT | hello["config"], "config")
        _check_calls(config, model.config.horizon, limits.calls)
        self._timeout = hello["timeout"]  # s that the robot waits for an answer
        if not 0 < self._timeout <= 60:
            raise ValueError(f"got timeout={self._timeout}, expected more than 0 s, up to 60")
        self._policy = CommittedPolicy(Actor(model, config), hello["show"])
        self.spec = spec = self._policy.actor.spec
        self._monitor = None if hello["monitor"] is None else Monitor(hello["monitor"])
        if self._monitor is not None:
            self._monitor.check(spec)
        seen, acted, policy = spec.observation_size, spec.action_size, self._policy
        self._shape = wire.Shape(seen, acted, policy.steps, policy.ahead)
        policy.reset(0)
        policy.decide(History(np.zeros((1, seen)), ((),), np.zeros((0, acted))), np.zeros((0, acted)))
        policy.reset(0)

    def welcome(self) -> Message:
        """What the robot is told about the policy."""
        p = self._policy
        return {
            "kind": "welcome", "spec": to_dict(self.spec), "digest": wire.spec_digest(self.spec),
            "stride": p.stride, "steps": p.steps, "ahead": p.ahead, "chunk": p.chunk,
        }  # fmt: skip

    def decide(self, message: Message, received: float) -> Message:
        """Answer a request that came at `received`; ValueError names what is wrong with it."""
        began = time.perf_counter()
        if time.monotonic() - received > self._timeout:
            raise ValueError("the request waited behind other robots until it was too late")
        seed, history, committed = wire.request_in(message, self._shape)
        if seed is not None:
            self._policy.reset(seed)
        monitor = self._monitor
        scores = {} if monitor is None else monitor.scores(self._policy.actor, history)
        doubtful = () if monitor is None else monitor.doubtful(scores)
        actions = self._policy.decide(doubting(history, doubtful), committed)
        return {
            "kind": "actions", "actions": wire.rows_out(actions), "seconds": time.perf_counter() - began,
            "scores": scores, "doubtful": list(doubtful),
        }  # fmt: skip


def _check_calls(config: ImitationConfig, horizon: int, limit: int) -> None:
    """Raise where a decision would take too many network calls, before a matrix is made for them."""
    later = {"full": 0.0, "autoregressive": float(config.steps)}.get(config.schedule, config.uncertainty)
    calls = config.steps + later * horizon
    if not calls <= limit:
        raise ValueError(f"got settings that take up to {calls:g} network calls, this server allows {limit}")


def _weights(model: Checkpoint) -> str:
    """SHA-256 of all numbers of a model: another one after a new training."""
    digest = hashlib.sha256()
    for part in (model.denoiser, model.normalizer):
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


class PolicyServer:
    """Serves one model to robots that hold the token."""

    def __init__(
        self, model: Checkpoint, name: str, token: bytes, limits: ServerLimits = LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """`name`: what robots are told, `tls`: see `tls.shown`, None: no encryption.

        ValueError for a model that is no imitation policy, or a token easy to guess.
        """
        self.model, self.name, self.limits = model, name, limits
        self.weights, self.robots = _weights(model), 0
        self._token, self._gate, self._tls = wire.check_token(token), Gate(limits, token), tls
        hello = {"kind": "hello", "id": 0, "config": {}, "show": "clean", "monitor": None, "timeout": 60.0}
        spec = Session(model, limits, hello).spec
        names = sum(len(t.name.encode()) + 5 for t in spec.tokens)
        row = 8 * (spec.observation_size + 2 * spec.action_size) + names
        self._largest = 8192 + model.config.horizon * spec.stride * row  # bytes of a message
        self._stop: Callable[[], object] = lambda: None

    def run(
        self, host: str = "127.0.0.1", port: int = 8765, ready: Callable[[int], None] = lambda port: None
    ) -> None:
        """Serve until `stop`; OSError where the port is taken.

        0.0.0.0 is for all of this computer's addresses, port 0 for any that is free; `ready` is called with the port
        once robots can connect.
        """
        optional_import("msgpack", "server")
        asyncio.run(self._run(host, port, ready))

    def stop(self) -> None:
        """End `run`; may be called from any thread."""
        self._stop()

    async def _run(self, host: str, port: int, ready: Callable[[int], None]) -> None:
        library: Any = optional_import("websockets.asyncio.server", "server")
        loop, over, limits = asyncio.get_running_loop(), asyncio.Event(), self.limits
        quiet = logging.getLogger("dfplan.deploy.websockets")
        quiet.setLevel(logging.CRITICAL)  # it would write a traceback for every stranger
        with ThreadPoolExecutor(1, "dfplan-inference") as self._pool:
            async with library.serve(
                self._talk, host, port, create_connection=guarded(library.ServerConnection, self._gate, self._tls),
                origins=[None], compression=None, server_header=None, open_timeout=limits.login, close_timeout=1,
                ping_interval=None, max_size=self._largest, max_queue=4, backlog=16, logger=quiet,
            ) as server:  # fmt: skip
                for listening in server.sockets:
                    with (
                        listening.dup() as same
                    ):  # asyncio's own backlog is also how many it accepts before all else
                        same.listen(_BACKLOG)
                self._stop = lambda: loop.call_soon_threadsafe(over.set)
                ready(server.sockets[0].getsockname()[1])
                await over.wait()

    async def _talk(self, connection: Any) -> None:
        """One connection, from the challenge to its end."""
        closed = optional_import("websockets.exceptions", "server").ConnectionClosed
        code, reason, where = 1000, "", connection.remote_address[0]
        try:
            channel, hello = await asyncio.wait_for(self._login(connection), self.limits.login)
            connection.known = True
            self.robots += 1
            try:
                await _Robot(self, connection, channel).serve(hello)
            finally:
                self.robots -= 1
        except closed:
            pass
        except wire.Refused as error:
            code, reason = wire.NO_TOKEN, str(error)
        except wire.OtherVersion as error:
            code, reason = wire.NO_VERSION, str(error)
        except asyncio.TimeoutError:
            code, reason = 1008, "silent for too long"
        except Exception:  # a bug here ends this connection, not the server
            LOG.exception("%s: the connection failed", where)
            code, reason = 1011, "internal error"
        LOG.info("%s left%s", where, f": {reason}" if reason else "")
        await connection.close(code, reason)

    async def _login(self, connection: Any) -> tuple[wire.Channel, bytes]:
        challenge = wire.make_challenge()
        await connection.send(challenge)
        return wire.take_hello(self._token, challenge, await connection.recv())

    async def compute(self, call: Callable[..., Any], *args: object) -> Any:
        """Run where the network is: one decision at a time, in the order they came."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)


class _Robot:
    """A connection that has logged in."""

    def __init__(self, server: PolicyServer, connection: Any, channel: wire.Channel) -> None:
        self._server, self._connection, self._channel = server, connection, channel
        self._session: Session | None = None

    async def serve(self, hello: bytes) -> None:
        """Answer until it goes."""
        await self._answer(hello, self._begin)
        if self._session is None:
            return
        LOG.info("%s logged in, %d now", self._connection.remote_address[0], self._server.robots)
        while True:
            frame = await asyncio.wait_for(self._connection.recv(), self._server.limits.idle)
            await self._answer(self._channel.open(frame), self._work)

    async def _answer(self, payload: bytes, work: Callable[[Message], Awaitable[Message]]) -> None:
        number = 0
        try:
            message = wire.unpack(payload)
            number = message["id"]
            out = {"id": number, **await work(message)}
        except Exception as error:  # whatever was wrong with it, the robot is told and the server goes on
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            out = {"kind": "error", "id": number, "text": text[:1000]}
        sent = self._connection.send(self._channel.seal(wire.pack(out)))
        await asyncio.wait_for(sent, self._server.limits.idle)

    async def _begin(self, message: Message) -> Message:
        one_of("first message", message["kind"], ("hello",))
        server, limits = self._server, self._server.limits
        if server.robots > limits.robots:
            raise ValueError(f"the server has its {limits.robots} robots; end one, or raise its limit")
        self._session = await server.compute(Session, server.model, limits, message)
        assert self._session is not None
        told = {"model": server.name, "weights": server.weights, "idle": float(limits.idle)}
        return {**self._session.welcome(), **told}

    async def _work(self, message: Message) -> Message:
        assert self._session is not None
        if one_of("message", message["kind"], ("decide", "ping")) == "ping":
            wire.check(message)
            return {"kind": "pong"}
        answer: Message = await self._server.compute(self._session.decide, message, time.monotonic())
        return answer
