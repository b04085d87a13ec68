"""Samples a robot at the policy's time step, an episode at a time: the same readings and columns as in deployment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.recording.commanded import Commands, Setpoints, listen
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.observe import Assembler, Measured
from dfplan.deploy.robot.transport import Readings
from dfplan.tools.clock import Clock, RealClock

Array = NDArray[np.float64]

"""A robot's clock that goes back by more than this was set anew, s."""


@dataclass(frozen=True)
class Rows:
    """An episode of n env steps.

    Attributes:
        observations: (n, O) as the policy will see them, see `Observed`.
        actions: (n, A) where each joint was told to be one step later, or was, see `Sampler`.
        doubtful: (n, S) whether a sensor that the robot can do without showed something old.
        begun: s on the robot's clock.
        commanded: joints whose actions were told; those of the others were measured.
        notes: sentences on sources that came less than half as often as the mapping says, and on messages that
            were not used.
    """

    observations: Array
    actions: Array
    doubtful: NDArray[np.bool_]
    begun: float
    commanded: tuple[str, ...]
    notes: tuple[str, ...]


class Sampler:
    """One robot, read at the loop's rate and sampled at the policy's `dt`.

    The action of a sample is the setpoint one sample later of each joint that somebody commands, and the measured
    position one sample later of each that nobody does. What is sampled is never filled in: an episode in which a
    required source is stale, a number is missing or a sample is late cannot go on.

    Attributes:
        assembler: newest readings.
        setpoints: what the joints are told.
        optional: (S,) sensors whose source is not required.
        running: whether an episode is under way.
    """

    def __init__(
        self, mapping: Mapping, transport: Readings, clock: Clock | None = None,
        commands: Commands | None = None,
    ) -> None:  # fmt: skip
        """Prepare to read from a transport that is connected later; ValueError for tool actions without kinematics.

        `commands`: what the controllers are told; None: as far as it can be heard on ROS.
        """
        self.mapping, self.transport, self.clock = mapping, transport, clock or RealClock()
        self.body = body(mapping.robot)
        if mapping.policy.action == "tool":
            self.body.forward(self.body.limits.zeros())
        self.assembler, self.setpoints = Assembler(mapping, self.body), Setpoints(mapping, self.body)
        self._commands = listen(transport, mapping) if commands is None else commands
        sensors = mapping.policy.observation
        self._ends = list(accumulate(sensor.size for sensor in sensors))
        free = [s.name for s in sensors if not mapping.source(s.source).required]
        self.optional = tuple(dict.fromkeys(free))
        self.running, self._heard, self._received = False, Counter[str](), dict[str, float]()
        self._now = self._robot_now = self._start = -np.inf
        self._measured: Measured | None = None
        self._set_back = False
        self._samples: list[tuple[Array, Array, list[bool]]] = []

    def read(self) -> None:
        """Take what is new: readings and commands."""
        readings = self.transport.read()
        self._now, robot_now = self.clock.now(), self.transport.now()
        self._robot_now = robot_now
        for r in readings:
            if self._received.get(r.source) != r.received:
                self._received[r.source] = r.received
                self._heard[r.source] += 1
        self._set_back = self.assembler.update(readings, robot_now)
        if self._set_back:  # a simulator was reset: nothing old counts
            self.setpoints.forget()
        self._measured = self.assembler.measured(self._now, robot_now)
        for said in self._commands():
            self.setpoints.hear(said, self._measured)

    def flaw(self) -> str:
        """Why nothing can be recorded now, or empty; after a `read`."""
        stale = self.assembler.stale(self.assembler.ages(self._now, self._robot_now))
        if stale or self._measured is None:
            return stale or "no joint state yet"
        off = self._off()
        if (off > self.mapping.safety.following).any():
            name = self.body.limits.names[int(np.nanargmax(off))]
            return (
                f"joint '{name}' is {np.nanmax(off):.3f} rad from where it was told to be (safety.following is "
                f"{self.mapping.safety.following:g}); is it blocked, or is its controller off?"
            )
        self._seen = self.assembler.observe(self._now, self._robot_now)
        for sensor, end in zip(self.mapping.policy.observation, self._ends, strict=True):
            if not np.isfinite(self._seen.values[end - sensor.size : end]).all():
                topic = self.mapping.source(sensor.source).topic
                return f"sensor '{sensor.name}' has no number (source '{sensor.source}' on {topic})"
        return ""

    def _off(self) -> Array:
        """(J,) how far each joint is from where it was told to be, rad; NaN where nobody commands."""
        assert self._measured is not None
        off = self.setpoints.at(self._robot_now) - self._measured.position
        return np.asarray(np.abs(off) / self.body.limits.scale)

    def start(self) -> None:
        """Begin an episode at the last `read`."""
        self._samples.clear()
        self._set_back = False
        for counts in (self._heard, self.assembler.counts, self.setpoints.counts):
            counts.clear()
        self.running, self._start, self._begun = True, self._now, self._robot_now

    def sample(self) -> str:
        """Take a sample if it is time; why the episode cannot go on, or empty.

        The samples before such a flaw are there until `start` or `discard`.
        """
        flaw = "the robot's clock was set back" if self._set_back else self.flaw()
        dt = self.mapping.policy.dt
        late = self._now - self._start - len(self._samples) * dt
        if flaw or late < -0.5 / self.mapping.loop.rate:
            return flaw
        if late > dt / 2:
            return f"a sample is {late:.3f} s late; is the computer busy?"
        assert self._measured is not None
        told = self.setpoints.at(self._robot_now)
        targets = np.where(np.isnan(told), self._measured.position, told)
        doubtful = [name in self._seen.doubtful for name in self.optional]
        self._samples.append((self._seen.values, targets, doubtful))
        return ""

    @property
    def seconds(self) -> float:
        """Length of the episode under way, s."""
        return (len(self._samples) - 1) * self.mapping.policy.dt

    def discard(self) -> None:
        """End the episode and forget it; and setpoints that the arm is far from, for nobody drives it there."""
        self.running = False
        self._samples.clear()
        if self._measured is not None and (self._off() > self.mapping.safety.following).any():
            self.setpoints.forget()

    def finish(self) -> Rows | None:
        """End the episode; None where it has no two samples, which one action needs."""
        samples, seconds = self._samples, self._now - self._start
        self.running, self._samples = False, []
        if len(samples) < 2:
            return None
        told = ~np.isnan(self.setpoints.at(self._robot_now))
        observations, targets, doubtful = (list(part) for part in zip(*samples, strict=True))
        return Rows(
            np.stack(observations[:-1]),
            np.stack([self._action(row) for row in targets[1:]]),
            np.array(doubtful[:-1], bool).reshape(len(samples) - 1, len(self.optional)),
            self._begun,
            tuple(n for n, yes in zip(self.body.limits.names, told.tolist(), strict=True) if yes),
            self._notes(seconds),
        )

    def _notes(self, seconds: float) -> tuple[str, ...]:
        """What is odd about the sources of an episode."""
        notes = []
        for source in self.mapping.sources:
            rate = self._heard[source.name] / seconds
            if rate < 0.5 * min(source.rate, self.mapping.loop.rate):
                notes.append(
                    f"'{source.name}' came {rate:.1f} times a second, the mapping says {source.rate:g}"
                )
        counts = self.assembler.counts + self.setpoints.counts
        return (*notes, *(f"not used, {reason}: {n} messages" for reason, n in counts.items()))

    def _action(self, targets: Array) -> Array:
        """Joint targets (J,) as an action (A,)."""
        policy, limits = self.mapping.policy, self.body.limits
        tool = policy.action == "tool"
        names = policy.action_joints or (() if tool else limits.names)
        scale, offset = self.body.affine(names)
        rest: Array = (targets[limits.columns(names)] - offset) / scale
        return np.concatenate([self.body.tool(targets), rest]) if tool else rest
