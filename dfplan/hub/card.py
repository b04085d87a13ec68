"""The card of a repository: what is in it, and the command that uses it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from math import prod
from typing import Any

from dfplan.data import Episodes
from dfplan.hub.repository import Repository, library
from dfplan.train.checkpoint import Checkpoint

TAG = "dfplan"


def model_card(to: Repository, model: Checkpoint, done: int | None, license: str = "") -> str:
    """The card of a model.

    Args:
        to: where it goes.
        model: what goes there.
        done: steps that it was trained; None: that is not known.
        license: its short name on the Hub.
    """
    config, spec, name = model.config, model.config.spec, to.id.partition("/")[2]
    use = "planner" if config.goal_token else "policy"
    tags = [TAG, "diffusion-forcing", "robotics", "planning" if use == "planner" else "imitation-learning"]
    data = library().ModelCardData(
        library_name="dfplan", license=license or None, pipeline_tag="robotics", tags=tags
    )
    size = sum(p.numel() for p in model.denoiser.parameters())
    rows = {
        "task": config.task or "of one's own recordings",
        "tokens of a step": "; ".join(f"{t.name}: {', '.join(t.channels)}" for t in spec.tokens),
        "a step": f"{spec.stride} env steps of {spec.dt:g} s",
        "window": f"{config.horizon} steps",
        "network": f"{config.model.kind}, {size:,} parameters",
        "trained": f"{'' if done is None else f'{done} of '}{config.steps} steps of {config.batch} windows, seed {config.seed}",
        "acts": _settings(config.act.get(use, {})),
    }
    played = f"eval {config.task} --checkpoint {name}" if config.task else f"judge {name} --data RECORDINGS"
    about = f"A {use} of dfplan: one Diffusion Forcing model trained on demonstrations. Weights in half precision or 8 bits."
    return _card(data, name, about, rows, [f"hub pull {to} --out {name}", played])


def data_card(
    to: Repository, file: str, form: str, episodes: Episodes, read: Mapping[str, Any], license: str = ""
) -> str:
    """The card of demonstrations.

    Args:
        to: where they go.
        file: that they are in; empty: the repository is the folder that is read.
        form: name of their format.
        episodes: what is read of them.
        read: options of the reader that are needed.
        license: its short name on the Hub.
    """
    name, more = to.id.partition("/")[2], dict[str, Any]()
    if form == "lerobot":
        more["configs"] = [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    tags = [TAG, "robotics", "imitation-learning", *(["LeRobot"] if form == "lerobot" else [])]
    data = library().DatasetCardData(license=license or None, task_categories=["robotics"], tags=tags, **more)
    names = episodes.info.get("names", {})
    rows = {
        "format": form,
        "episodes": str(len(episodes)),
        "env steps": f"{episodes.steps} of {episodes.dt:g} s",
        **{
            key: ", ".join(names[key]) if key in names else f"{prod(array.shape[1:])} a step"
            for key, array in episodes.arrays.items()
        },
        "tasks": "; ".join(map(str, episodes.info.get("tasks", ()))) or "one",
    }
    options = "".join(f" {shlex.quote(f'{key}={_word(value)}')}" for key, value in read.items())
    where = f"{name}/{file}" if file else name
    train = f"train imitation --data {where} --out runs/{name}" + (f" --read{options}" if read else "")
    return _card(
        data, name, "Demonstrations that dfplan trains on.", rows, [f"hub pull {to} --out {name}", train]
    )


def _word(value: Any) -> str:
    """An option of a reader, as the command takes it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _settings(table: Mapping[str, Any]) -> str:
    """How it acts, in words."""
    return ", ".join(f"{key} {value}" for key, value in table.items()) or "with dfplan's defaults"


def _card(data: Any, name: str, about: str, rows: Mapping[str, str], commands: list[str]) -> str:
    lines = [f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items()]
    shell = "\n".join(f"dfplan {command}" for command in commands)
    table = "\n".join(["| | |", "|---|---|", *lines])
    return f"---\n{data.to_yaml()}\n---\n\n# {name}\n\n{about}\n\n{table}\n\n```bash\npip install 'dfplan[hub]'\n{shell}\n```\n"
