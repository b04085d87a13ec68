"""Transports to no arm: one simulates it from its mapping, one prints what would be sent."""

from __future__ import annotations

import sys
from collections.abc import Mapping as Table
from collections.abc import Sequence
from typing import TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.body import Body, body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.tables import POSE
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status, Transport
from dfplan.tools.clock import Clock, RealClock

Array = NDArray[np.float64]

_STEP, _SERVO = 0.0025, 60.0
"""s of a step of the simulation; rad/s: how quickly a servo takes back an error, critically damped."""
_AWAY = 0.1  # share of its range that a joint begins away from the home


def start_near_home(mapping: Mapping, seed: int) -> Array:
    """A posture (J,) within the limits and the workspace, drawn near the home or the middle of the limits."""
    robot, rng = body(mapping.robot), np.random.default_rng(seed)
    low, high, box = robot.limits.low, robot.limits.high, mapping.safety.workspace
    reach, home = _AWAY * (high - low), _rest(robot)
    for _ in range(1000):
        posture = np.clip(home + rng.uniform(-reach, reach), low, high)
        if box is None or robot.pose is None or box.holds(robot.forward(posture)):
            return posture
    raise ValueError(
        f"got no posture near {home.tolist()} with the tool in the workspace {box}; correct home or workspace"
    )


def _rest(robot: Body) -> Array:
    return (robot.limits.low + robot.limits.high) / 2 if robot.home is None else robot.home.copy()


class ModelArm:
    """An arm that is simulated from its mapping alone, in the clock's time.

    A joint_trajectory_controller moves setpoints, as what is sent says: from the present one on, cubic between points, the
    end held. Servos bring the joints there. What has expired is not obeyed.

    Attributes:
        told: source -> its numbers, for all but joints; else it gives zeros, a pose no rotation.
        rejected: trajectories that were not obeyed.
        status: the last one.
    """

    def __init__(
        self, mapping: Mapping, clock: Clock | None = None, start: ArrayLike | None = None,
        told: Table[str, ArrayLike] | None = None,
    ) -> None:  # fmt: skip
        """At rest at `start` (J,) rad or m; None: at the home, or in the middle of the limits."""
        self.mapping, self.clock, self.told = mapping, clock or RealClock(), dict(told or {})
        self._body = body(mapping.robot)
        self._q = _rest(self._body) if start is None else self._body.limits.check(start, "start")
        self._setpoint, self._speed, self._qd = self._q.copy(), 0 * self._q, 0 * self._q
        self._motion: JointTrajectory | None = None
        self._time, self.rejected, self._up = self.clock.now(), 0, True
        self.status = Status("DISARMED", "", 0.0)

    def connect(self, handlers: Handlers) -> None:
        """Connect; there is nobody on the other side to ask for anything."""
        self._up = True

    def connected(self) -> bool:
        """Until it is closed."""
        return self._up

    def connection(self) -> int:
        """Always the first."""
        return 1

    def now(self) -> float:
        """The clock's time, s."""
        return self.clock.now()

    def read(self) -> Sequence[Reading]:
        """Joints as they are now, and what is told of the other sources."""
        self._advance()
        now = self.clock.now()
        joints = {"position": self._q / self._body.unit, "velocity": self._qd / self._body.unit}
        out = []
        for source in self.mapping.sources:
            names, zeros = source.names, np.zeros(len(source.names))
            if source.kind == "joint_state":
                out.append(Reading(source.name, self._body.limits.names, joints, now, now))
                continue
            if source.kind == "pose":
                names, zeros = POSE, np.eye(7)[-1]
            value = np.asarray(self.told.get(source.name, zeros), np.float64)
            out.append(Reading(source.name, names, {"value": value}, now, now))
        return out

    def _advance(self) -> None:
        """Simulate up to the present."""
        now = self.clock.now()
        if self._motion is None and not self._qd.any():
            self._time = now
        while self._time + _STEP <= now + 1e-9:
            self._time += _STEP
            self._follow(self._time)
            push = _SERVO**2 * (self._setpoint - self._q) + 2 * _SERVO * (self._speed - self._qd)
            self._qd = self._qd + push * _STEP
            if self._motion is None and (np.abs(self._qd) < 1e-6).all():  # settled
                self._q, self._qd = self._setpoint.copy(), 0 * self._qd
            self._q = self._q + self._qd * _STEP

    def _follow(self, time: float) -> None:
        """Move the setpoints to where they are at `time`."""
        if self._motion is not None:
            after = time - self._motion.stamp
            self._setpoint, self._speed = self._motion.at(after)
            if after >= self._motion.times[-1]:
                self._motion, self._speed = None, 0 * self._speed

    def send(self, trajectory: JointTrajectory) -> bool:
        """Obey it from now on."""
        if not self._up:
            return False
        self._advance()
        names = self._body.limits.names
        taken = trajectory.select(names).taken(self.now(), self._setpoint, self._speed)
        if taken is None:
            self.rejected += 1
        else:
            self._motion = taken
        return True

    def hold(self) -> None:
        """Stop where the setpoint is."""
        self._motion, self._speed = None, 0 * self._speed

    def publish_status(self, status: Status) -> None:
        """Keep it."""
        self.status = status

    def close(self) -> None:
        """Hold and disconnect."""
        self.hold()
        self._up = False


class DryRun:
    """Prints instead of sending.

    With another transport inside, the readings are the real robot's, which stands still. Without one they are those of a
    `ModelArm` that follows what is printed.

    Attributes:
        sent: trajectories that would have been sent.
    """

    def __init__(
        self, mapping: Mapping, inside: Transport | None = None, clock: Clock | None = None,
        out: TextIO | None = None, every: float = 1.0,
    ) -> None:  # fmt: skip
        """Read from `inside`, print to `out` (None: standard output), and no more than a line in `every` s."""
        self.mapping, self.clock = mapping, clock or RealClock()
        self._model = ModelArm(mapping, self.clock)
        self._source: Transport = inside or self._model
        self.out, self.every, self.sent = out or sys.stdout, every, 0
        self._printed, self._state = -np.inf, ""

    def connect(self, handlers: Handlers) -> None:
        """Connect what is read from."""
        self._source.connect(handlers)

    def connected(self) -> bool:
        """Whether that is connected."""
        return self._source.connected()

    def connection(self) -> int:
        """Number of its connection."""
        return self._source.connection()

    def now(self) -> float:
        """The robot's clock, s."""
        return self._source.now()

    def read(self) -> Sequence[Reading]:
        """Real readings, or made-up ones."""
        return self._source.read()

    def send(self, trajectory: JointTrajectory) -> bool:
        """Print it."""
        self.sent += 1
        self._model.send(trajectory)
        if self.clock.now() - self._printed >= self.every:
            self._printed = self.clock.now()
            for c in self.mapping.commands:
                part = trajectory.select(c.joints)
                text = ", ".join(f"{n} {p:.4f}" for n, p in zip(part.names, part.positions[0], strict=True))
                print(
                    f"{trajectory.stamp:10.3f} {c.topic} ({c.kind}): {len(part.times)} points to "
                    f"+{part.times[-1]:.3f} s; at +{part.times[0]:.3f} s {text}",
                    file=self.out,
                )
        return True

    def hold(self) -> None:
        """Print that."""
        self._model.hold()
        print(f"{self.now():10.3f} hold", file=self.out)

    def publish_status(self, status: Status) -> None:
        """Print changes of state."""
        if status.state != self._state:
            self._state = status.state
            print(f"{status.stamp:10.3f} {status.state}: {status.reason}", file=self.out)

    def close(self) -> None:
        """Close what is read from."""
        self._source.close()
