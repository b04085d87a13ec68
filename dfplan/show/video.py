"""Frames to an animation, GIF or MP4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfplan.show.base import INK, whole
from dfplan.tools.errors import one_of, optional_import
from dfplan.tools.film import Frame

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = NDArray[np.uint8]
_LEAST = 320
"""Pixels of width from which on two lines of text fit."""


def write_gif(
    frames: Sequence[Picture], path: Path, rate: float, hold: float = 0.0, palette: Image | None = None
) -> Path:
    """Write pictures (h, w, 3) uint8 as a GIF of `rate` a second, whole or not at all.

    The last stays `hold` s longer. With a `palette` of all frames, still pixels stay the same and compress away;
    without, each frame gets 128 colours of its own.

    Raises:
        ValueError: there are no frames.
    """
    _some(frames, path)
    from PIL import Image

    dither = Image.Dither.NONE
    first, *rest = [Image.fromarray(f).quantize(128, palette=palette, dither=dither) for f in frames]
    times = [int(1000 / rate)] * len(frames)
    times[-1] += int(1000 * hold)
    own = palette is None  # optimising makes each frame's own palette smaller, and a shared one many
    with whole(path) as part:
        first.save(part, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=own)
    return path


def write_mp4(frames: Sequence[Picture], path: Path, rate: int) -> Path:
    """Write pictures (h, w, 3) uint8 as an MP4 (H.264) of `rate` a second, whole or not at all; needs the extra `video`.

    A last row or column is repeated where their number is odd, which H.264 cannot hold.

    Raises:
        ValueError: there are no frames.
        ImportError: PyAV is not installed; with the line that installs it.
    """
    _some(frames, path)
    av: Any = optional_import("av", "video")
    height, width = np.shape(frames[0])[:2]
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    with whole(path) as part, av.open(str(part), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.pad(frame, odd, "edge"), "rgb24")))
        file.mux(stream.encode())
    return path


def _some(frames: Sequence[Picture], path: Path) -> None:
    if not len(frames):
        raise ValueError(f"{path}: no frames to write; render the episode with render_mode='rgb_array'")


FORMATS: dict[str, Callable[[Sequence[Picture], Path, int], Path]] = {"gif": write_gif, "mp4": write_mp4}
"""What writes pictures, so many a second, by the ending of the file."""


def writer(ending: str) -> Callable[[Sequence[Picture], Path, int], Path]:
    """What writes a film with that ending.

    Raises:
        ValueError: there is no such format.
        ImportError: its package is not installed; with the line that installs it.
    """
    write = FORMATS[one_of("video format", ending, FORMATS)]
    if write is write_mp4:
        optional_import("av", "video")
    return write


def captioned(frames: Sequence[Frame]) -> list[Picture]:
    """Pictures (h, w, 3) uint8 with the caption of each below it; small ones enlarged to 320 pixels of width or more."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font_file, out = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", []
    for frame in frames:
        times = -(-_LEAST // frame.picture.shape[1])
        picture = frame.picture.repeat(times, 0).repeat(times, 1)
        height, width = picture.shape[:2]
        size = min(width // 24, 20)
        image = Image.new("RGB", (width, height + 3 * size), "white")
        image.paste(Image.fromarray(picture))
        font = ImageFont.truetype(str(font_file), size)
        ImageDraw.Draw(image).multiline_text((size // 2, height), frame.caption(), fill=INK, font=font)
        out.append(np.asarray(image))
    return out
