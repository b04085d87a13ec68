"""What somebody else tells the controllers, such as a teleoperator: their messages as setpoints of joints."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.body import Body
from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.robot.observe import Measured
from dfplan.deploy.robot.tables import Command
from dfplan.deploy.robot.transport import JointTrajectory, Readings
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.transport import RosTransport

Array = NDArray[np.float64]
Said = tuple[Command, Any, float]
"""A controller, a message to it (of ROS, or the same as a table), and when it was heard, s on the robot's clock."""
Commands = Callable[[], Iterable[Said]]
"""What was heard since the last call, oldest first."""

OBEYED = ("trajectory", "position")
"""Kinds of command that are listened to: a twist is no position."""


@dataclass(frozen=True)
class _Move:
    """A motion under way. A second is added to its times and taken from its stamp, so that the first may be 0."""

    path: JointTrajectory
    linear: bool

    def at(self, time: float) -> tuple[Array, Array]:
        """Position and velocity (J,) at `time`, s on the robot's clock; the ends beyond them."""
        after = time - self.path.stamp
        if not self.linear:
            return self.path.at(after)
        now, before = (
            np.array([np.interp(t, self.path.times, p) for p in self.path.positions.T])
            for t in (after, after - 1e-3)
        )
        return now, (now - before) / 1e-3


class Setpoints:
    """Where each joint was told to be, followed as the joint_trajectory_controller does.

    From the setpoint under way to the first point, between points a cubic where there are velocities, else a line,
    the end held. A message that such a controller refuses is counted and has no effect.

    Attributes:
        counts: topic and reason -> how often a message was not obeyed.
    """

    def __init__(self, mapping: RobotMapping, body: Body) -> None:
        self.counts: Counter[str] = Counter()
        self._limits, self._unit = body.limits, body.unit
        self._moves: dict[tuple[str, ...], _Move] = {}

    def hear(self, said: Said, measured: Measured | None) -> None:
        """Take a message; `measured` is where a joint that was never commanded starts from."""
        command, message, now = said
        try:
            if command.kind == "position":
                self._moves[command.joints] = self._jump(command, message, now)
            elif set(command.joints).intersection(ros.take(message, "joint_names")):
                self._moves[command.joints] = self._follow(command, message, now, measured)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.counts[f"{command.topic}: {error}"] += 1

    def forget(self) -> None:
        """Nobody has commanded anything."""
        self._moves.clear()

    def at(self, time: float) -> Array:
        """(J,) setpoints in rad or m at `time`, s on the robot's clock; NaN where nobody has commanded."""
        out = np.full(len(self._limits.names), np.nan)
        for joints, move in self._moves.items():
            out[self._limits.columns(joints)] = move.at(time)[0]
        return out

    def _jump(self, command: Command, message: Any, now: float) -> _Move:
        """A single position, which is valid at once."""
        values = ros.numbers(list(ros.take(message, "data")))
        if len(values) != len(command.joints):
            raise ValueError(f"{len(values)} numbers, expected {len(command.joints)}")
        return _stand(command, values * self._unit[self._limits.columns(command.joints)], now)

    def _follow(self, command: Command, message: Any, now: float, measured: Measured | None) -> _Move:
        """A trajectory, from the setpoint under way on."""
        names = list(ros.take(message, "joint_names"))
        missing = [name for name in command.joints if name not in names]
        if missing:
            raise ValueError(f"without joint '{missing[0]}'")
        stamp = ros.seconds(ros.take(message, "header.stamp")) or now
        points = list(ros.take(message, "points"))
        if not points:  # the stop of ROS 1
            return _stand(command, self._start(command, now, measured)[0], now)
        columns = [names.index(name) for name in command.joints]
        unit = self._unit[self._limits.columns(command.joints)]
        times = np.array([ros.seconds(ros.take(p, "time_from_start")) for p in points])
        rows = np.stack([ros.numbers(ros.take(p, "positions"))[columns] for p in points]) * unit
        given = [ros.numbers(ros.take(p, "velocities")) for p in points]
        linear = any(not len(row) for row in given)
        speeds = np.zeros_like(rows) if linear else np.stack([row[columns] for row in given]) * unit
        if stamp + times[-1] < now:
            raise ValueError("ends in the past")
        if times[0] > 0:
            position, speed = self._start(command, stamp, measured)
            times = np.append(0.0, times)
            rows, speeds = np.vstack([position, rows]), np.vstack([speed, speeds])
        speeds[-1] = 0.0  # a controller refuses one that does not end at rest, unless told otherwise
        return _move(command, times, rows, speeds, stamp, linear)

    def _start(self, command: Command, time: float, measured: Measured | None) -> tuple[Array, Array]:
        """Where a new motion begins: the setpoint under way, else where the joints are."""
        if command.joints in self._moves:
            return self._moves[command.joints].at(time)
        if measured is None:
            raise ValueError("before the first joint state")
        position = measured.position[self._limits.columns(command.joints)]
        return position, np.zeros_like(position)


def _stand(command: Command, position: Array, now: float) -> _Move:
    return _move(command, np.zeros(1), position[None], np.zeros((1, len(position))), now, True)


def _move(command: Command, times: Array, rows: Array, speeds: Array, stamp: float, linear: bool) -> _Move:
    path = JointTrajectory(command.joints, times + 1.0, rows, speeds, stamp - 1.0, np.inf)
    return _Move(path, linear)


def listen(transport: Readings, mapping: RobotMapping) -> Commands:
    """Only listen from now on, and also to what the mapping's controllers are told on ROS; to call before `connect`."""
    heard: deque[Said] = deque(maxlen=1000)

    def hear(command: Command, message: Any, received: float) -> None:
        heard.append((command, message, transport.now()))

    if isinstance(transport, RosTransport):
        told = [c for c in mapping.commands if c.kind in OBEYED]
        transport.listen((c.topic, ros.COMMANDS[c.kind], partial(hear, c)) for c in told)
    return lambda: [heard.popleft() for _ in range(len(heard))]
