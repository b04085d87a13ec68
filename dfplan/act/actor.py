"""Next actions from a history by a network that torch runs, without remembering anything itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dfplan import known, schedules
from dfplan.act.acting import Acting
from dfplan.act.records import About, Asked, Decision, ImitationConfig, Noise
from dfplan.act.remember import emphasised, recalled, taken
from dfplan.decide import Decider, State, asked, generator_of, noise_of
from dfplan.denoiser import Denoise
from dfplan.guidance import Cost, guide
from dfplan.known import Known
from dfplan.models import find
from dfplan.nets.kept import Remembered
from dfplan.nets.memory import Recall
from dfplan.schedules import ScheduleMatrix
from dfplan.train import checkpoint


def about(decider: Decider) -> About:
    """What acting needs to know of a checkpoint."""
    config, found = decider.model.config, decider.model.calibration.get("actions")
    return About(
        config.spec, decider.normalizer, config.horizon, config.levels.memory,
        decider.denoiser.memory is not None, decider.denoiser.causal, config.goal, config.goal_token,
        None if found is None else (found["low"], found["high"]),
    )  # fmt: skip


class Actor(Acting):
    """Decides the next actions of B robots.

    Args:
        model: a checkpoint whose last token of each step is the action, with lag stride - 1 and stack = stride.
        config: how it looks back and acts; None: as the checkpoint says.
        limits: see `Acting`.
        sensors: see `Acting`.
        cost: what to keep low besides, where the configuration's `guidance` is above 0. Relative channels are
            differences from the present observation.
    """

    model: checkpoint.Checkpoint

    def __init__(
        self,
        model: checkpoint.Checkpoint,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> None:
        config = config or asked(ImitationConfig, model, "policy")
        self.model, self.decider = model, Decider(model)
        super().__init__(about(self.decider), config, limits, sensors)
        self.cost = config.own_cost() if cost is None else cost
        if bool(config.guidance) != (self.cost is not None):
            raise ValueError(
                f"got guidance={config.guidance} and {'no' if self.cost is None else 'a'} cost, of which neither "
                "does anything without the other; give both or none"
            )

    @classmethod
    def load(
        cls, name: str | os.PathLike[str], config: ImitationConfig | None = None, device: str = "cpu"
    ) -> Actor:
        """From a shipped model (`arm-pick`), a run folder or a checkpoint folder, onto `device`."""
        return cls(checkpoint.load(find(name), device), config)

    def generator(self, seed: int | None) -> torch.Generator:
        """See `Acting`."""
        return generator_of(seed)

    def noise(self, generators: Sequence[torch.Generator]) -> Noise:
        """See `Acting`."""
        tokens = self.about.horizon * self.spec.group_size
        return noise_of(generators, 1, tokens, self.spec.width, device=torch.device("cpu"))

    def rows(self, steps: int) -> NDArray[np.float32]:
        """See `Acting`."""
        return self.config.matrix(steps).levels.numpy()

    def _add(
        self, now: Remembered, x: NDArray[np.float32], level: NDArray[np.float32], noise: Tensor
    ) -> Remembered:
        return taken(self.decider, now, x, level, noise)

    def _answer(self, question: Asked) -> Decision:
        found = known.noised(question.found, question.start, self.decider.schedule)
        recall = recalled(self.decider, question.past)
        if self.config.stream:
            return self._stream(found, question, recall)
        whole = not (self.decider.denoiser.causal and self.cost is None)
        levels, clean = self.levels(question.steps, question.committed, whole)
        matrix = ScheduleMatrix(torch.from_numpy(levels))
        cached = question.state if isinstance(question.state, State) else None
        start = self.config.temperature * question.start
        x0, cached = self._run(found, matrix, start, question.noise, recall, cached)
        state = question.past or cached
        return self._decision(
            question, self._read(x0, question.present), clean * self.stride, matrix.calls, None, state
        )

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

    def _read(self, x0: Tensor, present: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, S * stride, A) in physical units."""
        (tokens,) = self.decider.fetch(x0)
        actions = self.decider.read(tokens, "actions", present)
        assert actions is not None
        return actions

    def _stream(self, found: Known, question: Asked, recall: Recall | None) -> Decision:
        """One network call: every future token moves one notch down the ramp, the present action becomes clean."""
        horizon, group, past = self.about.horizon, self.spec.group_size, question.steps
        ahead = min(self.config.ramp, horizon - self.memory + 1)
        begin, end = (past - 1) * group, (past - 1 + ahead) * group
        levels = torch.ones(2, horizon)
        levels[:, : past - 1 + ahead] = torch.nn.functional.pad(
            schedules.streaming(ahead).levels, (past - 1, 0), value=0.0
        )
        x, calls = (self.config.temperature * question.start).to(self.decider.device), 1
        if question.ramp is None:  # the first decision comes down from noise to the ramp
            rows = ScheduleMatrix(torch.maximum(levels[:1], 1 - torch.arange(ahead + 1)[:, None] / ahead))
            x, _ = self._run(found, rows, x, question.noise, recall)
            calls += rows.calls
        else:
            x[:, begin : end - group] = question.ramp[:, group:]
        x, _ = self._run(found, ScheduleMatrix(levels), x, question.noise, recall)
        actions = self._read(x, question.present)
        return self._decision(question, actions, self.stride, calls, x[:, begin:end], question.past)
