"""A transport that prints what would be sent, and sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.tables import POSE
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status, Transport
from dfplan.tools.clock import Clock, RealClock


class DryRun:
    """Prints instead of sending.

    With another transport inside, the readings are the real robot's, which stands still. Without one they are made up:
    joints that follow what is printed, from `home` or the middle of their limits, and zeros for everything else.

    Attributes:
        sent: trajectories that would have been sent.
    """

    def __init__(
        self, mapping: Mapping, inside: Transport | None = None, clock: Clock | None = None,
        out: TextIO | None = None, every: float = 1.0,
    ) -> None:  # fmt: skip
        """Read from `inside`, print to `out` (None: standard output), and no more than a line in `every` s."""
        self.mapping, self.inside, self.clock = mapping, inside, clock or RealClock()
        self.out, self.every, self.sent = out or sys.stdout, every, 0
        self._body = body(mapping.robot)
        low, high, home = self._body.limits.low, self._body.limits.high, self._body.home
        self._q = (low + high) / 2 if home is None else home.copy()
        self._last: JointTrajectory | None = None
        self._printed, self._state = -np.inf, ""

    def connect(self, handlers: Handlers) -> None:
        """Connect the transport inside."""
        if self.inside is not None:
            self.inside.connect(handlers)

    def connected(self) -> bool:
        """Whether the transport inside is."""
        return self.inside is None or self.inside.connected()

    def connection(self) -> int:
        """Number of its connection."""
        return 1 if self.inside is None else self.inside.connection()

    def now(self) -> float:
        """The robot's clock, s."""
        return self.clock.now() if self.inside is None else self.inside.now()

    def read(self) -> Sequence[Reading]:
        """Real readings, or made-up ones."""
        if self.inside is not None:
            return self.inside.read()
        now, qd = self.clock.now(), np.zeros_like(self._q)
        if self._last is not None:
            self._q, qd = self._last.at(now - self._last.stamp)
        joints = {"position": self._q / self._body.unit, "velocity": qd / self._body.unit}
        out = []
        for source in self.mapping.sources:
            names, values = source.names, {"value": np.zeros(len(source.names))}
            if source.kind == "joint_state":
                names, values = self._body.limits.names, joints
            elif source.kind == "pose":
                names, values = POSE, {"value": np.eye(7)[-1]}
            out.append(Reading(source.name, names, values, now, now))
        return out

    def send(self, trajectory: JointTrajectory) -> bool:
        """Print it."""
        self.sent, self._last = self.sent + 1, trajectory
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
        print(f"{self.now():10.3f} hold", file=self.out)

    def publish_status(self, status: Status) -> None:
        """Print changes of state."""
        if status.state != self._state:
            self._state = status.state
            print(f"{status.stamp:10.3f} {status.state}: {status.reason}", file=self.out)

    def close(self) -> None:
        """Close the transport inside."""
        if self.inside is not None:
            self.inside.close()
