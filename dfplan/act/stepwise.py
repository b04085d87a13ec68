"""Acting step by step: what was seen and done so far, and the queue of decided actions, round an `Acting`. Needs no torch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfplan.act.acting import Acting
from dfplan.act.records import Array, Decision, Doubt, Flags, History


class Stepwise:
    """Acts step by step, for one robot or for B side by side.

    Args:
        actor: decides; keeps nothing.

    Attributes:
        actor: as given.
        clipped: fraction of the action numbers so far that had to be clipped by more than 1 % of their range.
        seconds: wall time of each decision.
        calls: network calls so far.
    """

    batched = True

    def __init__(self, actor: Acting) -> None:
        self.actor, self.config, self.spec = actor, actor.config, actor.spec
        self.memory, self.longest = actor.memory, actor.longest
        self.low, self.high = actor.low, actor.high
        self.reset()

    def reset(self, seed: int | Sequence[int] | None = None, goal: ArrayLike | None = None) -> None:
        """Begin an episode, or B of them with a seed each.

        Args:
            seed: of the noise.
            goal: (C,) or (B, C) values of the model's goal token; None: its own, if it has one. A model without a
                goal token does not use it: its demonstrations carry their own.
        """
        seeds = [seed] if seed is None or isinstance(seed, (int, np.integer)) else list(seed)
        self.generators = [self.actor.generator(s) for s in seeds]
        about, past = self.actor.about, self.actor.keeps
        self.goal = None if not about.goal_token else about.goal if goal is None else goal
        self._seen: deque[Array] = deque(maxlen=past + 1)
        self._doubts: deque[Flags] = deque(maxlen=past + 1)
        self._unknown: deque[Flags] = deque(maxlen=past + 1)
        self._done: deque[Array] = deque(maxlen=past)
        self.seconds: list[float] = []
        self.calls, self._clipped, self._count = 0, 0, 0
        self._queue: deque[Array] = deque()
        self._said: Array | None = None
        self._ramp: Any = None
        self._state: Any = None
        self._elapsed = -1

    @property
    def clipped(self) -> float:
        """Fraction of action numbers clipped since `reset`."""
        return self._clipped / max(1, self._count)

    def act(
        self,
        observation: ArrayLike,
        doubtful: Doubt | Sequence[Doubt] = (),
        executed: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> action (A,) or (B, A).

        Args:
            observation: in the units of the demonstrations.
            doubtful: names of the tokens or `sensors` that are not to be trusted now; for a batch, such a list for
                each robot.
            executed: (A,) or (B, A) what was carried out since the last observation, where that is not the action
                of the last call: a takeover, a filter, a recording played through. What was decided on the assumption
                of something else is then decided anew.

        Raises:
            ValueError: on a shape or a number that cannot be a reading or an action, or an unknown name.
        """
        single = self._observe(observation, doubtful, executed)
        if not self._queue:
            self._queue.extend(self._decided())
        self._said = self._queue.popleft()
        return (self._said[0] if single else self._said).astype(np.float32)

    def predict(
        self,
        observation: ArrayLike,
        doubtful: Doubt | Sequence[Doubt] = (),
        executed: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Observation (O,) or (B, O) -> the actions that `act` would now return: (H, A) or (B, H, A).

        Called at every control step, it takes the first action of the last chunk for carried out, unless `executed`
        says otherwise.
        """
        single = self._observe(observation, doubtful, executed)
        self._queue.clear()
        chunk = self._decided()
        self._said = chunk[0]
        out = np.stack(chunk, -2).astype(np.float32)
        return out[0] if single else out

    def observe(
        self,
        observation: ArrayLike,
        doubtful: Doubt | Sequence[Doubt] = (),
        executed: ArrayLike | None = None,
    ) -> None:
        """As `act`, where somebody else drives now: remember, decide nothing. The next call has to say what was `executed`."""
        self._observe(observation, doubtful, executed)
        self._queue.clear()
        self._said = self._ramp = None

    def _observe(
        self, observation: ArrayLike, doubtful: Doubt | Sequence[Doubt], executed: ArrayLike | None
    ) -> bool:
        now = np.asarray(observation, np.float64)
        if isinstance(doubtful, str):
            raise ValueError(f"got doubtful='{doubtful}', expected a list of names, such as ['{doubtful}']")
        single, batch, size = now.ndim == 1, len(self.generators), self.spec.observation_size
        now = now[None] if single else now
        if now.shape != (batch, size):
            raise ValueError(
                f"got observation of shape {np.shape(observation)}, expected ({size},)"
                + (f" or ({batch}, {size})" if batch > 1 else "; for several robots reset with a seed each")
            )
        each: Any = [doubtful] * batch if single or not doubtful else doubtful
        if len(each) != batch or any(isinstance(row, str) for row in each):
            raise ValueError(
                f"got doubtful={doubtful!r}, expected a list of names for each of {batch} robots"
            )
        doubt = self.actor.flags(each)
        trusted = self.actor.trusted(doubt)
        if not np.isfinite(now[trusted]).all():
            raise ValueError(
                "got an observation with NaN or infinity; check the sensors, or name the token in `doubtful`"
            )
        self._carried_out(executed, batch)
        if self.config.doubt and self._seen:
            now = np.where(trusted, now, self._seen[-1])
        self._seen.append(np.where(np.isfinite(now), now, 0.0))
        self._doubts.append(doubt)
        self._unknown.append(doubt & (self._unknown[-1] if self._unknown else True))
        self._elapsed += 1
        return single

    def _carried_out(self, executed: ArrayLike | None, batch: int) -> None:
        """Remember what followed the last observation: what was decided, or what is said to have been done."""
        said, shape = self._said, (batch, self.spec.action_size)
        if executed is None:
            if said is not None:
                self._done.append(said)
            elif self._seen:
                raise ValueError("got no executed= after observe(); say what was carried out since then")
            return
        done = np.asarray(executed, np.float64)
        done = done[None] if done.ndim == 1 else done
        if done.shape != shape or not np.isfinite(done).all():
            raise ValueError(
                f"got executed={np.asarray(executed).tolist()}, expected finite actions of shape {shape}"
            )
        if not self._seen:
            raise ValueError(
                "got executed with the first observation of an episode, before which nothing was done"
            )
        if said is None or np.abs(done - said).max() > 1e-6:
            self._queue.clear()
            self._ramp = None
        self._done.append(done)

    def _decided(self) -> list[Array]:
        """`_decide`; where it fails, the observation that it was for is forgotten, not what was done before."""
        try:
            return self._decide()
        except Exception:
            self._seen.pop()
            self._doubts.pop()
            self._unknown.pop()
            self._elapsed -= 1
            self._said = self._done.pop() if self._done else None
            raise

    def _decide(self) -> list[Array]:
        """The next actions: as many (B, A) arrays as are executed before the next decision."""
        began = time.perf_counter()
        noise = self.actor.noise(self.generators)
        decision = self.actor.decide(
            self._history(), noise=noise, goal=self.goal, ramp=self._ramp, state=self._state
        )
        self._ramp, self._state = decision.ramp, decision.state
        self.calls += decision.calls
        out = self._count_clipped(decision)
        self.seconds.append(time.perf_counter() - began)
        return out

    def _history(self) -> History:
        """(B, N, ...) arrays of what is remembered."""
        seen, doubts, unknown = (np.stack(list(q), 1) for q in (self._seen, self._doubts, self._unknown))
        done = list(self._done)[len(self._done) - seen.shape[1] + 1 :] if seen.shape[1] > 1 else []
        size = (len(self.generators), 0, self.spec.action_size)
        return History(seen, doubts, np.stack(done, 1) if done else np.zeros(size), self._elapsed, unknown)

    def _count_clipped(self, decision: Decision) -> list[Array]:
        count = self.spec.stride if self.config.stream else self.actor.chunk
        out, raw = decision.actions[:, :count], decision.raw[:, :count]
        wide = self.high - self.low
        slack = np.where(np.isfinite(wide), 0.01 * wide, 0.0)
        self._clipped += int((np.abs(out - raw) > slack).sum())
        self._count += out.size
        return list(out.swapaxes(0, 1))
