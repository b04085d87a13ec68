"""A robot, a policy and a mapping for the tests: no physics, no network, no time."""

import numpy as np

from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.mapping import Mapping, parse
from dfplan.deploy.robot.transport import Reading
from dfplan.tools.clock import FakeClock
from dfplan.train.config import from_dict

YAML = """
robot:
  name: two
  joints:
    - {name: a, lower: -2, upper: 2, velocity: 1.5, acceleration: 6, jerk: 300}
    - {name: b, lower: -90, upper: 90, velocity: 90, acceleration: 400, jerk: 20000, unit: deg}
sources:
  - {name: joints, topic: /joint_states, kind: joint_state, rate: 100}
  - {name: lamp, topic: /lamp, names: [on], rate: 20, max_age: 0.2, required: false}
commands:
  - {topic: /arm/joint_trajectory, joints: [a, b]}
policy:
  dt: 0.05
  observation:
    - {name: arm, source: joints, field: position, names: [a], unit: rad}
    - {name: arm, source: joints, field: position, names: [b], unit: deg}
    - {name: lamp, source: lamp, names: [on]}
loop: {settle: 0.1}
"""


def mapping(**changes):
    values = parse(YAML)
    for key, change in changes.items():
        values[key] = {**values[key], **change} if isinstance(change, dict) and key in values else change
    return from_dict(Mapping, values, "test")


def limits(count=3, jerk=2000.0, margin=0.05):
    ones = np.ones(count)
    return JointLimits(
        tuple(f"j{i}" for i in range(count)), -2 * ones, 1.5 * ones, 1.2 * ones, 5 * ones, jerk * ones,
        margin * ones, np.zeros(count, bool),
    )  # fmt: skip


class Fake:
    """What every transport of the tests does: its clock is 1000 s ahead, and it notes what it is asked."""

    def __init__(self, clock):
        self.clock, self.up, self.number = clock, True, 1
        self.sent, self.held, self.status = [], 0, None

    def connect(self, handlers):
        self.handlers = handlers

    def connected(self):
        return self.up

    def connection(self):
        return self.number

    def now(self):
        return self.clock.now() + 1000.0

    def send(self, trajectory):
        assert self.up, "sent while disconnected"
        self.sent.append((self.clock.now(), trajectory))
        return True

    def hold(self):
        self.held += 1

    def publish_status(self, status):
        self.status = status

    def close(self):
        self.up = False


class Robot(Fake):
    """Its joints are always where they were told to be, unless something is broken."""

    def __init__(self, clock):
        super().__init__(clock)
        self.alive, self.blocked = True, False
        self.q, self.lamp_stamp = np.zeros(2), None

    def read(self):
        now = self.clock.now()
        if self.alive:
            self.stamp, self.received = self.now(), now
            if self.sent and not self.blocked:
                last = self.sent[-1][1]
                self.q = last.at(self.now() - last.stamp)[0]
        degrees = np.array([self.q[0], np.rad2deg(self.q[1]), 7.0])
        joints = Reading("joints", ("a", "b", "gripper"), {"position": degrees}, self.stamp, self.received)
        lamp = Reading(
            "lamp", ("on",), {"value": [0.5]}, self.now() if self.lamp_stamp is None else self.lamp_stamp, now
        )
        return [joints, lamp]


class Sines:
    """A policy that waves: action i is the same whenever it is decided."""

    stride, steps, ahead, chunk = 2, 3, 12, 4

    def __init__(self):
        self.requests, self.break_at, self.nan_at, self.score = [], None, None, ()

    def action(self, step):
        phase = 0.05 * (step + 1)
        return np.array([0.4 * np.sin(2 * phase) ** 2, 0.3 * np.sin(1.5 * phase) ** 2])

    def __call__(self, request):
        self.requests.append(request)
        first = request.step + len(request.committed)
        rows = np.stack([self.action(i) for i in range(first, request.step + self.ahead)])
        if self.nan_at is not None and request.step >= self.nan_at:
            rows = rows * np.nan
        broken = self.break_at is not None and request.step >= self.break_at
        return Answer(
            first, rows, rows, 0.0, {}, tuple(self.score), "it broke" if broken else "", request.run
        )


def loop(delay=0.0, decide=None, robot=None, clock=None, handover="committed", **changes):
    clock = clock or FakeClock()
    m, decide = mapping(**changes), decide or Sines()
    robot = robot or Robot(clock)
    worker = DelayedWorker(decide, clock, delay)
    driver = Driver(worker, decide, m.policy.dt, {"arm": ("arm",), "lamp": ("lamp",)}, 2, handover)
    made = Loop(m, body(m.robot), robot, worker, driver, clock)
    made.connect()
    return made, robot, decide


def play(made, seconds, arm=True):
    """Tick for so long; arm as soon as that is possible."""
    end, asked = made.clock.now() + seconds, not arm
    while made.clock.now() < end - 1e-9:
        made.tick()
        made.clock.sleep_until(made._begun + made._tick * made.dt)
        if not asked and made.machine.state == "READY":
            asked = made.arm()[0]
