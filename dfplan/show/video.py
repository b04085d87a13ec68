"""Frames to an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.show.base import whole

if TYPE_CHECKING:
    from PIL.Image import Image


def write_gif(
    frames: Sequence[NDArray[np.uint8]], path: Path, rate: float, hold: float = 0.0, palette: Image | None = None
) -> Path:  # fmt: skip
    """Write pictures (h, w, 3) uint8 as a GIF of `rate` a second, whole or not at all.

    The last stays `hold` s longer. With a `palette` of all frames, still pixels stay the same and compress away;
    without, each frame gets 128 colours of its own.

    Raises:
        ValueError: there are no frames.
    """
    if not len(frames):
        raise ValueError(f"{path}: no frames to write; render the episode with render_mode='rgb_array'")
    from PIL import Image

    dither = Image.Dither.NONE
    first, *rest = [Image.fromarray(f).quantize(128, palette=palette, dither=dither) for f in frames]
    times = [int(1000 / rate)] * len(frames)
    times[-1] += int(1000 * hold)
    own = palette is None  # optimising makes each frame's own palette smaller, and a shared one many
    with whole(path) as part:
        first.save(part, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=own)
    return path
