"""What is in a data set, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dfplan.data.episodes import Episodes
from dfplan.data.formats.chosen import tasks_of
from dfplan.data.formats.registry import detect, format_named, options_of, read_as
from dfplan.data.get import Generator
from dfplan.data.inspect_checks import GUESSES, PROBLEMS, columns_of, lacking
from dfplan.data.load import locate
from dfplan.data.sources import UnknownTimeStep
from dfplan.tools.serialize import to_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 24
_LISTED = 12


@dataclass(frozen=True)
class Column:
    """An array of the data.

    Attributes:
        key: its name.
        shape: of one env step.
        dtype: numpy's name of its type.
        names: of its columns.
        low: least value of each column, NaN passed over.
        high: greatest value of each column.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    Attributes:
        path: what was looked at.
        format: e.g. `robomimic`; 'none' where it could not be told.
        version: of the format, where it has one.
        name: what the data are called.
        dt: seconds between env steps; None where nothing says.
        lengths: env steps of each episode.
        arrays: what there is per env step.
        problems: what is wrong, most serious first; empty if nothing was found.
        guesses: conventions that the numbers suggest.
        notes: what the reader did or left out.
        tasks: text of each task -> in how many episodes.
        episodes: the data; None where they could not be read.
    """

    path: str
    format: str
    version: str
    name: str
    dt: float | None
    lengths: tuple[int, ...]
    arrays: tuple[Column, ...]
    problems: tuple[str, ...]
    guesses: tuple[str, ...]
    notes: tuple[str, ...]
    tasks: Mapping[str, int] = field(default_factory=dict)
    episodes: Episodes | None = field(default=None, repr=False, compare=False)

    def lines(self) -> list[str]:
        """Text for a terminal."""
        head = f"{self.path}: {self.format} {self.version}".rstrip()
        out = [f"{head}, '{self.name}'" if self.name else head]
        if self.lengths:
            rate = f"{1 / self.dt:.6g} Hz" if self.dt else "rate not stated"
            low, mid, high = min(self.lengths), np.median(self.lengths), max(self.lengths)
            out.append(
                f"  {len(self.lengths)} episodes, {sum(self.lengths)} env steps, {rate}; episode length min {low}, "
                f"median {mid:g}, max {high}"
            )
        if self.tasks:
            out.append(f"  tasks, and episodes of each: {_counted(self.tasks)}")
        for array in self.arrays:
            out.append(f"  {array.key} {array.shape} {array.dtype}")
            rows = zip(array.names, array.low, array.high, strict=True)
            out += [f"    {name}: {low:.6g} to {high:.6g}" for name, low, high in rows]
        for title, words in (("problem", self.problems), ("guess", self.guesses), ("note", self.notes)):
            out += [f"  {title}: {sentence}" for sentence in words]
        return out if self.problems else [*out, "  no problem found"]

    def remarks(self) -> list[str]:
        """What who trains on the data should know: problems, notes, and tasks that are told apart by nothing."""
        merged = (
            f"{len(self.tasks)} tasks are learned as one, and the policy is not told which: {_counted(self.tasks)}; to train "
            "on one, read with task=TEXT, or with episodes=0,2-5",
        )
        return [*self.problems, *self.notes, *(merged if len(self.tasks) > 1 else ())]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the data, as JSON values."""
        values = to_dict(replace(self, episodes=None))
        del values["episodes"]
        return values


def inspect(
    source: str | os.PathLike[str] | Episodes,
    *,
    generators: Mapping[str, Generator] | None = None,
    **options: Any,
) -> Report:
    """Look at a data set: what it holds, and what is wrong with it.

    Contents that a reader refuses are a problem in the report, not an exception.

    Args:
        source: a path or name, as `load` takes it, or episodes.
        generators: as in `load`.
        options: of `load` and the format's reader.

    Returns:
        the report.

    Raises:
        FileNotFoundError: there is nothing to look at.
        ValueError: an unknown name or option.
        ImportError: the format needs a package that is not installed.
    """
    if isinstance(source, Episodes):
        return _report(source.name, source, str(source.info.get("format", "episodes")), [], True)
    if "read_as" in options:
        format_named(options["read_as"])  # one that is not there says nothing about the data
    path, name = locate(source, generators)
    text, form, problems = str(name or path), "none", []
    try:
        form = detect(path, options.pop("read_as", None))
        if "allow_nan" in options_of(format_named(form).read):
            options.setdefault("allow_nan", True)
        try:
            episodes = read_as(form, path, options)
        except UnknownTimeStep as error:
            problems = [str(error)]
            episodes = read_as(form, path, {**options, "dt": 1.0})
    except ValueError as error:
        if "option for" in str(error):
            raise
        return Report(text, form, "", "", None, (), (), (str(error),), (), ())
    return _report(text, episodes, form, problems, timed=not problems)


def _report(text: str, episodes: Episodes, form: str, problems: list[str], timed: bool) -> Report:
    info = episodes.info
    arrays = []
    for key, array in episodes.arrays.items():
        if np.asarray(array).dtype.kind not in "fiub":
            continue
        rows, names = columns_of(episodes, key)
        finite = np.isfinite(rows)
        low, high = np.where(finite, rows, np.inf).min(0), np.where(finite, rows, -np.inf).max(0)
        shape = tuple(array.shape[1:])
        spans = tuple(low.tolist()), tuple(high.tolist())
        arrays.append(Column(key, shape, str(array.dtype), tuple(names), *spans))
    found = [*problems, *info.get("warnings", ()), *(line for check in PROBLEMS for line in check(episodes))]
    guesses = tuple(line for check in GUESSES for line in check(episodes))
    dt, version = episodes.dt if timed else None, str(info.get("version", ""))
    lengths = tuple((episodes.ends - episodes.starts).tolist())
    notes = (*info.get("notes", ()), *lacking(episodes))
    head = (text, form, version, episodes.name, dt, lengths)
    tasks = dict(Counter(task for row in tasks_of(episodes) for task in row).most_common())
    return Report(*head, tuple(arrays), tuple(found), guesses, notes, tasks, episodes)


def _counted(tasks: Mapping[str, int]) -> str:
    """Tasks and their episodes; the first few of many."""
    more = f", and {len(tasks) - _LISTED} more tasks" if len(tasks) > _LISTED else ""
    return ", ".join(f"'{task}' {count}" for task, count in list(tasks.items())[:_LISTED]) + more


def inspect_figure(source: Report | Episodes, episode: int = 0) -> Figure:
    """Lengths of the episodes, the range of each observation and action column, and one episode over time.

    Args:
        source: a report whose data could be read, or episodes.
        episode: number of the one to draw.

    Raises:
        ValueError: there are no data, or no such episode.
    """
    from dfplan.show.base import BLUE, ORANGE, headed, new_figure, plain

    if isinstance(source, Episodes):
        episodes, timed = source, True
    elif source.episodes is not None:
        episodes, timed = source.episodes, source.dt is not None
    else:
        raise ValueError(f"{source.path}: nothing was read, so nothing can be drawn; see its problems")
    if not 0 <= episode < len(episodes):
        raise ValueError(f"got episode {episode}, expected 0 to {len(episodes) - 1}")
    keys = [key for key in ("observations", "actions") if key in episodes.arrays]
    figure = new_figure(10.0, 3.2 + 2.4 * len(keys))
    panels = figure.subplots(1 + len(keys), 2, squeeze=False)
    lengths = episodes.ends - episodes.starts
    panels[0, 0].hist(lengths, bins=min(_BINS, len(np.unique(lengths))), color=BLUE)
    panels[0, 0].set(xlabel="length, env steps", ylabel="number of episodes")
    headed(panels[0, 0], "Episode length")
    total = np.sort(lengths)[::-1].cumsum() / lengths.sum()
    panels[0, 1].plot(np.arange(1, len(total) + 1), 100 * total, color=BLUE)
    panels[0, 1].set(xlabel="number of longest episodes", ylabel="share of all env steps, %", ylim=(0, 102))
    headed(panels[0, 1], "Share of the longest episodes")
    begin, end = int(episodes.starts[episode]), int(episodes.ends[episode])
    time = np.arange(end - begin) * (episodes.dt if timed else 1)
    for row, key in enumerate(keys, 1):
        rows, names = columns_of(episodes, key)
        finite = np.where(np.isfinite(rows), rows, np.nan)
        low, first, last, high = np.nanquantile(finite, [0, 0.01, 0.99, 1], axis=0)
        at = np.arange(len(names))
        panels[row, 0].vlines(at, low, high, color=ORANGE, lw=1)
        panels[row, 0].vlines(at, first, last, color=BLUE, lw=4)
        headed(panels[row, 0], f"{key}: all, and 98 % of rows (thick)")
        panels[row, 0].set(xlabel="column", ylabel=_values(episodes, key))
        if len(names) <= 8:
            panels[row, 0].set_xticks(at, names, rotation=20, ha="right")
        drawn = np.asarray(episodes.arrays[key][begin:end]).reshape(end - begin, -1)
        lines = panels[row, 1].plot(time, drawn, lw=1)
        headed(panels[row, 1], f"{key}: episode {episode}")
        panels[row, 1].set(xlabel="time, s" if timed else "time, env steps", ylabel=_values(episodes, key))
        if len(names) <= 8:
            panels[row, 1].legend(lines, names, fontsize=7, frameon=False, loc="upper right")
    for axes in panels.ravel():
        plain(axes)
    return figure


def _values(episodes: Episodes, key: str) -> str:
    """What the numbers of an array are."""
    units = set((episodes.info.get("units") or {}).get(key, ()))
    known = (
        f"in {units.pop()}" if len(units) == 1 else "in the unit of its column" if units else "as recorded"
    )
    return f"value, {known}"
