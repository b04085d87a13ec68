"""How a policy looks back and acts, whatever runs its network. Needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan import known
from dfplan.act.records import (
    About,
    Array,
    Asked,
    Decision,
    Doubt,
    Flags,
    History,
    ImitationConfig,
    Noise,
)
from dfplan.known import Known, Window
from dfplan.nets.kept import Remembered
from dfplan.tools.errors import one_of

Add = Callable[[Remembered, NDArray[np.float32], NDArray[np.float32]], Remembered]
"""What is remembered after one more step (B, G, D) at levels (B, G)."""


class Acting(ABC):
    """Decides the next actions of B robots.

    Args:
        about: the model.
        config: how it looks back and acts.
        limits: (low (A,), high (A,)) to which actions are clipped; None: the range seen in the demonstrations.
        sensors: sensor -> columns of the observation, as environments have them: these names may be doubtful too,
            and mean the tokens that show any of the columns, if any.

    Attributes:
        model: what it was made of.
        memory: steps of history in the window, the present included.
        longest: most that the model was trained to see there.
        remembers: whether steps that have left the window still count.
        keeps: env steps before the present that a decision asks for.
        ahead: env steps from the present to the end of the window.
        goal: the checkpoint's own, or None.
    """

    model: Any

    def __init__(
        self,
        about: About,
        config: ImitationConfig,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
    ) -> None:
        self.about, self.spec, self.config = about, about.spec, config
        self._check()
        if limits is None:
            limits = about.limits or (-np.inf, np.inf)
        shape = (self.spec.action_size,)
        self.low = np.broadcast_to(np.asarray(limits[0], np.float64), shape)
        self.high = np.broadcast_to(np.asarray(limits[1], np.float64), shape)
        self.stride, self.goal = self.spec.stride, about.goal
        limit, own, horizon = config.memory, about.remembers, about.horizon
        self.longest = most = min(about.longest or max(1, horizon - 1), horizon)
        self.memory = min(limit or most, most, config.recent or (2 if own else most))
        self.remembers = own and (not limit or limit > self.memory)
        self.chunk = config.chunk or 2 * self.stride
        self.ahead = (horizon - self.memory + 1) * self.stride
        if not config.stream and (config.chunk % self.stride or config.chunk > self.ahead):
            fits = f"a multiple of the model's {self.stride}, at most {self.ahead}"
            raise ValueError(f"got chunk={config.chunk}, expected {fits}, where its window ends")
        far = 1 + (limit or self.memory + self.ahead // self.stride) if self.remembers else self.memory - 1
        self.keeps = far * self.stride
        self._window = Window(self.spec, about.normalizer, horizon)
        self._shown_by = self._sensors(sensors or {})

    def _sensors(self, sensors: Mapping[str, slice]) -> dict[str, list[int]]:
        """Token or sensor -> places in a step of the tokens that show it."""
        columns = [{self.spec.channel(c).index for c in t.channels} for t in self.spec.tokens[:-1]]
        out = {t.name: [g] for g, t in enumerate(self.spec.tokens[:-1])}
        for sensor, part in sensors.items():
            among = {*range(part.start, part.stop)}
            out.setdefault(sensor, [g for g, own in enumerate(columns) if among & own])
        return out

    def _check(self) -> None:
        spec, stride, last = self.spec, self.spec.stride, self.spec.tokens[-1]
        sources = [spec.channel(t.channels[0]).source for t in spec.tokens]
        if (
            sources[-1] != "actions" or "actions" in sources[:-1] or "observations" not in sources
            or spec.stack != stride or last.lag != stride - 1
        ):  # fmt: skip
            raise ValueError(
                f"got tokens {[t.name for t in spec.tokens]} with stride {stride}, stack {spec.stack}, last lag "
                f"{last.lag}; a policy needs observation tokens, then one of actions with stack = stride and lag = "
                "stride - 1: see dfplan.train.imitate.imitation_config, or plan with dfplan.load"
            )
        if not self.about.remembers and (self.config.stabilise or self.config.history_guidance):
            raise ValueError(
                f"got stabilise={self.config.stabilise}, history_guidance={self.config.history_guidance}; this model has "
                "no memory: leave them out, or train one with model.carrier"
            )

    @abstractmethod
    def generator(self, seed: int | None) -> Any:
        """What noise is drawn from; None: no seed."""

    @abstractmethod
    def noise(self, generators: Sequence[Any]) -> Noise:
        """The noise of so many robots, each drawn from its own generator."""

    @abstractmethod
    def rows(self, steps: int) -> NDArray[np.float32]:
        """(M + 1, steps) levels down which so many steps come."""

    @abstractmethod
    def _add(
        self, now: Remembered, x: NDArray[np.float32], level: NDArray[np.float32], noise: Any
    ) -> Remembered:
        """One more step (B, G, D) goes into the memory, at levels (B, G) with such noise (B, T, D)."""

    @abstractmethod
    def _answer(self, question: Asked) -> Decision:
        """What the network decides."""

    def flags(self, doubtful: Sequence[Doubt]) -> Flags:
        """Names that are not to be trusted, a list for each of N observations -> (N, G - 1)."""
        out = np.zeros((len(doubtful), self.spec.group_size - 1), bool)
        for row, names in zip(out, doubtful, strict=True):
            for name in names:
                row[self._shown_by[one_of("token or sensor", str(name), self._shown_by)]] = True
        return out

    def trusted(self, flags: Flags) -> Flags:
        """Flags (..., G - 1) of tokens -> (..., O) True at columns that no doubtful token shows."""
        out = np.ones((*flags.shape[:-1], self.spec.observation_size), bool)
        for g, token in enumerate(self.spec.tokens[:-1]):
            columns = [c.index for c in map(self.spec.channel, token.channels) if c.source == "observations"]
            out[..., columns] = ~flags[..., g, None]
        return out

    def past(self, observed: int) -> int:
        """Steps of history that `observed` env steps make."""
        return min(self.memory, 1 + (observed - 1) // self.stride)

    def known(self, history: History, memory: int | None = None) -> Known:
        """The last steps of a history as the first tokens of the window; `memory` None: as many as are acted on.

        Raises:
            ValueError: where there is not one action fewer than observations.
        """
        spec, seen = self.spec, history.observations
        if history.done.shape[1] != seen.shape[1] - 1:
            raise ValueError(
                f"got {history.done.shape[1]} actions for {seen.shape[1]} observations, expected one less"
            )
        count = min(memory or self.memory, 1 + (seen.shape[1] - 1) // self.stride)
        begin = seen.shape[1] - 1 - (count - 1) * self.stride
        rows = begin + np.maximum(spec.frames(count), 0)  # (count, stack) env steps
        done = history.done[:, begin:].reshape(len(seen), count - 1, self.stride, spec.action_size)
        found, aim = known.past(self._window, seen[:, rows], done), self.config.returns
        found = found if aim is None else found | known.asked(self._window, aim, len(seen))
        return known.doubt(found, history.levels(rows, self.config.doubt))

    def decide(
        self,
        history: History,
        committed: Array | None = None,
        *,
        noise: Noise,
        clean: bool = True,
        goal: ArrayLike | None = None,
        ramp: Any = None,
        state: Any = None,
    ) -> Decision:
        """The actions that follow the committed ones.

        Args:
            history: at least one observation; where the model remembers, all since what `state` took in, else what is
                older than the memory is not used.
            committed: (B, C, A) actions of the env steps from the present on; None: none.
            noise: draws (B, T, D) on the CPU, see `noise`.
            clean: committed actions enter as known tokens, see `dfplan.known.committed`.
            goal: values of the model's goal token, known at the last step; None: no goal.
            ramp: of the last decision, where the policy streams.
            state: of the last decision.

        Raises:
            ValueError: for so many committed actions that nothing is left to decide.
            FloatingPointError: where the network gives a NaN.
        """
        if committed is not None and self.config.stream:
            raise ValueError("got committed actions for a streaming policy; they need stream=False")
        present = history.observations[:, -1]
        number = 0 if committed is None else committed.shape[1]
        if number >= self.ahead:
            raise ValueError(
                f"got {number} committed actions, expected less than {self.ahead}; a slower network needs a longer horizon"
            )
        found, steps = self.known(history), self.past(history.observations.shape[1])
        past = self._remembered(history, steps, state, noise) if self.remembers else None
        start = noise()
        if committed is not None:
            found = found | known.committed(self._window, committed, present, steps - 1, clean)
        if goal is not None:
            last = np.tile(np.arange(self._window.steps) == self._window.steps - 1, (len(present), 1))
            found = found | known.given(self._window, self.about.goal_token, goal, last)
        return self._answer(Asked(found, steps, number, present, start, noise, past, ramp, state))

    def _remembered(self, history: History, steps: int, state: Any, noise: Noise) -> Remembered:
        """What has left the window."""
        begin = history.elapsed - (steps - 1) * self.stride
        before, far = state if isinstance(state, Remembered) else None, self.config.memory
        if far and (older := begin // self.stride - far + self.memory) > 0:  # no older ones: taken in anew
            before = Remembered(older, ())

        def add(now: Remembered, x: NDArray[np.float32], level: NDArray[np.float32]) -> Remembered:
            return self._add(now, x, level, noise())

        return taken_in(self._window, history, begin, before, self.config, add)

    def levels(self, past: int, committed: int, rest: bool) -> tuple[NDArray[np.float32], int]:
        """Levels (M + 1, S) down which the chunk after the committed actions gets clean; how many steps then are.

        With `rest` False what comes after the chunk stays noise.
        """
        ahead = self.rows(self.about.horizon - past + 1)
        # The steps of the committed actions go with the first free one: their observations are not known.
        whole, count = committed // self.stride, ahead.shape[1]
        ahead = np.concatenate([np.repeat(ahead[:, :1], whole, 1), ahead[:, : count - whole]], 1)
        last = min(-(-(committed + self.chunk) // self.stride), count)
        busy = (ahead[:, :last] > 0).any(1)
        ahead = ahead[: int(busy.sum()) + 1]  # what is executed is clean by then
        if not rest:
            ahead = np.concatenate([ahead[:, :last], np.ones((len(ahead), count - last), np.float32)], 1)
        unfinished = np.flatnonzero(ahead[-1] > 0)
        clean = int(unfinished[0]) if len(unfinished) else count
        return np.concatenate([np.repeat(ahead[:, :1], past - 1, 1), ahead], 1), clean

    def _decision(
        self, question: Asked, actions: Array, end: int, calls: int, ramp: Any, state: Any
    ) -> Decision:
        """Actions (B, S * stride, A) of the whole window, clean until env step `end` after the present."""
        raw = actions[:, (question.steps - 1) * self.stride :][:, question.committed : end]
        return Decision(np.clip(raw, self.low, self.high), raw, calls, ramp, state)


def taken_in(
    window: Window, history: History, begin: int, before: Remembered | None, config: ImitationConfig, add: Add
) -> Remembered:
    """Take in the steps that are over before a window begins.

    What is not in the history any more is left out.

    Args:
        window: of a model with a memory.
        history: of B robots up to the present.
        begin: env step, counted from the start of the episode, of the window's first observation.
        before: what was remembered at an earlier decision of this episode; None: nothing.
        config: the levels at which steps go in.
        add: takes in one.
    """
    spec, now = window.spec, before or Remembered(0, ())
    offset = history.elapsed - (history.observations.shape[1] - 1)  # env step of the history's first row
    oldest = -(-(offset + spec.stack - 1) // spec.stride) if offset else 0
    if oldest > now.steps:
        now = Remembered(oldest, now.kept)
    for step in range(now.steps, begin // spec.stride):
        seen = np.maximum(step * spec.stride + np.arange(1 - spec.stack, 1), 0) - offset
        done = step * spec.stride + np.arange(spec.stride) - offset
        x = known.steps(window, history.observations[:, seen][:, None], history.done[:, done][:, None])
        level = np.maximum(history.levels(seen, config.doubt), config.stabilise)
        now = add(now, x[:, 0], level.astype(np.float32))
    return now
