"""Planner: what is known and what it should cost in, plans in physical units out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dfplan import known
from dfplan.decide import Decider, Noise, asked, noise_of
from dfplan.denoiser import self_error
from dfplan.guidance import Cost, Particles, evaluate, guide
from dfplan.known import Known
from dfplan.plan import CHOICES, Plan, PlannerConfig, inverse_dynamics
from dfplan.plan.evidence import Evidence
from dfplan.plan.question import Asks, Question, drawn
from dfplan.sampling import Callback
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.errors import one_of
from dfplan.train import checkpoint

__all__ = ["Plan", "Planner", "PlannerConfig"]
Array = NDArray[np.float64]


class Planner:
    """Plans with a trained model.

    Args:
        model: a loaded checkpoint.
        config: how plans are sampled and chosen; None: as the checkpoint says.
    """

    def __init__(self, model: checkpoint.Checkpoint, config: PlannerConfig | None = None) -> None:
        self.model, self.config = model, config or asked(PlannerConfig, model, "planner")
        self.spec, self.goal = model.config.spec, model.config.goal
        if not model.config.goal_token or self.spec.relative:
            raise ValueError(
                "got the checkpoint of a policy (no goal token, or relative channels), which does not plan; load it "
                "with dfplan.policies.Imitation.load"
            )
        self.decider, self.evidence = Decider(model), Evidence.of(model)
        self.asks = Asks(model)
        self.place, self._returns = self.asks.place, self.asks.returns

    @classmethod
    def load(cls, folder: Path | str, config: PlannerConfig | None = None, device: str = "cpu") -> Planner:
        """A planner from a checkpoint folder."""
        return cls(checkpoint.load(folder, device), config)

    def plan(
        self,
        history: ArrayLike,
        goal: ArrayLike | None = None,
        returns: float | None = None,
        cost: Cost | None = None,
        horizon: int | None = None,
        candidates: int | None = None,
        arrivals: Sequence[int] | None = None,
        warm: Plan | None = None,
        elapsed: float = 0.0,
        history_level: float = 0.0,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Plan:
        """Sample candidates for one start and choose one of them.

        Args:
            history: (O,) the present observation, or (h, O) the past at the plan's stride, the present last. Several
                starts go to `plan_batch`.
            goal: values of the goal token, such as (x, y) in m; its other tokens stay free. None: the checkpoint's
                own goal if neither a cost nor returns are given, else no goal.
            returns: what is to follow from the arrival on, in the units of the model's token of returns.
            cost: minimised by guidance and, among feasible plans that arrive together, by selection.
            horizon: S, steps of the plan with the history; at most what the model was trained for.
            candidates: K.
            arrivals: steps by which the goal must be reached, dealt out over the candidates; None leaves the
                arrival to the model (the goal is known at the last step alone).
            warm: an earlier plan to start from, re-noised to `warm_level`.
            elapsed: seconds of that plan that are over.
            history_level: level of the history tokens: 0 exact, above 0 a doubtful sensor.
            seed: same seed, same plan, on any device.
            generator: instead of a seed, on any device.
            callback: `(row, x, x0)` after each network call, for animations.

        Raises:
            ValueError: on a shape, NaN, horizon or arrival that does not fit, naming got, expected and the fix.
        """
        past = self.asks.one(history, goal)
        (plan,) = self.plan_batch(
            past, goal, returns, cost, horizon, candidates, arrivals,
            None if warm is None else [warm], elapsed, history_level, None if seed is None else [seed],
            None if generator is None else [generator], callback,
        )  # fmt: skip
        return plan

    def plan_batch(
        self,
        history: ArrayLike,
        goal: ArrayLike | None = None,
        returns: ArrayLike | None = None,
        cost: Cost | None = None,
        horizon: int | None = None,
        candidates: int | None = None,
        arrivals: Sequence[int] | None = None,
        warm: Sequence[Plan] | None = None,
        elapsed: ArrayLike = 0.0,
        history_level: float = 0.0,
        seeds: Sequence[int] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        callback: Callback | None = None,
    ) -> list[Plan]:
        """Plans for B starts in one batch; what a start gets does not depend on its neighbours.

        Args:
            history: (B, h, O); a present alone is `observations[:, None]`.
            goal: (C,) for all, or (B, C).
            returns: a number for all, or (B,).
            cost: as in `plan`, like all that is not named here.
            horizon: S.
            candidates: K for each start.
            arrivals: dealt out over the candidates of each start.
            warm: an earlier plan for each start.
            elapsed: seconds of these that are over: a number for all, or (B,).
            history_level: level of the history tokens.
            seeds: one for each start.
            generators: instead of seeds.
            callback: gets (B * K, T, D).

        Raises:
            ValueError: as `plan`.
        """
        began = time.perf_counter()
        cost, returns = cost or self.config.own_cost(), self.config.returns if returns is None else returns
        count = self.config.candidates if candidates is None else candidates
        q = self.asks.question(history, goal, returns, cost, horizon, count, arrivals, history_level)
        self.asks.start(warm, elapsed, len(q.past))
        self._useful(q)
        numbers, generators = drawn(seeds, generators, len(q.past))
        shape = (q.count, q.steps * self.spec.group_size, self.spec.width)
        noise = noise_of(generators, *shape, device=self.decider.device)
        found, (matrix, x) = self._known(q), self._start(q, warm, elapsed, noise)
        denoise, calls, particles = None, matrix.calls, self._particles(q, matrix.calls, generators)
        if q.cost is not None and self.config.guidance:
            denoise = guide(
                self.decider.denoiser, q.cost, self.config.guidance, schedule=self.decider.schedule, spec=self.spec,
                normalizer=self.model.normalizer, futures=self.config.futures, noise=noise,
            )  # fmt: skip
            calls *= 1 if self.config.futures == 1 else 1 + self.config.futures
        x0, _ = self.decider.run(
            found, matrix, x, self.config, noise=noise, denoise=denoise, callback=callback, select=particles
        )
        tokens, errors, calls = self._errors(x0, found, q, noise, calls)
        plans = self._plans(q, tokens, errors)
        seconds = (time.perf_counter() - began) / len(plans)
        alive = [None] * len(plans) if particles is None else particles.survivors().tolist()
        return [
            replace(p, seed=s, seconds=seconds, network_calls=calls, survivors=n)
            for p, s, n in zip(plans, numbers, alive, strict=True)
        ]

    def _useful(self, q: Question) -> None:
        """Refuse what would change nothing, or does not go together."""
        config = self.config
        if q.cost is not None and not config.guidance and q.count == 1:
            raise ValueError("got a cost with guidance=0 and one candidate, which would change nothing")
        if q.cost is None and config.futures > 1:
            raise ValueError(f"got futures={config.futures} without a cost: give a cost, or futures=1")
        if config.particles and (q.cost is None or q.count == 1 or len(set(q.by)) > 1):
            raise ValueError(
                f"got particles={config.particles} with {q.count} candidates, arrivals {list(q.by)} and "
                f"{'no' if q.cost is None else 'a'} cost; expected a cost, several candidates and one arrival"
            )

    def _particles(self, q: Question, rows: int, generators: Sequence[torch.Generator]) -> Particles | None:
        if q.cost is None or not self.config.particles:
            return None
        price = partial(evaluate, q.cost, spec=self.spec, normalizer=self.model.normalizer)
        return Particles(price, self.config.particles, q.count, rows, generators)

    def _known(self, q: Question) -> Known:
        """Of (B * K, T) tokens: history, goal, returns."""
        window, (batch, count) = self.decider.window(q.steps), q.past.shape[:2]
        frames = np.repeat(q.past[:, :, None], self.spec.stack, 2)
        found = known.past(window, frames)
        if q.level:
            found = known.doubt(found, np.full((batch, count, self.spec.group_size), q.level))
        by = np.array([q.by[k % len(q.by)] for k in range(q.count)])
        found, arrived = found.repeat(q.count), np.arange(q.steps) >= np.tile(by, batch)[:, None]
        if q.returns is not None and self._returns:
            found = found | known.given(
                window, self._returns, np.repeat(q.returns, q.count)[:, None], arrived
            )
        if q.goal is not None:
            goal = np.repeat(q.goal, q.count, 0)
            found = found | known.given(window, self.model.config.goal_token, goal, arrived)
        return found

    def _start(
        self, q: Question, warm: Sequence[Plan] | None, elapsed: ArrayLike, noise: Noise
    ) -> tuple[ScheduleMatrix, Tensor]:
        start, group, rows = noise(), self.spec.group_size, []
        matrix = self.config.levels(q.steps, warm is not None).repeat(group)
        if warm is None:
            return matrix, start
        shifts = np.broadcast_to(elapsed, len(warm)) / (self.spec.dt * self.spec.stride)
        for plan, shift in zip(warm, shifts.tolist(), strict=True):
            at = torch.arange(q.steps) - q.past.shape[1] + plan.history + shift
            at = at.clamp(0, plan.tokens.shape[1] // group - 1)
            low, part = at.floor().long(), (at - at.floor())[None, :, None, None]
            old = plan.tokens[plan.chosen].unflatten(0, (-1, group))[None]
            high = (low + 1).clamp(max=old.shape[1] - 1)
            x0 = torch.lerp(old[:, low], old[:, high], part.to(old.dtype)).flatten(1, 2)
            rows.append(x0.expand(q.count, -1, -1))
        level = matrix.levels[0].expand(start.shape[:2]).to(start.device)
        return matrix, self.decider.schedule.add_noise(torch.cat(rows).to(start.device), level, start)

    def _errors(
        self, x0: Tensor, found: Known, q: Question, noise: Noise, calls: int
    ) -> tuple[Tensor, Array, int]:
        """Tokens on the CPU, how doubtful each is (1: at the limit), and network calls so far.

        Where there is nothing to choose, that is not measured: NaN.
        """
        if q.count == 1:
            return self.decider.fetch(x0)[0], np.full(len(x0), np.nan), calls
        decider = self.decider
        if self.evidence is not None:
            (tokens,) = decider.fetch(x0)
            return tokens, self.evidence.doubt(self.goal_values(decider.physical(tokens))), calls
        with torch.no_grad():
            mask = found.to(decider.device).mask
            error = self_error(decider.denoiser, decider.schedule, x0, mask, noise)
        tokens, error = decider.fetch(x0, error)
        limit = self.model.calibration.get("self_error", float("inf"))
        return tokens, (error / limit).double().numpy(), calls + 6

    def _plans(self, q: Question, tokens: Tensor, errors: Array) -> list[Plan]:
        """A plan for each start, of its candidates."""
        present = np.repeat(q.past[:, -1], q.count, 0)
        offsets = self.spec.frames(q.steps).ravel() - (q.past.shape[1] - 1) * self.spec.stride
        ahead = offsets >= 0
        times = (offsets[ahead] * self.spec.dt).astype(np.float64)
        read = {s: self.decider.read(tokens, s, present) for s in ("observations", "actions", "rewards")}
        arrays = {s: a[:, ahead] for s, a in read.items() if a is not None}
        place = self.goal_values(self.decider.physical(tokens))
        moved = np.linalg.norm(np.diff(place, axis=1), axis=-1)
        # A little faster than the data is fine.
        feasible = moved.max(1) <= 1.5 * self.model.calibration.get("step", float("inf"))
        feasible &= ~(errors > self.config.tolerance)
        costs = np.zeros(len(place))
        if q.cost is not None:
            costs = evaluate(q.cost, tokens, self.spec, self.decider.normalizer).double().numpy()
        if "actions" not in arrays:
            actions = inverse_dynamics(self.model, times, arrays["observations"], present)
            arrays |= {} if actions is None else {"actions": actions}
        goal = None if q.goal is None else np.repeat(q.goal, q.count, 0)
        arrivals = self._arrivals(arrays["observations"], goal)
        plans, choose = [], CHOICES[one_of("choice", self.config.choice, CHOICES)]
        for b in range(len(q.past)):
            mine = slice(b * q.count, (b + 1) * q.count)
            k = choose(moved[mine].sum(1), costs[mine], arrivals[mine], errors[mine], feasible[mine])
            chosen = {s: a[mine][k] for s, a in arrays.items()}
            plans.append(
                Plan(
                    chosen["observations"], chosen.get("actions"), times, arrays["observations"][mine], k, feasible[mine],
                    arrivals[mine], errors[mine], costs[mine], 0, 0.0, tokens[mine], q.past.shape[1],
                    rewards=chosen.get("rewards"),
                )
            )  # fmt: skip
        return plans

    def goal_values(self, physical: Tensor) -> Array:
        """(K, T, D) tokens, physical units -> (K, S, C): the goal token's channels, last frame of each step."""
        name, size = self.model.config.goal_token, len(self.place)
        mask = self.spec.token_mask(name).repeat(physical.shape[1] // self.spec.group_size)
        width = size * self.spec.stack
        values = physical.cpu()[:, mask, width - size : width]
        return values.double().numpy()

    def _arrivals(self, observations: Array, goal: Array | None) -> NDArray[np.int64]:
        steps = observations.shape[1]
        if goal is None:
            return np.full(len(observations), steps, np.int64)
        place = observations[..., self.place]
        away = np.linalg.norm(place - goal[:, None], axis=-1) > self.config.within
        return np.where(away.any(1), steps - np.argmax(away[:, ::-1], 1), 0).astype(np.int64)
