"""A control loop in a process of its own, armed as soon as it is ready: what the tests kill, and compete with."""

from __future__ import annotations

import logging
import signal
import sys
import time

from ros_common import looping, person


def main(kind: str, port: str, task: str, seed: str, node: str, settle: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    logging.basicConfig(level=logging.INFO, format="%(created)f %(message)s")
    with looping(kind, int(port), task, int(seed), node=node, settle=float(settle)) as loop:
        logging.info("up")
        while True:
            person(loop)
            time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
