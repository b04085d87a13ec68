"""ArmReach: bring the tool to a target pose behind an obstacle, without touching it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import DOWN, HOME, LIMITS

from .base import ArmEnv
from .clearance import clearance, crosses
from .experts.motion import ArmExpert, Path
from .sensors import Sensor, numbers, pose_sensor

Array = NDArray[np.float64]

NEAR, TURNED, STILL = 0.02, 0.15, 0.1
"""Success: within this many m and rad, and no joint faster than this, rad/s."""
MARGIN, WIDE = 0.06, 0.085
"""Clearance that the expert keeps from the obstacle and that start and target have, m."""
_START_LOW, _START_HIGH = np.array([0.38, 0.2, 0.12]), np.array([0.58, 0.36, 0.32])
_TARGET_LOW, _TARGET_HIGH = np.array([0.40, 0.18, 0.10]), np.array([0.60, 0.34, 0.28])
# The expert takes no way that brings a joint nearer to its limits than this.
_LOWER, _UPPER = LIMITS.lower + 0.12, LIMITS.upper - 0.12
_HOMES = {side: panda.solve(HOME, (0.48, side * 0.28, 0.2), DOWN, HOME)[0] for side in (-1, 1)}


class ArmReachEnv(ArmEnv):
    """Reach a pose behind an obstacle; see `ArmEnv` for what all tasks share.

    Sensors: `target` position (3) m and 6D rotation (6); `obstacle` lowest (3) and highest (3) corner m.
    Success: TCP within 2 cm and 0.15 rad of the target, all joints below 0.1 rad/s, the obstacle never
    touched in the episode. The straight line from the start to the target always crosses the obstacle.
    Reset options: `target` (9,), `obstacle` (6,) in m.
    """

    task_sensors: ClassVar[tuple[Sensor, ...]] = (
        pose_sensor("target"),
        Sensor(
            "obstacle",
            tuple(f"obstacle_{axis}_{end}" for end in ("low", "high") for axis in "xyz"),
            ("m",) * 6,
        ),
    )
    main_sensor: ClassVar[str] = "target"
    options: ClassVar[tuple[str, ...]] = ("target", "obstacle")

    def scene(self) -> str:
        """The obstacle and a marker of the target: three short axes."""
        axes = "".join(
            f'<geom class="mark" type="capsule" fromto="0 0 0 {end}" size="0.005" rgba="{colour} 0.9"/>'
            for end, colour in (
                ("0.07 0 0", "0.85 0.2 0.2"),
                ("0 0.07 0", "0.2 0.65 0.25"),
                ("0 0 0.07", "0.2 0.35 0.85"),
            )
        )
        return f"""<body name="obstacle" mocap="true">
  <geom name="obstacle" class="world" type="box" size="0.05 0.05 0.1" rgba="0.75 0.3 0.25 1"/>
</body>
<body name="target" mocap="true">{axes}</body>"""

    def start_joints(self) -> Array:
        """Around one of two postures, on the left or on the right of the obstacle."""
        side = int(self.np_random.choice([-1, 1]))
        while True:
            q = _HOMES[side] + self.np_random.uniform(-0.15, 0.15, 7)
            (x, y, z), rotation = panda.forward(q)
            place = np.array([x, y * side, z])
            inside = (place > _START_LOW).all() and (place < _START_HIGH).all()
            if inside and rotation[2, 2] < -0.9:
                return q

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw target and obstacle until the line between is blocked and both ends are clear."""
        start = panda.forward(self.physics.q)[0]
        self._side = 1 if start[1] >= 0 else -1
        for _ in range(1000):
            position, rotation = self._draw_target()
            if "target" in options:
                given = numbers("target", options["target"], 9)
                position, rotation = given[:3], rotations.matrix(given[3:])
            box = self._draw_obstacle(start, position)
            if "obstacle" in options:
                low, high = np.split(numbers("obstacle", options["obstacle"], 6), 2)
                if (high <= low).any():
                    raise ValueError(
                        f"got obstacle from {low.tolist()} to {high.tolist()}, expected low < high"
                    )
                box = np.concatenate([low + high, high - low]) / 2
            if options.keys() & {"target", "obstacle"} or self._fits(start, position, rotation, box):
                break
        self._set(position, rotation, box)
        self._distance = float(np.linalg.norm(start - position))

    def _draw_target(self) -> tuple[Array, Array]:
        x, y, z = self.np_random.uniform(_TARGET_LOW, _TARGET_HIGH)
        tilt = self.np_random.uniform(-0.2, 0.2, 2)
        yaw = self.np_random.uniform(-0.6, 0.6)
        return np.array([x, -self._side * y, z]), rotations.turn([0, 0, yaw]) @ rotations.turn(
            [*tilt, 0]
        ) @ DOWN

    def _draw_obstacle(self, start: Array, target: Array) -> Array:
        """A box on the table in the middle part of the way, higher than the way: centre and half sizes."""
        middle = start + self.np_random.uniform(0.42, 0.58) * (target - start)
        half = self.np_random.uniform([0.03, 0.03], [0.06, 0.05])
        shift = self.np_random.uniform(-0.6, 0.6, 2) * half
        top = float(np.clip(middle[2] + self.np_random.uniform(0.05, 0.12), 0.2, 0.4))
        return np.array([*(middle[:2] + shift), top / 2, *half, top / 2])

    def _fits(self, start: Array, position: Array, rotation: Array, box: Array) -> bool:
        if not crosses(start, position, box[:3], box[3:]):
            return False
        q, met = panda.solve(self.physics.q, position, rotation, HOME)
        return met and bool((clearance(np.stack([self.physics.q, q]), box[:3], box[3:]) > MARGIN).all())

    def _set(self, position: Array, rotation: Array, box: Array) -> None:
        self._target, self._rotation, self._box = position, rotation, box
        self._goal = np.concatenate([position, rotations.rot6d(rotation)])
        self.physics.resize("obstacle", box[3:])
        self.physics.data.mocap_pos[:] = box[:3], position
        mujoco.mju_mat2Quat(self.physics.data.mocap_quat[1], rotation.ravel())

    def sense(self) -> Array:
        """Target pose and obstacle."""
        return np.concatenate([self._goal, self._box[:3] - self._box[3:], self._box[:3] + self._box[3:]])

    def succeeded(self) -> bool:
        """At the target, still, and the obstacle never touched."""
        distance, angle = self.errors()
        still = float(np.abs(self.physics.qd).max()) < STILL
        return distance < NEAR and angle < TURNED and still and not self.physics.touched("obstacle")

    def errors(self) -> tuple[float, float]:
        """Distance (m) and angle (rad) from the TCP to the target."""
        position, rotation = self.tcp()
        away = float(np.linalg.norm(position - self._target))
        return away, rotations.angle_between(rotation, self._rotation)

    def progress(self) -> float:
        """Part of the first distance that is behind, the angle weighing 0.1 m per rad."""
        distance, angle = self.errors()
        return float(np.clip(1.0 - (distance + 0.1 * angle) / (self._distance + 0.05), 0.0, 1.0))

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move the target aside, where it is still reachable and clear of the obstacle."""
        for _ in range(50):
            away = rng.standard_normal(3) * [1.0, 1.0, 0.5]
            position = self._target + distance * away / np.linalg.norm(away)
            q, met = panda.solve(self.physics.q, position, self._rotation, HOME)
            if met and position[2] > 0.08 and clearance(q, self._box[:3], self._box[3:]) > MARGIN:
                self._set(position, self._rotation, self._box)
                return True
        return False

    def make_expert(self, seed: int) -> ReachExpert:
        """The scripted expert."""
        return ReachExpert(self, seed)

    @property
    def goal(self) -> Array:
        """(9,) target position (m) and 6D rotation."""
        return self._goal

    @property
    def box(self) -> Array:
        """(6,) centre and half sizes of the obstacle, m."""
        return self._box


class ReachExpert(ArmExpert):
    """Goes around the obstacle on a smooth way, drawn among those that are clear."""

    env: ArmReachEnv

    def __init__(self, env: ArmReachEnv, seed: int) -> None:
        """Draw this episode's manner; `seed` fixes it."""
        super().__init__(env, seed)
        self._room = float(self.rng.uniform(0.0, 0.05))
        self._order = [str(way) for way in self.rng.permutation(["left", "right"])]
        # The way over is clear most often; tried late, so that all three are well represented.
        self._order.insert(int(self.rng.choice(3, p=[0.2, 0.3, 0.5])), "over")
        self.way = ""
        self._plan()

    def act(self) -> Array:
        """(8,) joint targets (rad) and gripper opening (m) for the state the environment is in now."""
        position, _ = self.env.tcp()
        moved = np.linalg.norm(self.env.goal - self._planned) > 1e-6
        if moved or self._path.follow(position) > 0.1:
            self._plan()
            self._path.follow(position)
        carrot, part, remaining = self._path.ahead(0.07)
        wanted = rotations.turn(part * self._turn) @ self._first
        return self.drive(carrot, wanted, remaining, 0.26, 0.08)

    def _plan(self) -> None:
        """Take the first way of this episode's order that is clear, else the clearest."""
        position, self._first = self.env.tcp()
        self._planned = self.env.goal.copy()
        target, rotation = self.env.goal[:3], rotations.matrix(self.env.goal[3:])
        self._turn = rotations.rotation_vector(rotation @ self._first.T)
        best = -np.inf
        for way in self._order if crosses(position, target, *self._wide()) else ["straight", *self._order]:
            path = Path(np.array([position, *self._corners(way, position, target), target]))
            clear = self._clear(path)
            if clear > best:
                best, self._path, self.way = clear, path, way
            if clear >= MARGIN:
                break
        # The same way first next time: a disturbance is no reason to change one's mind.
        self._order.sort(key=lambda way: way != self.way)

    def _wide(self) -> tuple[Array, Array]:
        return self.env.box[:3], self.env.box[3:] + WIDE

    def _corners(self, way: str, start: Array, target: Array) -> list[Array]:
        """Corners of the way around the box: left and right as seen along the way."""
        if way == "straight":
            return []
        centre, half = self.env.box[:3], self.env.box[3:]
        along = 1.0 if target[1] > start[1] else -1.0
        reach = half[1] + 0.12
        ends = [np.array([centre[0], centre[1] + s * along * reach, centre[2]]) for s in (-1, 1)]
        if way == "over":
            for end in ends:
                end[2] = 2 * centre[2] + 0.13 + self._room
            return ends
        side = -along if way == "left" else along
        for end, share in zip(ends, (0.35, 0.65), strict=True):
            end[0] = centre[0] + side * (half[0] + 0.14 + self._room)
            end[2] = (1 - share) * start[2] + share * target[2] + 0.3 * self._room
        return ends

    def _clear(self, path: Path) -> float:
        """Smallest clearance along a path, followed without dynamics, m; -1 where the arm cannot go."""
        q, all_q = self.env.physics.q, []
        for part in np.linspace(0.0, 1.0, 20):
            goal, rotation = path.at(float(part)), rotations.turn(part * self._turn) @ self._first
            q, _ = panda.solve(q, goal, rotation, HOME, 3)
            off = float(np.linalg.norm(panda.forward(q)[0] - goal))
            if off > 0.03 or (q < _LOWER).any() or (q > _UPPER).any():
                return -1.0
            all_q.append(q)
        return float(clearance(np.array(all_q), self.env.box[:3], self.env.box[3:]).min())
