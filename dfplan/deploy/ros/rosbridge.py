"""rosbridge, for ROS 1 robots, containers and other machines: the same behaviour over a WebSocket (roslibpy).

roslibpy keeps what is published without a connection and sends it all when the connection is back. So nothing is
published through it: each message is written in the reactor's thread, on the connection that was there when it was
handed over, if it has not expired and if the connection still moves; else it is dropped. A connection that leaves
bytes unacknowledged for too long is cut, so that no kernel queue delivers them later.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.ros.bus import Heard, Publish, Trigger
from dfplan.deploy.ros.messages import CLOCK, FOLLOW, TRIGGER, seconds, take
from dfplan.deploy.ros.transport import RosTransport
from dfplan.deploy.ros.wire import Wire, as_json, outspoken, ros1_fields, run_in_reactor, start_reactor
from dfplan.tools.errors import optional_import

_RETRY = 0.2, 1.0
"""First and longest wait before connecting again, s."""


class RosbridgeBus:
    """A client of a rosbridge server. Declares everything again each time the connection is made."""

    def __init__(
        self,
        node: str,
        *,
        host: str = "127.0.0.1",
        port: int = 9090,
        ros1: bool = False,
        use_sim_time: bool = False,
        stall: float = 0.2,
    ) -> None:
        """Prepare; connects in `open`.

        Args:
            node: name in front of what begins with `~/`.
            host: of the server.
            port: of the server.
            ros1: the server belongs to ROS 1.
            use_sim_time: take the time from /clock.
            stall: cut a connection that leaves bytes unacknowledged for so long, s.

        Raises:
            ImportError: roslibpy is not installed.
        """
        self._transports = optional_import("roslibpy.comm", "ros")
        self._node, self._host, self._port, self._ros1 = node, host, port, ros1
        self._stall, self._sim = stall, use_sim_time
        self._factory: Any = None
        self._wire: Wire | None = None
        self._setup: list[dict[str, Any]] = []
        self._listen: list[tuple[str, Callable[[Any], None]]] = []
        self._connections, self._clock, self._closed = 0, math.nan, False
        self._goals: dict[str, tuple[str, Callable[[bool, str], None]]] = {}
        self._lock = threading.Lock()
        if use_sim_time:
            self.subscribe("/clock", CLOCK, self._tick)

    def advertise(
        self, topic: str, message: str, *, latched: bool = False, lifespan: float = 0.0, command: bool = False
    ) -> Publish:
        """Declare a topic that is written; it is never queued, whatever `lifespan`."""
        del lifespan, command
        name = self._name(topic)
        self._setup.append(
            {"op": "advertise", "topic": name, "type": self._type(message), "latch": latched, "queue_size": 1}
        )

        def publish(fields: Mapping[str, Any], expires: float) -> bool:
            return self._write({"op": "publish", "topic": name, "msg": self._fields(fields)}, expires)

        return publish

    def subscribe(
        self, topic: str, message: str, heard: Heard, *, latched: bool = False, rate: float = 0.0
    ) -> None:
        """Declare a topic that is read: a queue of one at the server, which thins it out to about `rate`."""
        del latched
        name = self._name(topic)
        request = {"op": "subscribe", "topic": name, "type": self._type(message), "queue_length": 1}
        # A little less than the time between two messages, or jitter would cost every other one.
        self._setup.append({**request, "throttle_rate": int(800 / rate) if rate else 0})
        self._listen.append((name, lambda fields: heard(fields, time.perf_counter())))

    def serve(self, name: str, handler: Trigger) -> None:
        """Declare a Trigger service."""
        service = self._name(name)
        self._setup.append({"op": "advertise_service", "service": service, "type": self._type(TRIGGER)})

        def answer(request: Any) -> None:
            success, text = handler()
            reply = {"op": "service_response", "service": service, "result": True}
            values = {"success": success, "message": text}
            self._write({**reply, "id": request.get("id"), "values": values}, math.inf)

        self._listen.append((service, answer))

    def follow(self, action: str, goal: Mapping[str, Any], done: Callable[[bool, str], None]) -> bool:
        """Send a goal through a ROS 2 server; ROS 1 servers know no actions."""
        if self._ros1 or not self.connected():
            done(False, "actions need a connected rosbridge server of ROS 2")
            return False
        number = f"goal:{action}:{time.monotonic_ns()}"
        args = self._fields({"trajectory": goal})
        request = {
            "op": "send_action_goal",
            "id": number,
            "action": action,
            "action_type": FOLLOW,
            "args": args,
        }

        def finished(result: Any) -> None:
            with self._lock:
                known = self._goals.pop(number, None)
            if known is not None:
                status = result.get("status", 0)
                done(getattr(status, "value", status) == 4, str(result.get("values", "")))

        with self._lock:
            self._goals[number] = action, done
        wire, expires = self._wire, self.now() + self._stall
        return wire is not None and wire.ask(request, finished, lambda: not self.now() <= expires)

    def cancel(self) -> None:
        """Cancel all goals that were sent."""
        with self._lock:
            goals = list(self._goals.items())
        for number, (action, _) in goals:
            self._write({"op": "cancel_action_goal", "id": number, "action": action}, math.inf)

    def open(self) -> None:
        """Start to connect, and to connect again whenever the connection is lost.

        Not by `roslibpy.Ros`, which connects before anybody listens: the reactor's thread may be the faster one.
        """
        kind = self._transports.select_factory("twisted")
        self._factory = factory = kind(kind.create_url(self._host, self._port))
        factory.protocol = outspoken(kind.protocol, self._transports.RosBridgeException)
        factory.initialDelay = factory.delay = _RETRY[0]
        factory.maxDelay, factory.factor = _RETRY[1], 1.5
        factory.setProtocolOptions(
            utf8validateIncoming=False,
            openHandshakeTimeout=2,
            closeHandshakeTimeout=0.5,
            tcpNoDelay=True,
        )
        for name, call in self._listen:
            factory.on(name, call)
        factory.on("ready", self._ready)
        factory.on("close", self._lost)
        start_reactor()
        factory.connect()

    def connected(self) -> bool:
        """The WebSocket is open and moves. No proof that ROS behind it lives: look at the readings' age."""
        wire = self._wire
        return not self._closed and wire is not None and wire.open()

    def connection(self) -> int:
        """How often the connection was made."""
        return self._connections

    def now(self) -> float:
        """This computer's clock, which must be in step with the robot's (chrony), or /clock; s."""
        return self._clock if self._sim else time.time()

    def close(self) -> None:
        """Disconnect, and stop to connect again."""
        if self._closed:
            return
        self._closed = True
        wire, factory = self._wire, self._factory
        if factory is None:
            return
        if wire is not None:
            wire.leave()
        run_in_reactor(factory.stopTrying)

    def _ready(self, protocol: Any) -> None:
        """In the reactor's thread: a new connection."""
        if self._closed:
            protocol.sendClose()
            return
        wire = Wire(protocol, self._stall)
        for request in self._setup:
            wire.write(as_json(request), self._never)
        self._connections += 1
        self._wire = wire
        self._factory.once("close", wire.end)

    def _lost(self, _: Any) -> None:
        self._wire = None
        with self._lock:
            goals, self._goals = self._goals, {}
        for _action, done in goals.values():
            done(False, "the connection was lost")

    @staticmethod
    def _never() -> bool:
        return False

    def _write(self, request: Mapping[str, Any], expires: float) -> bool:
        """Hand over to the connection that is there now; expired, it is dropped there."""
        wire = self._wire
        if self._closed or wire is None or not wire.open() or self.now() > expires:
            return False
        return wire.post(as_json(request), lambda: not self.now() <= expires)

    def _name(self, topic: str) -> str:
        return f"/{self._node}/{topic[2:]}" if topic.startswith("~/") else topic

    def _type(self, name: str) -> str:
        return name.replace("/msg/", "/").replace("/srv/", "/") if self._ros1 else name

    def _fields(self, fields: Mapping[str, Any]) -> Any:
        return ros1_fields(fields) if self._ros1 else fields

    def _tick(self, message: Any, _: float) -> None:
        self._clock = seconds(take(message, "clock"))


def rosbridge_transport(
    mapping: RobotMapping,
    *,
    host: str = "127.0.0.1",
    port: int = 9090,
    ros1: bool = False,
    node: str = "dfplan",
    use_sim_time: bool = False,
) -> RosTransport:
    """A connection to a robot behind a rosbridge server.

    Args:
        mapping: the robot.
        host: of the server.
        port: of the server.
        ros1: the robot is on ROS 1.
        node: name of the node; its services are `/<node>/arm` and `/<node>/stop`.
        use_sim_time: take the time from /clock.

    Raises:
        ImportError: roslibpy is not installed.
    """
    stall = min(0.2, 2 * mapping.loop.expire)
    bus = RosbridgeBus(node, host=host, port=port, ros1=ros1, use_sim_time=use_sim_time, stall=stall)
    return RosTransport(mapping, bus, node=node, ros1=ros1)
