"""One arm has one master: who else commands it."""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from dfplan.deploy.robot.tables import Command
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.bus import Bus, Publish

_SAY, _GONE = 0.5, 3.0
"""s between two signs of life of a controller, and after the last one until it is taken for gone."""
_FOREIGN = 1.0  # s for which a command that is not ours counts
_LOOK = 0.2  # s between two looks at who writes
_KEPT = 512  # commands of ours that are known again when they are heard
_ACTIVE = (1, 2, 3)  # action_msgs/GoalStatus: accepted, executing, canceling


class Masters:
    """Watches the topics on which an arm is commanded, for one of its controllers.

    Others show themselves in three ways: a node declares that it writes commands (where the bus can tell), a command or a
    goal arrives that is not ours, and each controller of dfplan says twice a second, beside each command topic on
    `TOPIC/dfplan`, that it is there. It says too how often it was asked to stop, and each time all of them stop: whoever
    misses one message hears it from the next.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        commands: Sequence[Command],
        listening: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`listening`: s on a new connection before nobody is taken to be there; `now`: a clock, s."""
        self._bus, self._node, self._commands, self._now = bus, node, commands, now
        self._listening = listening
        self._name = uuid.uuid4().hex
        self._ours: deque[Hashable] = deque(maxlen=_KEPT)
        self._goals = 0
        self._foreign: dict[str, float] = {}  # what arrived -> when
        self._stops = 0
        # Another's name -> its node, when it was heard, and how often it had been asked to stop by then.
        self._controllers: dict[str, tuple[str, float, int]] = {}
        self._speak: list[Publish] = []
        self._said, self._looked, self._writers = -_SAY, -_LOOK, ""
        self._connection, self._since = -1, 0.0

    def listen(self, halt: Callable[[str], object], ros1: bool = False) -> None:
        """Declare what is heard and said; `halt` is called with a reason when another controller was asked to stop."""

        def word(message: Any, _: float) -> None:
            said = json.loads(ros.take(message, "data"))
            name, node, stops = str(said["name"]), str(said["node"]), int(said["stops"])
            if name == self._name:
                return
            before = self._controllers.get(name)
            self._controllers[name] = node, self._now(), stops
            if before is not None and stops > before[2]:
                halt(f"another controller, node '{node}', was asked to stop")

        for command in self._commands:
            topic = f"{command.topic}/dfplan"
            self._speak.append(self._bus.advertise(topic, ros.STRING))
            self._bus.subscribe(topic, ros.STRING, word, several=True)
            kind, heard = ros.COMMANDS[command.kind], self._command(command)
            self._bus.subscribe(command.topic, kind, heard, several=True)
            if command.action and not ros1:
                status = f"{command.action}/_action/status"
                self._bus.subscribe(status, ros.GOALS, self._goal(command.action))

    def _command(self, command: Command) -> Callable[[Any, float], None]:
        def heard(message: Any, _: float) -> None:
            if _mark(command, message) not in tuple(self._ours):
                self._foreign[f"commands on '{command.topic}'"] = self._now()

        return heard

    def _goal(self, action: str) -> Callable[[Any, float], None]:
        def heard(message: Any, _: float) -> None:
            active = any(ros.take(goal, "status") in _ACTIVE for goal in ros.take(message, "status_list"))
            what = f"a goal of '{action}'"
            if active and not self._goals:
                self._foreign[what] = float("inf")  # until its status says that it is over
            else:
                self._foreign.pop(what, None)

        return heard

    def ours(self, command: Command, publish: Publish) -> Publish:
        """The same, and what is published is known again."""

        def known(fields: Mapping[str, Any], expires: float) -> bool:
            self._ours.append(_mark(command, fields))
            return publish(fields, expires)

        return known

    def goal(self, done: Callable[[bool, str], None]) -> Callable[[bool, str], None]:
        """A goal of ours is sent: the same `done`, after which goals are others' again."""
        self._goals += 1

        def ended(success: bool, text: str) -> None:
            self._goals -= 1
            done(success, text)

        return ended

    def say(self, stop: bool = False) -> None:
        """Tell the other controllers of this arm that this one is there, or that it is asked to `stop` now."""
        self._said, self._stops = self._now(), self._stops + stop
        text = json.dumps({"name": self._name, "node": self._node, "stops": self._stops})
        for speak in self._speak:
            speak({"data": text}, float("inf"))

    def others(self) -> str:
        """Who else commands this arm now, in words; empty where nobody is known of."""
        now, connection = self._now(), self._bus.connection()
        if connection != self._connection:
            self._connection, self._since = connection, now
        if now - self._said >= _SAY:
            self.say()
        for node, heard, _ in list(self._controllers.values()):  # which the bus's own thread changes
            if now - heard < _GONE:
                return f"another controller of dfplan, node '{node}', is at this arm; end one of the two"
        for what, heard in list(self._foreign.items()):
            if now - heard < _FOREIGN:
                return f"{what} came from somebody else; one arm has one master"
        if now - self._looked >= _LOOK:
            self._looked, self._writers = now, self._declared()
        waiting = (
            "listening whether somebody else commands this arm" if now - self._since < self._listening else ""
        )
        return self._writers or waiting

    def _declared(self) -> str:
        for command in self._commands:
            for node in self._bus.writers(command.topic):
                # One of our own name may be what is left of a controller that was killed: if it lives, it says so.
                if node.rpartition("/")[2] != self._node:
                    node = "not yet named" if "UNKNOWN" in node else node
                    return f"node '{node}' writes to '{command.topic}' too; end it: one arm has one master"
        return ""


def _mark(command: Command, message: Any) -> Hashable:
    """What tells a command from all others, of a message that comes in or of the fields of one that goes out."""
    if command.kind == "position":
        return command.topic, *(round(float(v), 9) for v in ros.take(message, "data"))
    stamp = round(ros.seconds(ros.take(message, "header.stamp")), 7)
    if command.kind == "trajectory":
        return command.topic, stamp, len(ros.take(message, "points"))
    parts = (ros.take(message, f"twist.{part}.{axis}") for part in ("linear", "angular") for axis in "xyz")
    return command.topic, stamp, *(round(float(v), 9) for v in parts)
