"""Where decisions are made: a thread, and a process that may die."""

import time

import numpy as np
import pytest

from dfplan.deploy.loop.committed import History
from dfplan.deploy.loop.inference import Answer, Request
from dfplan.deploy.loop.workers import ProcessWorker, ThreadWorker

REQUEST = Request(3, History(np.zeros((1, 2)), ((),), np.zeros((0, 2))), np.zeros((2, 2)), np.zeros(2), 1)


def decide(request):
    return Answer(
        request.step + len(request.committed), np.ones((4, 2)), np.ones((4, 2)), 0.0, run=request.run
    )


def make():
    return decide


def wait(worker, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and worker.alive:
        answer = worker.poll()
        if answer is not None:
            return answer
        time.sleep(0.002)
    return None


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_worker_answers_once_and_ends(kind):
    worker = ThreadWorker(decide) if kind == "thread" else ProcessWorker(make)
    assert worker.alive and not worker.busy and worker.poll() is None
    for _ in range(2):
        worker.submit(REQUEST)
        assert worker.busy
        answer = wait(worker)
        assert answer is not None and answer.first == 5 and answer.run == 1 and not worker.busy
    if kind == "process":
        worker.process.kill()
        worker.process.join(10)
        assert not worker.alive
        worker.submit(REQUEST)  # too late, and no error
        assert worker.poll() is None
    worker.close()
    worker.close()
