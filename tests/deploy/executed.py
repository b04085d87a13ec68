"""What an arm carries out behind a stock trajectory controller, while messages are lost and the loop is held up.

The controller drops the points of a message whose time has passed, and goes by a cubic from its present setpoint to the
first one still to come (`splice`), or goes on as before until that one's time (`replace`). It checks no limit.
"""

from dataclasses import dataclass

import numpy as np
from robots import Fake, mapping

from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.transport import Reading
from dfplan.tools.clock import FakeClock

STEP = 0.001
"""s between two setpoints of the controller."""
JERKS = (300, 3000)
"""Joint a: 20 ms, or 2 ms, to its full acceleration, rad/s^3."""
WAYS = ("splice", "replace")
LIMITS = {
    "refused": (1.05, 2.0), "stall": (1.05, 2.0), "commands": (1.10, 5.0), "both ways": (1.10, 5.0),
    "bursts": (1.10, 5.0), "bursts, refused": (1.05, 2.0), "one controller's": (1.10, 5.0),
}  # fmt: skip
"""Kind of trouble -> the most that may be carried out, as shares of the limits of speed and acceleration."""


class Waves:
    """A policy that moves both joints at up to 0.9 of their speed limits."""

    stride, steps, ahead, chunk = 2, 1, 12, 4

    def __init__(self, phase):
        self.phase = phase

    def __call__(self, request):
        first = request.step + len(request.committed)
        t = 0.05 * (np.arange(first, request.step + self.ahead) + 1)
        grow = 1 - np.exp(-3 * t)
        rows = np.stack([1.5 * np.sin(0.9 * t), 1.15 * np.sin(1.2 * t + self.phase) * grow], 1)
        return Answer(first, rows, rows, 0.0, run=request.run)


@dataclass
class Trouble:
    """What goes wrong: spans (begin, end) in s in which commands, or readings, are lost; `says`: what `send` answers."""

    commands: tuple = ()
    readings: tuple = ()
    says: bool = True
    stall: tuple = (np.inf, 0.0)
    joints: tuple = (0, 1)

    def loses(self, spans, now):
        return any(begin <= now < end for begin, end in spans)


class Controllers(Fake):
    """A transport to joints that are always at their setpoints; see above."""

    def __init__(self, clock, trouble, way="splice", lag=0.0, noise=0.0):
        super().__init__(clock)
        self.trouble, self.way, self.lag = trouble, way, lag
        self.q, self.v = np.zeros(2), np.zeros(2)
        self.curve = [None, None]  # of each joint: times (H,), positions (H,), velocities (H,)
        self.path, self.last = [self.q.copy()], None
        self.measured, self.noise, self.rng = self.q.copy(), noise, np.random.default_rng(0)

    def advance(self):
        count = int((self.clock.now() + 1e-9) / STEP) + 1 - len(self.path)
        if count < 1:
            return
        rows, t = np.tile(self.q, (count, 1)), STEP * (len(self.path) + np.arange(count))
        for j, curve in enumerate(self.curve):
            if curve is not None:
                rows[:, j], speeds = along(*curve, t)
                self.v[j] = speeds[-1]
        self.q = rows[-1]
        self.path.extend(rows)
        for row in rows if self.lag else rows[-1:]:
            self.measured = self.measured + (row - self.measured) * (STEP / self.lag if self.lag else 1.0)

    @property
    def time(self):
        """Of the present setpoint."""
        return (len(self.path) - 1) * STEP

    def before(self, j, first):
        """What joint j does before the first point to come: times, positions and velocities."""
        if self.way == "splice" or self.curve[j] is None:
            return self.time, self.q[j], self.v[j]
        t = np.arange(self.time, first - 1e-9, STEP)
        return t, *along(*self.curve[j], t)

    def read(self):
        self.advance()
        now = self.clock.now()
        if self.last is None or not self.trouble.loses(self.trouble.readings, now):
            q = self.measured + self.noise * self.rng.normal(size=2)
            position = np.array([q[0], np.rad2deg(q[1])])
            self.last = [
                Reading("joints", ("a", "b"), {"position": position}, self.now(), now),
                Reading("lamp", ("on",), {"value": [0.5]}, self.now(), now),
            ]
        return self.last

    def send(self, trajectory):
        self.advance()
        now, lost = self.clock.now(), self.trouble.loses(self.trouble.commands, self.clock.now())
        times = trajectory.times + trajectory.stamp - self.now() + now
        keep = times > self.time + 1e-9
        for j in range(2):
            if keep.any() and not (lost and j in self.trouble.joints):
                rows = (times, trajectory.positions[:, j], trajectory.velocities[:, j])
                self.curve[j] = spliced(rows, keep, self.before(j, times[keep][0]))
        return self.trouble.says if lost else True


def spliced(rows, keep, before):
    """A message as the controller takes it: the points to come, after what it does until then."""
    return tuple(np.append(first, row[keep]) for first, row in zip(before, rows, strict=True))


def along(times, places, speeds, t):
    """Positions and velocities at times (N,): by cubics, at rest after the end."""
    if len(times) == 1:
        return np.full(len(t), places[0]), np.zeros(len(t))
    i = np.clip(np.searchsorted(times, t, "right") - 1, 0, len(times) - 2)
    h = times[i + 1] - times[i]
    u = (
        t - times[i]
    ) / h  # below 0 before the first point of a message that is replaced: its curve, run backward
    a, b, step = speeds[i] * h, speeds[i + 1] * h, places[i + 1] - places[i]
    c, d = 3 * step - 2 * a - b, a + b - 2 * step
    rest = t >= times[-1]
    place, speed = places[i] + u * (a + u * (c + u * d)), (a + u * (2 * c + 3 * u * d)) / h
    return np.where(rest, places[-1], place), np.where(rest, 0.0, speed)


class Stalls(FakeClock):
    """A clock on which the first wait that ends after `at` takes `late` s too long."""

    def __init__(self, at, late):
        super().__init__()
        self.at, self.late = at, late

    def sleep_until(self, when):
        if when >= self.at and self.late:
            when, self.late = when + self.late, 0.0
        super().sleep_until(when)


def drive(trouble, seconds=3.0, phase=0.0, way="splice", jerk=JERKS[0], lag=0.0, noise=0.0, apart=False):
    """The loop and the arm after `seconds`, armed once; `apart`: a controller for each joint."""
    clock = Stalls(*trouble.stall)
    topics = [["a"], ["b"]] if apart else [["a", "b"]]
    m = mapping(
        robot={"joints": [
            {"name": "a", "lower": -2, "upper": 2, "velocity": 1.5, "acceleration": 6, "jerk": jerk},
            {"name": "b", "lower": -90, "upper": 90, "velocity": 90, "acceleration": 400, "jerk": 20000, "unit": "deg"},
        ]},
        commands=[{"topic": f"/{i}", "joints": names} for i, names in enumerate(topics)],
    )  # fmt: skip
    arm, decide = Controllers(clock, trouble, way, lag, noise), Waves(phase)
    worker = DelayedWorker(decide, clock)
    made = Loop(m, body(m.robot), arm, worker, Driver(worker, decide, 0.05, {}, 2), clock)
    made.connect()

    def over():
        if made.machine.state == "READY" and not made.machine.run:
            made.arm()
        return clock.now() >= seconds

    made.run(over)
    arm.advance()
    return made, arm


def shares(made, arm):
    """The largest speed and acceleration that were carried out, as shares of the limits."""
    speed = np.diff(arm.path, axis=0) / STEP
    limits = made.body.limits
    return (
        float((np.abs(speed) / limits.velocity).max()),
        float((np.abs(np.diff(speed, axis=0)) / STEP / limits.acceleration).max()),
    )


def troubles(kind, rng):
    """Trouble of a kind, at random."""
    at, length = rng.uniform(1.2, 1.5), float(np.exp(rng.uniform(np.log(0.02), 0.0)))
    span = ((at, at + length),)
    if kind == "stall":
        return Trouble(stall=(at, float(np.exp(rng.uniform(np.log(0.005), np.log(2.0))))))
    if kind == "both ways":
        shift = rng.uniform(-0.02, 0.02, 2)  # what is lost first, and what comes again first
        return Trouble(span, ((at + shift[0], at + length + shift[1]),))
    if kind.startswith("bursts"):
        begins = np.sort(rng.uniform(1.2, 2.6, 6))
        return Trouble(tuple((b, b + rng.uniform(0.005, 0.15)) for b in begins), says="refused" not in kind)
    if kind == "one controller's":
        return Trouble(span, joints=(1,))
    return Trouble(span, says=kind != "refused")


def random_drive(kind, seed):
    """One drive with trouble of a kind; the shares that were carried out, and the loop."""
    rng = np.random.default_rng([seed, list(LIMITS).index(kind)])
    # `replace` leaps over what nobody has noticed yet.
    way = WAYS[seed // 2 % 2] if LIMITS[kind][1] <= 2 else WAYS[0]
    settings = {"jerk": JERKS[seed % 2], "way": way, "apart": kind == "one controller's"}
    made, arm = drive(troubles(kind, rng), phase=rng.uniform(0, 0.5), **settings)
    return shares(made, arm), made
