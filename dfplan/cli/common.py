"""What the commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from dfplan.planner import Planner, PlannerConfig

POLICY_TASKS = ("arm-reach", "arm-pick", "pusht")
if TYPE_CHECKING:
    from dfplan.data import Episodes

app = tyro.extras.SubcommandApp()


def generators() -> dict[str, Callable[[Path], None]]:
    from dfplan.envs import MAZES

    return {f"maze2d-{name}-v1": partial(_generate, name) for name in MAZES if not name.endswith("eval")}


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


def demonstrations(task: str, data: str | None) -> Episodes:
    """The demonstrations to train on: `data`, or the task's own, in the form its environment is seen in."""
    from dfplan.data import load

    if data is None and task in POLICY_TASKS and not task.startswith("arm"):
        raise ValueError(f"{task} has no demonstrations of its own here; pass --data, see docs/imitation.md")
    if data is None and not task:
        raise ValueError("no data given; pass --data with a file, a folder or the name of a data set")
    episodes = load(data or f"{task}-v1", generators=generators())
    if task == "pusht":
        from dfplan.envs.pusht import prepare

        return prepare(episodes)
    return episodes


def load_planner(name: str, planner: PlannerConfig, device: str, threads: int) -> Planner:
    from dfplan.models import load

    use_device(device, threads)
    return load(name, planner, device)


def at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise ValueError(f"got {name}={value}, expected {low} or more")


def use_device(device: str, threads: int) -> None:
    import torch

    at_least(1, threads=threads)
    torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"got device '{device}', but torch finds no GPU; use --device cpu, or install a CUDA build of torch"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"got device '{device}', which torch cannot use ({error}); use --device cpu"
        ) from error
