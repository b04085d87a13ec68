"""What it adds to a decision that the network runs in another process, or on a policy server on this computer."""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from dfplan.deploy import FakeClock, History, Remote, build
from dfplan.deploy.loop.stats import quantiles
from dfplan.deploy.loop.workers import ProcessWorker
from dfplan.deploy.remote.client import RemotePolicy
from dfplan.deploy.remote.worker import RemoteDecide, RemoteWorker
from dfplan.deploy.robot.body import body
from dfplan.deploy.run import make_decide
from dfplan.envs import SimArm, arm_mapping, make
from dfplan.tools.hardware import hardware


@contextmanager
def serving(task: str, *options: str) -> Iterator[Remote]:
    """A policy server in a process of its own."""
    token = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "dfplan.cli", "serve", "--policy", task, "--port", "0", *options]
    server = subprocess.Popen(
        command, env={**os.environ, "DFPLAN_TOKEN": token}, stdout=subprocess.PIPE, text=True
    )
    try:
        port = re.search(r":(\d+);", server.stdout.readline())[1]
        yield Remote(f"ws://127.0.0.1:{port}", token.encode(), timeout=60.0)
    finally:
        server.kill()
        server.wait()


def history(policy):
    """What a robot asks of any policy: a full history, nothing committed."""
    seen, acted = policy.spec.observation_size, policy.spec.action_size
    past = History(np.zeros((policy.steps, seen)), ((),) * policy.steps, np.zeros((policy.steps - 1, acted)))
    return past, np.zeros((0, acted))


class Timed(RemotePolicy):
    """Keeps how long each decision was on its way, s."""

    def decide(self, history, committed):
        """Decide, and take the time."""
        began = time.perf_counter()
        actions = super().decide(history, committed)
        self.way = time.perf_counter() - began - self.seconds
        return actions


def questions(where, task):
    """The mapping, and what a loop asks in 5 simulated seconds."""
    env, clock, asked = make(task, action="ee").unwrapped, FakeClock(), []
    arm = SimArm(env, clock)
    loop = build(where, arm_mapping(env), arm, worker="inline", delay=0.1, clock=clock)
    decide = loop.worker.decide
    loop.worker.decide = lambda request: (asked.append(request), decide(request))[1]
    loop.connect()
    loop.run(lambda: loop.arm()[0] and clock.now() > 6)
    return loop.mapping, asked


def ask(worker, request):
    """A decision; how long it took, and how much of that its own clock did not see, s."""
    began = time.perf_counter()
    worker.submit(request)
    while (answer := worker.poll()) is None:
        assert worker.alive
        time.sleep(5e-5)
    spent = time.perf_counter() - began
    assert not answer.error, answer.error
    return spent, spent - answer.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="arm-pick", choices=("arm-pick", "arm-reach"))
    parser.add_argument("--device", default="cpu", help="of the server")
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    with serving(args.task, "--device", args.device) as where:
        mapping, asked = questions(where, args.task)
        remote, here = Timed(where), ProcessWorker(partial(make_decide, args.task, mapping))
        there = RemoteWorker(RemoteDecide(remote, mapping, body(mapping.robot)))
        while not here.ready:
            time.sleep(0.1)
        rows = []
        for request in (asked * args.count)[: args.count]:
            pipe, (took, hand_over) = ask(here, request), ask(there, request)
            rows.append((*pipe, took, hand_over + remote.way))
        for worker in (here, there):
            worker.close()
    names = ("process: whole", "process: added", "server: whole", "server: added")
    out = {
        n: [round(1e3 * q, 2) for q in quantiles(r)]
        for n, r in zip(names, zip(*rows, strict=True), strict=True)
    }
    print(
        json.dumps({"hardware": hardware(), "decisions": len(rows), "ms: p50, p99, longest": out}, indent=1)
    )


if __name__ == "__main__":
    main()
