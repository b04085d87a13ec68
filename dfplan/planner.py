"""Planner: known tokens, costs and candidates in, a plan in physical units out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dfplan import schedules
from dfplan.denoiser import self_error
from dfplan.guidance import Cost, evaluate, guide
from dfplan.plan import Array, Plan, PlannerConfig
from dfplan.sampling import STEPS, Callback, Known, sample
from dfplan.train import checkpoint

__all__ = ["Plan", "Planner", "PlannerConfig"]


class Planner:
    """Plans with a trained model.

    Args:
        model: a loaded checkpoint.
        config: how plans are sampled and chosen.
    """

    def __init__(self, model: checkpoint.Checkpoint, config: PlannerConfig | None = None) -> None:
        self.model, self.config = model, config or PlannerConfig()
        self.spec, self.goal = model.config.spec, model.config.goal
        self.device = next(model.denoiser.parameters()).device
        if not model.config.goal_token or self.spec.relative:
            raise ValueError(
                "got the checkpoint of a policy (no goal token, or relative channels), which does not plan; load it "
                "with dfplan.policies.Imitation.load"
            )
        self._goal_size = next(len(t.channels) for t in self.spec.tokens if t.name == model.config.goal_token)

    @classmethod
    def load(cls, folder: Path | str, config: PlannerConfig | None = None, device: str = "cpu") -> Planner:
        """A planner from a checkpoint folder."""
        return cls(checkpoint.load(folder, device), config)

    def plan(
        self,
        history: ArrayLike,
        goal: ArrayLike | None = None,
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
        """Sample candidates and keep the earliest feasible one.

        Args:
            history: (O,) the present observation, or (h, O) the past at the plan's stride, the present last.
            goal: values of the goal token, such as (x, y) in m; its other tokens stay free. None: the checkpoint's
                own goal if no cost is given, else no goal.
            cost: minimised by guidance and, among feasible plans that arrive together, by selection.
            horizon: S, steps of the plan with the history; at most what the model was trained for.
            candidates: K.
            arrivals: steps by which the goal must be reached, dealt out over the candidates; None leaves the
                arrival to the model (the goal is known at the last step alone).
            warm: an earlier plan to start from, re-noised to `warm_level`.
            elapsed: seconds since that plan was made.
            history_level: level of the history tokens: 0 exact, above 0 a doubtful sensor.
            seed: same seed, same plan.
            generator: instead of a seed.
            callback: `(row, x, x0)` after each network call, for animations.

        Raises:
            ValueError: on a shape, NaN, horizon or arrival that does not fit, naming got, expected and the fix.
        """
        began = time.perf_counter()
        past, target, steps, count, by = self._check(history, goal, cost, horizon, candidates, arrivals)
        self._check_start(warm, elapsed, history_level)
        if generator is None:
            seed = int(torch.randint(2**31, ())) if seed is None else seed
            generator = torch.Generator(self.device).manual_seed(seed)
        else:
            seed = None
        known = self._known(past, target, steps, count, by, history_level)
        matrix, x = self._start(steps, count, warm, elapsed, len(past), generator)
        denoiser = self.model.denoiser
        if cost is not None:
            denoise = guide(
                denoiser, cost, self.config.guidance, schedule=denoiser.schedule, spec=self.spec,
                normalizer=self.model.normalizer, futures=self.config.futures, generator=generator,
            )  # fmt: skip
        else:
            denoise = denoiser
        with torch.no_grad():
            x0 = sample(
                denoise, denoiser.schedule, matrix, x,
                known=known, step=STEPS[self.config.step], generator=generator, callback=callback,
            )  # fmt: skip
            futures = 1 if cost is None or self.config.futures == 1 else 1 + self.config.futures
            plan = self._choose(x0, known, past, target, cost, matrix.calls * futures, generator, began)
        return replace(plan, seed=seed)

    def _check(
        self, history: ArrayLike, goal: ArrayLike | None, cost: Cost | None, horizon: int | None,
        candidates: int | None, arrivals: Sequence[int] | None,
    ) -> tuple[Array, Array | None, int, int, Sequence[int]]:  # fmt: skip
        past = np.atleast_2d(np.asarray(history, np.float64))
        size, longest = self.spec.observation_size, self.model.config.horizon
        if past.ndim != 2 or past.shape[1] != size:
            raise ValueError(
                f"got history of shape {np.shape(history)}, expected ({size},) for the present or (h, {size})"
            )
        if not np.isfinite(past).all():
            row, column = np.argwhere(~np.isfinite(past))[0]
            raise ValueError(
                f"history[{row}, {column}] is {past[row, column]}; check the sensor, or plan without that row"
            )
        if goal is None and cost is None:
            goal = self.goal
        target = None if goal is None else np.asarray(goal, np.float64)
        if target is not None and (target.shape != (self._goal_size,) or not np.isfinite(target).all()):
            token = next(t for t in self.spec.tokens if t.name == self.model.config.goal_token)
            raise ValueError(
                f"got goal {goal}, expected {self._goal_size} finite numbers: {', '.join(token.channels)}"
            )
        steps = longest if horizon is None else horizon
        if not len(past) < steps <= longest:
            raise ValueError(
                f"got horizon={steps} with {len(past)} steps of history, expected {len(past) + 1} to {longest}"
            )
        count = self.config.candidates if candidates is None else candidates
        if count < 1:
            raise ValueError(f"got candidates={count}, expected 1 or more")
        by = [steps - 1] if arrivals is None else list(arrivals)
        if not by or not all(len(past) <= n < steps for n in by):
            raise ValueError(f"got arrivals {by}, expected steps from {len(past)} to {steps - 1}")
        return past, target, steps, count, by

    def _check_start(self, warm: Plan | None, elapsed: float, history_level: float) -> None:
        if not 0 <= history_level <= 1:
            raise ValueError(f"got history_level={history_level}, expected 0 (exact) to 1 (unknown)")
        if not 0 <= elapsed < float("inf"):
            raise ValueError(
                f"got elapsed={elapsed}, expected seconds since the warm plan was made, 0 or more"
            )
        if warm is not None and (
            warm.tokens.shape[-1] != self.spec.width or warm.tokens.shape[1] % self.spec.group_size
        ):
            raise ValueError(
                f"got a warm plan of tokens {tuple(warm.tokens.shape)}, expected one made by this planner"
            )

    def _known(
        self,
        past: Array,
        target: Array | None,
        steps: int,
        count: int,
        by: Sequence[int],
        history_level: float,
    ) -> Known:
        spec, group = self.spec, self.spec.group_size
        arrays = {}
        for token in spec.tokens:
            channels = [spec.channel(c) for c in token.channels]
            part = np.zeros((1, steps, spec.stack, len(channels)))
            if channels[0].source == "observations":
                part[0, : len(past)] = past[:, None, [c.index for c in channels]]
            if target is not None and token.name == self.model.config.goal_token:
                part[0, len(past) :] = target
            arrays[token.name] = part
        observed = torch.tensor([spec.channel(t.channels[0]).source == "observations" for t in spec.tokens])
        index = torch.arange(steps)
        mask = (index < len(past))[:, None] & observed
        mask = mask.repeat(count, 1, 1)
        level = torch.where(index < len(past), history_level, 0.0).repeat_interleave(group).repeat(count, 1)
        if target is not None:
            arrival = torch.tensor([by[k % len(by)] for k in range(count)])
            mask |= (index >= arrival[:, None])[..., None] & spec.token_mask(self.model.config.goal_token)
        x = torch.from_numpy(spec.pack(arrays)).to(self.device)
        values = self.model.normalizer.normalize(x).expand(count, -1, -1)
        return Known(values, mask.flatten(1).to(self.device), level.to(self.device))

    def _start(
        self, steps: int, count: int, warm: Plan | None, elapsed: float, past: int, generator: torch.Generator
    ) -> tuple[schedules.ScheduleMatrix, Tensor]:
        c, group = self.config, self.spec.group_size
        matrix = schedules.make(c.schedule, steps, c.steps, c.uncertainty).repeat(group)
        shape = (count, steps * group, self.spec.width)
        noise = torch.randn(shape, generator=generator, device=self.device)
        if warm is None:
            return matrix, noise
        matrix = matrix.scaled(c.warm_level)
        shift = elapsed / (self.spec.dt * self.spec.stride)
        at = torch.arange(steps) - past + warm.history + shift
        at = at.clamp(0, warm.tokens.shape[1] // group - 1)
        low, part = at.floor().long(), (at - at.floor())[None, :, None, None].to(self.device)
        old = warm.tokens[warm.chosen].to(self.device).unflatten(0, (-1, group))[None]
        high = (low + 1).clamp(max=old.shape[1] - 1)
        x0 = torch.lerp(old[:, low], old[:, high], part.to(old.dtype)).flatten(1, 2).expand(shape)
        level = matrix.levels[0].to(self.device).expand(shape[:2])
        return matrix, self.model.denoiser.schedule.add_noise(x0, level, noise)

    def _choose(
        self, x0: Tensor, known: Known, past: Array, target: Array | None, cost: Cost | None, calls: int,
        generator: torch.Generator, began: float,
    ) -> Plan:  # fmt: skip
        spec, model, limit = self.spec, self.model, self.model.calibration
        error = self_error(model.denoiser, model.denoiser.schedule, x0, known.mask, generator)
        calls += 6
        errors = (error / limit.get("self_error", float("inf"))).double().cpu().numpy()
        physical = model.normalizer.unnormalize(x0)
        place = self.goal_values(physical)
        feasible = errors <= self.config.tolerance
        longest = np.linalg.norm(np.diff(place, axis=1), axis=-1).max(1)
        feasible &= longest <= 1.5 * limit.get("step", float("inf"))  # a little faster than the data is fine
        costs = (
            np.zeros(len(place))
            if cost is None
            else evaluate(cost, x0, spec, model.normalizer).double().cpu().numpy()
        )
        length = np.linalg.norm(np.diff(place, axis=1), axis=-1).sum(1)
        times, observations, actions = self._physical(physical, past)
        arrivals = self._arrivals(observations, target)
        order = np.lexsort((length, costs, arrivals, np.where(feasible, 0, errors), ~feasible))
        chosen = int(order[0])
        return Plan(
            observations[chosen], None if actions is None else actions[chosen], times, observations, chosen, feasible,
            arrivals, errors, costs, calls, time.perf_counter() - began, x0.cpu(), len(past),
        )  # fmt: skip

    def goal_values(self, physical: Tensor) -> Array:
        """(K, T, D) tokens, physical units -> (K, S, C): the goal token's channels, last frame of each step."""
        mask = self.spec.token_mask(self.model.config.goal_token).repeat(
            physical.shape[1] // self.spec.group_size
        )
        width = self._goal_size * self.spec.stack
        values = physical[:, mask.to(physical.device), width - self._goal_size : width]
        return values.double().cpu().numpy()

    def _arrivals(self, observations: Array, target: Array | None) -> NDArray[np.int64]:
        steps = observations.shape[1]
        if target is None:
            return np.full(len(observations), steps, np.int64)
        token = next(t for t in self.spec.tokens if t.name == self.model.config.goal_token)
        place = observations[..., [self.spec.channel(c).index for c in token.channels]]
        away = np.linalg.norm(place - target, axis=-1) > self.config.within
        return np.where(away.any(1), steps - np.argmax(away[:, ::-1], 1), 0).astype(np.int64)

    def _physical(self, physical: Tensor, past: Array) -> tuple[Array, Array, Array | None]:
        """Times (H,), observations (K, H, O) and actions (K, H, A) or None, from the present on."""
        spec = self.spec
        offsets = spec.frames(physical.shape[1] // spec.group_size).ravel() - (len(past) - 1) * spec.stride
        ahead, present = offsets >= 0, torch.from_numpy(past[-1]).to(physical)
        times = (offsets[ahead] * spec.dt).astype(np.float64)
        found = spec.array(physical, "observations", present)
        assert found is not None
        observations: Array = found.double().cpu().numpy()[:, ahead]
        actions = spec.array(physical, "actions")
        if actions is not None:
            diffused: Array = actions.double().cpu().numpy()[:, ahead]
            return times, observations, diffused
        return times, observations, self._inverse_dynamics(times, observations, past[-1])

    def _inverse_dynamics(self, times: Array, observations: Array, present: Array) -> Array | None:
        """Fill velocities that are not modelled, in place; mean actions (K, H, A) between the times, or None."""
        dynamics: dict[str, Any] | None = self.model.calibration.get("dynamics")
        modelled = {c.index for c in self.spec.channels if c.source == "observations"}
        size = self.spec.action_size
        if dynamics is None or modelled != set(range(size)):
            return None
        observations[..., size:] = np.gradient(observations[..., :size], times, axis=1)
        observations[:, 0, size:] = present[size:]
        v, steps = observations[..., size:], np.rint(np.diff(times) / self.spec.dt)[:, None]
        keep = dynamics["keep"] ** steps  # n env steps of v' = keep v + gain a with one action
        gain = dynamics["gain"] * np.array(
            [[sum(dynamics["keep"] ** i for i in range(int(n)))] for n in steps[:, 0]]
        )
        actions = np.clip((v[:, 1:] - keep * v[:, :-1]) / gain, -1, 1)
        return np.concatenate([actions, np.zeros_like(v[:, :1])], 1)
