"""The simulated arm as a robot: physics run up to the clock's time whenever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.limits import Box, Safety
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.panda import GRIPPER_OPEN, HOME, JOINTS, LIMITS
from dfplan.deploy.robot.tables import Command, Joint, LoopSettings, PolicyMap, Robot, Sensor, Source
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status
from dfplan.tools.clock import Clock, RealClock

from ..base import HOLD
from ..model import SUBSTEPS, TIMESTEP
from .connection import ARM_TOPIC, GRIPPER_TOPIC

Array = NDArray[np.float64]

_NAMES = (*JOINTS, "gripper")
_SHARE, _MARGIN = 0.7, 0.06


def arm_mapping(env: Any, safety: Safety | None = None, loop: LoopSettings | None = None) -> Mapping:
    """The mapping of a simulated arm task.

    Args:
        env: an `ArmEnv`.
        safety: None: the defaults, and a workspace as large as the table.
        loop: None: the defaults.
    """
    speeds = tuple(f"qd{i}" for i in range(1, 8))
    observation = [
        Sensor("joints", "joints", "position", JOINTS, "rad"),
        Sensor("joints", "joints", "velocity", JOINTS, "rad", columns=speeds),
        Sensor("joints", "joints", "position", ("gripper",), "m"),
        Sensor("ee", "joints", "position", JOINTS, "rad", "tool"),
    ]
    sources = [Source("joints", "/joint_states", "joint_state", rate=100.0)]
    for sensor in env.task_sensors:
        name, names = sensor.name, sensor.channels
        sources.append(Source(name, f"/{name}", "array", names, 20.0, 0.2, required=False))
        observation.append(Sensor(name, name, "value", names))
    tool = env.action_kind == "ee"
    rest = (*map(float, HOME), GRIPPER_OPEN)
    # Its servos overshoot, and fall behind and catch up too fast where their torque does not do: targets stay that far
    # within the limits that the joints themselves must keep.
    joints = [
        Joint(name, velocity=_SHARE * v, acceleration=_SHARE * a, margin=_MARGIN)
        for name, v, a in zip(JOINTS, LIMITS.velocity.tolist(), LIMITS.acceleration.tolist(), strict=True)
    ]
    return Mapping(
        Robot((*joints, Joint("gripper", "m", grips=True)), "arm", model="panda", home=rest),
        tuple(sources),
        (Command(ARM_TOPIC, JOINTS), Command(GRIPPER_TOPIC, ("gripper",))),
        PolicyMap(0.05, tuple(observation), "tool" if tool else "joints", ("gripper",) if tool else ()),
        safety or Safety(workspace=Box((-0.3, -0.8, 0.0), (1.0, 0.8, 1.2))),
        loop or LoopSettings(),
    )


class SimArm:
    """A transport to a MuJoCo arm in this process.

    It obeys trajectories as an arm's controller does: from the present target on, cubic between points, the end held.
    Trajectories that have expired are rejected and counted.

    Attributes:
        env: the environment; its scene, sensors, disturbances and success are used.
        time: simulated s since the episode began.
        success: whether success has lasted as long as an episode needs.
        rejected: trajectories that were not obeyed.
        commands: (target position, measured position) of each physics step where `record` is set.
    """

    def __init__(self, env: Any, clock: Clock | None = None, record: bool = False) -> None:
        """Build; `reset` begins an episode.

        Args:
            env: an `ArmEnv`.
            clock: of the loop; None: the real one.
            record: keep targets and measured joints.
        """
        self.env, self.clock, self.record = env, clock or RealClock(), record
        self.commands: list[tuple[Array, Array]] = []
        self.up, self._number, self.status = False, 0, Status("DISARMED", "", 0.0)
        self.reset(0)

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Begin an episode; the arm stands still in it until it is driven."""
        observation, _ = self.env.reset(seed=seed, options=options)
        physics = self.env.physics
        self._origin, self._steps = self.clock.now(), 0
        self._target = np.append(physics.q, physics.opening)
        self._speed: Array = np.zeros(8)
        self._motion: JointTrajectory | None = None
        self._seen, self._lasted, self.success, self.rejected = observation, 0, False, 0
        self._stamp, self._started = 0.0, False
        self.commands.clear()

    @property
    def time(self) -> float:
        """Simulated s since the episode began."""
        return self._steps * TIMESTEP

    def connect(self, handlers: Handlers) -> None:
        """Connect; there is nobody on the other side to ask for anything."""
        self.up, self._number = True, self._number + 1

    def connected(self) -> bool:
        """Whether `up`; tests clear it."""
        return self.up

    def connection(self) -> int:
        """Number of the connection."""
        return self._number

    def now(self) -> float:
        """Simulated time, s, counted on from the clock's."""
        return self.clock.now() - self._origin

    def advance(self) -> None:
        """Simulate up to the present."""
        physics = self.env.physics
        while (self._steps + 1) * TIMESTEP <= self.now() + 1e-9:
            if self._steps % SUBSTEPS == 0 and self._started:
                self.env.meddle()
            row = self._follow((self._steps + 1) * TIMESTEP)
            physics.advance(row[None])
            if self.record:
                self.commands.append((row, np.append(physics.q, physics.opening)))
            self._steps += 1
            if self._steps % SUBSTEPS == 0:
                self._control_step()

    def _follow(self, time: float) -> Array:
        """Targets (8,) of the joints' servos at `time` s."""
        if self._motion is not None:
            after = time - self._motion.stamp
            self._target, self._speed = self._motion.at(after)
            if after >= self._motion.times[-1]:
                self._motion, self._speed = None, np.zeros(8)
        return self._target.copy()

    def _control_step(self) -> None:
        env = self.env
        self._seen = env.observe(int(self._started))[0]
        self._stamp = self.time
        self._lasted = self._lasted + 1 if env.succeeded() else 0
        self.success = self.success or self._lasted >= HOLD

    def read(self) -> Sequence[Reading]:
        """Joints as they are now, the other sensors as of the last control step."""
        self.advance()
        physics, now = self.env.physics, self.clock.now()
        q, qd = np.append(physics.q, physics.opening), np.append(physics.qd, 0.0)
        out = [Reading("joints", _NAMES, {"position": q, "velocity": qd}, self.time, now)]
        for sensor in self.env.task_sensors:
            value = np.array(self._seen[self.env.sensors[sensor.name]], np.float64)
            out.append(Reading(sensor.name, sensor.channels, {"value": value}, self._stamp, now))
        return out

    def send(self, trajectory: JointTrajectory) -> bool:
        """Obey it from now on."""
        if not self.up:
            return False
        self.advance()
        taken = trajectory.select(_NAMES).taken(self.now(), self._target, self._speed)
        if taken is None:
            self.rejected += 1
            return True
        self._started, self._motion = True, taken
        return True

    def hold(self) -> None:
        """Stop where the target is."""
        self._motion, self._speed = None, np.zeros(8)

    def publish_status(self, status: Status) -> None:
        """Keep it."""
        self.status = status

    def close(self) -> None:
        """Hold and disconnect."""
        self.hold()
        self.up = False
