"""Frames to an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_gif(frames: Sequence[NDArray[np.uint8]], path: Path, rate: float) -> Path:
    """Write pictures (h, w, 3) uint8 as a GIF of `rate` pictures a second.

    Raises:
        ValueError: there are none.
    """
    if not len(frames):
        raise ValueError(f"{path}: no frames to write; render the episode with render_mode='rgb_array'")
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(f).quantize(128) for f in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=int(1000 / rate), loop=0)
    return path
