"""Reader of robomimic's HDF5 layout, and of the raw demonstrations of robosuite that it is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.assemble import Arrays, Raw, assemble, is_image, join_columns
from dfplan.data.episodes import Episodes
from dfplan.data.formats.hdf5 import Node, hdf5_names, open_hdf5
from dfplan.data.formats.robomimic.meta import Demo, Meta, read_meta, time_step_of
from dfplan.tools.errors import one_of

_STRICT = ("actions", "rewards", "dones", "states")
_DIMS = (1, 2, 3)
_DEPTH = 2  # a damaged link can lead back to where it is


def is_robomimic(path: Path) -> bool:
    """True for an HDF5 file with a group `data`."""
    return "data" in hdf5_names(path)


def read_robomimic(
    path: str | PathLike[str],
    *,
    obs: Sequence[str] | None = None,
    action: str | Sequence[str] | None = None,
    mask: str | None = None,
    dt: float | None = None,
    name: str | None = None,
    partial: bool = False,
    allow_nan: bool = False,
) -> Episodes:
    """Read a robomimic file (any version) or a raw robosuite `demo.hdf5` into memory, in the file's types.

    Arrays: `observations` (N, C), `actions` (N, A), and under their own names `rewards`, `dones`, `states`
    and whatever else each demonstration has one row per env step of. `next_obs` is not read. Quaternions
    stay as robomimic has them: x, y, z, w.

    Args:
        path: the file.
        obs: keys below `obs/` (or of the demonstration itself, such as `states`) to join, in this order.
            Default: all but pictures; of a file without `obs` the simulator's `states`, as a note then says.
        action: key of the action, such as `actions` (the default) or `actions_abs`, or several to join, such
            as `("action_dict/abs_pos", "action_dict/abs_rot_6d", "action_dict/gripper")`. The file's
            `actions`, where they are not chosen, become the array `demo/actions`.
        mask: read only the demonstrations that `mask/<mask>` names.
        dt: seconds between env steps. Default: the control frequency that the file states, else the times
            in robosuite's states, else that of the task, known by name.
        name: name for messages and checkpoints. Default: the environment's.
        partial: read a file whose writing was cut short (it lacks the attribute `total`).
        allow_nan: keep NaN and infinity instead of refusing them.

    Returns:
        the demonstrations in the order of their numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable as robomimic; the message names the file, demonstration and key.
    """
    path = Path(path).expanduser()
    info: dict[str, Any] = {"format": "robomimic"}
    with open_hdf5(path) as file:
        meta = read_meta(file, mask, partial)
        chosen = obs is not None or action is not None
        carried = {} if chosen else meta.carried
        leaves = dict(_leaves(meta.demos[0].group))
        observed = _observed(path, leaves, obs, carried, info)
        acts = _acts(path, leaves, action, carried)
        others = _others(meta.demos, leaves, [*observed.values(), *acts], info)
        read = {key: _read(meta.demos, key) for key in dict.fromkeys([*observed.values(), *acts, *others])}
    ends = np.cumsum([demo.steps for demo in meta.demos], dtype=np.int64)
    _unscale(path, read, meta)
    arrays: Arrays = {short: read[key] for short, key in observed.items()} | {key: read[key] for key in acts}
    arrays |= {"demo/actions" if key == "actions" else key: read[key] for key in others}
    info |= meta.info
    if acts not in ([], ["actions"]) and not carried:
        info["action_groups"] = join_columns({key: read[key] for key in acts})[1]
    step = dt or time_step_of(meta, read.get("states"), ends, info)
    raw = Raw(path, arrays, ends, step, meta.name, info, list(observed), acts, {}, meta.carried, chosen)
    return assemble(raw, dt=dt, name=name, allow_nan=allow_nan)


def _leaves(group: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every array of a demonstration but those of `next_obs`, with its key; three groups deep at most."""
    for name in group.names():
        node = group.find(name) if prefix + name != "next_obs" else None
        if node and node.is_array:
            yield prefix + name, node
        elif node and node.is_group and prefix.count("/") < _DEPTH:
            yield from _leaves(node, f"{prefix}{name}/")


def _observed(
    path: Path,
    leaves: dict[str, Node],
    obs: Sequence[str] | None,
    carried: Mapping[str, Any],
    info: dict[str, Any],
) -> dict[str, str]:
    """Observation key -> its place in a demonstration; what is not chosen goes to `info`."""
    there = [key for key in leaves if key.startswith("obs/")]
    if obs is not None:
        short = {key.removeprefix("obs/"): key for key in (*leaves, *there)}
        chosen = [short[one_of(f"observation for {path}", key.removeprefix("obs/"), short)] for key in obs]
    else:
        chosen = [f"obs/{key}" for key in carried.get("obs", ())]
        if not chosen or not set(chosen) <= set(there):
            chosen = [k for k in there if not is_image(leaves[k].shape) and not _empty(leaves[k])]
    if not chosen and "states" in leaves:
        chosen = ["states"]
        info.setdefault("notes", []).append(
            "the file has no observations: `observations` are the simulator's states (time, positions, velocities)"
        )
    if not chosen:
        raise ValueError(f"{path}: the demonstrations hold {sorted(leaves)}, expected 'obs/...' or 'states'")
    info["left_out"] = [key for key in there if key not in chosen]
    return {"state" if key == "states" else key.removeprefix("obs/"): key for key in chosen}


def _acts(
    path: Path, leaves: dict[str, Node], action: str | Sequence[str] | None, carried: Mapping[str, Any]
) -> list[str]:
    """Keys that make the action; none where the file has no `actions`."""
    if action is None:
        stated = list(carried.get("action", ["actions"]))
        return stated if set(stated) <= set(leaves) else []
    keys = [action] if isinstance(action, str) else action
    return [one_of(f"action for {path}", key, leaves) for key in keys]


def _others(
    demos: Sequence[Demo], leaves: dict[str, Node], used: Sequence[str], info: dict[str, Any]
) -> list[str]:
    """Keys of further arrays to read; what cannot be read goes to `info`."""
    keys = []
    for key, first in leaves.items():
        if (key in used and key != "states") or key.startswith("obs/"):
            continue
        if key in _STRICT or (_readable(first) and _in_all(demos, key, first.shape[1:])):
            keys.append(key)
        else:
            info["left_out"].append(key)
    return keys


def _readable(leaf: Node) -> bool:
    return leaf.item.dtype.kind in "fiub" and not _empty(leaf) and not is_image(leaf.shape)


def _in_all(demos: Sequence[Demo], key: str, row: Sequence[int]) -> bool:
    """True if every demonstration has this array with one row of that shape per env step."""
    found = [demo.group.find(key) for demo in demos]
    return all(node and node.shape == (demo.steps, *row) for node, demo in zip(found, demos, strict=True))


def _empty(leaf: Node) -> bool:
    """True for an array without columns, which robosuite writes for arms that are not there."""
    return leaf.item.shape is None or 0 in leaf.shape[1:]


def _read(demos: Sequence[Demo], key: str) -> NDArray[np.generic]:
    """One array (N, ...) of all demonstrations."""
    nodes: list[Node] = []
    for demo in demos:
        path, where, node = demo.group.path, f"{demo.group.key}/{key}", demo.group.find(key)
        if node is None:
            raise ValueError(
                f"{path}: no '{where}', which {demos[0].name} has; choose keys that all have, with obs="
            )
        nodes.append(node.array(_DIMS, demo.steps))
        if node.shape[1:] != nodes[0].shape[1:]:
            raise ValueError(
                f"{path}: '{where}' has shape {node.shape}, expected {nodes[0].shape[1:]} numbers per env "
                f"step as in {demos[0].name}"
            )
    there = nodes[0].mapped() if len(nodes) == 1 else None
    if there is not None:
        return there
    rows = np.cumsum([0, *(demo.steps for demo in demos)])
    out = np.empty((rows[-1], *nodes[0].shape[1:]), np.result_type(*(node.item.dtype for node in nodes)))
    for node, begin, end in zip(nodes, rows, rows[1:], strict=False):
        node.read_into(out[begin:end], finite=False)
    return out


def _unscale(path: Path, arrays: Arrays, meta: Meta) -> None:
    """Undo the scale that `write_robomimic(rescale=True)` notes in the file; powers of two, so exactly."""
    scale = meta.carried.get("action_scale")
    if scale is None or "actions" not in arrays:
        return
    actions = arrays["actions"]
    factors = np.asarray(scale, actions.dtype)
    if factors.shape != actions.shape[1:]:
        raise ValueError(
            f"{path}: attribute 'dfplan' scales {factors.shape} columns, 'actions' has {actions.shape[1:]}; "
            "remove action_scale from it"
        )
    arrays["actions"] = np.multiply(actions, factors)
