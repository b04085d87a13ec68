"""A robot that somebody moves by hand, and recordings of it, for the tests."""

import numpy as np
from robots import Fake, mapping

from dfplan.deploy import FakeClock, record
from dfplan.deploy.robot.transport import Reading


def path(t):
    """Where the joints are: a in rad, b in deg."""
    return np.array([0.4 * np.sin(t), 20.0 * np.cos(0.7 * t)])


class Guided(Fake):
    """A robot that somebody moves by hand; `broken` maps a source to (begin, end, what) in s."""

    def __init__(self, clock, broken=None):
        super().__init__(clock)
        self.broken, self._last = broken or {}, {}

    def read(self):
        now = self.clock.now()
        q = path(now)
        rows = {
            "joints": (("gripper", "b", "a"), {"position": np.array([7.0, q[1], q[0]])}),
            "lamp": (("on",), {"value": np.array([0.5 + now])}),
        }
        for source, (names, values) in rows.items():
            begin, end, what = self.broken.get(source, (np.inf, np.inf, ""))
            if begin <= now < end and what == "silent":
                continue
            if begin <= now < end and what == "nan":
                values = {key: value * np.nan for key, value in values.items()}
            self._last[source] = Reading(source, names, values, now + 1000.0, now)
        return list(self._last.values())

    def untouched(self):
        """Whether nothing was asked of it, and it was let go."""
        return not (self.sent or self.held or self.status or self.up)


def plan(*asked):
    """A control that asks for something at given times: (time, word), then quits after the last."""
    clock, queue = asked[0], list(asked[1:])

    def control(recording):
        if queue and clock.now() >= queue[0][0] - 1e-9:
            return queue.pop(0)[1]
        return "" if queue else "quit"

    return control


def recorded(*asked, broken=None, m=None, commands=lambda: (), **settings):
    """Episodes, what was told, and the robot."""
    clock, told = FakeClock(), []
    robot = Guided(clock, broken)
    settings = {"commands": commands, "tell": told.append, **settings}
    made = record(m or mapping(), robot, control=plan(clock, *asked), clock=clock, **settings)
    return made, told, robot
