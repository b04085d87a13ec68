"""Deciding while moving: the actions that will be executed meanwhile are known, so they enter at level 0.

What follows them is then drawn given them, and continues them in position and velocity, however long the network takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan import schedules
from dfplan.denoiser import Denoise
from dfplan.sampling import STEPS, Known, sample
from dfplan.schedules import ScheduleMatrix
from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    from dfplan.policies import Imitation

Array = NDArray[np.float64]

ACT: dict[str, Any] = {"memory": 1, "temperature": 0.0}
"""How a policy acts on an arm unless told otherwise. Chunks that are decided one after the other must be of one mind:
drawn ones differ, and each would put right what the last one meant. The committed actions carry the motion on; shown the
past as well, an arm that stands still tends to go on doing so."""

SHOWN = ("clean", "noised")
"""`clean`: committed actions enter at level 0, as the model should have seen in training.
`noised`: they are noised to the level of the step that they are in, at every network call, and their noise is the one
the loop began with: for a model that never saw clean actions beside unknown observations."""


@dataclass(frozen=True)
class History:
    """What one robot saw and did up to the present.

    Attributes:
        observations: (N, O) one per env step, the present last; in the units of the demonstrations.
        doubtful: (N) names of the tokens not to be trusted at each of them.
        done: (N - 1, A) the action executed after each observation but the last.
    """

    observations: Array
    doubtful: tuple[tuple[str, ...], ...]
    done: Array


class CommittedPolicy:
    """`Imitation` with committed actions. It uses the policy's own window, noise and denoising loop.

    Attributes:
        policy: the policy; its history is replaced at every decision.
        stride: env steps in one token.
        steps: env steps of history to keep: as many as the model can look back on, for the monitor.
        ahead: env steps from the present to the end of the model's window.
        chunk: env steps that are executed of each decision; where the policy leaves it open, one token: joins are smooth,
            and the newer the readings the better.
    """

    def __init__(self, policy: Imitation, show: str = "clean") -> None:
        """Wrap a policy.

        Args:
            policy: not streaming.
            show: one of `SHOWN`.

        Raises:
            ValueError: for a streaming policy, which keeps half-noisy actions between decisions instead.
        """
        self.show = one_of("way to show committed actions", show, SHOWN)
        if policy.config.stream:
            raise ValueError("got a streaming policy; committed actions need stream=False")
        self.policy, self.stride = policy, policy.spec.stride
        self.steps = (policy.longest - 1) * self.stride + 1
        self.ahead = (policy.model.config.horizon - policy.memory + 1) * self.stride
        self.chunk = min(policy.config.chunk or self.stride, self.ahead)

    def reset(self, seed: int | None = 0) -> None:
        """Begin anew; the same seed draws the same noise."""
        self.policy.reset(seed)

    def decide(self, history: History, committed: Array) -> Array:
        """The actions that follow the committed ones.

        Args:
            history: up to the present, at least one observation; what is older than the policy's memory is not used.
            committed: (C, A) actions of the env steps from the present on.

        Returns:
            (M, A) the actions of env steps C, C + 1, ... after the present; clean ones only.

        Raises:
            ValueError: for so many committed actions that there is nothing left to decide.
            FloatingPointError: where the network gives a NaN.
        """
        count = len(committed)
        if count >= self.ahead:
            raise ValueError(
                f"got {count} committed actions, expected less than {self.ahead}; a slower network needs a model with a "
                "longer horizon"
            )
        self._remember(history)
        p = self.policy
        past = min(p.memory, 1 + (len(history.observations) - 1) // self.stride)
        known = p._known(past)
        values, given = self._committed(known, past, np.asarray(committed, np.float64))
        with torch.no_grad():
            x0, clean = self._denoise(Known(values, known.mask, known.level), given, past, count)
        return self._actions(x0, past)[count : clean * self.stride]

    def _remember(self, history: History) -> None:
        p = self.policy
        p._seen.clear()
        p._doubts.clear()
        p._done.clear()
        kept = (p.memory - 1) * self.stride + 1
        rows = list(zip(history.observations, history.doubtful, strict=True))[-kept:]
        for observation, doubtful in rows:
            p._observe(observation, doubtful)
        done = np.asarray(history.done, np.float64)
        if len(done) != len(history.observations) - 1:
            raise ValueError(
                f"got {len(done)} actions for {len(history.observations)} observations, expected one less"
            )
        p._done.extend(row[None] for row in done[len(done) - len(rows) + 1 :])

    def _committed(self, known: Known, past: int, committed: Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Values (1, T, D) with the committed actions in their places, and (1, T, D) True there."""
        p, spec = self.policy, self.policy.spec
        values, where = known.values.clone(), torch.zeros_like(known.values, dtype=torch.bool)
        if not len(committed):
            return values, where
        count, group, token = -(-len(committed) // self.stride), spec.group_size, spec.tokens[-1]
        columns = [spec.channel(c).index for c in token.channels]
        rows = np.concatenate([committed, np.repeat(committed[-1:], count * self.stride - len(committed), 0)])
        rows = rows.reshape(1, count, self.stride, -1)[..., columns]
        rows = (rows - spec.origin(token.name, p._seen[-1])[:, None, None]).astype(np.float32)
        parts = {
            t.name: np.zeros((1, count, spec.stack, len(t.channels)), np.float32) for t in spec.tokens[:-1]
        }
        packed = torch.from_numpy(spec.pack({**parts, token.name: rows}))
        x = p._normalizer.normalize(packed)[:, group - 1 :: group]
        size = len(token.channels)
        given = torch.arange(count * self.stride).view(count, self.stride).repeat_interleave(size, 1)
        mask = torch.zeros(1, count, spec.width, dtype=torch.bool)
        mask[..., : size * self.stride] = given < len(committed)
        places = (past - 1 + torch.arange(count)) * group + group - 1
        values[:, places], where[:, places] = torch.where(mask, x, values[:, places]), mask
        return values, where

    def _levels(self, past: int, committed: int) -> tuple[torch.Tensor, int]:
        """Levels (M+1, S) down which the chunk after the committed actions gets clean; how many steps then are."""
        c, horizon = self.policy.config, self.policy.model.config.horizon
        ahead = schedules.make(c.schedule, horizon - past + 1, c.steps, c.uncertainty).levels
        # The steps of the committed actions go with the first free one: their observations are not known.
        whole = committed // self.stride
        ahead = torch.cat([ahead[:, :1].expand(-1, whole), ahead[:, : ahead.shape[1] - whole]], 1)
        last = min(-(-(committed + self.chunk) // self.stride), ahead.shape[1])
        busy = (ahead[:, :last] > 0).any(1)
        ahead = ahead[: int(busy.sum()) + 1]
        unfinished = (ahead[-1] > 0).nonzero()
        clean = int(unfinished[0]) if len(unfinished) else ahead.shape[1]
        return torch.cat([ahead[:, :1].expand(-1, past - 1), ahead], 1), clean

    def _denoise(self, known: Known, given: torch.Tensor, past: int, count: int) -> tuple[torch.Tensor, int]:
        """Denoise; committed actions that do not fill a token are noised with it, and answered where it is asked."""
        p = self.policy
        steps, clean = self._levels(past, count)
        valid = torch.from_numpy(p.spec.valid).repeat(given.shape[1] // p.spec.group_size, 1)
        whole = given.any(-1) & (given | ~valid).all(-1)
        mask, level = known.mask, known.level
        assert level is not None
        if self.show == "clean":
            mask, given = mask | whole, given & ~whole[..., None]
        model, where, answer = p.model.denoiser, given.to(p.device), known.values.to(p.device)

        def denoise(x: torch.Tensor, level: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
            return torch.where(where, answer, p.denoise(x, level, cond))

        noise = p._noise(given.shape[1])
        alpha, sigma = model.schedule.alpha(level)[..., None], model.schedule.sigma(level)[..., None]
        # Doubtful readings get the noise of their level.
        values = known.values + noise * sigma / alpha.clamp_min(1e-3)
        shown = Known(values.to(p.device), mask.to(p.device), level.to(p.device))
        matrix = ScheduleMatrix(steps).repeat(p.spec.group_size)
        p.calls += matrix.calls
        x = p.config.temperature * noise
        asked: Denoise = denoise
        return sample(
            asked, model.schedule, matrix, x.to(p.device), known=shown, step=STEPS[p.config.step]
        ), clean

    def _actions(self, x0: torch.Tensor, past: int) -> Array:
        """(H, A) actions from the present on, in physical units, clipped as the policy clips them."""
        p, spec = self.policy, self.policy.spec
        chunk = spec.array(p.model.normalizer.unnormalize(x0), "actions")
        assert chunk is not None
        token = spec.tokens[-1]
        columns = [spec.channel(c).index for c in token.channels]
        chunk[..., columns] += torch.from_numpy(spec.origin(token.name, p._seen[-1])).to(chunk)[:, None]
        raw = chunk[0, (past - 1) * self.stride :].double().cpu().numpy()
        if not np.isfinite(raw).all():
            raise FloatingPointError("the policy's actions hold NaN or infinity; the checkpoint is damaged")
        return np.asarray(np.clip(raw, p.low, p.high), np.float64)


def history_of(
    observations: Sequence[Array], doubtful: Sequence[tuple[str, ...]], done: Sequence[Array], actions: int
) -> History:
    """A history from lists; `actions` is A, for a history without any action yet."""
    rows = np.stack(done) if len(done) else np.zeros((0, actions))
    return History(np.stack(observations), tuple(doubtful), rows)
