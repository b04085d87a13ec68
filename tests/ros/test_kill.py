"""What is killed in the middle of a motion: the arm stands within 0.15 s, and moves again only when it is armed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ros_common import (
    arm,
    bridge,
    drive,
    end,
    free_port,
    interpreter,
    looping,
    moving,
    rest,
    run_until_moving,
    wait,
    watching,
)

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]
REPEAT = range(int(os.environ.get("DFPLAN_ROS_REPEAT", "1")))
LIMIT = 0.15


@pytest.mark.parametrize("turn", REPEAT)
@pytest.mark.parametrize("kind", ["ros2", "rosbridge"])
def test_loop_killed(kind, turn, tmp_path):
    """The process with the loop and its DDS writer, or its WebSocket, dies."""
    port = free_port()
    server = bridge(tmp_path / "bridge.log", port) if kind == "rosbridge" else watching()
    with server, watching() as watch, arm(tmp_path / "arm.log", "reach", 3):
        with drive(tmp_path / "drive.log", kind, port) as child:
            wait(lambda: moving(watch), 40, "the arm moves")
            time.sleep(0.3 + 0.1 * turn)
            killed = time.time()
            child.kill()
            child.wait()
        took = rest(watch, killed)
        print(f"FIGURE loop killed, {kind}: at rest after {1000 * took:.0f} ms")
        assert took < LIMIT


@pytest.mark.parametrize("turn", REPEAT)
def test_arm_killed(turn, tmp_path):
    """The arm's process dies and comes back: nothing is sent to it until it is armed again."""
    with watching() as watch, looping("ros2") as loop:
        with arm(tmp_path / "arm.log", "reach", 3) as child:
            run_until_moving(loop, watch)
            assert loop.machine.state == "RUNNING", loop.machine.reason
            end(child, signal.SIGKILL)
            killed = time.perf_counter()
            wait(lambda: loop.machine.state != "RUNNING", 1, "the loop notices")
            print(f"FIGURE arm killed: noticed after {1000 * (time.perf_counter() - killed):.0f} ms")
        watch.values.clear()
        with arm(tmp_path / "arm.log", "reach", 3):
            wait(lambda: loop.machine.state in ("READY", "HOLD") and watch.values, 25, "the arm is back")
            time.sleep(0.5)
            assert watch.number("accepted") == watch.number("refused") == 0
            run_until_moving(loop, watch)


@pytest.mark.parametrize("turn", REPEAT)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_server_killed(how, turn, tmp_path):
    """The rosbridge server dies, or freezes with the connection open, and comes back: no old command arrives."""
    port = free_port()
    with watching() as watch, arm(tmp_path / "arm.log", "reach", 3), looping("rosbridge", port) as loop:
        with bridge(tmp_path / "bridge.log", port) as server:
            run_until_moving(loop, watch)
            time.sleep(0.3 + 0.1 * turn)
            killed = time.time()
            server.send_signal(how)
            took = rest(watch, killed)
            print(f"FIGURE server {how.name}: at rest after {1000 * took:.0f} ms")
            assert took < LIMIT and loop.machine.state != "RUNNING"
            accepted = watch.number("accepted")
            if how == signal.SIGSTOP:
                server.send_signal(signal.SIGCONT)
                _stays(loop, watch, accepted)
        if how == signal.SIGKILL:
            with bridge(tmp_path / "bridge.log", port):
                _stays(loop, watch, accepted)
                run_until_moving(loop, watch)


def _stays(loop, watch, accepted):
    """Connected again and ready, it does not move by itself, and no old command was taken."""
    wait(lambda: loop.machine.state in ("READY", "HOLD"), 25, f"ready again: {loop.machine.reason}")
    time.sleep(0.5)
    print("FIGURE refused by the arm:", {k: v for k, v in watch.values.items() if k.startswith("refused_")})
    assert watch.number("accepted") == accepted and watch.number("oldest") <= LIMIT


@pytest.mark.parametrize("turn", REPEAT)
@pytest.mark.parametrize("kind", ["ros2", "rosbridge"])
def test_network_down(kind, turn, tmp_path):
    """The loopback goes down for 1.5 s, in a network namespace of the test's own."""
    own = ["unshare", "-rn"]
    probe = subprocess.run([*own, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace can be made here: {probe.stderr.decode()[:200]}")
    if kind == "rosbridge":
        interpreter("DFPLAN_ROSBRIDGE_PYTHON", "rosbridge server")
    script = str(Path(__file__).with_name("network.py"))
    done = subprocess.run(
        [*own, sys.executable, script, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stdout[-1000:] + done.stderr[-3000:]
    answer = json.loads(lines[0][7:])
    print(f"FIGURE network down, {kind}: at rest after {1000 * answer['rest']:.0f} ms, {answer}")
    assert answer["rest"] < LIMIT and answer["state"] != "RUNNING" and answer["now"] != "RUNNING"
