"""What the core asks of a connection to a robot: named readings in, joint trajectories out. No ROS here.

Two clocks. The *loop's* clock is local and monotonic (`time.perf_counter`, or a fake one in tests). The *robot's*
clock (`Transport.now`) is what stamps are in: ROS time, simulated time, or the local clock where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.cubic import cubic
from dfplan.deploy.robot.limits import fix
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One message of one source.

    Attributes:
        source: name of the source in the mapping, such as `joints`.
        names: (N,) what each number belongs to: joint names, or the source's own column names.
        values: field -> (N,): `position`, `velocity`, `effort` of joints, `value` of anything else. A field that the
            message left empty is left out here. Numbers may be NaN: judging them is the core's task.
        stamp: when it was measured, s on the robot's clock; NaN where the message has no stamp.
        received: when it arrived, s on the loop's clock.
    """

    source: str
    names: tuple[str, ...]
    values: Mapping[str, Array]
    stamp: float
    received: float

    def __post_init__(self) -> None:
        """Copy the numbers, read-only; ValueError where a field has not one for every name."""
        fixed = {}
        for key, value in self.values.items():
            row = np.array(value, np.float64)
            if row.shape != (len(self.names),):
                raise ValueError(
                    f"source '{self.source}': got {key} of shape {row.shape}, expected one number for each of "
                    f"{list(self.names)}"
                )
            row.setflags(write=False)
            fixed[key] = row
        object.__setattr__(self, "values", fixed)


@dataclass(frozen=True)
class JointTrajectory:
    """A motion of named joints, which ends at rest: what is left to do if nothing else ever arrives.

    Attributes:
        names: (J,) joints, in the mapping's order.
        times: (H,) s after `stamp`, above 0 and strictly increasing.
        positions: (H, J) rad or m.
        velocities: (H, J) rad/s or m/s; the last row is 0.
        stamp: time 0 of `times`, s on the robot's clock.
        expires: s on the robot's clock; a transport must not hand it over later, whatever held it up.
    """

    names: tuple[str, ...]
    times: Array
    positions: Array
    velocities: Array
    stamp: float
    expires: float

    def __post_init__(self) -> None:
        """Copy the numbers, read-only; ValueError for what an arm would refuse."""
        size = (len(self.times), len(self.names))
        for key, shape in (("times", size[:1]), ("positions", size), ("velocities", size)):
            value = np.asarray(getattr(self, key), np.float64)
            if value.shape != shape or not size[0] or not np.isfinite(value).all():
                raise ValueError(
                    f"got {key} of shape {value.shape} for joints {list(self.names)}, expected finite numbers in {shape}"
                )
            fix(self, key, value)
        if self.times[0] <= 0 or (np.diff(self.times) <= 0).any():
            raise ValueError(
                f"got times {self.times.tolist()}, expected them above 0 and strictly increasing"
            )

    def select(self, names: Sequence[str]) -> JointTrajectory:
        """The part for one controller: those joints, in that order; ValueError for a joint that is not here."""
        columns = [self.names.index(one_of("joint", n, self.names)) for n in names]
        positions, velocities = self.positions[:, columns], self.velocities[:, columns]
        return replace(self, names=tuple(names), positions=positions, velocities=velocities)

    def taken(self, now: float, position: Array, velocity: Array) -> JointTrajectory | None:
        """The motion as a joint_trajectory_controller takes it at `now`, s on the robot's clock: from its setpoint on.

        Points that are past by then are left out, and a first one is the setpoint: `position` (J,) and `velocity` (J,).
        None where it has expired or has no point left.
        """
        after = max(0.0, now - self.stamp)
        keep = self.times > after + 1e-6
        if now > self.expires or not keep.any():
            return None
        times = np.concatenate([[after], self.times[keep]])
        rows = np.vstack([position, self.positions[keep]]), np.vstack([velocity, self.velocities[keep]])
        # A second is added to the times and taken from the stamp: a first time of 0 is not for messages.
        return JointTrajectory(self.names, times + 1.0, *rows, self.stamp - 1.0, self.expires)

    def at(self, time: float) -> tuple[Array, Array]:
        """Position (J,) and velocity (J,) `time` s after the stamp: cubic between points, the ends beyond them."""
        if len(self.times) == 1:
            return self.positions[0].copy(), self.velocities[0].copy()
        t = float(np.clip(time, self.times[0], self.times[-1]))
        i = int(np.clip(np.searchsorted(self.times, t) - 1, 0, len(self.times) - 2))
        h = self.times[i + 1] - self.times[i]
        q, v, share = self.positions, self.velocities, (t - self.times[i]) / h
        position, velocity, _ = cubic(q[i], q[i + 1], v[i], v[i + 1], h, share)
        return position, velocity


@dataclass(frozen=True)
class Status:
    """What the loop says about itself; a transport publishes it (diagnostics), a command line prints it.

    Attributes:
        state: `DISARMED`, `READY`, `RUNNING`, `HOLD` or `FAULT`.
        reason: why it is in that state.
        stamp: s on the robot's clock.
        rate: ticks per second, over the last window.
        period: p50, p99 and longest time between ticks, s.
        ages: source -> age of what was used last, s.
        inference: p50, p99 and longest time for a chunk, s.
        sent: commands handed to the transport.
        refusals: reason -> how often something was refused or changed.
        overruns: chunks that came too late.
        doubtful: sensors that are not trusted now.
        speed: what the monitor allows of the full speed, 0 to 1.
    """

    state: str
    reason: str
    stamp: float
    rate: float = 0.0
    period: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ages: Mapping[str, float] = field(default_factory=dict)
    inference: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sent: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    overruns: int = 0
    doubtful: tuple[str, ...] = ()
    speed: float = 1.0


@dataclass(frozen=True)
class Handlers:
    """What the robot's side may ask for, such as by `~/arm` and `~/stop`. Each may be called from any thread.

    Attributes:
        arm: -> whether it was done, and a sentence.
        stop: the same; stopping is always done.
        halt: told why the arm is to stop although nobody asked this controller; acknowledges no fault.
    """

    arm: Callable[[], tuple[bool, str]]
    stop: Callable[[], tuple[bool, str]]
    halt: Callable[[str], object] = str


class Readings(Protocol):
    """Where readings come from."""

    def now(self) -> float:
        """The robot's clock, s."""

    def read(self) -> Sequence[Reading]:
        """The newest reading of each source that has any; the same one again if nothing newer came."""


@runtime_checkable
class Transport(Readings, Protocol):
    """A connection to one robot. No method waits for the network: they run in the control loop's thread."""

    def connect(self, handlers: Handlers) -> None:
        """Open the connection and begin to receive, in threads of its own; wait for nothing but its own set-up."""

    def connected(self) -> bool:
        """Whether commands can be handed over now. Not a proof that the arm is alive: its readings' age is."""

    def connection(self) -> int:
        """Number of the connection: counts up each time it is made again, so a short drop between ticks shows."""

    def send(self, trajectory: JointTrajectory) -> bool:
        """Replace the motion under way; False if it was not handed over: the one before is then taken to go on.

        Never queues: what cannot be handed over at once is dropped, and what has expired is not handed over.
        """

    def hold(self) -> None:
        """Ask the arm to stop by its own means and stay there: cancel goals, drop what is queued. May be repeated."""

    def publish_status(self, status: Status) -> None:
        """Tell the robot's side, about twice a second and at each change of state."""

    def close(self) -> None:
        """Hold, then close the connection. Never raises; may be repeated."""


@runtime_checkable
class Shared(Protocol):
    """A transport to an arm that others may command as well."""

    def others(self) -> str:
        """Who else commands it now, in words; empty where nobody is known of. Asked at every tick."""


def reading(source: str, names: Sequence[str], stamp: float, received: float, **values: ArrayLike) -> Reading:
    """A reading from plain lists: `reading("joints", names, t, t, position=q, velocity=qd)`; empty ones are left out."""
    rows = {key: np.asarray(value, np.float64) for key, value in values.items()}
    return Reading(source, tuple(names), {k: v for k, v in rows.items() if v.size}, stamp, received)
