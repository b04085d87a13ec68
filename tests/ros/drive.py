"""A control loop in a process of its own, armed as soon as it is ready: what the kill tests kill."""

from __future__ import annotations

import sys
import threading

from ros_common import make_loop, mapping_of, rehearse, transport_of, wait


def main(kind: str, port: str, task: str, seed: str) -> None:
    loop = make_loop(mapping_of(task), transport_of(kind, int(port), task), rehearse(task, int(seed)))
    loop.start()
    wait(lambda: loop.machine.state == "READY", 30, "ready")
    print(loop.arm(), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
