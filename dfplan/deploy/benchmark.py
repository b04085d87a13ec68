"""The published numbers of deployment, each measured by one function; `scripts/deploy_benchmark.py` prints them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .clock import Clock, FakeClock, RealClock
from .limits import JointLimits, Safety, Setpoint, Target
from .loop import Loop
from .machine import FAULT, HOLD, READY, RUNNING
from .monitor import calibrate, histories
from .robot import Body, body
from .run import build, load_policy
from .safety import SafetyFilter
from .sim import SimArm, arm_mapping
from .stats import quantiles

if TYPE_CHECKING:
    from dfplan.data.episodes import Episodes
    from dfplan.policies import Imitation

Array = NDArray[np.float64]

ATTACKS = ("random", "nan", "huge", "reversed", "stale", "edge", "near")
_NEAR = 1 + 1e-7  # rounding of differences of positions


def make_env(task: str, action: str = "ee") -> Any:
    """A simulated arm task: `arm-reach` or `arm-pick`."""
    arm: Any = import_module("dfplan.envs.arm")
    return {"arm-reach": arm.ArmReachEnv, "arm-pick": arm.ArmPickEnv}[task](action=action)


def _attack(kind: str, rng: np.random.Generator, robot: Body, now: Setpoint) -> Target:
    lim = robot.limits
    q, size = rng.uniform(lim.lower - 0.5, lim.upper + 0.5), len(lim.names)
    v, a = (
        rng.normal(size=size) * rng.choice([0.0, 1.0, 100.0]),
        rng.normal(size=size) * rng.choice([0.0, 10.0, 1e5]),
    )
    if kind == "nan":
        return Target(np.where(rng.random(size) < 0.3, rng.choice([np.nan, np.inf]), q), v, a)
    if kind == "huge":
        return Target(q * 1e9, v * 1e9, a)
    if kind == "reversed":
        return Target(now.position - 20 * now.velocity * 0.01, -10 * now.velocity, -now.acceleration)
    if kind == "stale":
        return Target(q, v, a, age=float(rng.choice([-1.0, 2.1, 1e6, np.nan])))
    if kind == "edge":
        return Target(np.where(rng.random(size) < 0.5, lim.low, lim.high), np.sign(v) * lim.velocity, a)
    return Target(now.position + 0.03 * rng.normal(size=size), v, a) if kind == "near" else Target(q, v, a)


def _shares(q: Array, lim: JointLimits, dt: float) -> dict[str, float]:
    """Limit -> largest share of it in the last of four setpoints (4, J), as the arm sees them."""
    out = {"position": float(np.abs((q[-1] - (lim.low + lim.high) / 2) / ((lim.high - lim.low) / 2)).max())}
    for order, key in ((1, "velocity"), (2, "acceleration"), (3, "jerk")):
        out[key] = float((np.abs(np.diff(q, n=order, axis=0)[-1]) / dt**order / getattr(lim, key)).max())
    return out


def adversarial(count: int = 1_000_000, seed: int = 0, rate: float = 100.0) -> dict[str, Any]:
    """Hostile actions through the filter of the simulated arm; each is given for 1 to 20 ticks.

    Returns:
        `outside`: setpoints outside any limit; `largest`: limit -> largest share of it; the refusals; us per action.
    """
    mapping = arm_mapping(make_env("arm-reach"))
    robot, box, dt = body(mapping.robot), mapping.safety.workspace, 1.0 / rate
    assert box is not None
    home = np.append(import_module("dfplan.envs.arm.model").HOME, 0.04)
    guard = SafetyFilter(robot.limits, dt, Safety(jump=1e9, workspace=box), robot.forward)
    rng, outside, left = np.random.default_rng(seed), 0, 0
    largest: dict[str, float] = {}
    rows = [guard.start(home)] * 4
    began, target = time.perf_counter(), Target(home)
    for _ in range(count):
        if left == 0:
            target = _attack(str(rng.choice(ATTACKS)), rng, robot, rows[-1])
            left = int(rng.integers(1, 21))
        left -= 1
        rows = [*rows[1:], guard.step(target)]
        q = np.stack([s.position for s in rows])
        shares = _shares(q, robot.limits, dt)
        bad = (
            max(shares.values()) > _NEAR
            or not np.isfinite(q[-1]).all()
            or not box.holds(robot.forward(q[-1]))
        )
        outside += bad
        largest = {key: max(largest.get(key, 0.0), share) for key, share in shares.items()}
    spent = 1e6 * (time.perf_counter() - began) / count
    return {
        "actions": count,
        "outside": outside,
        "largest": largest,
        "refusals": dict(guard.counts),
        "us": spent,
    }


def episode(
    env: Any, policy: Imitation, seed: int, delay: float, handover: str, seconds: float = 15.0, show: str = "clean",
    options: dict[str, Any] | None = None,
) -> tuple[Loop, SimArm]:  # fmt: skip
    """One simulated episode on a fake clock; the loop and the arm as they are at its end."""
    clock = FakeClock()
    arm = SimArm(env, clock, record=True)
    arm.reset(seed, options)
    loop = build(
        policy, arm_mapping(env), arm, worker="inline", delay=delay, handover=handover, clock=clock, show=show
    )
    _play(loop, clock, seconds, lambda: arm.success)
    return loop, arm


def _play(loop: Loop, clock: Clock, seconds: float, done: Any) -> None:
    loop.connect()
    asked, end = False, clock.now() + seconds

    def over() -> bool:
        nonlocal asked
        if not asked and loop.machine.state == READY:
            asked = loop.arm()[0]
        return clock.now() > end or done() or (asked and loop.machine.state in (HOLD, FAULT))

    loop.run(over)


def joins(loop: Loop, joints: int = 7) -> tuple[float, float]:
    """Largest velocity step of the joint targets at joins of chunks and inside chunks, rad/s."""
    motion = loop.driver.motion
    knots = np.stack([motion.target(i) for i in range(-1, motion.steps)])[:, :joints]
    steps = np.abs(np.diff(knots, n=2, axis=0)).max(1) / motion.dt
    at = {h.step + k for h in loop.stats.handovers for k in (-1, 0) if h.step > 1}
    join = [s for i, s in enumerate(steps) if i in at]
    inside = [s for i, s in enumerate(steps) if i not in at]
    return max(join, default=0.0), max(inside, default=0.0)


def handovers(
    policy: Imitation, task: str, seeds: Sequence[int], delays: Sequence[float] = (0.0, 0.1, 0.2),
    kinds: Sequence[str] = ("committed", "naive", "ensemble"), show: str = "clean",
) -> list[dict[str, Any]]:  # fmt: skip
    """Success and smoothness for each way to hand over, at injected delays."""
    env, rows = make_env(task, "ee" if policy.spec.action_size == 10 else "joint"), []
    for kind in kinds:
        for delay in delays:
            runs = [episode(env, policy, s, delay, kind, show=show) for s in seeds]
            steps = np.array([joins(loop) for loop, _ in runs])
            rows.append({
                "handover": kind, "delay": delay, "episodes": len(runs),
                "success": float(np.mean([arm.success for _, arm in runs])),
                "join": float(steps[:, 0].max()), "inside": float(steps[:, 1].max()),
                "join_median": float(np.median(steps[:, 0])), "inside_median": float(np.median(steps[:, 1])),
                "late": sum(loop.stats.overruns for loop, _ in runs),
            })  # fmt: skip
    return rows


def realtime(policy: Imitation | str, task: str, seconds: float, worker: str = "thread") -> dict[str, Any]:
    """The loop at its rate in real time, beside the simulated arm in the same thread."""
    env, clock = make_env(task, "ee" if load_policy(policy).spec.action_size == 10 else "joint"), RealClock()
    env.terminate_on_success = False
    arm = SimArm(env, clock)
    loop = build(policy, arm_mapping(env), arm, worker=worker, clock=clock)
    _play(loop, clock, seconds, lambda: False)
    s = loop.stats
    return {
        "seconds": seconds, "rate": s.rate, "period": quantiles(s.periods), "busy": quantiles(s.busy),
        "inference": quantiles(s.inference), "age": quantiles(s.state_age), "late": s.overruns, "slips": s.slips,
        "rejected": arm.rejected, "ran": any(c.new == RUNNING for c in loop.machine.changes),
    }  # fmt: skip


def watch(
    policy: Imitation,
    task: str,
    held_out: Episodes,
    episodes: int = 30,
    kinds: Sequence[str] = ("freeze", "blank", "offset"),
) -> dict[str, Any]:
    """The monitor: share of disturbed episodes that it sees, and of undisturbed ones with a false alarm."""
    monitor, env = (
        calibrate(policy, held_out),
        make_env(task, "ee" if policy.spec.action_size == 10 else "joint"),
    )
    out: dict[str, Any] = {"calibrated_on": len(held_out)}
    policy.reset(0)
    for kind in ("", *kinds):
        seen = 0
        for seed in range(episodes):
            data, wrong = _record(env, policy, 10_000 + seed, kind)
            policy.reset(0)
            flags = [
                bool(monitor.doubtful(monitor.scores(policy, h)))
                for _, h in histories(policy, data, policy.spec.stride)
            ]
            seen += any(flags) and (wrong or not kind)
        out[kind or "false alarms"] = seen / episodes
    return out


def _record(env: Any, policy: Imitation, seed: int, kind: str) -> tuple[Episodes, bool]:
    """One episode of the policy in the environment itself, and whether a sensor was wrong in it."""
    from dfplan.data.episodes import Episodes as Data

    options = {"disturb": kind} if kind else None
    now, info = env.reset(seed=seed, options=options)
    policy.reset(seed)
    seen, done, wrong = [now], [], False
    for _ in range(160):
        action = policy.act(now)
        now, _, over, _, info = env.step(action)
        wrong |= bool(info["doubtful"])
        done.append(action)
        seen.append(now)
        if over:
            break
    rows = {"observations": np.stack(seen[:-1]), "actions": np.stack(done)}
    return Data(rows, np.array([len(done)]), 0.05, "episode", {}), wrong
