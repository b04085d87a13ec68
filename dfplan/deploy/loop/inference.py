"""One decision: the monitor, the policy, and its actions as joint targets."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.loop.committed import CommittedPolicy, History
from dfplan.deploy.robot import rotations
from dfplan.deploy.robot.body import Body
from dfplan.deploy.robot.mapping import Mapping

if TYPE_CHECKING:
    from dfplan.deploy.loop.monitor import Monitor

Array = NDArray[np.float64]

_SPARE = 0.5  # s of actions beyond the chunk: what the arm goes on with while an answer is late


@dataclass(frozen=True)
class Request:
    """What a decision needs.

    Attributes:
        step: env step that is the present.
        history: up to it; `doubtful` holds names of tokens.
        committed: (C, A) actions of the env steps from `step` on that will be executed in any case.
        joints: (J,) joint targets after the committed actions, rad.
        run: number of the run; an answer to an earlier run is thrown away.
    """

    step: int
    history: History
    committed: Array
    joints: Array
    run: int = 0


@dataclass(frozen=True)
class Answer:
    """A decision.

    Attributes:
        first: env step of the first action.
        actions: (M, A) as the policy gave them.
        joints: (M, J) their joint targets, rad.
        seconds: how long it took.
        scores: sensor -> the monitor's score, 1 at its threshold.
        doubtful: tokens that the monitor had left out.
        error: why there are no actions, or empty.
        run: as in the request.
    """

    first: int
    actions: Array
    joints: Array
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)
    doubtful: tuple[str, ...] = ()
    error: str = ""
    run: int = 0


class Decide(Protocol):
    """What a worker runs."""

    stride: int
    steps: int
    ahead: int
    chunk: int

    def __call__(self, request: Request) -> Answer:
        """Decide; never raises."""


class PolicyDecide:
    """Monitor, policy, and actions to joint targets."""

    def __init__(
        self, policy: CommittedPolicy, mapping: Mapping, body: Body, monitor: Monitor | None = None
    ) -> None:
        """Put them together."""
        self.policy, self.mapping, self.body, self.monitor = policy, mapping, body, monitor
        self.stride, self.steps = policy.stride, policy.steps
        self.ahead, self.chunk = policy.ahead, policy.chunk
        self._kept = self.chunk + round(_SPARE / mapping.policy.dt)
        self._run = -1
        names = [j.name for j in mapping.robot.joints]
        self._columns = [names.index(n) for n in mapping.policy.action_joints or names]
        self._scale, self._offset = body.affine(mapping.policy.action_joints or names)

    def __call__(self, request: Request) -> Answer:
        """Decide; what goes wrong is in the answer."""
        began, first = time.perf_counter(), request.step + len(request.committed)
        try:
            if request.run != self._run:
                self._run = request.run
                self.policy.reset(0)
            monitor, history = self.monitor, request.history
            scores = {} if monitor is None else monitor.scores(self.policy.actor, history)
            doubtful = () if monitor is None else monitor.doubtful(scores)
            actions = self.policy.decide(doubting(history, doubtful), request.committed)[: self._kept]
            joints = self.joints(actions, request.joints)
        except Exception as error:  # whatever it is, the arm is stopped and the operator told
            text, nothing = f"{type(error).__name__}: {error}", np.zeros((0, 0))
            return Answer(first, nothing, nothing, time.perf_counter() - began, error=text, run=request.run)
        return Answer(first, actions, joints, time.perf_counter() - began, scores, doubtful, run=request.run)

    def joints(self, actions: Array, start: Array) -> Array:
        """Actions (M, A) -> joint targets (M, J), from the targets before them; joints without an action stay."""
        out = np.repeat(np.asarray(start, np.float64)[None], len(actions), 0)
        if self.mapping.policy.action == "joints":
            out[:, self._columns] = actions * self._scale + self._offset
            return out
        after = self._columns if self.mapping.policy.action_joints else []
        moved = [i for i in range(len(start)) if i not in after]
        if after:
            out[:, after] = actions[:, 9:] * self._scale + self._offset
        q = np.array(start, np.float64)
        for row, action in zip(out, actions, strict=True):
            found, met = self.body.inverse(q, action[:3], rotations.matrix(action[3:9]))
            if not met:
                raise ValueError(
                    f"the tool cannot reach {np.round(action[:3], 3).tolist()} m with that rotation"
                )
            row[moved] = found[moved]
            q = row
        return out


def doubting(history: History, tokens: tuple[str, ...]) -> History:
    """The same with `tokens` doubtful at every step."""
    if not tokens:
        return history
    rows = tuple(tuple(dict.fromkeys(row + tokens)) for row in history.doubtful)
    return replace(history, doubtful=rows)
