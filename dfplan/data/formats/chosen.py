"""What a caller chooses of any format: some episodes, a task, and the next state as the action."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dfplan.data.assemble import Spans, column_names
from dfplan.data.episodes import Episodes
from dfplan.tools.errors import one_of

OPTIONS = ("episodes", "task")
_NEXT = re.compile(r"next(?::(?P<steps>[0-9]+))?(?::(?P<group>[^:]+))?")


def is_next(action: Any) -> bool:
    """Whether `action=` asks for the next state: `next`, `next:K` (K steps on), `next:GROUP` or `next:K:GROUP`."""
    return isinstance(action, str) and _NEXT.fullmatch(action) is not None


def next_states(episodes: Episodes, action: str) -> Episodes:
    """Episodes whose action is the observation some steps on, or one sensor of it; the last one of the episode at its end.

    Raises:
        ValueError: no step, or an unknown sensor.
    """
    match = _NEXT.fullmatch(action)
    assert match is not None
    steps, observations = int(match["steps"] or 1), np.asarray(episodes.arrays["observations"])
    if steps < 1:
        raise ValueError(f"got action={action}, expected 1 or more steps on, such as next:3")
    names = episodes.info.get("names", {}).get("observations") or column_names(
        "observations", observations.shape
    )
    columns = list(range(len(names)))
    if group := match["group"]:
        groups: Spans = dict(episodes.info.get("groups") or {"observations": [0, len(names)]})
        columns = columns[slice(*groups[one_of("sensor", group, groups)])]
    last = np.repeat(episodes.ends - 1, episodes.ends - episodes.starts)
    rows = np.minimum(np.arange(episodes.steps) + steps, last)
    acts = observations.reshape(episodes.steps, -1)[rows][:, columns]
    told = [f"next {names[i]}" for i in columns]
    info = {key: value for key, value in episodes.info.items() if key != "action_groups"}
    info["names"] = {**info.get("names", {}), "observations": list(names), "actions": told}
    if len(set(names)) == len(names):
        info["relative"] = {
            **info.get("relative", {}),
            **{t: names[i] for t, i in zip(told, columns, strict=True)},
        }
    info["notes"] = [
        *info.get("notes", ()),
        f"the action is the state {steps} steps on, told relative to the present one",
    ]
    return replace(episodes, arrays={**episodes.arrays, "actions": acts}, info=info)


def tasks_of(episodes: Episodes) -> list[tuple[str, ...]]:
    """The tasks of each episode, as far as the data say."""
    described = episodes.info.get("episodes") or [{}] * len(episodes)
    stated = [tuple(str(task) for task in row.get("tasks", ())) for row in described]
    if any(stated) or "task_index" not in episodes.arrays:
        return stated
    texts, index = episodes.info.get("tasks", ()), np.asarray(episodes.arrays["task_index"]).ravel()
    spans = zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True)
    found = [np.unique(index[begin:end]).tolist() for begin, end in spans]
    return [tuple(str(texts[i]) if 0 <= i < len(texts) else f"task {i}" for i in row) for row in found]


def select(episodes: Episodes, numbers: Any = None, task: Any = None) -> Episodes:
    """Some of the episodes, and of these those of one task.

    Args:
        episodes: to choose from.
        numbers: of episodes, or a text such as `0-9` or spans in a sequence; None: all.
        task: its text, or the parts of one that holds commas; None: all.

    Raises:
        ValueError: no such episode or task.
    """
    if numbers is not None:
        episodes = episodes.select(_numbers(numbers))
    if task is None:
        return episodes
    of, text = tasks_of(episodes), ",".join(task) if isinstance(task, list | tuple) else str(task)
    one_of("task", text, sorted({name for row in of for name in row}) or ["(the data name none)"])
    return episodes.select([i for i, row in enumerate(of) if text in row])


def _numbers(numbers: Any) -> list[int]:
    """`3`, `"0-9"` or a sequence of these as episode numbers."""
    words: Sequence[Any] = [numbers] if isinstance(numbers, int | str) else list(numbers)
    out: list[int] = []
    for word in words:
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", str(word).strip())
        if match is None:
            raise ValueError(f"got episodes={word!r}, expected numbers and spans such as 0,2,5-9")
        out += range(int(match[1]), int(match[2] or match[1]) + 1)
    return out
