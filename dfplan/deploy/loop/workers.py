"""Where decisions are made, beside the control loop: in a thread, in a process, or in a test's own time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Protocol

from dfplan.deploy.loop.inference import Answer, Decide, Request
from dfplan.tools.clock import Clock


class Worker(Protocol):
    """Where decisions are made. The control loop calls it and never waits."""

    def submit(self, request: Request) -> None:
        """Begin; only when not busy."""

    def poll(self) -> Answer | None:
        """The answer, once."""

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""

    @property
    def alive(self) -> bool:
        """Whether one can still come."""

    @property
    def ready(self) -> bool:
        """Whether the policy is loaded."""

    def close(self) -> None:
        """End it; may be repeated."""


class DelayedWorker:
    """Decides at once and hands the answer out later, by an injected clock: for tests and simulation."""

    def __init__(self, decide: Callable[[Request], Answer], clock: Clock, delay: float = 0.0) -> None:
        """`delay`: s from the question to the answer."""
        self.decide, self.clock, self.delay = decide, clock, delay
        self.alive = self.ready = True
        self._answer: tuple[float, Answer] | None = None

    def submit(self, request: Request) -> None:
        """Decide now."""
        answer = replace(self.decide(request), seconds=self.delay)
        self._answer = (self.clock.now() + self.delay, answer)

    def poll(self) -> Answer | None:
        """The answer, when its time has come."""
        if self._answer is None or not self.alive or self.clock.now() < self._answer[0] - 1e-9:
            return None
        answer, self._answer = self._answer[1], None
        return answer

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._answer is not None

    def close(self) -> None:
        """End it."""
        self.alive = False


class ThreadWorker:
    """Decides in a thread of this process. torch frees the interpreter while it computes, the rest it shares."""

    def __init__(self, decide: Callable[[Request], Answer]) -> None:
        """Start the thread."""
        self.decide, self.ready = decide, True
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._request: Request | None = None
        self._answer: Answer | None = None
        self._open = True
        self._thread = threading.Thread(target=self._run, name="dfplan-inference", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._open:
            self._wake.wait()
            self._wake.clear()
            request = self._request
            if request is None:
                continue
            answer = self.decide(request)
            with self._lock:
                self._answer, self._request = answer, None

    def submit(self, request: Request) -> None:
        """Begin."""
        self._request = request
        self._wake.set()

    def poll(self) -> Answer | None:
        """The answer, once."""
        with self._lock:
            answer, self._answer = self._answer, None
        return answer

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        with self._lock:
            return self._request is not None or self._answer is not None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread after the decision under way."""
        self._open = False
        self._wake.set()


class ProcessWorker:
    """Decides in a process of its own: nothing it does holds up the loop, and if it dies the loop sees it."""

    def __init__(self, make: Callable[[], Decide]) -> None:
        """Start the process (spawned); `make` is called there, and must be importable."""
        import multiprocessing

        spawn, name = multiprocessing.get_context("spawn"), "dfplan-inference"
        self._pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(make, theirs), name=name, daemon=True)
        self.process.start()
        theirs.close()
        self._waiting, self._ready = 0, False

    def submit(self, request: Request) -> None:
        """Begin."""
        self._waiting += 1
        try:
            self._pipe.send(request)
        except OSError:
            self.process.join(0)

    def poll(self) -> Answer | None:
        """The answer, once."""
        try:
            if not self.ready or not self._pipe.poll(0):
                return None
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            return None
        self._waiting -= 1
        return answer

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._waiting > 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    @property
    def ready(self) -> bool:
        """Whether the policy is loaded: its process says so once."""
        try:
            if not self._ready and self._pipe.poll(0):
                self._ready = bool(self._pipe.recv())
        except (EOFError, OSError):
            pass
        return self._ready

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self.process.join(1.0)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(1.0)


def _serve(make: Callable[[], Decide], pipe: Connection) -> None:
    """What the process does: answer until the pipe closes."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # where processors are few the loop goes first
    decide = make()
    pipe.send(True)
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(decide(request))
