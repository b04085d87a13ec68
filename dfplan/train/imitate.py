"""From demonstrations to a training configuration: one token per sensor, one for the actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dfplan.data.episodes import Episodes
from dfplan.data.inspect_checks import targets
from dfplan.denoiser import Denoiser
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.tools.errors import one_of
from dfplan.train.config import TrainConfig, from_dict, to_dict

DEFAULTS: dict[str, Any] = {
    "goal_token": "",
    "horizon": 6,
    "model": {"kind": "perceptron", "width": 416, "layers": 3, "fine": 20.0},
    "levels": {
        "independent": 0.1, "shared": 0.6, "pyramid": 0.3, "start_known": 0.0, "history": 0.95, "memory": 3, "doubt": 0.2,
        "committed": 0.3,
    },
    "batch": 1024,
    "weight_decay": 0.05,
}  # fmt: skip
"""What an imitation run starts from, beside span and steps that suit the data; a configuration's own settings replace these."""


REMEMBERING: dict[str, Any] = {
    "independent": 0.1,
    "shared": 0.4,
    "pyramid": 0.2,
    "masked": 0.3,
    "forget": 0.1,
}
"""Levels that a network with a memory starts from. Where the action is masked it follows from nothing but what was seen,
which is what teaches a memory."""
SHORT = 64
"""Steps of the longest episode up to which all of them are kept for attention; above, older ones are compressed."""


@dataclass(frozen=True)
class Layout:
    """How demonstrations become tokens, where a configuration has no spec.

    Attributes:
        span: env steps in one token; None: as many as last about 0.16 s, of 4, 8, 16 and 32.
        tokens: token -> sensors in it, or the name of another array that was recorded, such as `rewards`; None: one
            token per sensor up to four sensors, else one for all; and one of `returns` where there is such an array.
        relative: column -> observation column, such as a joint's target and the joint, or the object's x and the
            hand's: the first is then learned relative to the second as measured now. None: as the demonstrations
            say, and where they do not, what looks like targets is, relative to what it moves (not in causal networks).
    """

    span: int | None = None
    tokens: Mapping[str, Any] | None = None
    relative: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse a span of no steps."""
        if self.span is not None and self.span < 1:
            raise ValueError(f"got span={self.span}, expected env steps per token, 1 or more")


def suitable_span(dt: float) -> int:
    """Env steps of a token at a rate: a hand hardly turns back within 0.16 s."""
    return 2 ** int(np.clip(round(np.log2(0.16 / dt)), 2, 5))


def suitable_steps(env_steps: int, span: int, batch: int) -> int:
    """Optimiser steps after which each token was the present of some 800 windows; 1,500 to 8,000."""
    return int(np.clip(800 * env_steps / (span * batch), 1500, 8000))


def imitation_spec(
    episodes: Episodes,
    span: int = 4,
    tokens: Mapping[str, Sequence[str]] | None = None,
    relative: Mapping[str, str] | None = None,
) -> TrajectorySpec:
    """How demonstrations become tokens: `span` env steps to a token, a token per sensor, the actions last.

    The action token of a step holds the `span` actions from that step on; the observation tokens hold the `span`
    observations that end there, and tokens of other arrays, such as rewards, what came with the actions before these.

    Args:
        episodes: demonstrations with actions. `info["groups"]` ({sensor: [start, stop]}) names the sensors and
            `info["names"]` the columns, as the readers fill them.
        span: see `Layout`, which also says what `tokens` and `relative` are.
        tokens: token -> sensors or the name of an array.
        relative: column -> observation column.

    Raises:
        ValueError: no actions, or an unknown sensor or column.
    """
    if "actions" not in episodes.arrays:
        raise ValueError(
            f"{episodes.name}: no array 'actions' (it has {sorted(episodes.arrays)}); imitation needs the actions "
            "of the demonstrations; where the next state is the action, read with --read action=next (next:3: three steps on)"
        )
    size = {key: int(np.prod(episodes.arrays[key].shape[1:])) for key in ("observations", "actions")}
    groups: dict[str, list[int]] = dict(
        episodes.info.get("groups") or {"observation": [0, size["observations"]]}
    )
    if tokens is None:
        tokens = {key: (key,) for key in groups} if len(groups) <= 4 else {"observation": tuple(groups)}
        tokens |= {"returns": ("returns",)} if "returns" in episodes.arrays else {}
    names = _names(episodes, size)
    units = episodes.info.get("units") or {}
    pairs = _moved(episodes, names) if relative is None else dict(relative)
    for name in pairs:
        one_of("relative column", name, [*names["observations"], *names["actions"]])
    parts = [*_sensors(tokens, groups, names), ("action", "actions", range(size["actions"]))]
    channels, made = [], []
    for token, source, columns in parts:
        unit = units.get(source) or [""] * len(names[source])
        # Other arrays hold what came with the action before, as rewards do: they are known late. Returns are asked for.
        lag = {"observations": 0, "actions": span - 1, "returns": 0}.get(source, -1)
        mine = [names[source][i] for i in columns]
        made.append(Token(token, tuple(mine), lag, 1.0 if source == "actions" else 0.2))
        channels += [
            Channel(n, unit[i], source, i, pairs.get(n, "")) for n, i in zip(mine, columns, strict=True)
        ]
    return TrajectorySpec(
        tuple(channels), tuple(made), episodes.dt, span, span, size["observations"], size["actions"]
    )


def _moved(episodes: Episodes, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What is told relative to what: as the demonstrations say, else targets to what they are targets for."""
    if stated := episodes.info.get("relative"):
        return dict(stated)
    return {names["actions"][a]: names["observations"][o] for a, o in targets(episodes).items()}


def _sensors(
    tokens: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[int]],
    names: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Each token's name, the array it comes from, and its columns there."""
    others = [key for key in names if key not in ("observations", "actions")]
    for token, sensors in tokens.items():
        for sensor in sensors:
            one_of("sensor", sensor, [*groups, *others])
        array = next((s for s in sensors if s not in groups), None)
        if array is None:
            yield token, "observations", [i for s in sensors for i in range(*groups[s])]
        elif len(sensors) > 1:
            raise ValueError(f"token '{token}' holds {list(sensors)}; give '{array}' a token of its own")
        else:
            yield token, array, range(len(names[array]))


def _names(episodes: Episodes, size: Mapping[str, int]) -> dict[str, list[str]]:
    """Column names of observations and actions, all different, and of the other arrays of numbers."""
    given = episodes.info.get("names") or {}
    out: dict[str, list[str]] = {}
    for key, prefix in (("observations", "o"), ("actions", "a")):
        names = [str(n) for n in given.get(key, ())]
        if len(names) != size[key] or len(set(names)) != len(names):
            names = [f"{prefix}{i}" for i in range(size[key])]
        out[key] = names
    clash = set(out["observations"]) & set(out["actions"])
    out["actions"] = [f"target {n}" if clash else n for n in out["actions"]]
    for key, array in episodes.arrays.items():
        if key not in (*size, "executed") and array.ndim <= 2 and array.dtype.kind in "fiub":
            wide = array.ndim == 2 and array.shape[1] > 1
            out[key] = [f"{key} {i}" for i in range(array.shape[1])] if wide else [key]
    return out


def suits(spec: TrajectorySpec, episodes: Episodes) -> None:
    """Refuse demonstrations whose columns are not those of a model that is to go on with them.

    Raises:
        ValueError: naming the first column that is absent or another one, or both lengths of an env step.
    """
    told = episodes.info.get("names") or {}
    for c in spec.channels:
        array, names = episodes.arrays.get(c.source), list(told.get(c.source, ()))
        width = 0 if array is None else array[0].size
        found = names[c.index] if c.index < min(len(names), width) else c.name
        if c.index >= width or c.name not in (found, f"target {found}"):
            has = f"'{found}' there" if c.index < width else f"{width} columns"
            raise ValueError(
                f"got {episodes.name} with {has}, expected '{c.name}' in column {c.index} of '{c.source}' as in the model; "
                "give demonstrations of the same robot and sensors, or train from nothing"
            )
    for key, size in (("observations", spec.observation_size), ("actions", spec.action_size)):
        if key in episodes.arrays and episodes.arrays[key][0].size != size:
            raise ValueError(
                f"got {episodes.name} with {episodes.arrays[key][0].size} columns of '{key}', expected the {size} of the model; "
                "give demonstrations of the same robot and sensors, or train from nothing"
            )
    if abs(spec.dt / episodes.dt - 1) > 0.02:
        raise ValueError(
            f"got {episodes.name} with steps of {episodes.dt:g} s, expected {spec.dt:g} s as in the model; resample "
            "one, or train from nothing"
        )


def take_weights(model: Denoiser, begin: Denoiser, name: str) -> None:
    """Give a model the weights of the one that it begins with.

    Raises:
        ValueError: they are of another size.
    """
    try:
        model.load_state_dict(begin.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"got settings of another model than '{name}' ({str(error).splitlines()[1].strip()}), expected its own; leave out "
            "--model and --horizon, or begin with no model"
        ) from error


def imitation_config(episodes: Episodes, **settings: Any) -> TrainConfig:
    """A training configuration for demonstrations.

    Args:
        episodes: the demonstrations.
        **settings: fields of `TrainConfig` (tables as dictionaries), and those of `Layout`.

    Raises:
        ValueError: an unknown setting, with the nearest name, or one that does not fit.
    """
    return from_dict(TrainConfig, complete(settings, episodes), "imitation")


def complete(values: Mapping[str, Any], episodes: Episodes) -> dict[str, Any]:
    """Fill in what an imitation configuration leaves out, the spec from the data; one with a spec is left as it is."""
    values = dict(values)
    if "spec" in values:
        return values
    mine = {f.name: values.pop(f.name) for f in fields(Layout) if f.name in values}
    layout = from_dict(Layout, mine, "imitation")
    for key in ("model", "levels"):
        if not isinstance(values.get(key, {}), dict):
            raise ValueError(f"got {key}={values[key]!r}, expected a table")
    span = layout.span or suitable_span(episodes.dt)
    network, relative = values.get("model", {}), layout.relative
    if relative is None and (network.get("causal") or network.get("kind") == "recurrent"):
        # A past that is told anew at every present could not be kept computed: only what the demonstrations say.
        relative = episodes.info.get("relative") or {}
    spec = imitation_spec(episodes, span, layout.tokens, relative)
    merged = {**DEFAULTS, **values, "spec": to_dict(spec)}
    merged.setdefault("patience", 4)
    merged.setdefault("steps", suitable_steps(episodes.steps, span, merged["batch"]))
    merged["levels"] = {**DEFAULTS["levels"], **values.get("levels", {})}
    if any(c.source == "returns" for c in spec.channels):  # asked for the best, unless told otherwise
        act = merged.get("act", {})
        merged["act"] = {**act, "policy": {"returns": 1.0, **act.get("policy", {})}}
    model = values.get("model", {})
    same = model.get("kind", DEFAULTS["model"]["kind"]) == DEFAULTS["model"]["kind"]
    merged["model"] = {**(DEFAULTS["model"] if same else {}), **model}
    if merged["model"].get("kind", "") == "perceptron":
        longest = int((episodes.ends - episodes.starts).max()) // span
        _remembering(merged, values.get("levels", {}), longest)
    return merged


def _remembering(values: dict[str, Any], given: Mapping[str, Any], longest: int) -> None:
    """Fill in the memory: none where the window shows whole episodes, else one that suits their length in steps."""
    model = values["model"]
    shown = values["levels"].get("memory", 0) or values["horizon"]
    carrier = "" if longest < shown else "attention" if longest <= SHORT else "compressed"
    model.setdefault("carrier", carrier)
    if model["carrier"]:
        model["reach"] = model.get("reach") or longest
        values.setdefault("lr", 3e-3)
        values["levels"] = {**values["levels"], **REMEMBERING, **given}
