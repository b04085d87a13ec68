"""ArmPick: pick up a cube and put it on a marked spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations, product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import DOWN, HOME

from .base import ArmEnv
from .experts.motion import ArmExpert
from .sensors import Sensor, numbers, pose_sensor

Array = NDArray[np.float64]

CUBE = 0.02
"""Half the cube's edge, m."""
NEAR, AWAY, RELEASED, STILL = 0.025, 0.05, 0.05, 0.02
"""Success: cube this near the spot (m), tool this far from the cube (m), gripper open (m), cube slow (m/s)."""
_LOW, _HIGH = np.array([0.40, -0.175]), np.array([0.65, 0.175])
_APART, _YAW = 0.10, np.deg2rad(40.0)
# The expert heads this far below the cube's and the table's level, m, so that it does arrive.
_BEYOND = 0.004


class ArmPickEnv(ArmEnv):
    """Pick a 4 cm cube and place it on a spot; see `ArmEnv` for what all tasks share.

    Sensors: `object` cube position (3) m and 6D rotation (6); `spot` position of the marked spot (3) m.
    Success: the cube rests on the table within 2.5 cm of the spot, the gripper is open and the TCP at least
    5 cm from the cube's centre.
    Reset options: `object` (3,) x, y (m) and yaw (rad); `spot` (2,) x, y (m).
    """

    task_sensors: ClassVar[tuple[Sensor, ...]] = (
        pose_sensor("object"),
        Sensor("spot", ("spot_x", "spot_y", "spot_z"), ("m",) * 3),
    )
    main_sensor: ClassVar[str] = "object"
    options: ClassVar[tuple[str, ...]] = ("object", "spot")

    def scene(self) -> str:
        """The cube and the spot."""
        return f"""<body name="cube">
  <freejoint name="cube"/>
  <geom name="cube" class="object" type="box" size="{CUBE} {CUBE} {CUBE}" mass="0.08"
    rgba="0.85 0.35 0.15 1"/>
</body>
<body name="spot" mocap="true">
  <geom class="mark" type="cylinder" size="0.03 0.0008" rgba="0.15 0.5 0.25 0.9"/>
</body>"""

    def start_joints(self) -> Array:
        """Above the table, tool about upright."""
        while True:
            q = HOME + self.np_random.uniform(-0.2, 0.2, 7)
            (x, y, z), rotation = panda.forward(q)
            if 0.3 < x < 0.6 and abs(y) < 0.2 and 0.18 < z < 0.4 and rotation[2, 2] < -0.93:
                return q

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw cube and spot, at least 10 cm apart, the cube as far from the tool."""
        tool = self.tcp()[0]
        while True:
            cube, spot = self.np_random.uniform(_LOW, _HIGH), self.np_random.uniform(_LOW, _HIGH)
            free = np.linalg.norm(tool - [*cube, CUBE]) >= _APART
            if free and np.linalg.norm(cube - spot) >= _APART:
                break
        x, y, yaw = *map(float, cube), float(self.np_random.uniform(-_YAW, _YAW))
        if "object" in options:
            x, y, yaw = numbers("object", options["object"], 3).tolist()
        if "spot" in options:
            spot = numbers("spot", options["spot"], 2)
        self._spot = np.array([spot[0], spot[1], 0.0])
        self.physics.data.mocap_pos[0] = self._spot
        self._cube_to(np.array([x, y]), yaw)
        self._distance = max(float(np.hypot(x - spot[0], y - spot[1])), _APART)

    def _cube_to(self, place: Array, yaw: float) -> None:
        self.physics.data.qpos[9:16] = [*place, CUBE, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        self.physics.data.qvel[9:15] = 0.0

    @property
    def cube(self) -> tuple[Array, Array]:
        """Position (3,) m and rotation (3, 3) of the cube."""
        body = self.physics.data.body("cube")
        return np.array(body.xpos), np.array(body.xmat).reshape(3, 3)

    @property
    def goal(self) -> Array:
        """(3,) position of the spot, m."""
        return self._spot

    def sense(self) -> Array:
        """Cube pose, as the one of its 24 equal ones that is turned least, and spot."""
        position, rotation = self.cube
        return np.concatenate([position, rotations.rot6d(least_turned(rotation)), self._spot])

    def _placed(self) -> bool:
        cube, _ = self.cube
        near = float(np.hypot(*(cube - self._spot)[:2])) < NEAR
        return near and abs(float(cube[2]) - CUBE) < 0.005

    def succeeded(self) -> bool:
        """The cube rests on the spot and the open hand has left it."""
        slow = float(np.linalg.norm(self.physics.data.qvel[9:12])) < STILL
        away = float(np.linalg.norm(self.tcp()[0] - self.cube[0])) >= AWAY
        return self._placed() and slow and away and self.physics.opening > RELEASED

    def progress(self) -> float:
        """A quarter for coming to the cube, most of the rest for the way to the spot, a tenth for leaving."""
        cube, _ = self.cube
        apart = float(np.linalg.norm(self.tcp()[0] - cube))
        left = float(np.hypot(*(cube - self._spot)[:2]))
        if self._placed():
            return 0.9 + 0.1 * min(1.0, apart / AWAY) * min(1.0, self.physics.opening / RELEASED)
        return 0.25 * max(0.0, 1.0 - apart / 0.4) + 0.65 * float(
            np.clip(1.0 - left / self._distance, 0.0, 1.0)
        )

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move the cube aside unless the hand is at it or it lies on the spot already."""
        cube, _ = self.cube
        if np.linalg.norm(self.tcp()[0] - cube) < 0.08 or cube[2] > CUBE + 0.005 or self._placed():
            return False
        return self._move(rng, distance, 0.06)

    def lose(self, rng: np.random.Generator) -> bool:
        """Now and then, the held cube lies beside the hand, or the one just left lies beside the spot."""
        apart, opening = float(np.linalg.norm(self.tcp()[0] - self.cube[0])), self.physics.opening
        held = apart < 0.02 and opening < 0.0415
        left = apart > 0.05 and opening > RELEASED and self._placed()
        if not (held or left) or rng.random() > 0.02:
            return False
        return self._move(rng, rng.uniform(0.05, 0.12) if held else rng.uniform(0.025, 0.05), NEAR)

    def _move(self, rng: np.random.Generator, distance: float, clear: float) -> bool:
        """Put the cube `distance` aside, on the table and more than `clear` from the spot; False if there is no place."""
        cube, rotation = self.cube
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        for _ in range(50):
            angle = rng.uniform(-np.pi, np.pi)
            place = cube[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
            inside = (place > _LOW - 0.02).all() and (place < _HIGH + 0.02).all()
            if inside and np.linalg.norm(place - self._spot[:2]) > clear:
                self._cube_to(place, yaw)
                return True
        return False

    def make_expert(self, seed: int) -> PickExpert:
        """The scripted expert."""
        return PickExpert(self, seed, lambda: (*self.cube, self.goal))


def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth between."""
    part = min(1.0, max(0.0, (value - low) / (high - low)))
    return part * part * (3.0 - 2.0 * part)


_EQUAL = np.array(
    [
        np.eye(3)[list(order)] * signs
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
        if np.linalg.det(np.eye(3)[list(order)] * signs) > 0
    ]
)


def least_turned(rotation: Array) -> Array:
    """The rotation (3, 3) nearest to none among the 24 in which a cube looks the same."""
    return np.asarray(rotation @ _EQUAL[np.argmax(np.einsum("ij,kji->k", rotation, _EQUAL))])


def grasp_yaw(rotation: Array) -> float:
    """Turn of the tool that fits the cube, within 45 degrees of straight (a cube looks the same every 90)."""
    flat = int(np.argmin(np.abs(rotation[2])))
    yaw = float(np.arctan2(rotation[1, flat], rotation[0, flat]))
    return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4


class PickExpert(ArmExpert):
    """What it does follows from where cube, hand and spot are, so it recovers by itself."""

    def __init__(
        self, env: ArmEnv, seed: int, task: Callable[[], tuple[Array, Array, Array]], yaw: float = 0.0
    ) -> None:
        """Draw this episode's manner; `seed` fixes it.

        Args:
            env: already reset.
            seed: of all that is drawn.
            task: tells position (3,) m and rotation (3, 3) of the cube to move now, and the spot (3,) m it is to come to.
            yaw: turn of the tool about the vertical with which it is put down, rad.
        """
        super().__init__(env, seed)
        self._task, self._upright = task, rotations.turn([0.0, 0.0, yaw]) @ DOWN
        self._approach = float(self.rng.uniform(0.07, 0.13))
        self._carry = float(self.rng.uniform(0.07, 0.14))
        self._leave = float(self.rng.uniform(0.09, 0.15))
        self._grip = float(self.rng.uniform(-0.002, 0.004))

    def act(self) -> Array:
        """(8,) joint targets (rad) and gripper opening (m) for the state the environment is in now."""
        position, rotation = self.env.tcp()
        cube, cube_rotation, spot = self._task()
        left = float(np.hypot(*(cube - spot)[:2]))
        tool = rotations.turn([0.0, 0.0, grasp_yaw(cube_rotation)]) @ DOWN
        inside = bool((np.abs(rotation.T @ (cube - position)) < [0.014, 0.012, 0.016]).all())
        held = inside and self.env.physics.opening < 0.0415
        down = cube[2] < CUBE + 0.004
        if down and left < (0.012 if held else 0.022):
            return self._release(position, cube, tool)
        if held:
            return self._bring(position, cube, spot)
        return self._fetch(position, rotation, cube, tool)

    def _fetch(self, position: Array, rotation: Array, cube: Array, tool: Array) -> Array:
        """Come to the cube from above through a funnel, and close the fingers there."""
        goal = cube + [0.0, 0.0, self._grip]
        aside = float(np.hypot(*(goal - position)[:2]))
        low, angle = float(position[2] - goal[2]), rotations.angle_between(rotation, tool)
        closing = self.env.physics.opening < 0.075 and aside < 0.014 and abs(low) < 0.016
        if closing or (aside < 0.010 and abs(low) < 0.008 and angle < 0.15):
            return self.drive(goal, tool, float(np.linalg.norm(goal - position)), 0.1, 0.0)
        height = self._approach * _ramp(max(aside, 0.06 * angle), 0.008, 0.035)
        carrot = goal + [0.0, 0.0, height - _BEYOND]
        if aside > 0.015:  # do not sweep the cube away: first up, then aside
            free = _ramp(float(position[2]), 0.045, 0.08)
            carrot[:2] = position[:2] + max(free, 0.02) * (goal - position)[:2]
        return self.drive(carrot, tool, aside + abs(low) + _BEYOND, 0.24, 0.08)

    def _bring(self, position: Array, cube: Array, spot: Array) -> Array:
        """Lift, carry over, and lower onto the spot."""
        left = float(np.hypot(*(cube - spot)[:2]))
        height = self._carry * _ramp(left, 0.008, 0.035)
        free = 1.0 if left < 0.03 else _ramp(float(cube[2]) - CUBE, 0.005, 0.04)
        up = CUBE - _BEYOND + height - float(cube[2])
        way = np.append(free * (spot - cube)[:2], up)
        return self.drive(
            position + way, self._upright, left + abs(float(cube[2]) - CUBE) + _BEYOND, 0.22, 0.0
        )

    def _release(self, position: Array, cube: Array, tool: Array) -> Array:
        """Open, then leave straight up."""
        if self.env.physics.opening < 0.06 and position[2] < 2.5 * CUBE:
            return self.drive(position, tool, 0.0, 0.0, 0.08)
        goal = cube + [0.0, 0.0, self._leave]
        return self.drive(goal, tool, float(np.linalg.norm(goal - position)), 0.18, 0.08)
