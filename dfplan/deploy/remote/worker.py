"""Between the control loop and a policy server: a worker that may be slow, late or gone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from dfplan.deploy.loop.inference import Answer, PolicyDecide, Request
from dfplan.deploy.loop.workers import ThreadWorker
from dfplan.deploy.remote.client import RemotePolicy
from dfplan.deploy.robot.body import Body
from dfplan.deploy.robot.mapping import Mapping

if TYPE_CHECKING:
    from dfplan.deploy.loop.committed import CommittedPolicy

LOG = logging.getLogger("dfplan.deploy")

_RETRY = (0.5, 8.0)  # s between attempts to connect again: the first, the longest


class RemoteDecide(PolicyDecide):
    """`PolicyDecide` with the network and the monitor elsewhere; inverse kinematics stay here."""

    def __init__(self, policy: RemotePolicy, mapping: Mapping, body: Body) -> None:
        """Put them together: `policy` has the methods of a CommittedPolicy that are called."""
        super().__init__(cast("CommittedPolicy", policy), mapping, body)
        self.remote = policy

    def __call__(self, request: Request) -> Answer:
        """Decide; `seconds` is the time until the answer was here."""
        answer = super().__call__(request)
        if answer.error:
            return answer
        return replace(answer, scores=self.remote.scores, doubtful=self.remote.doubtful)


class RemoteWorker(ThreadWorker):
    """Asks the server in a thread. Dead while there is no connection, which the thread makes again and again.

    The arm does not go on by itself then: the loop holds it, and a person arms it again.
    """

    def __init__(self, decide: RemoteDecide) -> None:
        self._remote = decide.remote
        super().__init__(decide)

    def _run(self) -> None:
        wait = _RETRY[0]
        while self._open:
            if self._remote.connected:
                wait = _RETRY[0]
                self._step()
                continue
            self._finish(None)
            self._pause(wait)
            wait = min(2 * wait, _RETRY[1])
            if self._open and self._tried(self._remote.connect):
                self._finish(None)
                LOG.warning("connected to the policy server again; arm to go on")
        self._remote.close()

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _finish(self, answer: Answer | None) -> None:
        with self._lock:
            self._request, self._answer = None, answer

    def _tried(self, call: Callable[[], None]) -> bool:
        """Whether it went well; what went wrong is logged."""
        try:
            call()
        except (OSError, ValueError) as error:
            LOG.warning("%s", error)
            return False
        return True

    def _step(self) -> None:
        """One request, or a sign of life when there was none for a while."""
        self._pause(self._remote.beat)
        request = self._request
        if self._open and request is not None:
            answer = self.decide(request)
            self._finish(answer if self._remote.connected else None)
        elif self._open and not self._tried(self._remote.ping):
            self._remote.close()

    @property
    def alive(self) -> bool:
        """Whether there is a connection."""
        return self._open and self._thread.is_alive() and self._remote.connected

    def close(self) -> None:
        """Disconnect and end the thread."""
        super().close()
        self._remote.close()
        self._thread.join(1.0)
