"""From demonstrations to a training configuration: one token per sensor, one for the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfplan.data.episodes import Episodes
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
    "steps": 8000,
    "batch": 1024,
    "weight_decay": 0.05,
}  # fmt: skip
"""What an imitation run starts from; a configuration's own settings replace these."""


_EXAMPLE = {
    "tokens": '{"robot": ["joints"]}',
    "relative": '{"q1 target": "q1"}',
    "model": '{"width": 512}',
    "levels": '{"doubt": 0}',
}


def imitation_spec(
    episodes: Episodes,
    span: int = 4,
    tokens: Mapping[str, Sequence[str]] | None = None,
    relative: Mapping[str, str] | None = None,
) -> TrajectorySpec:
    """How demonstrations become tokens: `span` env steps to a token, a token per sensor, the actions last.

    The action token of a step holds the `span` actions from that step on; the observation tokens hold the `span`
    observations that end there.

    Args:
        episodes: demonstrations with actions. `info["groups"]` ({sensor: [start, stop]}) names the sensors and
            `info["names"]` the columns, as the readers fill them.
        span: env steps in one token.
        tokens: token -> sensors in it; None: one token per sensor up to four sensors, else one for all.
        relative: column -> observation column, such as a joint's target and the joint, or the object's x and the
            hand's: the first is then learned relative to the second as measured now. None: `info["relative"]`, or
            none.

    Raises:
        ValueError: no actions, or an unknown sensor or column.
    """
    if "actions" not in episodes.arrays:
        raise ValueError(
            f"{episodes.name}: no array 'actions' (it has {sorted(episodes.arrays)}); imitation needs the actions "
            "of the demonstrations"
        )
    size = {key: int(np.prod(episodes.arrays[key].shape[1:])) for key in ("observations", "actions")}
    groups: dict[str, list[int]] = dict(
        episodes.info.get("groups") or {"observation": [0, size["observations"]]}
    )
    if tokens is None:
        tokens = {key: (key,) for key in groups} if len(groups) <= 4 else {"observation": tuple(groups)}
    names = _names(episodes, size)
    units = episodes.info.get("units") or {}
    pairs = dict(episodes.info.get("relative") or {}) if relative is None else dict(relative)
    for name in pairs:
        one_of("relative column", name, [*names["observations"], *names["actions"]])
    channels, made = [], []
    for token, sensors in tokens.items():
        columns = [i for s in sensors for i in range(*groups[one_of("sensor", s, groups)])]
        made.append(Token(token, tuple(names["observations"][i] for i in columns), weight=0.2))
        unit = units.get("observations") or [""] * size["observations"]
        channels += [(names["observations"][i], unit[i], "observations", i) for i in columns]
    unit = units.get("actions") or [""] * size["actions"]
    channels += [(n, u, "actions", i) for i, (n, u) in enumerate(zip(names["actions"], unit, strict=True))]
    made.append(Token("action", tuple(names["actions"]), span - 1))
    return TrajectorySpec(
        tuple(Channel(*c, pairs.get(c[0], "")) for c in channels),
        tuple(made),
        episodes.dt,
        span,
        span,
        size["observations"],
        size["actions"],
    )


def _names(episodes: Episodes, size: Mapping[str, int]) -> dict[str, list[str]]:
    """Column names of observations and actions, all different."""
    given = episodes.info.get("names") or {}
    out: dict[str, list[str]] = {}
    for key, prefix in (("observations", "o"), ("actions", "a")):
        names = [str(n) for n in given.get(key, ())]
        if len(names) != size[key] or len(set(names)) != len(names):
            names = [f"{prefix}{i}" for i in range(size[key])]
        out[key] = names
    clash = set(out["observations"]) & set(out["actions"])
    out["actions"] = [f"target {n}" if clash else n for n in out["actions"]]
    return out


def imitation_config(episodes: Episodes, **settings: Any) -> TrainConfig:
    """A training configuration for demonstrations.

    Args:
        episodes: the demonstrations.
        **settings: fields of `TrainConfig` (tables as dictionaries), and `span`, `tokens`, `relative` of
            `imitation_spec`.

    Raises:
        ValueError: an unknown setting, with the nearest name, or one that does not fit.
    """
    return from_dict(TrainConfig, complete(settings, episodes), "imitation")


def complete(values: Mapping[str, Any], episodes: Episodes) -> dict[str, Any]:
    """Fill in what an imitation configuration leaves out, the spec from the data; one with a spec is left as it is."""
    values = dict(values)
    if "spec" in values:
        return values
    span, tokens, relative = values.pop("span", 4), values.pop("tokens", None), values.pop("relative", None)
    tables = {
        "tokens": tokens,
        "relative": relative,
        "model": values.get("model"),
        "levels": values.get("levels"),
    }
    for key, table in tables.items():
        if table is not None and not isinstance(table, dict):
            raise ValueError(f"got {key}={table!r}, expected a table, such as {key}={_EXAMPLE[key]}")
    if not isinstance(span, int) or span < 1:
        raise ValueError(f"got span={span!r}, expected env steps per token, 1 or more")
    spec = imitation_spec(episodes, span, tokens, relative)
    merged = {**DEFAULTS, **values, "spec": to_dict(spec)}
    merged["levels"] = {**DEFAULTS["levels"], **values.get("levels", {})}
    model = values.get("model", {})
    same = model.get("kind", DEFAULTS["model"]["kind"]) == DEFAULTS["model"]["kind"]
    merged["model"] = {**(DEFAULTS["model"] if same else {}), **model}
    return merged
