"""Animation of denoising: the maze is drawn once, and in each frame only what moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.show import base
from dfplan.show.base import INK, OFFSET, SKY, VERMILLION, WALL, Array, level_ramp
from dfplan.show.video import write_gif

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

_DPI = 100
_RATE, _HOLD = 10, 1.9
# Inches: the line of text, the strip of levels, the space between, what names of axes take below and at the left.
_TEXT, _STRIP, _GAP, _NAMES = 0.34, 0.5, 0.36, 0.44


def denoise_gif(
    path: str | Path,
    frames: Sequence[ArrayLike],
    levels: ArrayLike,
    walls: ArrayLike,
    goal: ArrayLike | None,
    places: ArrayLike | None = None,
    *,
    chosen: int | None = None,
    most: int = 25,
    offset: float = OFFSET,
    unit: str = "m",
) -> Path:
    """Write a GIF of tokens coming out of noise, with the level of each token below.

    For the tokens that `Planner.plan` hands to its callback after each call, `levels` is `matrix.levels[1:]`.

    Args:
        path: file to write, replaced once it is complete.
        frames: M arrays (K, S, 2), positions x, y in m after each network call.
        levels: (M, S), the level of each token in each frame; 0 for tokens that are known.
        walls: (R, C) bool, True where a wall is.
        goal: (x, y) in m, or None.
        places: (2,) or (N, 2) other positions to mark, such as the start, m.
        chosen: candidate that is drawn as a line in the last frame.
        most: frames that are kept, evenly spread, first and last included; 10 a second, the last for 2 s.
        offset: position, m, of a cell's centre minus its (row, column).
        unit: of all positions, where it is not m; a cell is 1 wide.

    Raises:
        ValueError: if an array has another shape, is not finite, or `chosen` is no candidate.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"got '{path.name}', expected a name that ends in .gif; use save() for stills")
    if most < 2:
        raise ValueError(f"got most={most}, expected 2 or more frames")
    positions, level = _check(frames, levels, chosen)
    marked = np.zeros((0, 2)) if places is None else np.atleast_2d(np.asarray(places, np.float64))
    starts = [base.check_place("place", place) for place in marked]
    target = None if goal is None else base.check_place("goal", goal)
    scene = _Scene(base.check_walls(walls), target, starts, level.shape[1], offset, unit)
    keep = np.unique(np.linspace(0, len(level) - 1, most).round().astype(int))
    pictures = [scene.draw(positions[m], level[m], f"network call {m + 1} of {len(level)}") for m in keep]
    if chosen is not None:
        text = f"after {len(level)} network calls"
        pictures[-1] = scene.draw(positions[-1], level[-1], text, positions[-1][chosen])
    return write_gif(pictures, path, _RATE, _HOLD, _palette())


def _check(frames: Sequence[ArrayLike], levels: ArrayLike, chosen: int | None) -> tuple[Array, Array]:
    if not len(frames):
        raise ValueError(
            "got no frames, expected (K, S, 2) for each network call; collect them in a callback"
        )
    shapes, shape = {np.shape(f) for f in frames}, np.shape(frames[0])
    if len(shapes) > 1 or len(shape) != 3 or shape[2] != 2 or 0 in shape:
        raise ValueError(
            f"got frames of shape {sorted(shapes)}, expected (K, S, 2): x, y in m of K candidates"
        )
    level = np.asarray(levels, np.float64)
    if level.shape != (len(frames), shape[1]):
        raise ValueError(
            f"got levels of shape {level.shape}, expected ({len(frames)}, {shape[1]}): a row for each frame, "
            "a column for each token; for frames after each call use matrix.levels[1:]"
        )
    positions = np.asarray(frames, np.float64)
    for name, values in (("frames", positions), ("levels", level)):
        if not np.isfinite(values).all():
            at = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(f"{name}{at} is not finite, expected numbers; check the model that made them")
    if level.min() < 0 or level.max() > 1:
        raise ValueError(
            f"got levels {level.min():.3g} to {level.max():.3g}, expected 0 (clean) to 1 (noise)"
        )
    if chosen is not None and not 0 <= chosen < shape[0]:
        raise ValueError(f"got chosen={chosen}, expected a candidate from 0 to {shape[0] - 1}")
    return positions, level


class _Scene:
    """Maze, marks and empty strip drawn once; dots and bars over a copy in each frame."""

    def __init__(
        self,
        walls: NDArray[np.bool_],
        goal: Array | None,
        places: list[Array],
        tokens: int,
        offset: float,
        unit: str,
    ) -> None:
        wide, high = base.maze_size(walls)
        scale = min(7.2 / wide, 5.2 / high)
        width = max(scale * wide + 2 * _NAMES, 4.8)
        self.height = _TEXT + scale * high + _GAP + _STRIP + 2 * _NAMES
        self.figure: Figure = base.new_figure(width, self.height, _DPI, layout=None)
        left = (1 - scale * wide / width) / 2
        bottom = 1 - (_TEXT + scale * high) / self.height
        self.maze = self.figure.add_axes((left, bottom, scale * wide / width, scale * high / self.height))
        base.draw_maze(self.maze, walls, offset, unit)
        self.dots = self.maze.scatter([], [], s=26, linewidths=0.4, edgecolors="white", zorder=5)
        self.dots.set_cmap(level_ramp())
        self.dots.set_clim(0, 1)
        self.line = [self.maze.plot([], [], color=c, lw=w)[0] for c, w in (("white", 6), (SKY, 3.2))]
        self.marks = [base.mark(self.maze, place, "start") for place in places]
        self.marks += [] if goal is None else [base.mark(self.maze, goal, "goal")]
        self._add_strip(tokens, width)
        bold: dict[str, Any] = {"fontsize": 12, "color": INK, "weight": "bold"}
        self.text = self.figure.text(0.5, 1 - _TEXT / 2 / self.height, "", ha="center", va="center", **bold)
        self.moving = [self.dots, *self.line, *self.marks, self.bars, self.text]
        for artist in self.moving:
            artist.set_animated(True)
        self.figure.canvas.draw()
        self.empty = self.figure.canvas.copy_from_bbox(self.figure.bbox)  # type: ignore[attr-defined]

    def _add_strip(self, tokens: int, width: float) -> None:
        """Bars under the maze: the noise level of each token."""
        from matplotlib.collections import PolyCollection

        strip = (0.84 / width, _NAMES / self.height, 1 - 0.96 / width, _STRIP / self.height)
        self.strip = self.figure.add_axes(strip)
        self.strip.set(xlim=(-0.5, tokens - 0.5), ylim=(0, 1.02), xlabel="token (time →)", ylabel="level")
        self.strip.set_xticks([0, tokens - 1] if tokens > 1 else [0])
        self.strip.set_yticks([0, 1], ["clean", "noise"])
        base.plain(self.strip)
        self.bars = PolyCollection([], cmap=level_ramp(), clim=(0, 1))
        self.strip.add_collection(self.bars, autolim=False)
        title = f"noise level of each of the plan's {tokens} tokens"
        self.strip.set_title(title, fontsize=10, color=INK, pad=5)

    def draw(self, positions: Array, level: Array, text: str, line: Array | None = None) -> NDArray[np.uint8]:
        """One frame (h, w, 3): positions (K, S, 2), level (S,), and a path (S, 2) to draw as a line."""
        order = np.argsort(-level, kind="stable")  # clean tokens over noisy ones
        self.dots.set_offsets(positions[:, order, ::-1].reshape(-1, 2))
        self.dots.set_array(np.tile(level[order], len(positions)))
        path = np.zeros((0, 2)) if line is None else line
        for part in self.line:
            part.set_data(path[:, 1], path[:, 0])
        x, top = np.arange(len(level)), np.maximum(level, 0.04)
        corners = [x - 0.42, x * 0, x - 0.42, top, x + 0.42, top, x + 0.42, x * 0]
        self.bars.set_verts(list(np.stack(corners, 1).reshape(-1, 4, 2)))
        self.bars.set_array(level)
        self.text.set_text(text)
        canvas: Any = self.figure.canvas
        canvas.restore_region(self.empty)
        for artist in self.moving:
            (artist.axes or self.figure).draw_artist(artist)
        return np.array(canvas.buffer_rgba())[..., :3]


def _palette() -> Image.Image:
    """The colours of a scene and their blends with white along smooth edges, the same for every frame."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    dots = level_ramp()(np.linspace(0, 1, 40))[:, :3]
    lines = np.array([to_rgb(colour) for colour in (INK, WALL, VERMILLION, SKY, "#555a62")])
    blends = [1 - (1 - dots) * part for part in (1, 0.67, 0.33)]
    blends += [1 - (1 - lines) * part for part in np.linspace(1, 0, 8)[:-1]]
    colours = np.concatenate([np.ones((1, 3)), *blends])
    assert len(colours) <= 256
    image = Image.new("P", (1, 1))
    image.putpalette((colours * 255).round().astype(np.uint8).tobytes())
    return image
