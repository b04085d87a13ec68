"""What is killed in the middle of a motion: the arm stands within 0.15 s, and moves again only when it is armed again.

`--repeat 20` does each twenty times, at another moment of the motion.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import START, arm, bridge, drive, free_port, interpreter, wait
from ros_common import STARVED, looping, moving, rest, run_until_moving, starved, watching

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("rclpy")]
LIMIT = 0.15


def before(turn: int) -> float:
    """s of motion before the kill; what is rehearsed lasts more than 2 s."""
    return 0.3 + 0.07 * turn % 1.4


def held(loop, child, figure, name: str) -> bool:
    """Kill a process that the loop needs; it holds in time. Whether the loop got no processor meanwhile."""
    waited = starved([os.getpid()])
    killed = loop.clock.now()
    child.kill()
    wait(lambda: loop.machine.state != "RUNNING", 5, "the loop notices")
    took, busy = loop.machine.changes[-1].time - killed, waited() > STARVED
    figure(f"{name} killed: loop holds", took)
    assert took < LIMIT or busy
    return busy


@pytest.mark.parametrize("kind", ["ros2", "rosbridge"])
def test_loop_killed(kind, turn, tmp_path, figure):
    """The process with the loop and its DDS writer, or its WebSocket, dies."""
    port = free_port()
    server = bridge(tmp_path / "bridge.log", port) if kind == "rosbridge" else contextlib.nullcontext()
    with server, watching() as watch, arm(tmp_path / "arm.log", "reach", 3) as hand:
        with drive(tmp_path / "drive.log", kind, port) as child:
            wait(lambda: moving(watch), START, "the arm moves", child, hand)
            time.sleep(before(turn))
            child.kill()
            killed = time.time()
            child.wait()
        took = rest(watch, killed)
        figure(f"loop killed, {kind}: arm at rest", took)
        assert took < LIMIT


def test_policy_killed(turn, tmp_path, figure):
    """The policy's own process dies: the loop stops the arm, and cannot be armed without it."""
    with (
        watching() as watch,
        arm(tmp_path / "arm.log", "reach", 3) as hand,
        looping("ros2", worker="process") as loop,
    ):
        run_until_moving(loop, watch, hand)
        time.sleep(before(turn))
        killed = time.time()
        busy = held(loop, loop.worker.process, figure, "policy")
        took = rest(watch, killed)
        figure("policy killed: arm at rest", took)
        assert took < LIMIT or busy
        assert loop.machine.state == "HOLD"
        granted, reason = loop.arm()
        assert not granted and "process has ended" in reason


def test_arm_killed(turn, tmp_path, figure):
    """The arm's process dies and comes back: nothing is sent to it until it is armed again."""
    with watching() as watch, looping("ros2") as loop:
        with arm(tmp_path / "arm.log", "reach", 3) as child:
            run_until_moving(loop, watch, child)
            time.sleep(before(turn))
            held(loop, child, figure, "arm")
            assert "old" in loop.machine.changes[-1].reason
        with arm(tmp_path / "arm.log", "reach", 3) as child:
            wait(
                lambda: loop.machine.state in ("READY", "HOLD") and not loop.unfit(),
                START,
                "the arm is back",
                child,
            )
            time.sleep(0.5)
            watch.fresh(child)
            assert watch.number("accepted") == watch.number("refused") == 0
            run_until_moving(loop, watch, child)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_server_killed(how, turn, tmp_path, figure):
    """The rosbridge server dies, or freezes with the connection open, and comes back: no old command arrives."""
    port = free_port()
    with (
        watching() as watch,
        arm(tmp_path / "arm.log", "reach", 3) as child,
        looping("rosbridge", port) as loop,
        contextlib.ExitStack() as servers,
    ):
        server = servers.enter_context(bridge(tmp_path / "bridge.log", port))
        run_until_moving(loop, watch, child, server)
        time.sleep(before(turn))
        server.send_signal(how)
        killed = time.time()
        took = rest(watch, killed)
        figure(f"server {how.name}: arm at rest", took)
        assert took < LIMIT and loop.machine.state != "RUNNING"
        accepted = watch.number("accepted")
        if how == signal.SIGSTOP:
            server.send_signal(signal.SIGCONT)
        else:
            server = servers.enter_context(bridge(tmp_path / "bridge.log", port))
        wait(lambda: loop.machine.state in ("READY", "HOLD"), START, "ready again", child, server)
        time.sleep(0.5)
        watch.fresh(child)
        print(
            "FIGURE refused by the arm:", {k: v for k, v in watch.values.items() if k.startswith("refused_")}
        )
        assert watch.number("accepted") == accepted and loop.machine.state != "RUNNING"
        run_until_moving(loop, watch, child, server)


@pytest.mark.parametrize("kind", ["ros2", "rosbridge"])
def test_network_down(kind, turn, tmp_path, figure):
    """The loopback goes down for 1.5 s, in a network namespace of the test's own."""
    own = ["unshare", "-rn"]
    try:
        subprocess.run([*own, "ip", "link", "set", "lo", "up"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {getattr(error, 'stderr', error)}")
    if kind == "rosbridge":
        interpreter("DFPLAN_ROSBRIDGE_PYTHON", "rosbridge server")
    script = str(Path(__file__).with_name("network.py"))
    done = subprocess.run(
        [*own, sys.executable, script, kind, str(tmp_path), str(before(turn))],
        capture_output=True,
        text=True,
        timeout=4 * START,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    answer = json.loads(lines[0][7:])
    figure(f"network down, {kind}: arm at rest", answer["rest"])
    assert answer["rest"] < LIMIT and answer["last"] < LIMIT, answer
    assert answer["state"] != "RUNNING" and answer["now"] != "RUNNING", answer
