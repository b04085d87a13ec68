"""What the commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from dfplan.data import Episodes

ENOUGH = {"arm-reach": 200, "arm-pick": 200, "swap": 300}
"""Arm task -> demonstrations that are enough to learn it."""
ARM_TASKS = tuple(ENOUGH)
POLICY_TASKS = (*ARM_TASKS, "pusht")
app = tyro.extras.SubcommandApp()
FLAT = tyro.conf.arg(name="")
"""Marks a group of options whose names do not begin with the group's."""


@dataclass(frozen=True)
class Compute:
    """Where a network runs.

    Attributes:
        device: cpu, cuda, ...
        threads: CPU threads.
    """

    device: str = "cpu"
    threads: int = 1

    def use(self) -> None:
        """Set the threads; raise where torch cannot use the device."""
        import torch

        at_least(1, threads=self.threads)
        torch.set_num_threads(self.threads)
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"got device '{self.device}', but torch finds no GPU; use --device cpu, or install a CUDA build of torch"
            )
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"got device '{self.device}', which torch cannot use ({error}); use --device cpu"
            ) from error


CPU = Compute()


def generators() -> dict[str, Callable[[Path], None]]:
    """What can make a data set that is neither here nor downloadable, by name."""
    from dfplan.envs import MAZES, MEMORY_IDS, POINT_MAZES

    made: dict[str, Callable[[Path], None]] = {
        f"{task}-v1": partial(_demonstrate, task) for task in (*ARM_TASKS, *MEMORY_IDS)
    }
    names = [name + kind for name in MAZES if not name.endswith("eval") for kind in ("", "-dense")]
    mazes = {f"maze2d-{name}-v1": partial(_generate, name) for name in names}
    made |= {f"{task}-v0": partial(_demonstrate, task) for task in POINT_MAZES}
    return made | mazes


def _demonstrate(task: str, path: Path) -> None:
    from dfplan.envs import POINT_MAZES, generate_arm, generate_memory, generate_point_maze

    other = generate_point_maze if task in POINT_MAZES else generate_memory
    (generate_arm if task in ARM_TASKS else other)(task, path)


def _generate(name: str, path: Path) -> None:
    from dfplan.envs import generate

    generate(name, path)


def report(values: dict[str, Any], path: Path | None, hide: tuple[str, ...] = ()) -> None:
    """Print a table of values but those of `hide`; write them all as JSON when asked."""
    for key, value in values.items():
        if key in hide:
            continue
        print(f"  {key:<20} {value:.3f}" if isinstance(value, float) else f"  {key:<20} {value}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1) + "\n")


def read_options(words: tuple[str, ...]) -> dict[str, Any]:
    """Reader options from words such as `mask=train obs=a,b dt=0.05`; values are JSON, lists by comma, or text."""
    out: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(
                f"got option '{word}', expected key=value, such as mask=train or obs=object,robot0_eef_pos"
            )
        try:
            out[key] = json.loads(value)
        except json.JSONDecodeError:
            out[key] = tuple(value.split(",")) if "," in value or key == "obs" else value
    return out


def demonstrations(
    task: str, data: str | None, read: tuple[str, ...] = (), holdout: float = 0.0, held: bool = False
) -> Episodes:
    """The demonstrations to train on: `data`, or the task's own, in the form its environment is seen in.

    Where a share `holdout` of the episodes is kept out: the others, or these if `held`.
    """
    from dfplan.data import load

    if data is None and task == "pusht":
        raise ValueError(f"{task} has no demonstrations of its own here; pass --data, see docs/imitation.md")
    if data is None and not task:
        raise ValueError("no data given; pass --data with a file, a folder or the name of a data set")
    from dfplan.envs import POINT_MAZES, prepare

    own = task if re.search(r"-v\d$", task) else f"{task}-v{0 if task in POINT_MAZES else 1}"
    episodes = load(data or own, generators=generators(), **read_options(read))
    return prepare(task, episodes.split(holdout)[held] if holdout else episodes)


def at_least(low: int, **values: int) -> None:
    """Raise where a value is below `low`."""
    for name, value in values.items():
        if value < low:
            raise ValueError(f"got {name}={value}, expected {low} or more")
