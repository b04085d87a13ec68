"""How often a trained policy solves an arm task through ROS, in real time:

    .venv-ros/a/bin/python tests/ros/benchmark.py arm-pick --transport ros2 --episodes 30

The arm is another process; for rosbridge, DFPLAN_ROSBRIDGE_PYTHON is the Python of the server's environment
(.venv-ros/c/bin/python). An episode that the loop stops has failed: it is armed once. With --minutes it is armed once for
all of them: when a scene is solved, or its time over, the next one appears around the arm as it stands. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import tempfile
import time
from pathlib import Path

import conftest
import numpy as np
import torch
from peers import START, arm, bridge, free_port, wait
from ros_common import call, running, starved, transport_of, watching

from dfplan.deploy.loop.stats import quantiles
from dfplan.deploy.run import build, load_policy
from dfplan.envs import arm_mapping, make
from dfplan.policies import ImitationConfig
from dfplan.tools.hardware import hardware

assert conftest.PROFILE


def episode(loop, watch, seed: int, limit: float, *children) -> dict:
    """One start, from arming to success, a stop, or the end of the time."""
    wait(lambda: watch.number("seed") == seed, START, "the arm has been reset", *children)
    watch.fresh(*children)
    wait(lambda: loop.machine.state in ("READY", "HOLD") and loop.arm()[0], START, "armed", *children)
    before = {key: watch.number(key) for key in ("refused", "holds")}
    waited, worst, begun = (
        starved([os.getpid(), *(child.pid for child in children)]),
        0.0,
        time.perf_counter(),
    )
    while (
        loop.machine.state == "RUNNING"
        and watch.number("success") == 0
        and time.perf_counter() < begun + limit
    ):
        time.sleep(0.1)
        worst = max(worst, waited())
    took, stopped = time.perf_counter() - begun, loop.machine.state != "RUNNING"
    reason = loop.machine.reason if stopped else ""
    loop.machine.stop()
    watch.fresh(*children)
    row = {key: watch.number(key) - value for key, value in before.items()}
    row |= {"seed": seed, "success": bool(watch.number("success")), "seconds": took, "stop": reason}
    assert call("/sim_arm/reset")[0]
    if loop.machine.state == "FAULT":
        loop.machine.stop()
    return row | {"no_processor": worst}


def without_pause(loop, watch, seconds: float, limit: float, *children) -> list[dict]:
    """Scene after scene, armed once; as many as begin in `seconds`."""
    watch.fresh(*children)
    wait(lambda: loop.machine.state == "READY" and loop.arm()[0], START, "armed", *children)
    waited, rows, end = (
        starved([os.getpid(), *(child.pid for child in children)]),
        [],
        time.perf_counter() + seconds,
    )
    while loop.machine.state == "RUNNING" and time.perf_counter() < end:
        before = {key: watch.number(key) for key in ("refused", "holds")}
        worst, begun, scene = 0.0, time.perf_counter(), watch.number("scene")
        while (
            loop.machine.state == "RUNNING"
            and watch.number("success") == 0
            and time.perf_counter() < begun + limit
        ):
            time.sleep(0.1)
            worst = max(worst, waited())
        took, stopped = time.perf_counter() - begun, loop.machine.state != "RUNNING"
        row = {key: watch.number(key) - value for key, value in before.items()}
        row |= {"scene": scene, "success": bool(watch.number("success")), "seconds": took}
        row["period"] = quantiles(list(loop.stats.periods)[-int(took / loop.dt) :])
        rows.append(row | {"stop": loop.machine.reason if stopped else "", "no_processor": worst})
        assert call("/sim_arm/next")[0]
        wait(lambda last=scene: watch.number("scene") == last + 1, START, "the next scene", *children)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("arm-reach", "arm-pick", "swap"))
    parser.add_argument("--policy", help="shipped model or folder; the task's own if left out")
    parser.add_argument("--transport", default="ros2", choices=("ros2", "rosbridge"))
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; the next ones count up")
    parser.add_argument("--limit", type=float, default=15.0, help="of an episode, s")
    parser.add_argument("--minutes", type=float, help="without a pause, instead of episodes")
    parser.add_argument("--chunk", type=int, default=4, help="env steps executed for each decision")
    parser.add_argument("--recent", type=int, default=1, help="steps of history in the window")
    parser.add_argument("--temperature", type=float, default=0.0, help="of decisions")
    parser.add_argument("--worker", default="process", choices=("process", "thread"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy, port, begun = args.policy or args.task, free_port(), time.perf_counter()
    mapping = arm_mapping(
        make(args.task, action="ee" if load_policy(policy).spec.action_size == 10 else "joint").unwrapped
    )
    with contextlib.ExitStack() as stack:
        folder, children = Path(stack.enter_context(tempfile.TemporaryDirectory())), []
        if args.transport == "rosbridge":
            children.append(stack.enter_context(bridge(folder / "bridge.log", port)))
        watch = stack.enter_context(watching())
        task = args.task.removeprefix("arm-")
        children.append(stack.enter_context(arm(folder / "arm.log", task, args.seed)))
        link, config = (
            transport_of(args.transport, port, mapping),
            ImitationConfig(recent=args.recent, chunk=args.chunk, temperature=args.temperature),
        )
        loop = build(policy, mapping, link, worker=args.worker, config=config)
        stack.enter_context(running(loop))
        wait(lambda: loop.worker.ready, START, "the policy is loaded", *children)
        if args.minutes:
            rows = without_pause(loop, watch, 60 * args.minutes, args.limit, *children)
        else:
            seeds = range(args.seed, args.seed + args.episodes)
            rows = [episode(loop, watch, seed, args.limit, *children) for seed in seeds]
        status, stats = loop.status(), loop.stats
    out = {
        **vars(args), "policy": str(policy), "hardware": hardware(), "succeeded": sum(row["success"] for row in rows),
        "refused": sum(row["refused"] for row in rows), "holds": sum(row["holds"] for row in rows),
        "stops": [row["stop"] for row in rows if row["stop"]], "period": status.period, "inference": status.inference,
        "age": quantiles(filter(math.isfinite, stats.state_age)), "late": stats.overruns,
        "seconds_to_success": float(np.median([row["seconds"] for row in rows if row["success"]] or [np.nan])),
        "no_processor": max(row["no_processor"] for row in rows), "wall": time.perf_counter() - begun, "rows": rows,
    }  # fmt: skip
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
