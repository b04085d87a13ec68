"""Run by test_kill in a network of its own (`unshare -rn`): the loopback goes down while the arm moves, and up again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import conftest
from ros_common import arm, bridge, free_port, looping, rest, run_until_moving, wait, watching

assert conftest.PROFILE


def link(how: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", how], check=True)


def main(kind: str, folder: str) -> None:
    link("up")
    port, path = free_port(), Path(folder)
    server = bridge(path / "bridge.log", port) if kind == "rosbridge" else watching()
    with server, watching() as watch, arm(path / "arm.log", "reach", 3), looping(kind, port) as loop:
        run_until_moving(loop, watch)
        time.sleep(0.3)
        link("down")
        down = time.time()
        time.sleep(1.5)
        state = loop.machine.state
        accepted = watch.number("accepted")
        link("up")
        wait(lambda: loop.machine.state in ("READY", "HOLD"), 30, f"ready again: {loop.machine.reason}")
        watch.values.clear()
        wait(lambda: watch.values, 30, "the arm is heard again")
        took = rest(watch, down)
        more = watch.number("accepted") - accepted
        answer = {"rest": took, "state": state, "more": more, "now": loop.machine.state}
        print("ANSWER", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
