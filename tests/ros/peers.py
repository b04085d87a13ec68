"""Real processes for the tests with ROS: the simulated arm, a rosbridge server, a control loop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dfplan.deploy.ros.messages import take

HERE = Path(__file__).parent
START = 90
"""s: a process has started and is ready after so long, also from a cold disk on a busy machine."""
BOOTSTRAP = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")


def wait(until: Callable[[], object], seconds: float, what: str, *children: subprocess.Popen):
    """What `until` gives as soon as it is true; fails when the time is over, or one of the children."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if found := until():
            return found
        over = [child for child in children if child.poll() is not None]
        assert not over, f"{over[0].args} has ended with {over[0].returncode} before: {what}"
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


@contextlib.contextmanager
def process(arguments: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A child that is gone at the end: SIGTERM, then SIGKILL, by its own id. What it said, where the test fails."""
    with log.open("ab") as out:
        child = subprocess.Popen(arguments, stdout=out, stderr=out, env=env)
        try:
            yield child
        except AssertionError:
            print(f"{log.name}: {log.read_text(errors='replace')[-2000:]}")
            raise
        finally:
            end(child)


def end(child: subprocess.Popen, how: int = signal.SIGTERM) -> None:
    if child.poll() is None:
        child.send_signal(how)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)


def arm(log: Path, task: str = "reach", seed: int = 0, *more: str):
    """The arm's process."""
    module = [sys.executable, "-m", "dfplan.envs.arm.robot.node"]
    return process([*module, "--task", task, "--seed", str(seed), *more], log)


def drive(log: Path, kind: str, port: int, task: str = "reach", seed: int = 3, *more: str):
    """A control loop in a process of its own; its log has the time of each change of its state."""
    return process(
        [
            sys.executable,
            str(HERE / "drive.py"),
            kind,
            str(port),
            task,
            str(seed),
            *(more or ("dfplan", "0.2")),
        ],
        log,
    )


def driven(log: Path) -> list[tuple[float, float]]:
    """From when to when a `drive` drove the arm, s."""
    out, end = [], float("inf")
    for line in log.read_text().splitlines():
        when, _, change = line.partition(" ")
        if "RUNNING -> " in change:
            out[-1] = out[-1][0], float(when)
        elif "-> RUNNING" in change:
            out.append((float(when), end))
    return out


def diagnostics_values(message, name: str) -> dict[str, str]:
    """Values of the status called `name` in a DiagnosticArray, empty if it is not in there."""
    for status in take(message, "status"):
        if take(status, "name") == name:
            return {take(pair, "key"): take(pair, "value") for pair in take(status, "values")}
    return {}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def other_environment(**more: str) -> dict[str, str]:
    """Environment for the Python of another virtual environment."""
    return {k: v for k, v in os.environ.items() if k not in BOOTSTRAP} | more


def interpreter(variable: str, what: str) -> str:
    """Python of another environment that `make test-ros` builds; without it the test is skipped and says so."""
    import pytest

    python = os.environ.get(variable, "")
    if not python or not Path(python).exists():
        why = os.environ.get(f"{variable}_WHY", f"{variable} is not set; `make test-ros` builds it")
        pytest.skip(f"{what}: {why}")
    return python


@contextlib.contextmanager
def bridge(log: Path, port: int) -> Iterator[subprocess.Popen]:
    """A real rosbridge server on Jazzy, on the loopback."""
    python = interpreter("DFPLAN_ROSBRIDGE_PYTHON", "rosbridge server")
    arguments = [python, str(HERE / "bridge.py"), "--bind", f"127.0.0.1:{port}", "--no-rosapi"]
    with process(arguments, log, other_environment()) as child:
        wait(lambda: listening(port), START, "the rosbridge server listens", child)
        yield child


def listening(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.2)
        return s.connect_ex(("127.0.0.1", port)) == 0
