"""A policy whose answers come late, in simulated time, and four ways to go on meanwhile; delay.py measures with it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dfplan import known
from dfplan.act import Actor, History
from dfplan.decide import generator_of, noise_of

METHODS = ("naive", "ensemble", "inpainting", "committed")
LIMIT, LATEST = 300, 10
DECAY = 0.01
"""Of the ensemble's weights, from the oldest answer on, as published (arXiv 2304.13705)."""
HERE = {"arm-pick": [*range(15, 24), 14], "pusht": [0, 1]}
"""Columns of the observation that are the action which stays where the robot is."""
PLACE = {"arm-pick": 3, "pusht": 2}
"""Columns of the action that are a place, whose jumps are measured."""
BETA = 2.0
"""Most that inpainting pulls (real-time chunking, arXiv 2506.07339, there 5); chosen on seeds from 90000."""


@dataclass(frozen=True)
class Cell:
    """What is measured at once.

    Attributes:
        task: environment, and shipped model unless another is named.
        method: one of `METHODS`.
        delay: env steps from a question to its answer.
        chunk: env steps from one answer to the next.
        error: env steps by which the method takes the delay for longer than it is.
        first: how many times as long the first answer takes; above 1 the delay is taken to be the longest of the last ten.
        lost: share of the answers that never come.
    """

    task: str
    method: str
    delay: int = 0
    chunk: int = 16
    error: int = 0
    first: int = 1
    lost: float = 0.0

    @property
    def name(self) -> str:
        """Key of the measured numbers."""
        return "|".join(map(str, asdict(self).values()))

    @property
    def wait(self) -> int:
        """Env steps before the first answer, through which the robot stays where it is."""
        return self.first * max(self.delay, int(self.first > 1))

    def fits(self, ahead: int) -> bool:
        """Whether an answer reaches to the next one in a window of `ahead` env steps."""
        return self.delay + self.chunk <= ahead


class Delayed:
    """A policy whose answers come late, for B robots side by side.

    Attributes:
        done: (B, A) executed so far, of each env step.
        joins: env steps from which an answer was used, the first one excepted.
        starved: robots times env steps without an action, after the first answer.
    """

    batched = True

    def __init__(self, actor: Actor, cell: Cell, decay: float = DECAY, clean: bool = False) -> None:
        """`decay`: of the ensemble's weights; `clean`: how committed actions are shown."""
        self.actor, self.cell, self.clean, self.decay = actor, cell, clean, decay

    def reset(self, seed: list[int]) -> None:
        """Begin an episode for each seed."""
        size, length = self.actor.spec.action_size, LIMIT + self.cell.wait + 2 * self.actor.ahead
        self.generators = [generator_of(s) for s in seed]
        self.luck = [np.random.default_rng(s) for s in seed]
        self.plan = np.full((len(seed), length, size), np.nan)
        self.sum, self.weight = np.zeros_like(self.plan), np.zeros((*self.plan.shape[:2], 1))
        self.count = np.zeros(self.plan.shape[:2], int)
        self.seen: list[Any] = []
        self.done: list[Any] = []
        self.joins: list[int] = []
        self.took: list[int] = []
        self.now, self.ask_at, self.due, self.starved = 0, 0, -1, 0

    def act(self, observation: Any) -> Any:
        """Observations (B, O) -> actions (B, A)."""
        self.seen.append(np.asarray(observation, np.float64))
        if self.now == self.due:
            self._take()
        if self.now == self.ask_at:
            self._ask()
            if self.now == self.due:
                self._take()
        action = self._upcoming(1)[:, 0]
        self.starved += int(np.isnan(self.plan[:, self.now, 0]).sum()) if self.took else 0
        self.done.append(action)
        self.now += 1
        return action.astype(np.float32)

    def _upcoming(self, count: int) -> Any:
        """(B, count, A) what will be executed from now on if no answer comes: at the end the last action again."""
        last = self.done[-1] if self.done else self.seen[-1][:, HERE[self.cell.task]]
        out = np.empty((len(last), count, last.shape[1]))
        for i in range(count):
            there = self.plan[:, self.now + i]
            last = out[:, i] = np.where(np.isnan(there), last, there)
        return out

    def _assumed(self) -> int:
        """Env steps that the next answer is thought to take."""
        if not self.took:
            return 0
        found = max(self.took[-LATEST:]) if self.cell.first > 1 else self.cell.delay + self.cell.error
        return min(max(found, 0), self.actor.ahead - self.actor.stride)

    def _ask(self) -> None:
        batch, spec, window = len(self.generators), self.actor.spec, self.actor.decider.window()
        keep = min(self.actor.keeps, self.now)
        seen = np.stack(self.seen[self.now - keep :], 1)
        done = np.stack(self.done[self.now - keep :], 1) if keep else np.zeros((batch, 0, spec.action_size))
        history = History(seen, np.zeros((batch, keep + 1, spec.group_size - 1), bool), done, self.now)
        shape = (1, window.steps * spec.group_size, spec.width)
        noise = noise_of(self.generators, *shape, device=torch.device("cpu"))
        self.asked, self.given, assumed = self.now, 0, self._assumed()
        if self.cell.method == "committed" and assumed:
            self.given, rows = assumed, self._upcoming(assumed)
            self.answer = self.actor.decide(history, rows, noise=noise, clean=self.clean).actions
        elif self.cell.method == "inpainting" and self.took:
            self.answer = self._inpainted(history, assumed, noise)
        else:
            self.answer = self.actor.decide(history, noise=noise).actions
        self.due = self.now + (self.cell.delay if self.took else self.cell.wait)
        self.ask_at = -1

    def _inpainted(self, history: History, frozen: int, noise: Any) -> Any:
        """The rest of the chunk before pulls at the new one: wholly at what is frozen, less and less at what follows."""
        actor, window, present = self.actor, self.actor.decider.window(), history.observations[:, -1]
        spec, past = actor.spec, actor.past(history.observations.shape[1])
        ahead = (window.steps - past + 1) * spec.stride
        there = ~np.isnan(self.plan[:, self.now : self.now + ahead, 0])
        values = known.committed(window, self._upcoming(ahead), present, past - 1).values
        target = torch.from_numpy(values)
        overlap = np.maximum(there.sum(1, keepdims=True), frozen)
        left = (overlap - np.arange(ahead)) / (overlap - frozen + 1)
        soft = np.where(left > 0, left * np.expm1(np.clip(left, 0, 1)) / math.expm1(1), 0)
        pull = torch.zeros_like(target)
        size, group = len(spec.tokens[-1].channels) * spec.stride, spec.group_size
        rows = np.where(np.arange(ahead) < frozen, 1.0, soft).repeat(size // spec.stride, 1)
        places = (past - 1) * group + group - 1
        pull[:, places::group, :size] = torch.from_numpy(rows).float().reshape(len(rows), -1, size)
        decider, found = actor.decider, actor.known(history)
        x0, _ = decider.run(
            found, actor.config.matrix(window.steps), actor.config.temperature * noise(), actor.config, noise=noise,
            denoise=inpaint(decider.denoiser, decider.schedule, target, pull),
        )  # fmt: skip
        actions = decider.read(decider.fetch(x0)[0], "actions", present)
        return np.clip(actions[:, (past - 1) * spec.stride :], actor.low, actor.high)

    def _take(self) -> None:
        """Use the answer that is there now."""
        first = not self.took
        self.took.append(self.now - self.asked)
        # The first answer is begun with its first action: the robot has stayed where it was seen.
        begin = self.now if first else self.asked + self.given
        join, cell = max(self.now, begin), self.cell
        rows = self.answer[:, join - begin :]
        there = np.array([first or rng.random() >= cell.lost for rng in self.luck])
        if cell.method == "ensemble":
            part = (there, slice(join, join + rows.shape[1]))
            weight = np.exp(-self.decay * self.count[part])[..., None]
            self.sum[part] += weight * rows[there]
            self.weight[part] += weight
            self.count[part] += 1
            self.plan[part] = self.sum[part] / self.weight[part]
        else:
            self.plan[there, join:] = np.nan
            self.plan[there, join : join + rows.shape[1]] = rows[there]
        if not first:
            self.joins.append(join)
        next_delay = self._assumed()
        kept = min(cell.chunk, self.actor.ahead - next_delay)
        self.ask_at = max(self.now + (not cell.delay), join + kept - next_delay)


def inpaint(denoise: Any, schedule: Any, target: Any, pull: Any) -> Any:
    """A denoiser that is pulled to a target (real-time chunking, equation 2, with alpha for tau and sigma for 1 - tau).

    x0' = x0 + min(2 sigma, 1 / alpha) * (pull * (target - x0)) d x0 / d x
    """

    def pulled(x: Any, level: Any) -> Any:
        alpha, sigma = schedule.alpha(level)[..., None], schedule.sigma(level)[..., None]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0 = denoise(x, level)
            error = (pull * (target - x0)).detach()
            (gradient,) = torch.autograd.grad((error * x0).sum(), x)
        return x0.detach() + torch.minimum(BETA * sigma, 1 / alpha.clamp_min(1e-3)) * gradient

    return pulled
