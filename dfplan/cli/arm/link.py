"""How the commands reach an arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dfplan.cli.common import ARM_TASKS

if TYPE_CHECKING:
    from dfplan.deploy import Clock, Mapping, Transport

Kind = Literal["ros2", "rosbridge", "sim", "dry-run"]


@dataclass(frozen=True)
class Link:
    """Which arm, and where.

    Attributes:
        robot: mapping file, see docs/deploy.md; ur5e, panda, xarm6, so101; or arm-pick, arm-reach: the simulated arm's ROS node.
        task: without --robot: the simulated task.
        seed: of the simulated task's scenes, or of where the simulated robot begins.
        host: of the rosbridge server.
        port: of the rosbridge server.
        ros1: the server is one of ROS 1.
        sim_time: take the time from /clock.
        sure: drive it although `dfplan check` doubts the mapping, or its readings are unlike the demonstrations.
    """

    robot: Path | None = None
    task: str = "arm-pick"
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 9090
    ros1: bool = False
    sim_time: bool = False
    sure: bool = False

    def connect(self, kind: Kind, clock: Clock | None = None) -> tuple[Mapping, Transport]:
        """The mapping and the transport to the arm, not yet open; a simulated one is in the time of `clock`, None: the real one.

        Raises:
            ValueError: without a mapping file, or of a doubtful one.
        """
        from dfplan.deploy import DryRun, ModelArm, load_mapping
        from dfplan.deploy.check import doubts
        from dfplan.deploy.robot.virtual import start_near_home

        if self.robot is None and kind in ("ros2", "rosbridge"):
            raise ValueError(
                f"got no --robot with --transport {kind}; give the robot's mapping file, see docs/deploy.md"
            )
        task, mapping, own = self.task, None, False
        if str(self.robot) in ARM_TASKS:
            from dfplan.envs import arm_mapping

            task = str(self.robot)
            mapping = arm_mapping(_simulated(task))
        elif self.robot is not None:
            mapping = load_mapping(self.robot)
            own = not mapping.robot.model  # that is the arm of the simulated tasks
            if not self.sure and (found := doubts(mapping)):
                raise ValueError(f"{self.robot}: {'; '.join(found)}; correct the mapping, or say --sure")
        if mapping is not None and kind in ("ros2", "rosbridge"):
            return mapping, self._ros(mapping, kind)
        if kind == "dry-run" and mapping is not None:
            return mapping, DryRun(mapping)
        if own and mapping is not None:
            return mapping, ModelArm(mapping, clock, start_near_home(mapping, self.seed))
        from dfplan.envs import SimArm, arm_mapping

        env = _simulated(task)
        arm = SimArm(env, clock)
        arm.reset(self.seed)
        mapping = mapping or arm_mapping(env)
        return mapping, arm if kind == "sim" else DryRun(mapping, arm)

    def _ros(self, mapping: Mapping, kind: Kind) -> Transport:
        if kind == "ros2":
            from dfplan.deploy.ros.ros2 import ros2_transport

            return ros2_transport(mapping, use_sim_time=self.sim_time)
        from dfplan.deploy.ros.rosbridge import rosbridge_transport

        return rosbridge_transport(
            mapping, host=self.host, port=self.port, ros1=self.ros1, use_sim_time=self.sim_time
        )


def _simulated(task: str) -> Any:
    """The environment of a task, for an arm that is driven without end."""
    from dfplan import envs

    return envs.make(task, action="ee", max_episode_steps=10**9).unwrapped


LINK = Link()
