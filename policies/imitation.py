"""Imitation policy: history clean, next actions in-filled, executed in chunks or streamed."""

from __future__ import annotations

import copy
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dfplan import schedules
from dfplan.denoiser import Denoise
from dfplan.guidance import Cost, guide
from dfplan.models import find
from dfplan.sampling import STEPS, Known, sample
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.errors import one_of
from dfplan.train import checkpoint

Array = NDArray[np.float64]
Doubt = Sequence[str]


@dataclass(frozen=True)
class ImitationConfig:
    """How a policy looks back and acts.

    Attributes:
        memory: steps of history shown, the present included; 0: as many as the model was trained to see.
        chunk: env steps executed for each decision, a multiple of the model's stride; 0: two tokens.
        stream: decide every `stride` env steps with one network call, down a ramp of levels (`chunk` is not used).
        ramp: tokens of the future on that ramp; fewer follow the present more closely.
        schedule: levels of the future when not streaming.
        steps: network calls for each token, not streaming.
        uncertainty: rows between the starts of two steps (pyramid).
        step: step rule.
        doubt: level at which tokens of a doubtful sensor enter; 1 leaves them out, 0 believes them.
        guidance: nats per unit of the policy's `cost`; 0 does without.
        temperature: standard deviation of the noise that decisions begin with: 1 draws from what was learned, 0 gives
            the same answer to the same readings, about the mean.
    """

    memory: int = 2
    chunk: int = 0
    stream: bool = False
    ramp: int = 2
    schedule: str = "full"
    steps: int = 5
    uncertainty: float = 0.5
    step: str = "ddim"
    doubt: float = 1.0
    guidance: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        one_of("schedule", self.schedule, schedules.SCHEDULES)
        one_of("step rule", self.step, STEPS)
        for name, low in (("memory", 0), ("chunk", 0), ("steps", 1), ("ramp", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"got {name}={getattr(self, name)}, expected {low} or more")
        if not self.guidance >= 0:
            raise ValueError(f"got guidance={self.guidance}, expected 0 or more nats per unit of cost")
        if not 0 <= self.temperature <= 1:
            raise ValueError(f"got temperature={self.temperature}, expected 0 (the mean) to 1 (a fair draw)")
        if not 0 <= self.doubt <= 1:
            raise ValueError(f"got doubt={self.doubt}, expected a level from 0 (believed) to 1 (left out)")


class Imitation:
    """Acts as the demonstrations do, for one robot or for B side by side.

    Args:
        model: a checkpoint whose last token of each step is the action, with lag stride - 1 and stack = stride.
        config: how it looks back and acts.
        limits: (low (A,), high (A,)) to which actions are clipped; None: the range seen in the demonstrations.
        sensors: sensor -> columns of the observation, as environments have them: these names may be doubtful too,
            and mean the tokens that show any of the columns, if any.
        cost: what to keep low besides (`dfplan.guidance`, `dfplan.envs.cost`), where the configuration's `guidance` is
            above 0. Relative channels are differences from the present observation.

    Attributes:
        memory: tokens of history that a decision is shown, the present included.
        longest: most that the model was trained to see.
        clipped: fraction of the action numbers so far that had to be clipped by more than 1 % of their range.
        seconds: wall time of each decision.
        calls: network calls so far.
    """

    def __init__(
        self,
        model: checkpoint.Checkpoint,
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> None:
        self.model, self.config, self.spec = model, config or ImitationConfig(), model.config.spec
        self._check_spec()
        if limits is None:
            found = model.calibration.get("actions")
            limits = (-np.inf, np.inf) if found is None else (found["low"], found["high"])
        shape = (self.spec.action_size,)
        self.low = np.broadcast_to(np.asarray(limits[0], np.float64), shape)
        self.high = np.broadcast_to(np.asarray(limits[1], np.float64), shape)
        self.longest = model.config.levels.memory or model.config.horizon - 1
        self.memory = min(self.config.memory or self.longest, self.longest)
        self.chunk = self.config.chunk or 2 * self.spec.stride
        self.device = next(model.denoiser.parameters()).device
        self.denoise = self._guided(cost)
        self._normalizer = copy.deepcopy(model.normalizer).cpu()  # of readings, which come on the CPU
        self._columns = [[self.spec.channel(c).index for c in t.channels] for t in self.spec.tokens]
        self._shown_by = {t.name: [g] for g, t in enumerate(self.spec.tokens[:-1])}
        for sensor, part in (sensors or {}).items():
            among = {*range(part.start, part.stop)}
            shown = [g for g, own in enumerate(self._columns[:-1]) if among & {*own}]
            self._shown_by.setdefault(sensor, shown)
        self.reset()

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        config: ImitationConfig | None = None,
        limits: tuple[ArrayLike, ArrayLike] | None = None,
        device: str = "cpu",
        sensors: Mapping[str, slice] | None = None,
        cost: Cost | None = None,
    ) -> Imitation:
        """A policy from a shipped model (`arm-pick`), a run folder or a checkpoint folder."""
        return cls(checkpoint.load(find(name), device), config, limits, sensors, cost)

    def _guided(self, cost: Cost | None) -> Denoise:
        """The model, guided where that is asked for."""
        model, scale = self.model, self.config.guidance
        if not scale:
            return model.denoiser
        if cost is None:
            raise ValueError(
                f"got guidance={scale} and no cost; give Imitation a cost, or leave guidance at 0"
            )
        schedule, spec = model.denoiser.schedule, self.spec
        return guide(model.denoiser, cost, scale, schedule=schedule, spec=spec, normalizer=model.normalizer)

    def _check_spec(self) -> None:
        spec, stride = self.spec, self.spec.stride
        last = spec.tokens[-1]
        source = spec.channel(last.channels[0]).source
        sources = [spec.channel(t.channels[0]).source for t in spec.tokens[:-1]]
        if source != "actions" or "actions" in sources or spec.stack != stride or last.lag != stride - 1:
            raise ValueError(
                f"got tokens {[t.name for t in spec.tokens]} with stride {stride}, stack {spec.stack}, last lag "
                f"{last.lag}; a policy needs observation tokens, then one of actions with stack = stride and lag = "
                "stride - 1: see dfplan.train.imitate.imitation_config, or plan with dfplan.load"
            )
        if self.config.chunk % stride and not self.config.stream:
            raise ValueError(
                f"got chunk={self.config.chunk}, expected a multiple of the model's {stride} env steps per token"
            )

    def reset(self, seed: int | Sequence[int] | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode, or B of them with a seed each. `goal` is not used: demonstrations carry their own."""
        seeds = [seed] if seed is None or isinstance(seed, int) else list(seed)
        self.generators = [
            torch.Generator().manual_seed(int(torch.randint(2**31, ())) if s is None else int(s))
            for s in seeds
        ]
        past = (self.memory - 1) * self.spec.stride
        self._seen: deque[Array] = deque(maxlen=past + 1)
        self._doubts: deque[NDArray[np.bool_]] = deque(maxlen=past + 1)
        self._done: deque[Array] = deque(maxlen=past)
        self.seconds: list[float] = []
        self.calls, self._clipped, self._count = 0, 0, 0
        self._queue: deque[Array] = deque()
        self._noisy: Tensor | None = None

    @property
    def clipped(self) -> float:
        """Fraction of action numbers clipped since `reset`."""
        return self._clipped / max(1, self._count)

    def act(self, observation: ArrayLike, doubtful: Doubt | Sequence[Doubt] = ()) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> action (A,) or (B, A).

        Args:
            observation: in the units of the demonstrations.
            doubtful: names of the tokens or `sensors` that are not to be trusted now; for a batch, such a list for
                each robot.

        Raises:
            ValueError: on a shape or a number that cannot be a reading, or an unknown name.
        """
        single = self._observe(observation, doubtful)
        if not self._queue:
            self._queue.extend(self._decide())
        action = self._queue.popleft()
        self._done.append(action)
        return (action[0] if single else action).astype(np.float32)

    def predict(self, observation: ArrayLike, doubtful: Doubt | Sequence[Doubt] = ()) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> the actions that `act` would now return: (H, A) or (B, H, A)."""
        single = self._observe(observation, doubtful)
        self._queue.clear()
        chunk = np.stack(self._decide(), -2).astype(np.float32)
        return chunk[0] if single else chunk

    def _observe(self, observation: ArrayLike, doubtful: Doubt | Sequence[Doubt]) -> bool:
        now = np.asarray(observation, np.float64)
        single, batch, size = now.ndim == 1, len(self.generators), self.spec.observation_size
        now = now[None] if single else now
        if now.shape != (batch, size):
            raise ValueError(
                f"got observation of shape {np.shape(observation)}, expected ({size},)"
                + (f" or ({batch}, {size})" if batch > 1 else "; for several robots reset with a seed each")
            )
        each = [doubtful] if single or not doubtful else list(doubtful)
        doubt = np.zeros((batch, len(self.spec.tokens) - 1), bool)
        for b, bad in enumerate(each):
            for name in bad:
                doubt[b, self._shown_by[one_of("token or sensor", str(name), self._shown_by)]] = True
        trusted = np.ones((batch, size), bool)
        for g, columns in enumerate(self._columns[:-1]):
            trusted[:, columns] = ~doubt[:, g, None]
        if not np.isfinite(now[trusted]).all():
            raise ValueError(
                "got an observation with NaN or infinity; check the sensors, or name the token in `doubtful`"
            )
        self._seen.append(np.where(np.isfinite(now), now, 0.0))
        self._doubts.append(doubt)
        return single

    def _decide(self) -> list[Array]:
        """The next actions: as many (B, A) arrays as are executed before the next decision."""
        began = time.perf_counter()
        spec, stride = self.spec, self.spec.stride
        past = min(self.memory, 1 + (len(self._seen) - 1) // stride)
        known = self._known(past)
        with torch.no_grad():
            x0 = self._stream(known, past) if self.config.stream else self._sample(known, past)
        chunk = self.spec.array(self.model.normalizer.unnormalize(x0), "actions")
        assert chunk is not None
        origin = torch.from_numpy(spec.origin(spec.tokens[-1].name, self._seen[-1]))
        chunk[..., self._columns[-1]] += origin.to(chunk)[:, None]
        first = (past - 1) * stride
        count = stride if self.config.stream else min(self.chunk, chunk.shape[1] - first)
        raw = chunk[:, first : first + count].double().cpu().numpy()
        if not np.isfinite(raw).all():
            raise FloatingPointError("the policy's actions hold NaN or infinity; the checkpoint is damaged")
        out = np.clip(raw, self.low, self.high)
        slack = np.where(np.isfinite(self.high - self.low), 0.01 * (self.high - self.low), 0.0)
        self._clipped += int((np.abs(out - raw) > slack).sum())
        self._count += out.size
        self.seconds.append(time.perf_counter() - began)
        return list(out.swapaxes(0, 1))

    def _known(self, past: int) -> Known:
        """What has been seen and done in the last `past` steps, as the first tokens of the window."""
        spec, stride, group, batch = self.spec, self.spec.stride, self.spec.group_size, len(self.generators)
        begin = len(self._seen) - 1 - (past - 1) * stride
        rows = begin + np.maximum(spec.frames(past), 0)  # (past, stack) env steps
        seen = np.stack([np.stack([self._seen[i] for i in row], 1) for row in rows], 1)  # (B, past, stack, O)
        parts = {
            t.name: seen[..., columns].astype(np.float32)
            for t, columns in zip(spec.tokens[:-1], self._columns[:-1], strict=True)
        }
        done = np.zeros((batch, past, stride, spec.action_size), np.float32)
        if past > 1:
            executed = list(self._done)[-(past - 1) * stride :]
            done[:, : past - 1] = np.stack(executed, 1).reshape(batch, past - 1, stride, -1)
        parts[spec.tokens[-1].name] = done[..., self._columns[-1]]
        for name in spec.relative:
            parts[name] = parts[name] - spec.origin(name, self._seen[-1])[:, None, None].astype(np.float32)
        tokens = self.model.config.horizon * group
        values = torch.zeros(batch, tokens, spec.width)
        x = self._normalizer.normalize(torch.from_numpy(spec.pack(parts)))
        values[:, : past * group] = x * torch.from_numpy(spec.valid).repeat(past, 1)
        mask = torch.arange(tokens).expand(batch, -1) < past * group - 1
        doubt = np.stack([np.stack([self._doubts[i] for i in row]).any(0) for row in rows], 1)
        level = torch.zeros(batch, past, group)
        level[..., :-1] = torch.from_numpy(doubt) * self.config.doubt
        level = torch.nn.functional.pad(level.flatten(1), (0, tokens - past * group))
        return Known(values, mask & (level < 1), level)

    def _noise(self, tokens: int) -> Tensor:
        """(B, tokens, D) standard normal, each robot from its own generator."""
        return torch.stack([torch.randn(tokens, self.spec.width, generator=g) for g in self.generators])

    def _run(self, known: Known, levels: Tensor, noise: Tensor, x: Tensor | None = None) -> Tensor:
        """Down the rows of `levels` (M+1, S) from x, or from noise; doubtful readings get the noise of their level."""
        model, device = self.model.denoiser, self.device
        assert known.level is not None
        alpha = model.schedule.alpha(known.level)[..., None]
        sigma = model.schedule.sigma(known.level)[..., None]
        values = known.values + noise * sigma / alpha.clamp_min(1e-3)
        x = self.config.temperature * noise if x is None else x
        given = Known(values.to(device), known.mask.to(device), known.level.to(device))
        matrix = ScheduleMatrix(levels).repeat(self.spec.group_size)
        self.calls += matrix.calls
        step = STEPS[self.config.step]
        return sample(self.denoise, model.schedule, matrix, x.to(device), known=given, step=step)

    def _sample(self, known: Known, past: int) -> Tensor:
        c, horizon = self.config, self.model.config.horizon
        ahead = schedules.make(c.schedule, horizon - past + 1, c.steps, c.uncertainty).levels
        busy = (ahead[:, : self.chunk // self.spec.stride] > 0).any(1)
        ahead = ahead[: int(busy.sum()) + 1]  # what is executed is clean by then
        levels = torch.cat([ahead[:, :1].expand(-1, past - 1), ahead], 1)
        return self._run(known, levels, self._noise(horizon * self.spec.group_size))

    def _stream(self, known: Known, past: int) -> Tensor:
        """One network call: every future token moves one notch down the ramp, the present action becomes clean."""
        horizon, group = self.model.config.horizon, self.spec.group_size
        ahead = min(self.config.ramp, horizon - self.memory + 1)
        noise = self._noise(horizon * group)
        begin, end = (past - 1) * group, (past - 1 + ahead) * group
        ramp = torch.ones(2, horizon)
        ramp[:, : past - 1 + ahead] = torch.nn.functional.pad(
            schedules.streaming(ahead).levels, (past - 1, 0), value=0.0
        )
        if self._noisy is None:  # the first decision comes down from noise to the ramp
            rows = 1 - torch.arange(ahead + 1)[:, None] / ahead
            x = self._run(known, torch.maximum(ramp[:1], rows), noise)
        else:
            x = self.config.temperature * noise
            x[:, begin : end - group] = self._noisy[:, group:]
        x = self._run(known, ramp, noise, x)
        self._noisy = x[:, begin:end].cpu()
        return x
