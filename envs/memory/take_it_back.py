"""TakeItBack: bring a cube to a spot, then back to where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arm.disturb import Disturbance
from ..arm.sensors import Sensor
from .expert import Expert, Mischief
from .planar import PlanarEnv, Point, inside
from .sketch import HAND, MARK, Sketch

Array = NDArray[np.float64]

TABLE, SIDE, APART = 0.25, 0.20, 0.12
"""Half the table's side, where things lie at first (+- of each axis), least distance of cube and spot, m."""
GRASP, ON_SPOT, BACK, HOLD = 0.025, 0.04, 0.04, 5
"""Hand this near the cube when the gripper closes, cube this near the spot and its first place (m); env steps that success
lasts before an episode ends."""
SENSORS = (
    Sensor("hand", ("hand_x", "hand_y", "hand_vx", "hand_vy", "gripper"), ("m", "m", "m/s", "m/s", "1")),
    Sensor("cube", ("cube_x", "cube_y"), ("m", "m")),
    Sensor("spot", ("spot_x", "spot_y"), ("m", "m")),
    Sensor("signal", ("signal",), ("1",)),
)


class TakeItBackEnv(PlanarEnv):
    """Bring the cube to the spot and, once the signal lights up, back; see `PlanarEnv` for what all tasks share.

    MIKASA-Robo's TakeItBack (Cherepanov et al. 2025, arXiv 2502.10550) in the plane and on states. There an arm sees
    pictures and pushes the cube from one of three places into a disc of 8 cm, whose colour changes while the cube is in
    it, and back to within 8 cm of where it was; here a hand with a gripper carries it from anywhere on the table, must
    release it within 4 cm both times, and a signal lights up and stays lit.

    Sensors: `hand` position (2) m, velocity (2) m/s and gripper (0 open, 1 closed); `cube` (2) m; `spot` (2) m; `signal`
    (0, and 1 for the rest of the episode once the cube has been released on the spot).
    Action: velocity along x and y; gripper (above 0 closes). The cube is held where the hand is within 2.5 cm of it as
    the gripper closes, moves with it, and stays where the gripper opens.
    Success: the signal is lit, and the cube is released within 4 cm of where it was at the start.
    Reset options: `hand`, `cube`, `spot`, each (2,) m.
    """

    main_sensor: ClassVar[str] = "cube"
    options: ClassVar[tuple[str, ...]] = ("hand", "cube", "spot")
    actions: ClassVar[tuple[str, ...]] = ("wanted_vx", "wanted_vy", "close")

    def __init__(
        self, disturb: str | Mapping[str, Any] | Disturbance | None = None, render_mode: str | None = None
    ) -> None:
        """Build the table.

        Args:
            disturb: kind of a disturbance, its fields, or None.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: for what `PlanarEnv` refuses.
        """
        self.cube: Point = (0.0, 0.0)
        self.first, self.spot = self.cube, self.cube
        self.closed, self.signal = False, False
        self._held: Point | None = None
        self._lasted = 0
        super().__init__(SENSORS, (0.4, 1.6), disturb, render_mode)

    @property
    def limit(self) -> int:
        """300 env steps."""
        return 300

    @property
    def held(self) -> bool:
        """Whether the hand holds the cube."""
        return self._held is not None

    @property
    def goal(self) -> Array:
        """(2,) where the cube was at the start, m."""
        return np.array(self.first)

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw hand, cube and spot, the spot at least 12 cm from the cube."""
        self.x, self.y = self.np_random.uniform(-SIDE, SIDE, 2).tolist()
        while True:
            drawn = self.np_random.uniform(-SIDE, SIDE, 4).tolist()
            self.cube, self.spot = (drawn[0], drawn[1]), (drawn[2], drawn[3])
            if hypot(drawn[0] - drawn[2], drawn[1] - drawn[3]) >= APART:
                break
        if "hand" in options:
            self.x, self.y = inside("hand", options["hand"], TABLE)
        self.cube = inside("cube", options.get("cube", self.cube), TABLE)
        self.spot = inside("spot", options.get("spot", self.spot), TABLE)
        if self.off(self.spot) < ON_SPOT + BACK:
            raise ValueError(
                f"got cube {self.cube} and spot {self.spot}, expected them at least {ON_SPOT + BACK} m apart; move one"
            )
        self.first, self.closed, self.signal, self._held, self._lasted = self.cube, False, False, None, 0

    def off(self, point: Point) -> float:
        """How far the cube is from a point, m."""
        return hypot(self.cube[0] - point[0], self.cube[1] - point[1])

    def reach(self, axis: int) -> tuple[float, float]:
        """The table."""
        return -TABLE, TABLE

    def follow(self, wanted: Sequence[float]) -> bool:
        """Grasp, carry, release, and light the signal."""
        closing = wanted[2] > 0
        if closing and not self.closed and self.off((self.x, self.y)) <= GRASP:
            self._held = (self.cube[0] - self.x, self.cube[1] - self.y)
        if not closing:
            self._held = None
        self.closed = closing
        if self._held is not None:
            self.cube = (self.x + self._held[0], self.y + self._held[1])
        elif not closing and self.off(self.spot) <= ON_SPOT:
            self.signal = True
        self._lasted = self._lasted + 1 if self.succeeded() else 0
        return self._lasted >= HOLD

    def sense(self) -> list[float]:
        """Hand, cube, spot, signal."""
        hand = [self.x, self.y, self.vx, self.vy, float(self.closed)]
        return [*hand, *self.cube, *self.spot, float(self.signal)]

    def succeeded(self) -> bool:
        """The cube is back and released."""
        return self.signal and not self.held and not self.closed and self.off(self.first) <= BACK

    def progress(self) -> float:
        """Half for the way to the spot, half for the way back."""
        whole = hypot(self.first[0] - self.spot[0], self.first[1] - self.spot[1])
        left = self.off(self.first if self.signal else self.spot)
        return 0.5 * self.signal + 0.5 * max(0.0, 1.0 - left / whole)

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move the cube unless it is held; never to where it is to be brought."""
        if self.held or self.succeeded():
            return False
        for angle in rng.uniform(0, 2 * np.pi, 20):
            x, y = self.cube[0] + distance * np.cos(angle), self.cube[1] + distance * np.sin(angle)
            away = min(hypot(x - a, y - b) for a, b in (self.first, self.spot))
            if max(abs(x), abs(y)) < TABLE and away > BACK + 0.01:
                self.cube = (float(x), float(y))
                return True
        return False

    def make_expert(self, seed: int) -> Fetcher:
        """Fetches, brings, fetches, brings back."""
        return Fetcher(self, seed)

    def mischief(self, rng: np.random.Generator) -> Mischief:
        """The hand drifts off, the cube is moved, the gripper slips open."""
        return Mischief(rng, moves=0.01, slips=0.02)

    def sketch(self) -> Sketch:
        """Table, spot (green once the signal is lit), cube, hand."""
        sketch = Sketch((0.0, 0.0), TABLE + 0.02)
        sketch.disc(*self.spot, ON_SPOT, (90, 180, 110) if self.signal else MARK)
        sketch.box(*self.cube, (0.012, 0.012), (200, 90, 40))
        sketch.disc(self.x, self.y, 0.006 if self.closed else 0.01, HAND)
        return sketch


class Fetcher(Expert[TakeItBackEnv]):
    """Opens where it holds nothing, grasps where it is at the cube, releases where it has to be."""

    def __init__(self, env: TakeItBackEnv, seed: int) -> None:
        """Draw how exactly it grasps and releases."""
        super().__init__(env, seed)
        self._near = float(self.rng.uniform(0.008, 0.013))
        self._slow = float(self.rng.uniform(0.06, 0.15))

    def act(self) -> Array:
        """(3,) velocity as a fraction of the top speed, and gripper."""
        env = self.env
        aim = env.first if env.signal else env.spot
        if env.held:
            dx, dy = env.cube[0] - env.x, env.cube[1] - env.y
            there = env.off(aim) < self._near and hypot(env.vx, env.vy) < self._slow
            return self._command(aim[0] - dx, aim[1] - dy, -1.0 if there else 1.0)
        if env.succeeded() or (env.signal and env.off(env.first) <= BACK):
            return self._command(env.x, env.y, -1.0)
        at = hypot(env.cube[0] - env.x, env.cube[1] - env.y) < self._near
        return self._command(*env.cube, 1.0 if at and not env.closed else -1.0)

    def _command(self, x: float, y: float, grip: float) -> Array:
        vx, vy = self.toward(x, y)
        return np.clip([vx, vy, grip], -1.0, 1.0)
