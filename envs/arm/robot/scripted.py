"""The scripted expert of an arm task as a teleoperator of the simulated arm: recordings that run anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dfplan.deploy.recording.commanded import Said
from dfplan.deploy.recording.recording import observation_info
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.transport import JointTrajectory
from dfplan.deploy.ros import messages as ros

from ..control import Limiter
from ..experts import scripted as experts
from ..model import TIMESTEP
from .sim import SimArm

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LONGEST, _STAY = 20.0, 0.25
"""An attempt is given up after so many s; a demonstration goes on for so long after its success, s."""
_SEND = 0.05
"""s between two commands, as the expert was made for."""


def task_info(env: Any, mapping: Mapping) -> tuple[dict[str, str], dict[str, Any]]:
    """What is known of a task's columns: which are told relative to which, and robomimic's `env_args`."""
    info = experts.describe(env, env.action_kind)
    names, _, _ = observation_info(mapping)
    relative = {k: v for k, v in info["relative"].items() if k in names and v in names}
    return relative, info["env_args"]


class ScriptedTeleoperator:
    """Sends trajectories to a simulated arm as somebody with a joystick would; the `control` of a recording.

    Each episode begins in a new scene. It is kept where the task is done, and discarded where that takes too long
    or the arm touches an obstacle.

    Attributes:
        attempts: episodes begun.
    """

    def __init__(self, arm: SimArm, mapping: Mapping, seed: int = 0) -> None:
        """Drive `arm`, whose controllers are those of `mapping`; `seed` of scenes and manners."""
        self.arm, self.mapping, self.seed, self.attempts = arm, mapping, seed, 0
        self._said: list[Said] = []
        self._next, self._done = 0.0, np.inf
        self._names = tuple(joint.name for joint in mapping.robot.joints)

    def __call__(self, recording: bool) -> str:
        """What is asked of the recorder at this tick."""
        arm = self.arm
        if not recording:
            self._begin()
            return "start"
        arm.advance()
        if arm.env.physics.collided and "obstacle" in arm.env.sensors:
            return "discard"
        if arm.success:
            self._done = min(self._done, arm.time)
        if arm.time >= self._done + _STAY:
            return "stop"
        if arm.time >= _LONGEST:
            return "discard"
        if arm.time >= self._next - 1e-6:
            self._drive()
        return ""

    def commands(self) -> Iterable[Said]:
        """What the controllers were told since the last call."""
        said, self._said = self._said, []
        return said

    def _begin(self) -> None:
        numbers = np.random.SeedSequence([self.seed, self.attempts]).generate_state(2)
        self.attempts += 1
        self.arm.reset(int(numbers[0]))
        self._expert = self.arm.env.make_expert(int(numbers[1]))
        physics = self.arm.env.physics
        self._limiter = Limiter(physics.q, physics.opening)
        self._next, self._done = 0.0, np.inf
        self._drive()

    def _drive(self) -> None:
        """The expert's next command, limited as in its own environment: on to there, and then to rest."""
        rows: NDArray[np.float64] = self._limiter.rows(self.arm.env.physics.q, self._expert.act())
        speed = (rows[-1] - rows[0]) / (TIMESTEP * (len(rows) - 1))
        positions, speeds = np.stack([rows[-1], rows[-1] + speed * _SEND]), np.stack([speed, 0 * speed])
        times, now = np.array([_SEND, 3 * _SEND]), self.arm.now()
        motion = JointTrajectory(self._names, times, positions, speeds, now, now + _SEND)
        self.arm.send(motion)
        self._next += _SEND
        for command in self.mapping.commands:
            fields = ros.trajectory_fields(motion.select(command.joints))
            self._said.append((command, fields, now))
