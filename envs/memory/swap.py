"""Swap: exchange two cubes by way of a third place; what is next cannot be seen, only remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import DOWN, HOME

from ..arm.base import ArmEnv
from ..arm.experts.motion import ArmExpert
from ..arm.pick import AWAY, CUBE, RELEASED, STILL, PickExpert, least_turned
from ..arm.sensors import Sensor, numbers, pose_sensor
from .slots import NEAR, SLOTS, beside, different, nearest, nearest_is

Array = NDArray[np.float64]

CUBES = ("red", "blue")
MIDDLE = np.array([0.50, 0.0, 0.24])
"""Where an episode begins, and where the expert takes the hand after every move, m."""
_AROUND = 0.02
_REST = (8, 17)
"""Control steps that the hand rests there, drawn between: after them nothing tells where it came from."""
_HOVER, _LATE = 15, 60
"""Control steps near there, and since the move, after which it has rested: a student that drives may never be still."""
_LOW_OVER = np.array([0.08, 0.15])
"""Less than so far aside of the next cube and above the table, m, nobody is sent back to rest."""
_JITTER, _YAW = 0.01, np.deg2rad(15.0)
_LOW, _HIGH = np.array([0.38, -0.195]), np.array([0.67, 0.195])
_APART = 0.11  # room for the open fingers between two cubes, m


class SwapEnv(ArmEnv):
    """Exchange a red and a blue cube that stand on two of three slots; see `ArmEnv` for what all arm tasks share.

    The order is always the same: red to the free slot, blue to where red was, red to where blue was. After the first and
    the second move the table looks as it may at a start: the next move follows from what has been done alone. The
    task is that of Diffusion Forcing (arXiv 2407.01392, section 4.4: two fruits, pictures, a real arm) with cubes and
    their poses.

    Sensors: `objects` position (3) m and 6D rotation (6) of the red cube, then of the blue one.
    Success: both rest within 3 cm of the slot on which the other one was, the gripper is open and the TCP at least 5 cm
    from both.
    Info: `moves` (how many of the three have been done, in order) and `mistakes` (how often a cube was put on a slot where it
    does not belong in this order), beside those of `ArmEnv`.
    Reset options: `arrangement` (2,) the slots of red and blue, of 0, 1 and 2; `objects` (6,) x, y (m) and yaw (rad) of red,
    then of blue, which then stand for the slots they are nearest to.
    """

    task_sensors: ClassVar[tuple[Sensor, ...]] = (
        Sensor(
            "objects",
            tuple(channel for name in CUBES for channel in pose_sensor(name).channels),
            tuple(unit for name in CUBES for unit in pose_sensor(name).units),
        ),
    )
    main_sensor: ClassVar[str] = "objects"
    options: ClassVar[tuple[str, ...]] = ("arrangement", "objects")
    early: ClassVar[tuple[float, float]] = (1.0, 8.0)
    failure: ClassVar[float] = 2.0

    def scene(self) -> str:
        """The cubes, which meet each other too, and the slots."""
        colours = {"red": "0.8 0.2 0.15 1", "blue": "0.15 0.35 0.8 1"}
        cubes = "".join(
            f"""<body name="{name}"><freejoint name="{name}"/>
  <geom name="{name}" class="object" conaffinity="5" type="box" size="{CUBE} {CUBE} {CUBE}" mass="0.08"
    rgba="{colour}"/></body>"""
            for name, colour in colours.items()
        )
        slots = "".join(
            f'<geom class="mark" type="cylinder" pos="{x} {y} 0" size="0.035 0.0008" rgba="0.35 0.35 0.35 0.9"/>'
            for x, y in SLOTS
        )
        return cubes + slots

    def start_joints(self) -> Array:
        """Above the middle of the slots, tool upright."""
        position = MIDDLE + self.np_random.uniform(-_AROUND, _AROUND, 3)
        return panda.solve(HOME, position, DOWN, HOME)[0]

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw which cube stands where."""
        slots, jitter = self.np_random.permutation(3)[:2], self.np_random.uniform(-_JITTER, _JITTER, (2, 2))
        yaws = self.np_random.uniform(-_YAW, _YAW, 2)
        if "arrangement" in options:
            slots = different(numbers("arrangement", options["arrangement"], 2), options["arrangement"])
        poses = np.column_stack([SLOTS[slots] + jitter, yaws])
        if "objects" in options:
            poses = numbers("objects", options["objects"], 6).reshape(2, 3)
            on = different(np.array([nearest(place) for place in poses[:, :2]]), options["objects"])
            if "arrangement" in options and (on != slots).any():
                given = f"arrangement {slots.tolist()}, and objects on slots {on.tolist()}"
                raise ValueError(f"got {given}; give one of the two")
            slots = on
        for cube, (x, y, yaw) in enumerate(poses):
            self._cube_to(cube, np.array([x, y]), yaw)
        red, blue = slots.tolist()
        self._belongs = ((red, blue), (3 - red - blue, blue), (3 - red - blue, red), (blue, red))
        self._at, self._moves, self._mistakes = [red, blue], 0, 0

    def _cube_to(self, cube: int, place: Array, yaw: float) -> None:
        at, speed = 9 + 7 * cube, 9 + 6 * cube
        self.physics.data.qpos[at : at + 7] = [*place, CUBE, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        self.physics.data.qvel[speed : speed + 6] = 0.0

    def cube(self, index: int) -> tuple[Array, Array]:
        """Position (3,) m and rotation (3, 3) of the red cube (0) or the blue one (1)."""
        body = self.physics.data.body(CUBES[index])
        return np.array(body.xpos), np.array(body.xmat).reshape(3, 3)

    @property
    def goal(self) -> Array:
        """(6,) where the red cube is to be in the end, and where the blue one, m."""
        return np.column_stack([SLOTS[list(self._belongs[3])], [0.0, 0.0]]).ravel()

    @property
    def moves(self) -> int:
        """How many of the three moves have been done, in order."""
        return self._moves

    def sense(self) -> Array:
        """Poses of both cubes, each as the one of its 24 equal ones that is turned least."""
        poses = [self.cube(index) for index in range(2)]
        return np.concatenate([[*at, *rotations.rot6d(least_turned(turned))] for at, turned in poses])

    def _on(self, index: int, slot: int) -> bool:
        cube = self.cube(index)[0]
        return float(np.hypot(*(cube[:2] - SLOTS[slot]))) < NEAR and abs(float(cube[2]) - CUBE) < 0.005

    def _settled(self, index: int, slot: int) -> bool:
        """A cube rests on a slot, and the open hand has left it."""
        cube, speed = self.cube(index)[0], 9 + 6 * index
        slow = float(np.linalg.norm(self.physics.data.qvel[speed : speed + 3])) < STILL
        left = self.physics.opening > RELEASED and self._from_hand(cube) >= AWAY
        return self._on(index, slot) and slow and left

    def _from_hand(self, place: Array) -> float:
        return float(np.linalg.norm(self.tcp()[0] - place))

    def succeeded(self) -> bool:
        """Each rests where the other one was, and the open hand has left them."""
        return all(self._settled(index, slot) for index, slot in enumerate(self._belongs[3]))

    def notice(self) -> None:
        """Count moves and mistakes: a cube has come to rest on another slot."""
        for index in range(2):
            slot = nearest(self.cube(index)[0][:2])
            if slot == self._at[index] or not self._settled(index, slot):
                continue
            self._at[index] = slot
            if self._moves < 3 and (index, slot) == self._next():
                self._moves += 1
            elif slot != self._belongs[self._moves][index]:
                self._mistakes += 1

    def _next(self) -> tuple[int, int]:
        """Cube and slot of the present move, of the last one after it."""
        move = min(self._moves, 2)
        return (0, 1, 0)[move], self._belongs[move + 1][(0, 1, 0)[move]]

    def told(self) -> dict[str, Any]:
        """Moves and mistakes so far."""
        return {"moves": self._moves, "mistakes": self._mistakes}

    def job(self) -> tuple[int, int] | None:
        """Which cube is to come to which slot now; None where all is done.

        That is the present move; before it, what stands in its way by mistake; after the last, the nearest cube that has
        been displaced.
        """
        if self._moves < 3:
            index, slot = self._next()
            other = self._belongs[self._moves][1 - index]
            return (index, slot) if self._at[1 - index] == other else (1 - index, other)
        left = [job for job in enumerate(self._belongs[3]) if not self._settled(*job)]
        left.sort(key=lambda job: (self._on(*job), self._from_hand(self.cube(job[0])[0])))
        return left[0] if left else None

    def progress(self) -> float:
        """A third for each move; within one, a quarter for coming to the cube and most of the rest for its way."""
        index, slot = self._next()
        cube = self.cube(index)[0]
        left = float(np.linalg.norm(cube[:2] - SLOTS[slot]))
        part = 0.25 * max(0.0, 1.0 - self._from_hand(cube) / 0.4) + 0.65 * max(0.0, 1.0 - left / 0.24)
        return (min(self._moves, 2) + (0.95 if self._moves == 3 else part)) / 3

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move a cube aside, the hand being away from it, so that it stays nearest to the same slot."""
        for index in rng.permutation(2).tolist():
            cube, _ = self.cube(index)
            if self._from_hand(cube) > 0.08 and cube[2] < CUBE + 0.005:
                slot = nearest(cube[:2])
                if self._move(rng, index, distance, partial(nearest_is, slot)):
                    return True
        return False

    def lose(self, rng: np.random.Generator) -> bool:
        """Now and then, the held cube lies beside the hand, or the one just left beside its slot."""
        for index in range(2):
            cube, _ = self.cube(index)
            apart, opening = self._from_hand(cube), self.physics.opening
            held = apart < 0.02 and opening < 0.0415
            left = apart < 0.12 and self._settled(index, self._at[index])
            if (held or left) and rng.random() < 0.02:
                distance = rng.uniform(0.05, 0.12) if held else rng.uniform(0.025, 0.05)
                return self._move(rng, index, distance, beside)
        return False

    def _move(
        self, rng: np.random.Generator, index: int, distance: float, fits: Callable[[Array], bool]
    ) -> bool:
        """Put a cube `distance` m aside, on the table, clear of the other one and where it `fits`; False if there is no place."""
        cube, rotation = self.cube(index)
        other = self.cube(1 - index)[0]
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        for _ in range(50):
            place = cube[:2] + distance * rotations.turn([0.0, 0.0, rng.uniform(-np.pi, np.pi)])[:2, 0]
            inside = (place > _LOW).all() and (place < _HIGH).all()
            if inside and np.linalg.norm(place - other[:2]) > _APART and fits(place):
                self._cube_to(index, place, yaw)
                return True
        return False

    def make_expert(self, seed: int) -> SwapExpert:
        """The scripted expert."""
        return SwapExpert(self, seed)


class SwapExpert(ArmExpert):
    """Does one move after the other, each in a manner of its own, and takes the hand back to the middle between them.

    There the hand says nothing about what has been done, nor does a cube: it is put down as off centre and turned as at a start.
    """

    env: SwapEnv

    def __init__(self, env: SwapEnv, seed: int) -> None:
        """Draw this episode's manner; `seed` fixes it."""
        super().__init__(env, seed)
        self._spots = self.rng.uniform(-_JITTER, _JITTER, (3, 2))
        self._moves = [
            PickExpert(env, int(self.rng.integers(2**31)), self._task, yaw)
            for yaw in self.rng.uniform(-_YAW, _YAW, 3)
        ]
        self._middles = MIDDLE + self.rng.uniform(-_AROUND, _AROUND, (4, 3))
        self._postures = [panda.solve(HOME, middle, DOWN, HOME)[0] for middle in self._middles]
        self._rests = self.rng.integers(*_REST, 4)
        self._done, self._resting, self._there, self._since = env.moves, 0, 0, 0

    def _task(self) -> tuple[Array, Array, Array]:
        index, slot = self.env.job() or (0, 0)
        cube, rotation = self.env.cube(index)
        # Further off it might be left where it is: near the spot, but on no slot.
        near = float(np.linalg.norm(cube[:2] - SLOTS[slot])) < NEAR
        return cube, rotation, np.append(SLOTS[slot] + near * self._spots[min(self._done, 2)], 0.0)

    def _at_next(self, position: Array) -> bool:
        """The hand is low over the cube that is to be moved."""
        job = self.env.job()
        apart = np.inf if job is None else float(np.hypot(*(self.env.cube(job[0])[0] - position)[:2]))
        return bool((np.array([apart, position[2]]) < _LOW_OVER).all())

    def act(self) -> Array:
        """(8,) joint targets (rad) and gripper opening (m) for the state the environment is in now."""
        if self.env.moves != self._done:
            self._done, self._resting, self._there = self.env.moves, int(self._rests[self.env.moves]), 0
            self._since = 0
        position, _ = self.env.tcp()
        self._since += 1
        far = float(np.linalg.norm(way := self._middles[self._done] - position))
        self._there += self._there > 0 or far < 0.02 or float(np.linalg.norm(MIDDLE - position)) < 2 * _AROUND
        gone_on = (self._there and far > 0.06) or self._since > _LATE or self._at_next(position)
        self._resting *= not gone_on  # a student is not called back: the next move is what there is to show
        still = far < 0.01 and np.abs(self.env.physics.qd).max() < 0.1
        self._resting -= self._resting > 0 and (still or self._there > _HOVER)
        if not self._resting and self.env.job() is not None:
            return self._moves[min(self._done, 2)].act()
        if far < 0.02:  # the joints too come to rest as if from anywhere
            return np.append(self._postures[self._done], 0.08)
        if position[2] < 0.12:  # first up, so that no cube is touched
            way[:2] *= max(0.05, (position[2] - 0.06) / 0.06)
        return self.drive(position + way, DOWN, far, 0.24, 0.08)
