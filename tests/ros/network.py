"""Run by test_kill in a network of its own (`unshare -rn`): the loopback goes down while the arm moves, and up again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import conftest
from peers import START, arm, bridge, free_port, wait
from ros_common import looping, rest, run_until_moving, watching

assert conftest.PROFILE


def link(how: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", how], check=True)


def main(kind: str, folder: str, before: str) -> None:
    link("up")
    port, path = free_port(), Path(folder)
    server = bridge(path / "bridge.log", port) if kind == "rosbridge" else contextlib.nullcontext()
    with server, watching() as watch, arm(path / "arm.log", "reach", 3) as child, looping(kind, port) as loop:
        run_until_moving(loop, watch, child)
        time.sleep(float(before))
        link("down")
        down = time.time()
        time.sleep(1.5)
        state = loop.machine.state
        link("up")
        wait(lambda: loop.machine.state in ("READY", "HOLD"), START, "ready again", child)
        watch.fresh(child)
        answer = {"rest": rest(watch, down), "state": state, "last": watch.number("last") - down}
        answer["now"] = loop.machine.state
        run_until_moving(loop, watch, child)
        print("ANSWER", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
