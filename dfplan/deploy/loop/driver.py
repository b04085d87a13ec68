"""Between loop and policy: keeps the history, asks in time, and gives the target of each tick."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.loop.committed import History
from dfplan.deploy.loop.inference import Answer, Decide, Request
from dfplan.deploy.loop.stats import Stats
from dfplan.deploy.loop.workers import Worker
from dfplan.deploy.motion.chunks import Motion
from dfplan.deploy.robot.limits import Setpoint, Target
from dfplan.deploy.robot.observe import Observed

Array = NDArray[np.float64]
Flaw = tuple[bool, str]
"""Whether it is a fault (else a hold), and a sentence."""

_RAMP = 2.0  # change of the speed share per s
_FINE = 0.01  # s, of the policy's time: as finely the way back to the motion is looked for
_FIRST = 1.0  # s: a first chunk that took longer is decided anew


class Driver:
    """Turns observations into targets by way of the worker.

    The policy's time runs from 0 when the first chunk is there, at `speed` of the real one.

    Attributes:
        stats: counts and times.
        motion: the one under way.
        time: the policy's now, s.
        doubtful: tokens that were not trusted in the last decision.
        speed: share of the full speed.
        slow: share of the speed while the monitor distrusts a sensor; 0 holds the arm, 1 does nothing.
    """

    def __init__(
        self, worker: Worker, decide: Decide, dt: float, tokens: Mapping[str, Sequence[str]], actions: int,
        handover: str = "committed", slow: float = 1.0, hold_on: Sequence[str] = (), commit: float = 0.2,
    ) -> None:  # fmt: skip
        """Build.

        Args:
            worker: where decisions are made.
            decide: its stride, memory and chunk are read; it is not called here.
            dt: s between two actions.
            tokens: sensor -> the policy's tokens that hold it.
            actions: A.
            handover: see `chunks.HANDOVERS`.
            slow: see above.
            hold_on: tokens whose distrust holds the arm.
            commit: see `LoopSettings`.

        Raises:
            ValueError: for a share outside 0 to 1.
        """
        if not 0 <= slow <= 1:
            raise ValueError(f"got slow={slow}, expected a share of the speed from 0 (hold) to 1 (go on)")
        self.worker, self.stride, self.chunk, self.ahead = worker, decide.stride, decide.chunk, decide.ahead
        self.dt, self.tokens, self.handover, self.slow = dt, tokens, handover, slow
        self.hold_on, self.stats, self.actions, self.commit = tuple(hold_on), Stats(), actions, commit
        self.steps = decide.steps
        self.begin(np.zeros(0), 0)

    def begin(self, joints: Array, run: int) -> None:
        """A new run, at rest at `joints` (J,)."""
        self.motion, self._run = Motion(self.dt, joints, self.handover), run
        self._seen: deque[Array] = deque(maxlen=self.steps)
        self._doubts: deque[tuple[str, ...]] = deque(maxlen=self.steps)
        self.time, self._until, self._asked, self._step = 0.0, 0, -1, -1
        self.speed = 1.0
        self.doubtful: tuple[str, ...] = ()
        self._waited, self._basis = 0.0, 0.0

    def decide(self, observe: Callable[[], Observed], passed: float, lead: float) -> Flaw | None:
        """Move the policy's time on, ask and take answers.

        Args:
            observe: gives the observation now; called once for each action.
            passed: s since the last call.
            lead: how far ahead of now targets will be asked for, s.

        Returns:
            why the arm must stop, or None.
        """
        flaw = self._take(lead)
        if flaw is not None:
            return flaw
        self._waited += passed
        if self.motion.steps:
            self._pace(passed, lead)
            self.time += passed * self.speed
        step = int(self.time / self.dt + 1e-6)
        if step > self._step:
            for _ in range(self._step, step):
                seen = observe()
                bad = [t for sensor in seen.doubtful for t in self.tokens.get(sensor, ())]
                before = self._seen[-1] if self._seen else seen.values
                self._seen.append(np.where(np.isfinite(seen.values), seen.values, before))
                self._doubts.append(tuple(dict.fromkeys(bad)))
            self._step = step
        if self._due(lead):
            self._ask(lead)
            flaw = self._take(lead)
        if self.motion.steps and self.time + lead > self.motion.end + 1e-9:
            self.stats.counts["no chunk in time"] += 1
            return False, "the next chunk did not come in time; the last one is used up"
        return flaw

    def target(self, ahead: float) -> Target:
        """What is wanted `ahead` s from now."""
        q, v, a = self.motion.at(self.time + ahead * self.speed)
        age = max(0.0, self.time + ahead * self.speed - self._basis)
        return Target(q, v * self.speed, a * self.speed**2, age)

    def resume(self, state: Setpoint, since: float, passed: float, ahead: float) -> None:
        """The arm had left the motion for a stop: go on from the time at which the motion is nearest to it, at its speed.

        Args:
            state: where the arm will be `ahead` s from now.
            since: the policy's time at which it left the motion.
            passed: s since the last call of `decide`, which are not to be counted there.
            ahead: s.
        """
        motion, until = self.motion, self.time + (passed + ahead) * self.speed
        if not motion.steps:
            return
        times = np.arange(min(since, until), until + _FINE, _FINE)
        far = [float(np.square(motion.at(t)[0] - state.position).sum()) for t in times.tolist()]
        time = float(times[int(np.argmin(far))])
        speed = motion.at(time)[1]
        share = float(speed @ state.velocity) / max(float(speed @ speed), 1e-12)
        self.speed = float(np.clip(share, 0.0, self.speed))
        self._basis -= until - time  # what was decided has aged all the same
        self.time = time - ahead * self.speed

    def _pace(self, passed: float, lead: float) -> None:
        """Toward the speed that the monitor and the network's latency allow, gently."""
        wanted = min(self.slow if self.doubtful else 1.0, self.commit / self._wait(lead))
        self.speed += float(np.clip(wanted - self.speed, -_RAMP * passed, _RAMP * passed))

    def _needed(self, lead: float) -> int:
        """Actions that are executed before an answer can be used, in whole tokens, which is how models learn them.

        At most what leaves a token to decide.
        """
        tokens = int(np.ceil(self._wait(lead) * self.speed / (self.dt * self.stride) - 1e-6))
        return min(tokens * self.stride, self.ahead - self.stride)

    def _wait(self, lead: float) -> float:
        """Longest that an answer takes, as the last ones did, until it can be used, s."""
        return self.stats.slowest() + lead

    def _due(self, lead: float) -> bool:
        """Whether to ask now."""
        if self.worker.busy or self._asked == self._step:
            return False
        return not self.motion.steps or self._until - self._step <= self._needed(lead)

    def _ask(self, lead: float) -> None:
        step, motion = self._step, self.motion
        count = 0
        if motion.steps and self.handover == "committed":
            count = min(self._needed(lead), motion.steps - step)
        begin = step + 1 - len(self._seen)
        rows = np.array([motion.action(i) for i in range(begin, step + count)]).reshape(-1, self.actions)
        done, committed = rows[: step - begin], rows[step - begin :]
        history = History(np.stack(list(self._seen)), tuple(self._doubts), done, step)
        self._asked = step
        self.worker.submit(Request(step, history, committed, motion.target(step + count - 1), self._run))

    def _take(self, lead: float) -> Flaw | None:
        """Take an answer, if there is one."""
        answer = self.worker.poll()
        if answer is None or answer.run != self._run:
            return None
        self.stats.inference.append(answer.seconds)
        if answer.error:
            return True, f"policy: {answer.error}"
        if not (np.isfinite(answer.actions).all() and np.isfinite(answer.joints).all()):
            self.stats.counts["chunk not finite"] += 1
            return None  # the rest of the last chunk goes on meanwhile
        return self._accept(answer, lead)

    def _accept(self, answer: Answer, lead: float) -> Flaw | None:
        if not self.motion.steps and self._waited > _FIRST:
            self.stats.counts["first chunk too old"] += 1
            self._seen.clear()
            self._doubts.clear()
            self._step, self._asked, self._waited = -1, -1, 0.0
            return None
        if not self.motion.steps:  # the policy's time begins where the fixed setpoints end
            self.time = -lead * self.speed
        used = self.time + lead * self.speed
        took = self.motion.accept(answer.first, answer.actions, answer.joints, used)
        self.stats.handovers.append(took)
        if took.late and self.handover == "committed":
            self.stats.overruns += 1
        self._until = min(answer.first + self.chunk, self.motion.steps)
        self._basis, self.doubtful = self._asked * self.dt, answer.doubtful
        for token in answer.doubtful:
            self.stats.counts[f"doubtful: {token}"] += 1
        bad = [t for t in answer.doubtful if t in self.hold_on or self.slow == 0]
        return (False, f"readings unlike the demonstrations: {', '.join(bad)}") if bad else None
