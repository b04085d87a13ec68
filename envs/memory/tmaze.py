"""TMaze: a cue at the beginning of a corridor says which way to turn at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arm.disturb import Disturbance
from ..arm.model import DT
from ..arm.sensors import Sensor, numbers
from .expert import Expert, Mischief
from .planar import TOP, PlanarEnv
from .sketch import HAND, MARK, TABLE, WALL, Sketch

Array = NDArray[np.float64]

CELL = TOP * DT
"""What the hand covers in a step at top speed, m."""
WIDE, ARM, SIGHT, SHOWN = CELL, 3 * CELL, 3 * CELL, 5
"""Half the width of the ways, length of an arm, range of the range finder (m); env steps that the cue is shown."""
SENSORS = (
    Sensor("cue", ("cue",), ("1",)),
    Sensor("body", ("lateral", "v_ahead", "v_left"), ("m", "m/s", "m/s")),
    Sensor("walls", ("free_ahead", "free_left", "free_right"), ("m", "m", "m")),
)


class TMazeEnv(PlanarEnv):
    """Walk to the end of a corridor and turn to the side that the cue said; see `PlanarEnv` for what all tasks share.

    The passive T-maze of Ni et al. 2023 (arXiv 2307.03864) in continuous space. There the walker steps from cell to cell,
    is told the cue in the first one, and sees nothing in the corridor that tells its place; here a cell is what the hand
    covers in a step at top speed (2 cm), speed and place across the corridor are free, the cue is shown for 5 env steps,
    and twice as many steps as cells, and 60, may be used.

    Sensors: `cue` (1 is left, -1 is right, 0 after the first 5 env steps); `body` place across the corridor (m, left is
    positive) and velocity (2) m/s; `walls` free distance (3) ahead, left and right (m, at most 3 cells). The place along
    the corridor is not seen: what is seen in a corridor of 100 cells is distributed as in one of 10,000.
    Action: velocity ahead and to the left.
    Success: the end of the arm that the cue said; the end of either arm, 3 cells from the corridor, ends the episode.
    Reset options: `cue` (1 or -1), `length` cells, `lateral` m.
    """

    main_sensor: ClassVar[str] = "walls"
    options: ClassVar[tuple[str, ...]] = ("cue", "length", "lateral")
    kinds: ClassVar[tuple[str, ...]] = ("freeze", "blank", "offset")
    actions: ClassVar[tuple[str, ...]] = ("wanted_ahead", "wanted_left")
    offset: ClassVar[tuple[float, float]] = (0.01, 0.02)

    def __init__(
        self,
        length: int | None = None,
        lengths: Sequence[int] | None = None,
        disturb: str | Mapping[str, Any] | Disturbance | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the maze.

        Args:
            length: of the corridor, cells; 100 if neither this nor `lengths` is given.
            lengths: shortest and longest corridor; each episode draws its own.
            disturb: kind of a sensor's disturbance, its fields, or None.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: for a length below 6 (the cue must be over at the junction), or what `PlanarEnv` refuses.
        """
        if length is not None and lengths is not None:
            raise ValueError(
                f"got length={length} and lengths={lengths!r}, which contradict each other; leave one out"
            )
        pair = lengths if lengths is not None else [100 if length is None else length] * 2
        if len(pair) != 2:
            raise ValueError(f"got lengths={lengths!r}, expected two: the shortest and the longest corridor")
        self._lengths = _cells("length", pair[0]), _cells("length", pair[1])
        if self._lengths[0] > self._lengths[1]:
            raise ValueError(f"got lengths={lengths!r}, expected the shortest corridor first")
        self.length, self.cue, self.end = self._lengths[1], 1, 0.0
        super().__init__(SENSORS, (0.5, 1.5), disturb, render_mode)

    @property
    def limit(self) -> int:
        """Twice the shortest way, about: 2 steps per cell, and 60."""
        return 2 * self.length + 60

    @property
    def goal(self) -> Array:
        """(2,) end of the right arm, m."""
        return np.array([self.end + WIDE, self.cue * (WIDE + ARM)])

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw cue, length and place across the corridor."""
        cue = 2 * int(self.np_random.integers(2)) - 1
        self.length = int(self.np_random.integers(self._lengths[0], self._lengths[1] + 1))
        self.x, self.y = 0.0, float(self.np_random.uniform(-0.4, 0.4)) * WIDE
        if "length" in options:
            self.length = _cells("length", options["length"])
        if "lateral" in options:
            self.y = float(numbers("lateral", [options["lateral"]], 1)[0])
            if abs(self.y) > WIDE:
                raise ValueError(f"got lateral {self.y}, expected -{WIDE} to {WIDE} m, inside the corridor")
        self.cue = options.get("cue", cue)
        if self.cue not in (-1, 1):
            raise ValueError(f"got cue {self.cue!r}, expected 1 (left) or -1 (right)")
        self.end = self.length * CELL

    def reach(self, axis: int) -> tuple[float, float]:
        """The corridor, and the arms across its end."""
        if axis == 0:
            return (0.0 if abs(self.y) <= WIDE else self.end), self.end + 2 * WIDE
        side = WIDE + ARM if self.x >= self.end else WIDE
        return -side, side

    def follow(self, wanted: Sequence[float]) -> bool:
        """The end of an arm is the end."""
        return abs(self.y) >= WIDE + ARM

    def sense(self) -> list[float]:
        """Cue, body, walls."""
        _, side = self.reach(1)
        return [
            float(self.cue) if self._steps < SHOWN else 0.0,
            self.y, self.vx, self.vy,
            min(self.end + 2 * WIDE - self.x, SIGHT), min(side - self.y, SIGHT), min(side + self.y, SIGHT),
        ]  # fmt: skip

    def succeeded(self) -> bool:
        """At the end of the right arm."""
        return self.cue * self.y >= WIDE + ARM

    def progress(self) -> float:
        """Most of it for the corridor, a fifth for the right arm."""
        return 0.8 * min(1.0, self.x / self.end) + 0.2 * max(0.0, self.cue * self.y / (WIDE + ARM))

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """There is nothing to move."""
        return False

    def make_expert(self, seed: int) -> Walker:
        """Walks down the corridor and turns."""
        return Walker(self, seed)

    def mischief(self, rng: np.random.Generator) -> Mischief:
        """The hand drifts off."""
        return Mischief(rng)

    def sketch(self) -> Sketch:
        """The ways around the hand, and the cue while it is shown."""
        sketch = Sketch((self.x, 0.0), 6 * CELL)
        sketch.image[:] = WALL
        sketch.box(self.end / 2, 0.0, (self.end / 2, WIDE), TABLE)
        sketch.box(self.end + WIDE, 0.0, (WIDE, WIDE + ARM), TABLE)
        if self._steps < SHOWN:
            sketch.disc(self.x, self.cue * 3 * CELL, 0.4 * CELL, MARK)
        sketch.disc(self.x, self.y, 0.3 * CELL, HAND)
        return sketch


def _cells(what: str, value: Any) -> int:
    """A length of at least 6 cells."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < SHOWN + 1:
        raise ValueError(f"got {what}={value!r}, expected a whole number of cells, {SHOWN + 1} or more")
    return int(value)


class Walker(Expert[TMazeEnv]):
    """Keeps to a lane that wanders, whatever the cue; slows down where the wall is seen, and turns between the arms."""

    def __init__(self, env: TMazeEnv, seed: int) -> None:
        """Draw where to turn, as everything else, without the cue."""
        super().__init__(env, seed)
        self.pace = float(self.rng.uniform(0.75, 1.0))
        self._turn = float(self.rng.uniform(0.4, 1.4)) * WIDE
        self._lane = 0.0

    def act(self) -> Array:
        """(2,) velocity ahead and to the left, as a fraction of the top speed."""
        env, go, noise = self.env, self.going(), self.drift(0.03)
        self._lane += -0.05 * self._lane + 0.1 * WIDE * float(self.rng.standard_normal())
        middle = env.end + WIDE
        if abs(env.y) > WIDE or env.x >= env.end + self._turn:
            ahead, left = 3.0 * (middle - env.x), env.cue * self.pace * TOP
        else:
            seen = env.end + 2 * WIDE - env.x < SIGHT
            slow = sqrt(2 * self._brake * max(middle - env.x, 0.0)) + 0.1 if seen else TOP
            ahead, left = min(self.pace * TOP, slow), 3.0 * (self._lane - env.y)
        return np.clip([go * (ahead + noise[0]) / TOP, go * (left + 0.5 * noise[1]) / TOP], -1.0, 1.0)
