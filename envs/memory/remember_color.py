"""RememberColor: touch the cube of the colour that was shown a while ago."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfplan.tools.errors import one_of

from ..arm.disturb import Disturbance
from ..arm.model import DT
from ..arm.sensors import Sensor, numbers
from .expert import Expert, Mischief
from .planar import TOP, PlanarEnv, Point, inside
from .sketch import HAND, Sketch

Array = NDArray[np.float64]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (200, 40, 40), "green": (50, 150, 70), "blue": (30, 60, 160), "yellow": (225, 195, 40),
    "magenta": (190, 60, 180), "cyan": (60, 180, 190), "orange": (225, 130, 30), "brown": (120, 80, 50),
    "black": (30, 30, 30),
}  # fmt: skip
"""Colour -> how it is drawn; a task with N cubes has the first N."""
TABLE, RING, JITTER, TOUCH, APART = 0.30, 0.18, 0.015, 0.025, 0.08
"""Half the table's side, radius of the ring of spots, how far cubes lie off them, touching, least distance of cubes, m."""


class RememberColorEnv(PlanarEnv):
    """Touch the cube of the colour that was shown; see `PlanarEnv` for what all tasks share.

    MIKASA-Robo's RememberColor3/5/9 (Cherepanov et al. 2025, arXiv 2502.10550) in the plane and on states. As there, a
    cube is shown for 5 env steps, then nothing for 5, then the cubes lie at shuffled places. There an arm sees pictures,
    the cubes lie in a row (3) or on an arc (5, 9), and it must come to rest within 5 cm of the right one in 60 env steps in
    all, whatever else it touches; here a hand is told where the cube of each colour is, they lie on a ring around it, it
    must touch the right one first, and has 60 env steps once they are there.

    Sensors: `hand` position (2) m and velocity (2) m/s; `cubes` of each colour x, y (m) and whether it is seen (1 or 0);
    zeros where it is not.
    Action: velocity along x and y.
    Success: the hand within 2.5 cm of the cube of that colour. Touching another one ends the episode too.
    Reset options: `color` (its name), `hand` (2,) m, `cubes` (N, 2) m in the order of the colours.
    """

    main_sensor: ClassVar[str] = "cubes"
    options: ClassVar[tuple[str, ...]] = ("color", "hand", "cubes")
    actions: ClassVar[tuple[str, ...]] = ("wanted_vx", "wanted_vy")

    def __init__(
        self,
        colors: int = 3,
        shown: int = 5,
        hidden: int = 5,
        disturb: str | Mapping[str, Any] | Disturbance | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the table.

        Args:
            colors: how many cubes, each of its own colour, 2 to 9.
            shown: env steps that the one cube is shown.
            hidden: env steps that nothing is seen then.
            disturb: kind of a disturbance, its fields, or None; one without a `start` begins once the cubes are there.
            render_mode: None or `rgb_array`.

        Raises:
            ValueError: for numbers out of range, or what `PlanarEnv` refuses.
        """
        _whole("colors", colors, 2, len(COLORS))
        _whole("shown", shown, 1)
        _whole("hidden", hidden, 0)
        self.colors, self.appear, self._shown = tuple(COLORS)[:colors], shown + hidden, shown
        self.color, self.touched = 0, -1
        self.cubes: list[Point] = [(0.0, 0.0)] * colors
        self._sample: Point = (0.0, 0.0)
        channels = tuple(f"{name}_{what}" for name in self.colors for what in ("x", "y", "seen"))
        hand = Sensor("hand", ("hand_x", "hand_y", "hand_vx", "hand_vy"), ("m", "m", "m/s", "m/s"))
        sensors = (hand, Sensor("cubes", channels, ("m", "m", "1") * colors))
        begin = self.appear * DT
        super().__init__(sensors, (begin, begin + 0.5), disturb, render_mode)

    @property
    def limit(self) -> int:
        """60 env steps once the cubes are there."""
        return self.appear + 60

    @property
    def goal(self) -> Array:
        """(2,) where the cube to touch lies, or will lie, m."""
        return np.array(self.cubes[self.color])

    def place(self, options: Mapping[str, Any]) -> None:
        """Draw colour, hand, and where things lie, one independent of the other."""
        rng, count = self.np_random, len(self.colors)
        self.color = int(rng.integers(count))
        self.x, self.y = rng.uniform(-0.03, 0.03, 2).tolist()
        ring = [(RING * np.cos(a), RING * np.sin(a)) for a in 2 * np.pi * np.arange(count) / count]
        spots = [np.array(ring[i]) + rng.uniform(-JITTER, JITTER, 2) for i in rng.permutation(count)]
        self.cubes = [(float(x), float(y)) for x, y in spots]
        sample = np.array(ring[rng.integers(count)]) + rng.uniform(-JITTER, JITTER, 2)
        self._sample, self.touched = (float(sample[0]), float(sample[1])), -1
        if "color" in options:
            self.color = self.colors.index(one_of("color", options["color"], self.colors))
        if "hand" in options:
            self.x, self.y = inside("hand", options["hand"], TABLE)
        if "cubes" in options:
            cubes = numbers("cubes", np.ravel(np.array(options["cubes"], object)), 2 * count).reshape(
                count, 2
            )
            self.cubes = [inside("cubes", cube, TABLE) for cube in cubes]

    def reach(self, axis: int) -> tuple[float, float]:
        """The table."""
        return -TABLE, TABLE

    def out(self) -> bool:
        """Whether the cubes are there."""
        return self._steps >= self.appear

    def follow(self, wanted: Sequence[float]) -> bool:
        """Touching any cube ends the episode."""
        if self._steps > self.appear:  # it has been seen where they are
            away = [hypot(self.x - x, self.y - y) for x, y in self.cubes]
            nearest = min(range(len(away)), key=away.__getitem__)
            if away[nearest] <= TOUCH:
                self.touched = nearest
        return self.touched >= 0

    def sense(self) -> list[float]:
        """Hand and cubes."""
        out = [self.x, self.y, self.vx, self.vy]
        if self.out():
            for x, y in self.cubes:
                out += (x, y, 1.0)
            return out
        out += [0.0] * (3 * len(self.cubes))
        if self._steps < self._shown:
            first = 4 + 3 * self.color
            out[first : first + 3] = (*self._sample, 1.0)
        return out

    def shifted(self, sensor: str) -> list[int]:
        """An offset moves only cubes that are seen."""
        found = super().shifted(sensor)
        if sensor != "cubes" or self.out():
            return found
        return found[2 * self.color : 2 * self.color + 2] if self._steps < self._shown else []

    def succeeded(self) -> bool:
        """The right cube was touched."""
        return self.touched == self.color

    def progress(self) -> float:
        """How much nearer than from the middle to its ring the right cube is."""
        x, y = self.cubes[self.color]
        return max(0.0, 1.0 - hypot(self.x - x, self.y - y) / RING) if self.out() else 0.0

    def displace(self, rng: np.random.Generator, distance: float) -> bool:
        """Move a cube, any of them, to where it lies alone."""
        if not self.out():
            return False
        which = int(rng.integers(len(self.cubes)))
        x, y = self.cubes[which]
        others = [*self.cubes[:which], *self.cubes[which + 1 :], (self.x, self.y)]
        for angle in rng.uniform(0, 2 * np.pi, 20):
            at = (x + distance * float(np.cos(angle)), y + distance * float(np.sin(angle)))
            if max(map(abs, at)) < TABLE - TOUCH and all(
                hypot(at[0] - a, at[1] - b) > APART for a, b in others
            ):
                self.cubes[which] = at
                return True
        return False

    def make_expert(self, seed: int) -> Toucher:
        """Waits, then goes to the right cube and around the others."""
        return Toucher(self, seed)

    def mischief(self, rng: np.random.Generator) -> Mischief:
        """The hand drifts off; a cube is moved."""
        return Mischief(rng, drifts=0.06, moves=0.03)

    def sketch(self) -> Sketch:
        """What is seen now."""
        sketch = Sketch((0.0, 0.0), TABLE)
        shown = dict(enumerate(self.cubes)) if self.out() else {}
        if self._steps < self._shown:
            shown = {self.color: self._sample}
        for which, (x, y) in shown.items():
            sketch.box(x, y, (0.015, 0.015), COLORS[self.colors[which]])
        sketch.disc(self.x, self.y, 0.012, HAND)
        return sketch


def _whole(what: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number in range."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(
            f"got {what}={value!r}, expected a whole number, {low} {'or more' if high is None else f'to {high}'}"
        )


class Toucher(Expert[RememberColorEnv]):
    """Rests about the middle of the table until the cubes are there, whatever the colour; then goes to the right one."""

    def __init__(self, env: RememberColorEnv, seed: int) -> None:
        """Draw how long it takes to react, as everything else, without the colour."""
        super().__init__(env, seed)
        self._react = int(self.rng.integers(0, 4))

    def act(self) -> Array:
        """(2,) velocity as a fraction of the top speed."""
        env = self.env
        if env.steps < env.appear + self._react:
            noise, self._go = self.drift(0.015), 0.0
            return np.clip([(v - 0.8 * at) / TOP for v, at in zip(noise, (env.x, env.y), strict=True)], -1, 1)
        vx, vy = self.toward(*env.cubes[env.color])
        for which, (x, y) in enumerate(env.cubes):
            away = max(hypot(env.x - x, env.y - y), 1e-9)
            if which != env.color and away < 0.07:
                vx += 30.0 * (0.07 - away) * (env.x - x) / away
                vy += 30.0 * (0.07 - away) * (env.y - y) / away
        return np.clip([vx, vy], -1.0, 1.0)
