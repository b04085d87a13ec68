"""rosbridge, for ROS 1 robots, containers and other machines: the same behaviour over a WebSocket.

Nothing is ever queued: a message is written on the connection that is there when it is handed over, if it has not
expired and if the connection still moves; else it is dropped.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.ros.bus import Heard, Publish, Trigger
from dfplan.deploy.ros.messages import CLOCK, FOLLOW, SEVERAL, TRIGGER, seconds, take
from dfplan.deploy.ros.transport import RosTransport
from dfplan.deploy.ros.wire import Wire, as_json, ros1_fields
from dfplan.tools.errors import optional_import

_LOG = logging.getLogger(__name__)
_RETRY = 0.2, 1.0
"""First and longest wait before connecting again, s."""


class RosbridgeBus:
    """A client of a rosbridge server. Declares everything again each time the connection is made."""

    def __init__(
        self, node: str, *, host: str = "127.0.0.1", port: int = 9090, ros1: bool = False,
        use_sim_time: bool = False, stall: float = 0.2,
    ) -> None:  # fmt: skip
        """See `rosbridge_transport`; a connection that leaves bytes unacknowledged for `stall` s is cut."""
        optional_import("websockets", "ros")
        self._node, self._where, self._ros1, self._sim = node, (host, port, stall), ros1, use_sim_time
        self._wire: Wire | None = None
        self._setup: list[dict[str, Any]] = []
        self._topics: defaultdict[str, list[Heard]] = defaultdict(list)
        self._services: dict[str, Trigger] = {}
        self._goals: dict[str, tuple[str, Callable[[bool, str], None]]] = {}
        self._connections, self._clock, self._closed = 0, math.nan, threading.Event()
        self._lock = threading.Lock()
        if use_sim_time:
            self.subscribe("/clock", CLOCK, self._tick)

    def advertise(self, topic: str, message: str, *, lifespan: float = 0.0, command: bool = False) -> Publish:
        """Declare a topic that is written; it is never queued, whatever `lifespan`."""
        del lifespan, command
        name = self._name(topic)
        self._setup.append(
            {"op": "advertise", "topic": name, "type": self._type(message), "latch": False, "queue_size": 1}
        )

        def publish(fields: Mapping[str, Any], expires: float) -> bool:
            return self._write({"op": "publish", "topic": name, "msg": self._fields(fields)}, expires)

        return publish

    def subscribe(
        self, topic: str, message: str, heard: Heard, *, rate: float = 0.0, several: bool = False
    ) -> None:
        """Declare a topic that is read: a short queue at the server, which thins it out to about `rate`."""
        name, kept = self._name(topic), SEVERAL if several else 1
        request = {"op": "subscribe", "topic": name, "type": self._type(message), "queue_length": kept}
        # A little less than the time between two messages, or jitter would cost every other one.
        self._setup.append({**request, "throttle_rate": int(800 / rate) if rate else 0})
        self._topics[name].append(heard)

    def serve(self, name: str, handler: Trigger) -> None:
        """Declare a Trigger service."""
        service = self._name(name)
        self._setup.append({"op": "advertise_service", "service": service, "type": self._type(TRIGGER)})
        self._services[service] = handler

    def follow(self, action: str, goal: Mapping[str, Any], done: Callable[[bool, str], None]) -> bool:
        """Send a goal through a ROS 2 server; ROS 1 servers know no actions."""
        if self._ros1 or not self.connected():
            done(False, "actions need a connected rosbridge server of ROS 2")
            return False
        number = f"goal:{action}:{time.monotonic_ns()}"
        request = {"op": "send_action_goal", "id": number, "action": action, "action_type": FOLLOW}
        with self._lock:
            self._goals[number] = action, done
        return self._write({**request, "args": {"trajectory": goal}}, self.now() + self._where[2])

    def writers(self, topic: str) -> tuple[str, ...]:
        """Not known behind a server."""
        return ()

    def cancel(self) -> None:
        """Cancel all goals that were sent."""
        with self._lock:
            goals = list(self._goals.items())
        for number, (action, _) in goals:
            self._write({"op": "cancel_action_goal", "id": number, "action": action}, math.inf)

    def open(self) -> None:
        """Start to connect, and to connect again whenever the connection is lost."""
        threading.Thread(target=self._run, name="rosbridge", daemon=True).start()

    def connected(self) -> bool:
        """The WebSocket is open and moves. No proof that ROS behind it lives: look at the readings' age."""
        wire = self._wire
        return not self._closed.is_set() and wire is not None and wire.open

    def connection(self) -> int:
        """How often the connection was made."""
        return self._connections

    def now(self) -> float:
        """This computer's clock, which must be in step with the robot's (chrony), or /clock; s."""
        return self._clock if self._sim else time.time()

    def close(self) -> None:
        """Disconnect, and stop to connect again."""
        self._closed.set()
        wire = self._wire
        if wire is not None:
            wire.connection.close()

    def _run(self) -> None:
        """Connect again and again, soon after a connection that was there and more rarely after none."""
        wait = 0.0
        while not self._closed.wait(wait):
            before = self._connections
            try:
                self._talk()
            except Exception as error:  # whatever it was, the next attempt follows
                _LOG.info("rosbridge at %s:%d: %s", *self._where[:2], error)
            wait = _RETRY[0] if self._connections > before or not wait else min(1.5 * wait, _RETRY[1])

    def _talk(self) -> None:
        """One connection, from its beginning to its end."""
        wire = Wire(*self._where)
        with wire.connection as connection:
            for request in self._setup:
                wire.write(as_json(request))
            self._connections += 1
            self._wire = wire
            try:
                for text in () if self._closed.is_set() else connection:
                    self._heard(text, time.perf_counter())
            finally:
                wire.open, self._wire = False, None
                with self._lock:
                    goals, self._goals = self._goals, {}
                for _, done in goals.values():
                    done(False, "the connection was lost")

    def _heard(self, text: str, received: float) -> None:
        """Take a message; what it has no use for, such as what the server says of itself, is logged."""
        try:
            message = json.loads(text)
            kind = message["op"]
            if kind == "publish":
                for heard in self._topics.get(message["topic"], ()):
                    heard(message["msg"], received)
            elif kind == "call_service" and message["service"] in self._services:
                self._answer(message)
            elif kind == "action_result":
                self._finished(message)
            elif kind != "action_feedback":
                _LOG.warning("rosbridge says %s", text)
        except Exception:  # one message must not end the thread that hears the robot
            _LOG.exception("in a message of rosbridge")

    def _answer(self, request: Mapping[str, Any]) -> None:
        success, text = self._services[request["service"]]()
        reply = {
            "op": "service_response",
            "service": request["service"],
            "id": request.get("id"),
            "result": True,
        }
        self._write({**reply, "values": {"success": success, "message": text}}, math.inf)

    def _finished(self, result: Mapping[str, Any]) -> None:
        with self._lock:
            known = self._goals.pop(result["id"], None)
        if known is not None:  # action_msgs/GoalStatus STATUS_SUCCEEDED
            known[1](result.get("status") == 4, str(result.get("values", "")))

    def _write(self, request: Mapping[str, Any], expires: float) -> bool:
        """Write on the connection that is there now, unless it is too late; the clock is read last."""
        wire, payload = self._wire, as_json(request)
        if self._closed.is_set() or wire is None or not self.now() <= expires:
            return False
        return wire.write(payload)

    def _name(self, topic: str) -> str:
        return f"/{self._node}/{topic[2:]}" if topic.startswith("~/") else topic

    def _type(self, name: str) -> str:
        return name.replace("/msg/", "/").replace("/srv/", "/") if self._ros1 else name

    def _fields(self, fields: Mapping[str, Any]) -> Any:
        return ros1_fields(fields) if self._ros1 else fields

    def _tick(self, message: Any, _: float) -> None:
        self._clock = seconds(take(message, "clock"))


def rosbridge_transport(
    mapping: RobotMapping, *, host: str = "127.0.0.1", port: int = 9090, ros1: bool = False,
    node: str = "dfplan", use_sim_time: bool = False,
) -> RosTransport:  # fmt: skip
    """A connection to a robot behind a rosbridge server.

    Args:
        mapping: the robot.
        host: of the server.
        port: of the server.
        ros1: the robot is on ROS 1.
        node: name of the node; its services are `/<node>/arm` and `/<node>/stop`.
        use_sim_time: take the time from /clock.

    Raises:
        ImportError: websockets is not installed.
    """
    stall = min(0.2, 2 * mapping.loop.expire)
    bus = RosbridgeBus(node, host=host, port=port, ros1=ros1, use_sim_time=use_sim_time, stall=stall)
    return RosTransport(mapping, bus, node=node, ros1=ros1)
