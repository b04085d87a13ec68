"""Pictures of an episode as it goes, and what is known with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """A picture, and what was known when it was taken.

    Attributes:
        picture: (h, w, 3) uint8.
        step: env steps so far.
        time: the same, s; None where the environment does not say at what rate it is drawn (`render_fps`).
        reached: env step of the first success, or None.
        success: whether there was one; None where the environment does not tell.
        progress: the largest so far, 0 to 1; None where it does not tell.
    """

    picture: NDArray[np.uint8]
    step: int
    time: float | None = None
    reached: int | None = None
    success: bool | None = None
    progress: float | None = None

    def caption(self) -> str:
        """The same in two lines, without what is not known."""
        time = "" if self.time is None else f", {self.time:.2f} s"
        words = [] if self.progress is None else [f"best progress {self.progress:.2f}"]
        if self.success is not None:
            at = "" if self.reached is None else f" at step {self.reached}"
            words.append(f"success{at}" if self.success else "no success yet")
        return f"step {self.step}{time}\n{', '.join(words)}"


def take(env: Any, step: int, reached: int | None, success: bool | None, progress: float | None) -> Frame:
    """A frame of a Gymnasium environment made with render_mode 'rgb_array'; see `Frame`.

    Raises:
        OSError: it cannot draw here; with what may help.
    """
    try:
        picture = np.asarray(env.render(), np.uint8)
    except (ValueError, OSError):
        raise
    except Exception as error:  # each simulator has its own for a missing display
        raise OSError(
            f"cannot film ({error}); leave films out, or set MUJOCO_GL=egl or osmesa where MuJoCo draws"
        ) from error
    rate = (getattr(getattr(env, "unwrapped", env), "metadata", None) or {}).get("render_fps")
    best = None if progress is None else float(progress)
    return Frame(picture, step, step / rate if rate else None, reached, success, best)
