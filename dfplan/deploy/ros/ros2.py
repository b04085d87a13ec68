"""Native ROS 2: a light node on whatever rclpy the robot has sourced (Humble to Kilted)."""

from __future__ import annotations

import array
import atexit
import importlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.ros.bus import Heard, Publish, Trigger
from dfplan.deploy.ros.messages import FOLLOW, SEVERAL, TRIGGER
from dfplan.deploy.ros.transport import RosTransport

_LOG = logging.getLogger(__name__)
_LIST = re.compile(r"sequence<(.+?)(?:, *\d+)?>|(.+)\[\d*\]")


def _rclpy(module: str = "") -> Any:
    """The robot's own rclpy, or a module of it; ImportError with how to get one."""
    try:
        return importlib.import_module(f"rclpy{module}")
    except ImportError as error:
        raise ImportError(
            f"rclpy cannot be imported ({error}); source the robot's ROS 2 (. /opt/ros/<distro>/setup.bash) in an "
            "environment of the same Python version, or see docs/ros.md for packages without a ROS installation"
        ) from error


def type_of(name: str) -> Any:
    """Class of `pkg/msg/Type`, `pkg/srv/Type`, `pkg/action/Type` or `pkg/Type` (a message); ImportError without package."""
    package, *middle, last = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{middle[0] if middle else 'msg'}"), last)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"ROS has no {name} here ({error}); install the package ros-<distro>-{package}"
        ) from error


def fill(message: Any, fields: Mapping[str, Any]) -> Any:
    """Write a table into a message; rows of numbers as arrays, which rclpy takes without looking at each."""
    types = message.get_fields_and_field_types()
    for key, value in fields.items():
        if isinstance(value, np.ndarray):
            value = array.array("d", value.tobytes())
        elif isinstance(value, Mapping):
            value = fill(getattr(message, key), value)
        elif types[key] == "octet":
            value = bytes([value])
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            found = _LIST.fullmatch(types[key])
            element = type_of(next(filter(None, found.groups())) if found else types[key])
            value = [fill(element(), row) for row in value]
        setattr(message, key, value)
    return message


class Ros2Bus:
    """A node of ROS 2: one SingleThreadedExecutor in a daemon thread, its own context, no signal handlers."""

    def __init__(self, node: str, *, use_sim_time: bool = False, domain: int | None = None) -> None:
        """Make the node; see `ros2_transport`; ImportError where rclpy is not there."""
        rclpy = _rclpy()
        parameter = _rclpy(".parameter").Parameter
        self._context = _rclpy(".context").Context()
        none = _rclpy(".signals").SignalHandlerOptions.NO
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=none)
        sim = [parameter("use_sim_time", parameter.Type.BOOL, use_sim_time)]
        self._node: Any = rclpy.create_node(node, context=self._context, parameter_overrides=sim)
        self._executor: Any = _rclpy(".executors").SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name=f"ros2 {node}", daemon=True)
        self._commands: list[tuple[str, Any]] = []
        self._heard: Counter[str] = Counter()  # topic -> readers of our own
        self._goals: list[Any] = []
        self._clients: dict[str, Any] = {}
        self._connections, self._was, self._closed = 0, False, False
        self._lock = threading.Lock()

    def advertise(self, topic: str, message: str, *, lifespan: float = 0.0, command: bool = False) -> Publish:
        """Reliable, the last message only; with a life span, so that DDS delivers no old one after a break."""
        profile = _profile("RELIABLE")
        if lifespan:
            profile.lifespan = _rclpy(".duration").Duration(seconds=lifespan)
        kind = type_of(message)
        publisher = self._node.create_publisher(kind, topic, profile)
        if command:
            self._commands.append((topic, publisher))

        def publish(fields: Mapping[str, Any], expires: float) -> bool:
            """Fill first: the clock is read last."""
            filled = fill(kind(), fields)
            if self._closed or self.now() > expires:
                return False
            publisher.publish(filled)
            return True

        return publish

    def subscribe(
        self, topic: str, message: str, heard: Heard, *, rate: float = 0.0, several: bool = False
    ) -> None:
        """Best effort, the last message only: compatible with every publisher."""
        del rate
        self._heard[topic] += 1

        def call(received: Any) -> None:
            heard(received, time.perf_counter())

        self._node.create_subscription(
            type_of(message), topic, call, _profile("BEST_EFFORT", SEVERAL if several else 1)
        )

    def serve(self, name: str, handler: Trigger) -> None:
        """A std_srvs/Trigger service."""

        def answer(_: Any, response: Any) -> Any:
            response.success, response.message = handler()
            return response

        self._node.create_service(type_of(TRIGGER), name, answer)

    def follow(self, action: str, goal: Mapping[str, Any], done: Callable[[bool, str], None]) -> bool:
        """Send a goal where control_msgs is installed; waits up to 1 s for the action's server."""
        try:
            kind = type_of(FOLLOW)
        except ImportError as error:
            done(False, str(error))
            return False
        if action not in self._clients:
            self._clients[action] = _rclpy(".action").ActionClient(self._node, kind, action)
        client = self._clients[action]
        if not client.wait_for_server(timeout_sec=1.0):
            done(False, f"no server of action {action}; is the controller active?")
            return False
        _Goal(self._goals, done).send(client, fill(kind.Goal(), {"trajectory": goal}))
        return True

    def writers(self, topic: str) -> list[str]:
        """As discovery has it; of a node that was killed for some 20 s more."""
        found = self._node.get_publishers_info_by_topic(topic)
        return [f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in found]

    def cancel(self) -> None:
        """Cancel all goals that were sent."""
        for goal in list(self._goals):
            goal.cancel()

    def open(self) -> None:
        """Start the executor's thread; it must end before the interpreter does."""
        atexit.register(self.close)
        self._thread.start()

    def connected(self) -> bool:
        """Each command topic has a reader that is not ours. One that was killed is still counted for some 20 s: look at ages."""
        if self._closed or not self._thread.is_alive():
            return False
        matched = all(
            publisher.get_subscription_count() > self._heard[topic] for topic, publisher in self._commands
        )
        with self._lock:
            self._connections += matched and not self._was
            self._was = matched
        return matched

    def connection(self) -> int:
        """How often all command topics found readers."""
        self.connected()
        return self._connections

    def now(self) -> float:
        """The node's clock, s."""
        return float(self._node.get_clock().now().nanoseconds) * 1e-9

    def close(self) -> None:
        """Leave the graph."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        for step in (
            self._executor.shutdown,
            self._join,
            self._node.destroy_node,
            self._context.try_shutdown,
        ):
            try:
                step()
            except Exception:  # whichever step fails, the others must follow
                _LOG.exception("closing the ROS 2 node")

    def _join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _spin(self) -> None:
        while not self._closed and self._context.ok():
            try:
                self._executor.spin_once(timeout_sec=0.2)
            except Exception:  # a callback's error must not end the thread that hears the robot
                if self._closed or not self._context.ok():
                    return
                _LOG.exception("in a callback of the ROS 2 node")


class _Goal:
    """One goal, from sending to its end."""

    def __init__(self, goals: list[Any], done: Callable[[bool, str], None]) -> None:
        self._goals, self._done, self._handle, self._cancelled = goals, done, None, False

    def send(self, client: Any, goal: Any) -> None:
        self._goals.append(self)
        client.send_goal_async(goal).add_done_callback(self._accepted)

    def cancel(self) -> None:
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel_goal_async()

    def _accepted(self, future: Any) -> None:
        handle = future.result()
        if not handle.accepted:
            return self._end(False, "the controller refused the goal")
        self._handle = handle
        handle.get_result_async().add_done_callback(self._ended)
        if self._cancelled:
            self.cancel()

    def _ended(self, future: Any) -> None:
        answer = future.result()
        text = getattr(answer.result, "error_string", "") or f"status {answer.status}"
        self._end(answer.status == 4, text)  # action_msgs/GoalStatus STATUS_SUCCEEDED

    def _end(self, success: bool, text: str) -> None:
        if self in self._goals:
            self._goals.remove(self)
        self._done(success, text)


def _profile(reliability: str, depth: int = 1) -> Any:
    qos = _rclpy(".qos")
    kind = qos.ReliabilityPolicy[reliability]
    return qos.QoSProfile(history=qos.HistoryPolicy.KEEP_LAST, depth=depth, reliability=kind)


def ros2_transport(
    mapping: RobotMapping, *, node: str = "dfplan", use_sim_time: bool = False, domain: int | None = None
) -> RosTransport:
    """A connection to a robot on ROS 2.

    Args:
        mapping: the robot.
        node: name of the node; its services are `/<node>/arm` and `/<node>/stop`.
        use_sim_time: take the time from /clock.
        domain: ROS_DOMAIN_ID; None: the environment's.

    Raises:
        ImportError: rclpy, or the package of a message, is not there.
    """
    bus = Ros2Bus(node, use_sim_time=use_sim_time, domain=domain)
    return RosTransport(mapping, bus, node=node)
