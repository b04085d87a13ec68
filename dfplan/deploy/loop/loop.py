"""The control loop: reads, watches, moves the setpoint, sends. It never waits for the network or the policy."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.machine import DISARMED, FAULT, HOLD, READY, RUNNING, Machine
from dfplan.deploy.loop.stats import quantiles
from dfplan.deploy.loop.workers import Worker
from dfplan.deploy.motion.course import Course
from dfplan.deploy.motion.plan import Plan
from dfplan.deploy.motion.safety import SafetyFilter
from dfplan.deploy.motion.under_way import UnderWay
from dfplan.deploy.robot.body import Body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.observe import Assembler, Measured
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Shared, Status, Transport
from dfplan.tools.clock import Clock

Array = NDArray[np.float64]

_LONGEST = 0.5
"""s that the loop may be held up, or nothing be carried out, before a person must arm again."""
_LATE = 0.3  # of a tick
_STILL = 0.2
"""s that positions must have been the same before the arm is at rest."""
_NEAREST = 0.4
"""ticks: a setpoint that is due sooner is left out; a controller would have no time to get there smoothly."""


class Loop:
    """One robot, one policy.

    At each tick the setpoints up to `lead` ahead are fixed by the safety filter; what is sent is those and then the
    quickest stop. So whatever happens to this process, the arm comes to rest by itself, within its limits. Where a
    message was lost, or the loop was held up, the next one begins on the stop that the arm is on meanwhile.

    Attributes:
        machine: the state machine.
        filter: the safety filter.
        plan: the next setpoints, and what the arm carries out.
        stats: counts and times.
        begun: told the loop's time when the transport is connected.
        familiar: says what of an observation the policy was never trained on; the arm is not READY with it.
        after: told of each tick that is over, and of the time at which it began.
    """

    begun: Callable[[float], None] | None = None
    after: Callable[[float], None] | None = None
    familiar: Callable[[Array], str] | None = None

    def __init__(
        self, mapping: Mapping, body: Body, transport: Transport, worker: Worker, driver: Driver, clock: Clock
    ) -> None:
        """Put together; nothing moves, nothing is sent."""
        loop = mapping.loop
        self.mapping, self.body, self.clock = mapping, body, clock
        self.transport, self.worker = transport, worker
        self.dt = 1.0 / loop.rate
        self._every, self._status_every = round(loop.rate / loop.send), round(loop.rate / loop.status)
        forward = None if body.pose is None else body.forward
        self.machine, self.stats = Machine(clock, loop.settle), driver.stats
        self.filter = SafetyFilter(body.limits, self.dt, mapping.safety, forward)
        self.assembler, self.driver = Assembler(mapping, body), driver
        groups = [command.joints for command in mapping.commands]
        interval = 1.0 / mapping.source(mapping.robot.state).rate
        under_way = UnderWay(body.limits, groups, self.dt, interval)
        self.plan = Plan(self.filter, under_way, max(1, round(loop.lead * loop.rate)))
        self._lead = self.plan.lead * self.dt
        self._connection: int | None = None
        self._tick, self._begun, self._next = 0, clock.now(), 0
        self._run, self._resting, self._standing = 0, 0, False
        self._shown, self._over = "", False
        self._others = transport.others if isinstance(transport, Shared) else str

    def connect(self) -> None:
        """Open the transport; its `arm` and `stop` requests come here."""
        self.transport.connect(Handlers(self.arm, self.machine.stop, self.machine.halt))
        self._begun, self._tick = self.clock.now(), 0
        if self.begun is not None:
            self.begun(self._begun)

    def arm(self) -> tuple[bool, str]:
        """Ask to run; whether it was granted, and why not."""
        return self.machine.arm(self.unfit)

    def unfit(self) -> str:
        """Why the arm cannot be driven from where it is, or empty."""
        measured = self.assembler.measured(self.clock.now(), self.transport.now())
        if measured is None:
            return "no joint state yet"
        if self._tick < self.plan.under_way.over:
            return "the arm is still stopping"
        if (measured.still < _STILL).any():
            name = self.body.limits.names[int(np.argmin(measured.still))]
            return f"joint '{name}' moves; wait until the arm is at rest"
        try:
            self.filter.check(measured.position)
        except ValueError as error:
            return str(error)
        return ""

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Tick at the loop's rate until `until()` or `finish()`; then stop the arm and close."""
        while not (self._over or until()):
            self.tick()
            self.clock.sleep_until(self._begun + self._tick * self.dt)
        self.machine.stop("the loop ends")
        for _ in range(round(2.0 / self.dt)):
            if not self.plan.setpoints or self._resting > 5 * self._every:
                break
            self.tick()
            self.clock.sleep_until(self._begun + self._tick * self.dt)
        self.machine.lost("the loop has ended")
        self._report(self.clock.now())
        self.transport.close()
        self.worker.close()

    def start(self) -> threading.Thread:
        """Connect, and run in a thread of its own."""
        self.connect()
        thread = threading.Thread(target=self.run, name="dfplan-loop", daemon=True)
        thread.start()
        return thread

    def finish(self) -> None:
        """Ask a running loop to stop the arm and end."""
        self._over = True

    def tick(self) -> None:
        """One tick; the time of the next is `dt` later, however long this one took."""
        now = self.clock.now()
        behind = int((now - self._begun) / self.dt + _NEAREST) - self._tick
        self._tick += 1 + max(0, behind)
        self.stats.slips += max(0, behind)
        self.stats.tick(now)
        try:
            self._work(now, 1 + max(0, behind))
        except Exception as error:  # a bug here must stop the arm, not leave it to the last command
            self.machine.fault(f"{type(error).__name__}: {error}")
            self.transport.hold()
            self.plan.clear()
        if self._tick % self._status_every == 0 or self._shown != self.machine.state:
            self._report(now)
        if self.after is not None:
            self.after(now)
        self.stats.busy.append(self.clock.now() - now)

    def _work(self, now: float, ticks: int) -> None:
        if ticks * self.dt > _LONGEST:
            self.machine.hold(f"the loop was held up for {ticks * self.dt:.2f} s")
        self._receive(now, ticks)
        state = self.machine.state
        if state == RUNNING and self._run != self.machine.run:
            self._begin(now)
        elif state == RUNNING:
            self._follow(now, ticks)
        elif state in (HOLD, FAULT):
            self._stand()
        else:
            self.plan.clear()
            self._resting = 0
        if self.plan.setpoints and self._resting <= 5 * self._every and self._tick >= self._next:
            self._send(now)

    def _receive(self, now: float, ticks: int) -> None:
        """Take readings; see what is missing and whether the arm is where it was told to be."""
        number = self.transport.connection()
        if not self.transport.connected() or (self._connection is not None and number != self._connection):
            self.machine.lost("the connection to the robot was lost")
            self._connection = number
            self.plan.clear()
            self.assembler.forget()
            return
        self._connection = number
        robot_now = self.transport.now()
        back = self.assembler.update(self.transport.read(), robot_now)
        ages = self.assembler.ages(now, robot_now)
        missing = "the robot's clock was set back" if back else self.assembler.stale(ages)
        if missing and ticks > 1:
            missing += f"; the loop was held up for {ticks * self.dt:.2f} s"
        if not self.worker.alive:
            missing = missing or "the policy's process has ended"
        others = self._others()  # asked whatever else is missing: that is when they are told of us
        missing = missing or others
        if not missing and self.familiar is not None and self.machine.state in (DISARMED, READY):
            missing = self.familiar(self.assembler.observe(now, robot_now).values)
        self.stats.state_age.append(ages[self.mapping.robot.state])
        self.machine.update(missing)
        measured = self.assembler.measured(now, robot_now)
        if measured is not None:
            self._compare(now, measured)

    def _compare(self, now: float, measured: Measured) -> None:
        """See what the arm carries out, and whether it is where that leads."""
        tick = (now - self._begun) / self.dt
        # Of a late tick it is not known which setpoint its reading belongs to.
        if abs(tick - round(tick)) < _LATE:
            self.plan.under_way.see(tick - measured.age / self.dt, measured.position, tick)
        if self.plan.setpoints and self.machine.state == RUNNING and self._run == self.machine.run:
            off = np.abs(self.plan.setpoints[0].position - measured.position) / self.body.limits.scale
            if (off > self.mapping.safety.following).any():
                name = self.body.limits.names[int(np.argmax(off))]
                self.machine.fault(
                    f"joint '{name}' is {off.max():.3f} rad from where it was told to be; is it blocked?"
                )
                self.transport.hold()
                self.plan.clear()  # sent on toward where it was, it would leap there when it is let go

    def _begin(self, now: float) -> None:
        """Armed: start at rest where the arm is."""
        self._run, self._resting, self._standing = self.machine.run, 0, False
        measured, flaw = self.assembler.measured(now, self.transport.now()), self.unfit()
        if measured is None or flaw:
            return self.machine.hold(flaw)
        start = self.plan.begin(measured.position, self._tick)
        self.driver.begin(start.position, self.machine.run)
        self._next = self._tick + -self._tick % self._every
        self._follow(now, 0)

    def _follow(self, now: float, ticks: int) -> None:
        """Fix the setpoints of the next ticks after the policy's motion."""
        robot_now, passed = self.transport.now(), ticks * self.dt
        late = self.plan.late(self._tick) * self.dt
        if late > _LONGEST:
            self.machine.hold(f"nothing that was sent was carried out for {late:.2f} s")
            return self._stand()
        if self.plan.move_on(self._tick):
            self.stats.counts["not carried out"] += 1
            self.driver.resume(self.plan.setpoints[0], self.plan.under_way.time, passed, self.dt)
            passed = 0.0
        flaw = self.driver.decide(lambda: self.assembler.observe(now, robot_now), passed, self._lead)
        if flaw:
            fault, reason = flaw
            (self.machine.fault if fault else self.machine.hold)(reason)
            return self._stand()
        measured = self.assembler.measured(now, robot_now)
        seen = None if measured is None else measured.position
        self.plan.extend(lambda ahead: self.driver.target((ahead + 1) * self.dt), seen)
        self._resting = 0

    def _stand(self) -> None:
        """The quickest stop, from the first setpoint that is not yet due."""
        if not self.plan.setpoints:
            return
        self.plan.move_on(self._tick)
        if not self._standing:
            self._standing, self._next = True, self._tick  # told at once, it begins on what is under way
            self.plan.brake()
        self.plan.extend(lambda ahead: None)
        self._resting = self._resting + 1 if self.plan.resting() else 0

    def trajectory(self, now: float, course: Course) -> JointTrajectory:
        """What is sent, at `now` s on the loop's clock."""
        ticks, positions, velocities = course.points()
        times = self._begun + ticks * self.dt - now
        keep = times > 1e-4
        stamp = self.transport.now() - (self.clock.now() - now)  # times count from the tick's beginning
        names, rows = self.body.limits.names, (times[keep], positions[keep], velocities[keep])
        return JointTrajectory(names, *rows, stamp, stamp + self.mapping.loop.expire)

    def _send(self, now: float) -> None:
        """Hand over what is planned, unless it is not known where the arm is: it ends what it was sent before."""
        lost = self.plan.under_way.doubt and self.machine.state != RUNNING
        if lost or self.machine.state == DISARMED or not self.transport.connected():
            return
        if self.plan.under_way.silent((now - self._begun) / self.dt):
            self.stats.counts["no reading, nothing sent"] += 1
            return
        self._next = self._tick + self._every
        course = self.plan.course(self.driver.time + self._lead * self.driver.speed)
        if self.transport.send(self.trajectory(now, course)):
            self.plan.under_way.add(course)
            self.stats.sent += 1
        else:
            self.stats.dropped += 1

    def _report(self, now: float) -> None:
        self._shown = self.machine.state
        self.transport.publish_status(self.status(now))

    def status(self, now: float | None = None) -> Status:
        """The loop in numbers."""
        s, robot_now = self.stats, self.transport.now()
        ages = self.assembler.ages(self.clock.now() if now is None else now, robot_now)
        refusals = dict(self.filter.counts + self.assembler.counts + s.counts)
        return Status(
            self.machine.state, self.machine.reason, robot_now, s.rate, quantiles(s.periods), ages,
            quantiles(s.inference), s.sent, refusals, s.overruns, self.driver.doubtful, self.driver.speed,
        )  # fmt: skip
