"""The simulated arm as a ROS node: what a real one looks like from the other side, for examples and tests.

    python -m dfplan.envs.arm.robot.node --task reach

It publishes /joint_states and the task's sensors (arrays, such as /target; poses also as /target_pose), and obeys
/arm_controller/joint_trajectory and /gripper_controller/joint_trajectory by the joint_trajectory_controller's rules.
Services: `~/estop`, `~/release`, `~/reset` (next episode), `~/next` (a new scene for the arm as it stands). Diagnostics
count what was accepted and refused.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.panda import GRIPPER, LIMITS
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.bus import Bus, Publish

from ..experts.scripted import TASKS
from ..model import TIMESTEP
from .connection import ARM_TOPIC, GRIPPER_TOPIC, ArmSettings, make_bus, pose_fields
from .controller import TrajectoryController

Array = NDArray[np.float64]
_LOG = logging.getLogger(__name__)

_LATE, _LASTED = 0.05, 0.25
_STILL = 0.01
"""A joint slower than this share of its limit stands."""


class ArmNode:
    """Simulates the arm in real time behind ROS topics.

    Attributes:
        controllers: of the arm (7 joints) and of the gripper.
        seed: of this episode.
        scenes: in this episode, the present one counted.
    """

    def __init__(self, bus: Bus, settings: ArmSettings) -> None:
        """Build the arm and declare its topics on `bus`, which is not yet open."""
        self.settings, self.bus, self.seed = settings, bus, settings.seed
        task = settings.task if settings.task in TASKS else f"arm-{settings.task}"
        self.env: Any = gym.make(TASKS[task]).unwrapped
        steps = round(400.0 / settings.rate)
        self._dt, self._offsets = steps * TIMESTEP, np.arange(1, steps + 1) * TIMESTEP
        self._lock, self._sim, self._tick = threading.Lock(), 1000.0, 0
        self._late, self._fastest, self._success, self._lasted = 0, 0.0, False, 0.0
        self._episode, self._moved, self._turned = 0.0, math.nan, math.nan
        self.controllers = (
            TrajectoryController(LIMITS, np.zeros(7), settings.rules),
            TrajectoryController(GRIPPER, np.zeros(1), settings.rules),
        )
        self._start(settings.seed)
        self._declare()

    def _declare(self) -> None:
        bus, node = self.bus, self.settings.node
        for topic, controller in zip((ARM_TOPIC, GRIPPER_TOPIC), self.controllers, strict=True):
            bus.subscribe(topic, ros.JOINT_TRAJECTORY, self._command(controller))
        self._states = bus.advertise("/joint_states", ros.JOINT_STATE)
        self._diagnostics = bus.advertise("/diagnostics", ros.DIAGNOSTICS)
        self._clock = bus.advertise("/clock", ros.CLOCK) if self.settings.clock else None
        self._sensors: list[tuple[Publish, slice, bool]] = []
        for sensor in self.env.task_sensors:
            columns = self.env.sensors[sensor.name]
            self._sensors.append((bus.advertise(f"/{sensor.name}", ros.ARRAY), columns, False))
            if len(sensor.channels) == 9:
                self._sensors.append((bus.advertise(f"/{sensor.name}_pose", ros.POSE), columns, True))
        for name in ("estop", "release", "reset", "next"):
            bus.serve(f"/{node}/{name}", self._ask(name))

    def now(self) -> float:
        """The robot's clock, s."""
        return self._sim if self.settings.clock else self.bus.now()

    def _command(self, controller: TrajectoryController) -> Callable[[Any, float], None]:
        def heard(message: Any, _: float) -> None:
            with self._lock:
                reason = controller.accept(message, self.now())
            if reason:
                _LOG.info("refused a trajectory: %s", reason)

        return heard

    def _ask(self, name: str) -> Callable[[], tuple[bool, str]]:
        def handler() -> tuple[bool, str]:
            with self._lock:
                if name == "reset":
                    self._start(self.seed + 1)
                    return True, f"episode of seed {self.seed}"
                if name == "next":
                    self.env.place({})
                    self._scene()
                    return True, f"scene {self.scenes}"
                for controller in self.controllers:
                    if name == "estop":
                        controller.stop(self.now())
                    else:
                        controller.release()
            return True, "stopped" if name == "estop" else "released"

        return handler

    def _start(self, seed: int) -> None:
        self.env.reset(seed=seed)
        arm = self.env.physics
        self.controllers[0].reset(arm.q)
        self.controllers[1].reset(np.array([arm.opening]))
        self.scenes, self._fastest = 0, 0.0
        self._scene()
        self.seed = seed  # last: who hears of it finds the arm in its new place

    def _scene(self) -> None:
        self._success, self._lasted, self._episode = False, 0.0, 0.0
        self.scenes += 1

    def run(self, stop: threading.Event) -> None:
        """Simulate until `stop` is set."""
        self.bus.open()
        due, at = time.perf_counter(), self.now()
        while not stop.wait(max(0.0, due - time.perf_counter())):
            behind = time.perf_counter() - due
            if behind > _LATE or abs(self.now() - at) > _LATE:
                self._late += 1
                due, at = time.perf_counter(), self.now()
            self.step(at)
            due, at, self._sim = due + self._dt, at + self._dt, self._sim + self._dt
        self.bus.close()

    def step(self, at: float) -> None:
        """Simulate one tick that begins at `at`, s on the robot's clock, and publish."""
        arm, gripper = self.controllers
        with self._lock:
            physics = self.env.physics
            arm.measured, gripper.measured = physics.q, np.array([physics.opening])
            times: Array = np.asarray(at + self._offsets, np.float64)
            rows = np.concatenate([arm.setpoints(times), gripper.setpoints(times)], 1)
            if arm.moving(at) and np.abs(rows[0, :7] - physics.q).max() > self.settings.follow:
                arm.refused["did not follow"] += 1
                arm.halt(at)
            physics.advance(rows)
            self._watch(at)
            tick, self._tick = self._tick, self._tick + 1
            state, truth = self._joint_state(), self.env.truth() if tick % 2 == 0 else None
        self._publish(tick, state, truth)

    def _watch(self, at: float) -> None:
        self._moved = at if self.controllers[0].moving(at) else self._moved
        speed = float((np.abs(self.env.physics.qd) / LIMITS.velocity).max())
        self._turned = at if speed > _STILL else self._turned
        self._fastest = max(self._fastest, speed)
        self._episode += self._dt
        self.env.notice()
        self._lasted = self._lasted + self._dt if self.env.succeeded() else 0.0
        self._success = self._success or self._lasted >= _LASTED

    def _joint_state(self) -> dict[str, Any]:
        data, arm = self.env.physics.data, self.env.physics
        return {
            "name": [*LIMITS.names, *GRIPPER.names],
            "position": np.append(arm.q, arm.opening),
            "velocity": np.append(arm.qd, data.qvel[7] + data.qvel[8]),
            "effort": np.array(data.actuator_force[:8], np.float64),
        }

    def _publish(self, tick: int, state: dict[str, Any], truth: NDArray[np.floating[Any]] | None) -> None:
        if self._clock is not None:
            self._clock({"clock": ros.time_fields(self._sim)}, math.inf)
        stamp = ros.header(self.now(), "base")
        expires = math.inf if self.settings.clock else self.bus.now() + 0.1
        self._states({"header": stamp, **state}, expires)
        if truth is not None:
            for publish, columns, pose in self._sensors:
                values = np.asarray(truth[columns], np.float64)
                fields = {"header": stamp, "pose": pose_fields(values)} if pose else ros.array_fields(values)
                publish(fields, expires)
        if tick % max(1, round(self.settings.rate / 10)) == 0:
            status = ros.diagnostics_fields(
                f"{self.settings.node}: arm", 0, self.controllers[0].state, self.report(), self.now()
            )
            self._diagnostics(status, expires)

    def report(self) -> dict[str, object]:
        """What the diagnostics say."""
        arm, gripper = self.controllers
        values: dict[str, object] = {
            "state": arm.state,
            "seed": self.seed,
            "scene": self.scenes,
            "time": f"{self._episode:.3f}",
            "success": int(self._success),
            "progress": f"{self.env.progress():.3f}",
            "collided": int(self.env.physics.collided),
            "accepted": arm.accepted,
            "accepted_gripper": gripper.accepted,
            "refused": sum(arm.refused.values()) + sum(gripper.refused.values()),
            "holds": arm.holds,
            "last": f"{arm.last:.6f}",
            "held": f"{arm.held:.6f}",
            "moved": f"{self._moved:.6f}",
            "turned": f"{self._turned:.6f}",
            "oldest": f"{max(arm.oldest, gripper.oldest):.4f}",
            "join": f"{arm.join:.4f}",
            "saturated": arm.saturated,
            "saturated_gripper": gripper.saturated,
            "fastest": f"{self._fastest:.3f}",
            "late": self._late,
        }
        for name, controller in (("", arm), ("gripper ", gripper)):
            values |= {f"refused_{name}{reason}": n for reason, n in controller.refused.items()}
        return values


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM."""
    import tyro

    settings = tyro.cli(ArmSettings, args=args, description=__doc__)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    ArmNode(make_bus(settings), settings).run(stop)


if __name__ == "__main__":
    main()
