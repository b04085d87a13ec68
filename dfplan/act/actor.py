"""Next actions from a history: how a policy looks back and acts, without remembering anything itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dfplan import known, schedules
from dfplan.act.records import Array, Decision, Doubt, Flags, History, ImitationConfig
from dfplan.act.remember import emphasised, recalled, remember
from dfplan.decide import Decider, Noise, State, asked
from dfplan.denoiser import Denoise
from dfplan.guidance import Cost, guide
from dfplan.known import Known
from dfplan.models import find
from dfplan.nets.memory import Recall, Remembered
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.errors import one_of
from dfplan.train import checkpoint


class Actor:
    """Decides the next actions of B robots.

    Args:
        model: a checkpoint whose last token of each step is the action, with lag stride - 1 and stack = stride.
        config: how it looks back and acts; None: as the checkpoint says.
        limits: (low (A,), high (A,)) to which actions are clipped; None: the range seen in the demonstrations.
        sensors: sensor -> columns of the observation, as environments have them: these names may be doubtful too,
            and mean the tokens that show any of the columns, if any.
        cost: what to keep low besides, where the configuration's `guidance` is above 0. Relative channels are
            differences from the present observation.

    Attributes:
        memory: steps of history in the window, the present included.
        longest: most that the model was trained to see there.
        remembers: whether steps that have left the window still count.
        keeps: env steps before the present that a decision asks for.
        ahead: env steps from the present to the end of the window.
        goal: the checkpoint's own, or None.
    """

    def __init__(
        self,
        model: checkpoint.Checkpoint,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.model, self.spec = model, model.config.spec
        self.config = config or asked(ImitationConfig, model, "policy")
        self._check()
        self.decider = Decider(model)
        if limits is None:
            found = model.calibration.get("actions")
            limits = (-np.inf, np.inf) if found is None else (found["low"], found["high"])
        shape = (self.spec.action_size,)
        self.low = np.broadcast_to(np.asarray(limits[0], np.float64), shape)
        self.high = np.broadcast_to(np.asarray(limits[1], np.float64), shape)
        self.stride, self.goal = self.spec.stride, model.config.goal
        limit, own, horizon = self.config.memory, model.denoiser.memory, model.config.horizon
        self.longest = most = min(model.config.levels.memory or max(1, horizon - 1), horizon)
        self.memory = min(limit or most, most, self.config.recent or (2 if own else most))
        self.remembers = own is not None and (not limit or limit > self.memory)
        self.chunk = self.config.chunk or 2 * self.stride
        self.ahead = (horizon - self.memory + 1) * self.stride
        if not self.config.stream and (self.config.chunk % self.stride or self.config.chunk > self.ahead):
            fits = f"a multiple of the model's {self.stride}, at most {self.ahead}"
            raise ValueError(f"got chunk={self.config.chunk}, expected {fits}, where its window ends")
        far = 1 + (limit or self.memory + self.ahead // self.stride) if self.remembers else self.memory - 1
        self.keeps = far * self.stride
        self.cost = self.config.own_cost() if cost is None else cost
        if bool(self.config.guidance) != (self.cost is not None):
            raise ValueError(
                f"got guidance={self.config.guidance} and {'no' if self.cost is None else 'a'} cost, of which neither "
                "does anything without the other; give both or none"
            )
        self._shown_by = self._sensors(sensors or {})

    @classmethod
    def load(
        cls, name: str | os.PathLike[str], config: ImitationConfig | None = None, device: str = "cpu"
    ) -> Actor:
        """From a shipped model (`arm-pick`), a run folder or a checkpoint folder, onto `device`."""
        return cls(checkpoint.load(find(name), device), config)

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
        if self.model.denoiser.memory is None and (self.config.stabilise or self.config.history_guidance):
            raise ValueError(
                f"got stabilise={self.config.stabilise}, history_guidance={self.config.history_guidance}; this model has "
                "no memory: leave them out, or train one with model.carrier"
            )

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
        window = self.decider.window()
        found, aim = known.past(window, seen[:, rows], done), self.config.returns
        found = found if aim is None else found | known.asked(window, aim, len(seen))
        return known.doubt(found, history.levels(rows, self.config.doubt))

    def decide(
        self,
        history: History,
        committed: Array | None = None,
        *,
        noise: Noise,
        clean: bool = True,
        goal: ArrayLike | None = None,
        ramp: Tensor | None = None,
        state: State | Remembered | None = None,
    ) -> Decision:
        """The actions that follow the committed ones.

        Args:
            history: at least one observation; where the model remembers, all since what `state` took in, else what is
                older than the memory is not used.
            committed: (B, C, A) actions of the env steps from the present on; None: none.
            noise: draws (B, T, D) on the CPU.
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
        found, window = self.known(history), self.decider.window()
        steps = self.past(history.observations.shape[1])
        past, recall = self._remember(history, steps, state, noise)
        start = noise()
        if committed is not None:
            found = found | known.committed(window, committed, present, steps - 1, clean)
        if goal is not None:
            where = torch.arange(window.steps).expand(len(present), -1) == window.steps - 1
            found = found | known.given(window, self.model.config.goal_token, goal, where)
        found = known.noised(found, start, self.decider.schedule)
        if self.config.stream:
            return self._stream(found, steps, start, noise, ramp, present, recall, past)
        levels, whole = self._levels(steps, number)
        cached = state if isinstance(state, State) else None
        x0, cached = self._run(found, levels, self.config.temperature * start, noise, recall, cached)
        end = whole * self.stride
        return self._decision(x0, present, steps, number, end, levels.calls, None, past or cached)

    def _remember(
        self, history: History, steps: int, state: State | Remembered | None, noise: Noise
    ) -> tuple[Remembered | None, Recall | None]:
        """What has left the window, and what the window can read of it."""
        if not self.remembers:
            return None, None
        begin = history.elapsed - (steps - 1) * self.stride
        before, far = state if isinstance(state, Remembered) else None, self.config.memory
        if far and (older := begin // self.stride - far + self.memory) > 0:  # no older ones: taken in anew
            before = Remembered(older, ())
        now = remember(self.decider, history, begin, before, self.config, noise)
        return now, recalled(self.decider, now)

    def _denoiser(self, recall: Recall | None) -> Denoise | None:
        """The model with what it remembers and what guides it; None: by itself."""
        own, more = self.decider.denoiser, self.config.history_guidance
        denoise = emphasised(own, recall, more)
        if self.cost is None:
            return denoise if more else None
        return guide(
            denoise, self.cost, self.config.guidance, schedule=own.schedule, spec=self.spec,
            normalizer=self.model.normalizer,
        )  # fmt: skip

    def _run(
        self, found: Known, levels: ScheduleMatrix, x: Tensor, noise: Noise, recall: Recall | None,
        state: State | None = None,
    ) -> tuple[Tensor, State | None]:  # fmt: skip
        def later() -> Tensor:
            return noise().to(self.decider.device)

        return self.decider.run(
            found,
            levels,
            x,
            self.config,
            noise=later,
            denoise=self._denoiser(recall),
            recall=recall,
            state=state,
        )

    def _decision(
        self, x0: Tensor, present: Array, past: int, number: int, end: int, calls: int, ramp: Tensor | None,
        state: State | Remembered | None,
    ) -> Decision:  # fmt: skip
        (tokens,) = self.decider.fetch(x0)
        actions = self.decider.read(tokens, "actions", present)
        assert actions is not None
        raw = actions[:, (past - 1) * self.stride :][:, number:end]
        return Decision(np.clip(raw, self.low, self.high), raw, calls, ramp, state)

    def _levels(self, past: int, committed: int) -> tuple[ScheduleMatrix, int]:
        """Levels down which the chunk after the committed actions gets clean; how many steps then are."""
        ahead = self.config.matrix(self.model.config.horizon - past + 1).levels
        # The steps of the committed actions go with the first free one: their observations are not known.
        whole = committed // self.stride
        ahead = torch.cat([ahead[:, :1].expand(-1, whole), ahead[:, : ahead.shape[1] - whole]], 1)
        last = min(-(-(committed + self.chunk) // self.stride), ahead.shape[1])
        busy = (ahead[:, :last] > 0).any(1)
        ahead = ahead[: int(busy.sum()) + 1]  # what is executed is clean by then
        if self.decider.denoiser.causal and self.cost is None:
            ahead = torch.cat([ahead[:, :last], torch.ones(len(ahead), ahead.shape[1] - last)], 1)
        unfinished = (ahead[-1] > 0).nonzero()
        clean = int(unfinished[0]) if len(unfinished) else ahead.shape[1]
        return ScheduleMatrix(torch.cat([ahead[:, :1].expand(-1, past - 1), ahead], 1)), clean

    def _stream(
        self, found: Known, past: int, start: Tensor, noise: Noise, ramp: Tensor | None, present: Array,
        recall: Recall | None, state: Remembered | None,
    ) -> Decision:  # fmt: skip
        """One network call: every future token moves one notch down the ramp, the present action becomes clean."""
        horizon, group = self.model.config.horizon, self.spec.group_size
        ahead = min(self.config.ramp, horizon - self.memory + 1)
        begin, end = (past - 1) * group, (past - 1 + ahead) * group
        levels = torch.ones(2, horizon)
        levels[:, : past - 1 + ahead] = torch.nn.functional.pad(
            schedules.streaming(ahead).levels, (past - 1, 0), value=0.0
        )
        x, calls = (self.config.temperature * start).to(self.decider.device), 1
        if ramp is None:  # the first decision comes down from noise to the ramp
            rows = ScheduleMatrix(torch.maximum(levels[:1], 1 - torch.arange(ahead + 1)[:, None] / ahead))
            x, _ = self._run(found, rows, x, noise, recall)
            calls += rows.calls
        else:
            x[:, begin : end - group] = ramp[:, group:]
        x, _ = self._run(found, ScheduleMatrix(levels), x, noise, recall)
        return self._decision(x, present, past, 0, self.stride, calls, x[:, begin:end], state)
