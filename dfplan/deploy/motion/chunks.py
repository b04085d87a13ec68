"""From chunks of actions to joint motion: a smooth curve through the targets, and three ways to change chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.deploy.robot.cubic import cubic
from dfplan.deploy.robot.limits import JointLimits
from dfplan.deploy.robot.transport import JointTrajectory
from dfplan.tools.errors import one_of, optional_import

Array = NDArray[np.float64]

HANDOVERS = ("committed", "naive", "ensemble")
"""`committed`: new actions continue those that were executed meanwhile (they were known to the network). Where the network
changed its mind all the same, the first two go over from the old chunk's to its own.
`naive`: a chunk decided without that knowledge replaces the old one at once.
`ensemble`: all chunks that cover a step are averaged, older ones weighing more (Zhao et al. 2023, algorithm 2)."""
_WEIGHT = 0.01
FADE = 2


@dataclass(frozen=True)
class Handover:
    """How a new chunk took over.

    Attributes:
        step: env step of its first action that is used.
        late: actions that came too late to be used; 0 where the hand-over was in time.
        change: (J,) velocity step of the targets at the join, rad/s: last old, first and second new one.
    """

    step: int
    late: int
    change: Array


class Motion:
    """The actions under way and the joint motion through them, in the time of the policy (s since the start).

    Action i is the joint target to be reached at (i + 1) * dt. Between targets the motion is a cubic; at them its
    velocity is the mean slope of both sides. What has been used never changes, so a new chunk joins in position and
    velocity.
    """

    def __init__(self, dt: float, start: Array, handover: str = "committed") -> None:
        """Begin at rest.

        Args:
            dt: s between two actions.
            start: (J,) joints at time 0, rad.
            handover: one of `HANDOVERS`.
        """
        self.dt, self.handover = dt, one_of("hand-over", handover, HANDOVERS)
        self._actions: list[Array] = []
        self._knots: list[Array] = [np.array(start, np.float64)]
        self._speeds: list[Array] = [np.zeros_like(self._knots[0])]
        self._all: dict[int, list[tuple[Array, Array]]] = {}

    @property
    def steps(self) -> int:
        """Env steps that there are actions for."""
        return len(self._actions)

    @property
    def end(self) -> float:
        """Time at which the last action is reached, s."""
        return self.steps * self.dt

    def used(self, time: float) -> int:
        """Env steps whose action can no longer change, when the motion up to `time` has been used."""
        return min(self.steps, max(0, int(np.ceil(time / self.dt - 1e-9))))

    def action(self, step: int) -> Array:
        """(A,) the policy's action of an env step."""
        return self._actions[step]

    def target(self, step: int) -> Array:
        """(J,) the joint target of an env step; -1 is the start."""
        return self._knots[step + 1]

    def accept(self, first: int, actions: Array, joints: Array, time: float) -> Handover:
        """Take a chunk.

        Args:
            first: env step of its first action.
            actions: (M, A) as the policy gave them.
            joints: (M, J) their joint targets, rad.
            time: up to which the motion has been used, s.
        """
        begin = max(first, self.used(time))
        late = begin - first
        if begin > self.steps:
            raise ValueError(
                f"got a chunk from step {first} on, but there are actions only for {self.steps} steps"
            )
        if late >= len(actions):
            return Handover(begin, late, np.zeros_like(self._knots[0]))
        for i in range(begin, first + len(actions)):
            pair = (np.array(actions[i - first], np.float64), np.array(joints[i - first], np.float64))
            action, target = self._merge(i, pair, (i + 1 - begin) / (FADE + 1))
            self._actions[i : i + 1], self._knots[i + 1 : i + 2] = [action], [target]
        if self.handover != "ensemble":
            del self._actions[first + len(actions) :], self._knots[first + len(actions) + 1 :]
        self._slopes(self.used(time))
        self._all = {i: rows for i, rows in self._all.items() if i >= begin}
        return Handover(begin, late, self._change(begin))

    def _merge(self, step: int, pair: tuple[Array, Array], share: float) -> tuple[Array, Array]:
        """What becomes of a new action and its joint target; `share` is how far a step is from the old chunk, 0 to 1."""
        if self.handover == "ensemble":
            return self._average(step, pair)
        if self.handover == "naive" or share >= 1 or step >= self.steps:
            return pair
        action, joints = self._actions[step], self._knots[step + 1]
        return action + share * (pair[0] - action), joints + share * (pair[1] - joints)

    def _average(self, step: int, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        rows = self._all.setdefault(step, [])
        rows.append(pair)
        weights = np.exp(-_WEIGHT * np.arange(len(rows)))
        weights /= weights.sum()
        actions, joints = (weights @ np.stack(column) for column in zip(*rows, strict=True))
        return actions, joints

    def _slopes(self, used: int) -> None:
        """Velocities of the knots after the last used one."""
        knots = self._knots
        del self._speeds[used + 1 :]
        for i in range(used + 1, len(knots)):
            ahead = knots[min(i + 1, len(knots) - 1)] - knots[i - 1]
            self._speeds.append(ahead / (self.dt * (2 if i + 1 < len(knots) else 1)))

    def _change(self, step: int) -> Array:
        k = self._knots[max(0, step - 1) : step + 2]
        return (k[2] - 2 * k[1] + k[0]) / self.dt if step and len(k) == 3 else np.zeros_like(k[0])

    def at(self, time: float) -> tuple[Array, Array, Array]:
        """Position, velocity and acceleration (J,) at `time`; at rest at the ends beyond them."""
        i = int(np.clip(np.floor(time / self.dt), 0, max(0, self.steps - 1)))
        if not self.steps or time <= 0 or time > self.end:
            zero = np.zeros_like(self._knots[0])
            return self._knots[0 if time <= 0 else -1].copy(), zero, zero.copy()
        q, v = self._knots, self._speeds
        return cubic(q[i], q[i + 1], v[i], v[i + 1], self.dt, time / self.dt - i)


def to_trajectory(
    names: Sequence[str],
    start: ArrayLike,
    joints: ArrayLike,
    dt: float,
    stamp: float = 0.0,
    expire: float = 0.1,
) -> JointTrajectory:
    """A whole chunk as one trajectory, which ends at rest.

    Args:
        names: (J,) joints.
        start: (J,) where they are, rad.
        joints: (H, J) targets, `dt` s apart.
        dt: s.
        stamp: s on the robot's clock.
        expire: s after the stamp until which it may be handed over.
    """
    rows = np.asarray(joints, np.float64)
    motion = Motion(dt, np.asarray(start, np.float64))
    motion.accept(0, rows, rows, 0.0)
    times: Array = dt * np.arange(1, len(rows) + 1, dtype=np.float64)
    speeds = np.stack([motion.at(t)[1] for t in times])
    speeds[-1] = 0.0
    return JointTrajectory(tuple(names), times, rows, speeds, stamp, stamp + expire)


def move(
    limits: JointLimits, start: ArrayLike, goal: ArrayLike, *, share: float = 0.2, dt: float = 0.05,
    stamp: float = 0.0, expire: float = 0.1,
) -> JointTrajectory:  # fmt: skip
    """From rest to rest, such as home: as quick as a share of the speed and acceleration limits allows.

    Args:
        limits: of the joints.
        start: (J,) rad, within the limits.
        goal: (J,) rad, within the limits less margin.
        share: of velocity and acceleration, above 0 to 1.
        dt: s between points.
        stamp: s on the robot's clock.
        expire: s after the stamp until which it may be handed over.

    Raises:
        ValueError: for a goal outside the limits.
    """
    ruckig: Any = optional_import("ruckig", "deploy")
    size, q, to = len(limits.names), limits.check(start, "start"), limits.check(goal, "goal")
    if ((to < limits.low) | (to > limits.high)).any() or not 0 < share <= 1:
        raise ValueError(
            f"got goal {to.tolist()} with share {share}, expected it within {limits.low.tolist()} and "
            f"{limits.high.tolist()}, and a share above 0 to 1"
        )
    task, path = ruckig.InputParameter(size), ruckig.Trajectory(size)
    task.current_position, task.target_position = q, to
    task.max_velocity, task.max_acceleration = limits.velocity * share, limits.acceleration * share
    task.max_jerk = limits.jerk * share
    ruckig.Ruckig(size).calculate(task, path)
    times: Array = dt * np.arange(1, 1 + max(2, int(np.ceil(path.duration / dt))), dtype=np.float64)
    rows, speeds, _ = np.array([path.at_time(min(float(t), path.duration)) for t in times]).swapaxes(0, 1)
    speeds[-1] = 0.0
    return JointTrajectory(limits.names, times, rows, speeds, stamp, stamp + expire)
