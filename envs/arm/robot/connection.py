"""The simulated arm's settings and connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import rotations
from dfplan.deploy.ros.bus import Bus

from .controller import Rules

Array = NDArray[np.float64]

ARM_TOPIC = "/arm_controller/joint_trajectory"
GRIPPER_TOPIC = "/gripper_controller/joint_trajectory"


@dataclass(frozen=True)
class ArmSettings:
    """What is simulated and how it is connected.

    Attributes:
        task: `reach`, `pick` or `swap`.
        seed: of the first episode; `~/reset` adds 1.
        node: name of the node.
        bus: `ros2`: a node of ROS 2. `rosbridge`, `rosbridge1`: a client of a rosbridge server of ROS 2 or ROS 1.
        host: of the rosbridge server.
        port: of the rosbridge server.
        rate: joint states per second, 400 divided by a whole number.
        follow: a joint this far from its setpoint stops the motion, rad.
        clock: publish /clock and stamp with it: simulated time.
        rules: of both controllers.
    """

    task: Literal["reach", "pick", "swap"] = "reach"
    seed: int = 0
    node: str = "sim_arm"
    bus: Literal["ros2", "rosbridge", "rosbridge1"] = "ros2"
    host: str = "127.0.0.1"
    port: int = 9090
    rate: float = 200.0
    follow: float = 0.3
    clock: bool = False
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        """Refuse a rate that does not fit the physics' steps.

        Raises:
            ValueError: with the rates that do.
        """
        steps = 400.0 / self.rate if self.rate > 0 else 0.0
        if steps < 1 or abs(steps - round(steps)) > 1e-9 or steps > 40:
            raise ValueError(f"got rate={self.rate}, expected 400 / n Hz such as 400, 200, 100 or 50")


def pose_fields(values: Array) -> dict[str, dict[str, float]]:
    """Position (3) and 6D rotation as a Pose."""
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotations.matrix(values[3:]).ravel())
    return {
        "position": dict(zip("xyz", values[:3].tolist(), strict=True)),
        "orientation": dict(zip("wxyz", quaternion.tolist(), strict=True)),
    }


def make_bus(settings: ArmSettings) -> Bus:
    """The connection that the settings ask for."""
    if settings.bus == "ros2":
        from dfplan.deploy.ros.ros2 import Ros2Bus

        return Ros2Bus(settings.node)
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    ros1 = settings.bus == "rosbridge1"
    return RosbridgeBus(settings.node, host=settings.host, port=settings.port, ros1=ros1)
