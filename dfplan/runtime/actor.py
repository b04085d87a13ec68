"""Next actions from a history by an exported network, which onnxruntime runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.act.acting import Acting
from dfplan.act.records import Asked, Decision, ImitationConfig, Noise
from dfplan.nets.kept import Remembered, ages, appended, folded
from dfplan.runtime.folder import GRAPH, MEMORY, Exported, read
from dfplan.runtime.noise import generator_of, normal
from dfplan.tools.errors import optional_import

LEAST = 2
"""Entries that a graph is shown at least; those that are not there are hidden by an age below 0."""


class Actor(Acting):
    """Decides the next actions of B robots, one after the other; see `dfplan.act.Acting`.

    Args:
        model: an exported policy.
        config: how it looks back and acts; None: as it was exported. What is in the graph stays as it was exported.
        limits: see `Acting`.
        sensors: see `Acting`.
        threads: CPU threads.
    """

    model: Exported

    def __init__(
        self,
        model: Exported,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(model.about(), model.asked(config), limits, sensors)
        self.model = model
        self._decision_graph = _session(model.folder / GRAPH, threads)
        self._memory_graph = _session(model.folder / MEMORY, threads) if self.remembers else None

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], config: ImitationConfig | None = None, threads: int = 1
    ) -> Actor:
        """From a folder that `dfplan export` wrote."""
        return cls(read(folder), config, threads=threads)

    def generator(self, seed: int | None) -> np.random.RandomState:
        """See `Acting`; the same seed draws what torch draws, see `dfplan.runtime.noise`."""
        return generator_of(seed)

    def noise(self, generators: Sequence[np.random.RandomState]) -> Noise:
        """See `Acting`."""
        shape = (self.about.horizon * self.spec.group_size, self.spec.width)
        return lambda: np.stack([normal(g, *shape) for g in generators])

    def rows(self, steps: int) -> NDArray[np.float32]:
        """See `Acting`."""
        return self.model.rows[steps]

    def _add(
        self, now: Remembered, x: NDArray[np.float32], level: NDArray[np.float32], noise: NDArray[np.float32]
    ) -> Remembered:
        begins = np.full((len(x), 1), now.steps == 0, np.float32)
        feed = {"x": x, "level": level, "noise": noise[:, : x.shape[1]], "begins": begins}
        if self.model.carrier == "recurrent":
            size = self.model.entry
            feed["before"] = now.kept[0] if now.kept else np.zeros((len(x), size), np.float32)
            return Remembered(now.steps + 1, (_each(self._memory_graph, feed),))
        entry = _each(self._memory_graph, feed)[:, None]
        if self.model.carrier == "attention":
            return Remembered(now.steps + 1, appended(now.kept, entry, np.concatenate))
        return Remembered(now.steps + 1, folded(now.kept, entry, np.concatenate, np.maximum))

    def _entries(self, past: Remembered | None, batch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Entries (B, N, C) of what is remembered, and their ages (N,)."""
        parts, age = [np.zeros((batch, 0, self.model.entry), np.float32)], np.zeros(0, np.int64)
        if past is not None and past.kept and self.model.carrier == "recurrent":
            parts, age = [past.kept[0][:, None]], np.zeros(1, np.int64)
        elif past is not None:
            parts += past.kept
            age = ages(past.kept, past.steps, self.model.carrier == "compressed")
        entries = np.concatenate(parts, 1)
        more = max(0, LEAST - len(age))
        return np.pad(entries, ((0, 0), (0, more), (0, 0))), np.pad(age, (0, more), constant_values=-1)

    def _answer(self, question: Asked) -> Decision:
        levels, clean = self.levels(question.steps, question.committed, not self.about.causal)
        actions = _each(self._decision_graph, self._feed(question, levels))
        if not np.isfinite(actions).all():
            raise FloatingPointError(
                "the policy's answer holds NaN or infinity: its graph is damaged, export it anew"
            )
        end = clean * self.stride
        return self._decision(
            question, actions.astype(np.float64), end, self.model.calls, None, question.past
        )

    def _feed(self, question: Asked, levels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """What goes into the graph, all with a leading axis of robots."""
        found, batch, calls = question.found, len(question.present), self.model.calls
        rows = np.repeat(levels, self.spec.group_size, 1)
        rows = np.concatenate(
            [rows, np.repeat(rows[-1:], calls + 1 - len(rows), 0)]
        )  # what stays costs no change
        part = np.zeros(found.values.shape, bool) if found.part is None else found.part
        feed: dict[str, NDArray[Any]] = {
            "values": found.values, "mask": found.mask, "level": found.levels(), "part": part,
            "noise": question.start, "origin": self.spec.origins("actions", question.present).astype(np.float32),
            "rows": np.broadcast_to(rows, (batch, *rows.shape)),
            "temperature": np.full((batch, 1), self.config.temperature, np.float32),
        }  # fmt: skip
        if self.model.draws:
            drawn = [question.noise() for _ in range(len(levels) - 1)]
            drawn += [np.zeros_like(question.start)] * (calls - len(drawn))
            feed["more"] = np.stack(drawn, 1)
        if self.model.carrier:
            feed["entries"], age = self._entries(question.past, batch)
            feed["ages"] = np.broadcast_to(age, (batch, *age.shape))
        return feed


def _session(path: Path, threads: int) -> Any:
    """A graph that onnxruntime runs on so many threads, which do not spin while they wait."""
    runtime = optional_import("onnxruntime", "runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of its errors
        raise ValueError(f"{path}: cannot be read ({error}); export the model anew") from error


def _each(session: Any, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The first output (B, ...) of a graph for one robot, run for each of B."""
    batch = len(next(iter(feed.values())))
    one = [session.run(None, {k: v[b : b + 1] for k, v in feed.items()})[0] for b in range(batch)]
    return np.concatenate(one)
