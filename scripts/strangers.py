"""What 1,000 strangers at the door of a policy server change for those who hold its token.

Beside a robot at work that asks at a steady rate, the holder of the token logs in again and again: alone, and under siege by
each kind of stranger, from the holder's own address and from one address each. Strangers have the lowest priority of the
processor, for they would be on other computers.
"""

import argparse
import contextlib
import itertools
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time

from server_benchmark import history, serving

from dfplan.deploy.loop.stats import quantiles
from dfplan.deploy.remote.client import Remote, RemotePolicy
from dfplan.tools.hardware import hardware

WORDS = {
    "silent": b"",
    "garbage": b"\x16\x03\x01" + bytes(range(256)) + b"\r\n\r\n",
    "websocket": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "reconnect": b"",
}


def address(number: int, many: bool) -> str:
    """Where a stranger calls from."""
    return f"127.{1 + number // 250}.0.{1 + number % 250}" if many else "127.0.0.1"


def besiege(port: int, kind: str, many: bool, count: int) -> None:
    """Be so many strangers until killed; the number of connections so far is printed every second."""
    ready, connections, told = selectors.DefaultSelector(), 0, time.monotonic()

    def call(number: int) -> None:
        nonlocal connections
        plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # leaves no port behind
        plain.bind((address(number, many), 0))
        with contextlib.suppress(BlockingIOError):
            plain.connect(("127.0.0.1", port))
        connections += 1
        ready.register(plain, selectors.EVENT_WRITE, number)

    for number in range(count):
        call(number)
    while True:
        for key, events in ready.select(1.0):
            plain = key.fileobj
            try:
                if events & selectors.EVENT_WRITE and not plain.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ERROR
                ):
                    ready.modify(plain, selectors.EVENT_READ, key.data)
                    plain.sendall(WORDS[kind])
                    over = kind == "reconnect"
                else:
                    over = not plain.recv(4096)
            except OSError:
                over = True
            if over:
                ready.unregister(plain)
                plain.close()
                call(key.data)
        if time.monotonic() > told + 1:
            told = time.monotonic()
            print(connections, flush=True)


class AtWork(threading.Thread):
    """A robot that asks `rate` times a second; keeps when answers came and how long they took, s."""

    def __init__(self, remote: Remote, rate: float) -> None:
        super().__init__()
        self.policy, self.rate, self.rows, self.over = RemotePolicy(remote), rate, [], False
        self.start()

    def run(self) -> None:
        """Ask until it is over."""
        asked, committed = history(self.policy)
        due = time.perf_counter()
        while not self.over:
            began = time.perf_counter()
            self.policy.decide(asked, committed)
            came = time.perf_counter()
            self.rows.append((came, came - began))
            due = max(due + 1 / self.rate, came)
            time.sleep(due - came)
        self.policy.close()

    def since(self, began: float) -> dict[str, object]:
        """What was measured after `began`; ms are median, 99th percentile and longest."""
        rows = [row for row in self.rows if row[0] >= began]
        periods = [b[0] - a[0] for a, b in itertools.pairwise(rows)]
        return {
            "decisions per s": round((len(rows) - 1) / (rows[-1][0] - rows[0][0]), 3),
            "period, ms": [round(1e3 * q, 1) for q in quantiles(periods)],
            "decision, ms": [round(1e3 * q, 1) for q in quantiles([row[1] for row in rows])],
        }


def measure(remote: Remote, robot: AtWork, logins: int, seconds: float) -> dict[str, object]:
    """A row: logins of the holder, spread over so long, beside the robot."""
    began, times = time.perf_counter(), []
    for i in range(logins):
        time.sleep(max(0.0, began + i * seconds / logins - time.perf_counter()))
        start = time.perf_counter()
        try:
            RemotePolicy(remote).close()
            times.append(time.perf_counter() - start)
        except ConnectionError as error:
            print(error, file=sys.stderr)
            times.append(float("inf"))
    return {"login, ms": [round(1e3 * q, 1) for q in quantiles(times)], **robot.since(began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="arm-pick", choices=("arm-pick", "arm-reach"))
    parser.add_argument("--count", type=int, default=1000, help="of strangers")
    parser.add_argument("--logins", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row")
    parser.add_argument("--rate", type=float, default=5.0, help="of the robot at work, decisions per s")
    parser.add_argument("--kinds", nargs="*", default=list(WORDS), choices=WORDS)
    parser.add_argument("--besiege", nargs=3, metavar=("PORT", "KIND", "MANY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.besiege:
        port, kind, many = args.besiege
        besiege(int(port), kind, many == "many", args.count)
    with serving(args.task) as remote:
        port, rows = remote.address.rpartition(":")[2], {}
        robot = AtWork(remote, args.rate)
        for kind, where in itertools.product(args.kinds, ("one", "many")):
            alone = measure(remote, robot, args.logins, args.seconds)
            siege = subprocess.Popen(
                [sys.executable, __file__, "--count", str(args.count), "--besiege", port, kind, where],
                stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(19),
            )  # fmt: skip
            before, start = int(siege.stdout.readline()), time.perf_counter()
            row = measure(remote, robot, args.logins, args.seconds)
            siege.kill()
            calls = (int(siege.stdout.read().split()[-1]) - before) / (time.perf_counter() - start)
            rows[f"{kind}, {where}"] = {
                "alone": alone, "besieged": row, "calls of strangers per s": round(calls),
                "rate, besieged to alone": round(row["decisions per s"] / alone["decisions per s"], 3),
            }  # fmt: skip
            print(kind, where, json.dumps(rows[f"{kind}, {where}"]), file=sys.stderr, flush=True)
        robot.over = True
        robot.join()
    print(json.dumps({"hardware": hardware(), "strangers": args.count, **rows}, indent=1))


if __name__ == "__main__":
    main()
