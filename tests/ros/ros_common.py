"""Real processes for the tests with ROS: the simulated arm, a rosbridge server, a recorded policy."""

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

import numpy as np

from dfplan.deploy import ros_messages as ros
from dfplan.deploy.clock import RealClock
from dfplan.deploy.drive import Driver
from dfplan.deploy.inference import Answer
from dfplan.deploy.loop import Loop
from dfplan.deploy.mapping import Mapping
from dfplan.deploy.robot import body
from dfplan.deploy.sim import arm_mapping
from dfplan.deploy.tables import LoopSettings
from dfplan.deploy.workers import ThreadWorker

BOOTSTRAP = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")


def mapping_of(task: str, **loop) -> Mapping:
    from dfplan.envs import ArmPickEnv, ArmReachEnv

    env = ArmReachEnv() if task == "reach" else ArmPickEnv()
    return arm_mapping(env, loop=LoopSettings(**{"settle": 0.5, **loop}))


def rehearse(task: str, seed: int, most: int = 400) -> np.ndarray:
    """(N, 8) what the scripted expert does in simulation, from the same start."""
    from dfplan.envs import ArmPickEnv, ArmReachEnv

    env = ArmReachEnv() if task == "reach" else ArmPickEnv()
    env.reset(seed=seed)
    expert, actions = env.make_expert(seed), []
    for _ in range(most):
        actions.append(np.asarray(expert.act(), np.float64))
        _, _, done, _, _ = env.step(actions[-1])
        if done:
            return np.array(actions)
    raise AssertionError(f"the expert does not solve {task} of seed {seed}")


class Recorded:
    """Decides what was rehearsed, whatever it sees: the arm must do the same as in simulation."""

    stride, steps, ahead, chunk = 1, 2, 16, 8

    def __init__(self, actions: np.ndarray, delay: float = 0.0) -> None:
        self.actions, self.delay = actions, delay

    def __call__(self, request) -> Answer:
        first = request.step + len(request.committed)
        rows = np.minimum(np.arange(first, request.step + self.ahead), len(self.actions) - 1)
        chunk = self.actions[rows]
        time.sleep(self.delay)
        return Answer(first, chunk, chunk, self.delay, run=request.run)


def make_loop(mapping: Mapping, transport, actions: np.ndarray, delay: float = 0.02) -> Loop:
    robot, decide = body(mapping.robot), Recorded(actions, delay)
    worker = ThreadWorker(decide)
    driver = Driver(worker, decide, mapping.policy.dt, {}, actions.shape[1])
    return Loop(mapping, robot, transport, worker, driver, RealClock())


def wait(until: Callable[[], object], seconds: float, what: str):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found = until()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Watch:
    """Listens to the arm's diagnostics, beside the loop."""

    def __init__(self, bus, node: str = "sim_arm") -> None:
        self.bus, self.values, self.history = bus, {}, []
        self.loop: dict[str, str] = {}
        bus.subscribe("/diagnostics", ros.DIAGNOSTICS, lambda m, t: self._heard(m, node))

    def _heard(self, message, node: str) -> None:
        arm = ros.diagnostics_values(message, f"{node}: arm")
        if arm:
            self.values = arm
            self.history.append(arm)
        self.loop = ros.diagnostics_values(message, "dfplan: control loop") or self.loop

    def number(self, key: str) -> float:
        return float(self.values.get(key, "nan"))


@contextlib.contextmanager
def process(arguments: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A child that is gone at the end: SIGTERM, then SIGKILL, by its own id."""
    with log.open("ab") as out:
        child = subprocess.Popen(arguments, stdout=out, stderr=out, env=env)
        try:
            yield child
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
    module = [sys.executable, "-m", "dfplan.deploy.arm_node"]
    return process([*module, "--task", task, "--seed", str(seed), *more], log)


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


BRIDGE = """
import glob, os, stat, sys, sysconfig
from pathlib import Path
import rosbridge_server_rs
site, lib = sysconfig.get_paths()["purelib"], Path(sys.prefix, "lib")
binary = Path(rosbridge_server_rs.__file__).with_name("rosbridge_server_rs_jazzy")
binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
link = lib / "librmw_implementation.so"
if not link.exists():
    link.symlink_to("librmw_fastrtps_cpp.so")
python = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
os.environ["LD_PRELOAD"] = str(python) if python.exists() else python.name
os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([str(lib), *glob.glob(site + "/ros_*.libs")])
os.environ |= {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": sys.prefix}
os.execv(binary, [str(binary), *sys.argv[1:]])
"""


@contextlib.contextmanager
def bridge(log: Path, port: int) -> Iterator[subprocess.Popen]:
    """A real rosbridge server on Jazzy, on the loopback."""
    python = interpreter("DFPLAN_ROSBRIDGE_PYTHON", "rosbridge server")
    arguments = [python, "-c", BRIDGE, "--bind", f"127.0.0.1:{port}", "--no-rosapi"]
    with process(arguments, log, other_environment()) as child:
        wait(lambda: listening(port) or child.poll() is not None, 20, f"the server listens, see {log}")
        assert child.poll() is None, log.read_text()[-2000:]
        yield child


def listening(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.2)
        return s.connect_ex(("127.0.0.1", port)) == 0


def transport_of(kind: str, port: int, task: str):
    from dfplan.deploy.ros2 import ros2_transport
    from dfplan.deploy.rosbridge import rosbridge_transport

    mapping = mapping_of(task)
    return ros2_transport(mapping) if kind == "ros2" else rosbridge_transport(mapping, port=port)


def drive(log: Path, kind: str, port: int, task: str = "reach", seed: int = 3):
    """A control loop in a process of its own."""
    script = Path(__file__).with_name("drive.py")
    return process([sys.executable, str(script), kind, str(port), task, str(seed)], log)


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    from dfplan.deploy.ros2 import Ros2Bus

    watch = Watch(Ros2Bus("watch"))
    watch.bus.open()
    try:
        yield watch
    finally:
        watch.bus.close()


@contextlib.contextmanager
def looping(kind: str, port: int = 0, task: str = "reach", seed: int = 3) -> Iterator[Loop]:
    """A control loop in this process, stopped at the end."""
    loop = make_loop(mapping_of(task), transport_of(kind, port, task), rehearse(task, seed))
    thread = loop.start()
    try:
        yield loop
    finally:
        loop.finish()
        thread.join(5)
        assert not thread.is_alive()


def run_until_moving(loop: Loop, watch: Watch) -> None:
    """Arm it when it is ready, and wait until the arm moves.

    DDS may match the arm's states before its command topics, and counts dead readers for some 20 s: what is sent then
    goes nowhere, and the loop stops with a fault because the arm does not follow. A person would arm it again.
    """

    def tried() -> bool:
        if loop.machine.state == "FAULT":
            loop.machine.stop()
        if loop.machine.state in ("READY", "HOLD"):
            loop.arm()
        return moving(watch)

    wait(tried, 30, f"the arm moves: {loop.machine.reason}")


def moving(watch: Watch) -> bool:
    return time.time() - watch.number("moved") < 0.3 and watch.values.get("state") == "RUNNING"


def rest(watch: Watch, since: float) -> float:
    """s from `since` until the arm's setpoint stood, after a second in which it stayed so."""
    time.sleep(1.2)
    accepted = watch.number("accepted")
    time.sleep(0.5)
    assert watch.number("accepted") == accepted and watch.number("oldest") <= 0.15
    return watch.number("moved") - since


def solve(kind: str, task: str, folder: Path, seed: int = 3, port: int = 0) -> dict[str, float]:
    """One episode of a task through ROS; what the arm and the loop say at its end."""
    seconds = 2 + 0.06 * len(rehearse(task, seed))
    with (
        watching() as watch,
        arm(folder / "arm.log", task, seed),
        looping(kind, port, task, seed) as loop,
    ):
        wait(lambda: loop.machine.state == "READY", 25, "ready")
        assert loop.arm()[0]
        with contextlib.suppress(AssertionError):
            over = ("success", "collided")
            wait(lambda: any(watch.values.get(k) == "1" for k in over), seconds, "the episode's end")
        status = loop.status()
        wait(lambda: watch.loop.get("state") == status.state, 3, "diagnostics of the loop")
        keys = ("success", "refused", "holds", "accepted", "oldest", "join", "saturated", "late")
        found = {key: watch.number(key) for key in keys}
        return found | {
            "state": status.state,
            "rate": status.rate,
            "p99": status.period[1],
            "why": status.reason,
        }


def judge(found: dict[str, float]) -> None:
    print("FIGURE", found)
    assert found["success"] == 1 and found["refused"] == found["holds"] == 0 and found["accepted"] > 50, found
