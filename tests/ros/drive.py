"""A control loop in a process of its own, armed as soon as it is ready: what the kill tests kill."""

from __future__ import annotations

import sys
import time

from ros_common import looping, person


def main(kind: str, port: str, task: str, seed: str) -> None:
    with looping(kind, int(port), task, int(seed)) as loop:
        while True:
            person(loop)
            time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
