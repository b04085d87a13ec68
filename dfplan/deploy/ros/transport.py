"""The `Transport` of a robot on ROS, whatever the bus: readings by source, trajectories to controllers, diagnostics."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.motion.profile import Stop
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.tables import Command, Source
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.bus import Bus, Heard, Publish
from dfplan.deploy.ros.masters import Masters
from dfplan.deploy.ros.stream import stream, twist_of

Array = NDArray[np.float64]
_LOG = logging.getLogger(__name__)
_POINTS = 12
_LISTEN = 2.0
"""times `loop.settle`: before so long on a new connection nobody is taken to be alone at the arm."""
_REPEAT = 0.3
"""The end of a motion is repeated for so long, s: a best-effort reader may have missed it."""


class RosTransport:
    """A connection to one robot; see `dfplan.deploy.robot.transport.Transport`.

    Nothing is written before the first `send`: until then the arm is somebody else's.

    Attributes:
        counts: reason -> how often a message was not read or a command was not handed over.
    """

    def __init__(self, mapping: Mapping, bus: Bus, *, node: str = "dfplan", ros1: bool = False) -> None:
        """`bus`: not yet open; ValueError for a message that cannot be read, or a twist without kinematics."""
        self.mapping, self.bus, self.node = mapping, bus, node
        self.counts: Counter[str] = Counter()
        self._ros1, self._body = ros1, body(mapping.robot)
        self._types = {s.name: ros.message_type(s.kind, s.message) for s in mapping.sources}
        if any(c.kind == "twist" for c in mapping.commands) and self._body.pose is None:
            raise ValueError(
                "a twist command needs kinematics; give robot.urdf with base and tip, or robot.model"
            )
        self._latest: dict[str, Reading] = {}
        self._active: JointTrajectory | None = None
        self._held, self._sent_on = math.inf, -1
        self._publishers: dict[str, Publish] = {}
        self._masters = Masters(bus, node, mapping.commands, _LISTEN * mapping.loop.settle)
        self._status: Publish = lambda fields, expires: False
        self._streams: list[threading.Thread] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._closed = self._listening = False

    def listen(self, topics: Iterable[tuple[str, str, Heard]]) -> None:
        """Only listen from now on, to these topics too (name, message, handler): an arm cannot be moved by this."""
        self._listening = True
        for topic, message, heard in topics:
            self.bus.subscribe(topic, message, heard)

    def connect(self, handlers: Handlers) -> None:
        """Declare everything and open the bus."""
        for source in self.mapping.sources:
            kind = self._types[source.name]
            self.bus.subscribe(source.topic, kind, self._heard(source), rate=source.rate)
        if self._listening:
            return self.bus.open()
        expire = self.mapping.loop.expire
        for command in self.mapping.commands:
            kind = ros.COMMANDS[command.kind]
            publish = self.bus.advertise(command.topic, kind, lifespan=expire, command=True)
            self._publishers[command.topic] = self._masters.ours(command, publish)
        self._status = self.bus.advertise("/diagnostics", ros.DIAGNOSTICS)
        self.bus.serve(f"/{self.node}/arm", handlers.arm)
        self.bus.serve(f"/{self.node}/stop", partial(self._stop, handlers.stop))
        self._masters.listen(handlers.halt, self._ros1)
        self.bus.open()
        for command in self.mapping.commands:
            if command.kind != "trajectory":
                self._streams.append(stream(self._streamed(command), self.mapping.loop.rate, self._over))

    def _stop(self, stop: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
        """This controller, and then every other one of the arm."""
        done = stop()
        self._masters.say(stop=True)
        return done

    def others(self) -> str:
        """Who else commands this arm, in words; empty where nobody is known of."""
        return "" if self._listening or self._closed else self._masters.others()

    def connected(self) -> bool:
        """Whether all controllers can be written to now."""
        return not self._closed and self.bus.connected()

    def connection(self) -> int:
        """How often the connection was made."""
        return self.bus.connection()

    def now(self) -> float:
        """The ROS clock, s."""
        return self.bus.now()

    def read(self) -> Sequence[Reading]:
        """The newest reading of each source that has any."""
        return tuple(self._latest.values())

    def send(self, trajectory: JointTrajectory) -> bool:
        """Hand a trajectory to every controller; False, and a hold, if one of them does not get it."""
        if self._listening or not self.connected():
            return self._refuse("only listening" if self._listening else "not connected")
        if self.now() > trajectory.expires:
            return self._refuse("expired")
        with self._lock:
            self._active, self._held, self._sent_on = trajectory, math.inf, self.bus.connection()
            done = all([self._hand_over(command, trajectory) for command in self.mapping.commands])
        if not done:
            self._refuse("not handed over")
            self.hold()
        return done

    def _refuse(self, reason: str) -> bool:
        self.counts[f"transport: {reason}"] += 1
        return False

    def _hand_over(self, command: Command, trajectory: JointTrajectory) -> bool:
        """Publish a trajectory; positions and twists are taken from `_active` by their own thread."""
        if command.kind != "trajectory":
            return True
        return self._publishers[command.topic](self._fields(command, trajectory), trajectory.expires)

    def _fields(self, command: Command, trajectory: JointTrajectory) -> dict[str, Any]:
        """The message for one controller: its joints, in their units."""
        part = trajectory.select(command.joints)
        unit = self._body.unit[self._body.limits.columns(command.joints)]
        rows = replace(part, positions=part.positions / unit, velocities=part.velocities / unit)
        return ros.trajectory_fields(rows)

    def hold(self) -> None:
        """Cancel goals and stop: within the joints' limits from where the last trajectory is now."""
        self.bus.cancel()
        with self._lock:
            now = self.now()
            if self._active is None or not self._under_way(self._active, now):
                return  # the arm stands, or is somebody else's by now
            if math.isinf(self._held):
                self._held, self._active = now, self._stopping(self._active, now)
            for command in self.mapping.commands:
                if self._ros1 and command.kind == "trajectory":
                    empty = {"header": ros.header(0.0), "joint_names": list(command.joints), "points": []}
                    self._publishers[command.topic](empty, now + self.mapping.loop.expire)
                else:
                    self._hand_over(command, self._active)

    def _under_way(self, active: JointTrajectory, now: float) -> bool:
        """Whether a trajectory is not over yet, on the connection that it was sent on."""
        return self._sent_on == self.bus.connection() and now - active.stamp <= active.times[-1] + _REPEAT

    def _stopping(self, active: JointTrajectory, now: float) -> JointTrajectory:
        """The quickest stop from the setpoint that is due now, then rest: it must not be over before it expires."""
        limits = self._body.limits
        columns = limits.columns(active.names)
        position, velocity = active.at(now - active.stamp)
        if not 0 <= now - active.stamp <= active.times[-1]:
            velocity = np.zeros_like(velocity)
        stop = Stop(velocity, np.zeros_like(velocity), limits.acceleration[columns], limits.jerk[columns])
        expire, seconds = self.mapping.loop.expire, max(0.02, float(stop.seconds.max()))
        times = np.linspace(0.0, seconds, _POINTS + 1, dtype=np.float64)[1:]
        times = np.append(times, expire) if seconds < expire else times
        moved, speeds, _ = stop.at(times)
        speeds[-1] = 0.0
        return JointTrajectory(active.names, times, position + moved, speeds, now, now + expire)

    def publish_status(self, status: Status) -> None:
        """Publish diagnostics."""
        self._status(ros.status_fields(self.node, status, self.counts), self.now() + 1.0)

    def follow(self, trajectory: JointTrajectory, done: Callable[[bool, str], None]) -> bool:
        """Run a motion, such as home, through the controllers' FollowJointTrajectory actions; `hold` cancels it.

        Whether every controller has an action and took the goal. `done` is called once for each controller, with
        success and what it said.
        """
        started = []
        for command in self.mapping.commands:
            if self._listening or not command.action:
                why = "has no action in the mapping" if not command.action else "is only listened to"
                done(False, f"command '{command.topic}' {why}")
                return False
            started.append(
                self.bus.follow(command.action, self._fields(command, trajectory), self._masters.goal(done))
            )
        return all(started)

    def close(self) -> None:
        """Hold, then disconnect."""
        if self._closed:
            return
        try:
            self.hold()
        except Exception:  # whatever the bus says, it is closed all the same
            _LOG.exception("holding while closing")
        self._over.set()
        for thread in self._streams:
            thread.join(1.0)
        self._closed = True
        self.bus.close()

    def _heard(self, source: Source) -> Callable[[Any, float], None]:
        """Keep the newest message of a source; one with none of the names it needs is somebody else's."""
        kind = self._types[source.name]

        def heard(message: Any, received: float) -> None:
            try:
                r = ros.to_reading(source.name, kind, source.names, message, received)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.counts[f"{source.name}: not readable"] += 1
                _LOG.debug("source '%s': %s", source.name, error)
                return
            if self.mapping.concerns(source.name, r.names):
                self._latest[source.name] = r

        return heard

    def _streamed(self, command: Command) -> Callable[[], None]:
        """What the thread of a position or twist command does at each of its ticks."""
        publish, base = self._publishers[command.topic], self.mapping.robot.base
        unit = self._body.unit[self._body.limits.columns(command.joints)]

        def tick() -> None:
            active, now = self._active, self.now()
            if active is None or not self.bus.connected() or not self._under_way(active, now):
                return
            since = now - active.stamp
            if command.kind == "position":
                fields = ros.array_fields(active.select(command.joints).at(since)[0] / unit)
            else:
                assert self._body.look is not None
                fields = twist_of(self._body.look, active.select(self._body.limits.names), since, now, base)
            publish(fields, now + 1.0 / self.mapping.loop.rate)

        return tick
