"""The published numbers of deployment, each measured by one function; deploy_benchmark.py prints them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data import Episodes
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.machine import FAULT, HOLD, RUNNING
from dfplan.deploy.loop.monitor import Monitor, calibrate, histories
from dfplan.deploy.loop.stats import quantiles
from dfplan.deploy.motion.chunks import FADE
from dfplan.deploy.motion.safety import SafetyFilter
from dfplan.deploy.robot.body import Body, body
from dfplan.deploy.robot.limits import JointLimits, Safety, Setpoint, Target
from dfplan.deploy.robot.panda import HOME, LIMITS
from dfplan.deploy.run import build, load_policy, run
from dfplan.envs import SimArm, arm_mapping, make
from dfplan.envs.arm.physics import Physics
from dfplan.policies import Imitation
from dfplan.tools.clock import FakeClock, RealClock

Array = NDArray[np.float64]

ATTACKS = ("random", "nan", "huge", "reversed", "stale", "edge", "near")
_NEAR = 1 + 1e-7  # rounding of differences of positions


def make_env(task: str, actions: int = 10) -> Any:
    """A simulated arm task for a policy with that many numbers in its actions."""
    return make(task, action="ee" if actions == 10 else "joint").unwrapped


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


def _replay(physics: Any, before: Array, after: Array) -> dict[str, float]:
    """The arm follows from one setpoint (8,) to the next; largest share of the joints' own limits that it takes."""
    steps = round(0.01 / physics.model.opt.timestep)
    physics.advance(before + np.linspace(0, 1, steps + 1)[1:, None] * (after - before))
    lower, upper = LIMITS.lower, LIMITS.upper
    return {
        "arm position": float(np.abs((2 * physics.q - lower - upper) / (upper - lower)).max()),
        "arm velocity": float(np.abs(physics.qd / LIMITS.velocity).max()),
    }


def adversarial(count: int = 1_000_000, seed: int = 0, rate: float = 100.0) -> dict[str, Any]:
    """Hostile actions through the filter and on to the simulated arm; each is given for 1 to 20 ticks.

    Returns:
        `outside`: setpoints outside any limit; `largest`: limit -> largest share of it, of the setpoints and of the arm as
        it follows them; the refusals; us per action in the filter.
    """
    mapping = arm_mapping(make_env("arm-reach"))
    robot, box, dt = body(mapping.robot), mapping.safety.workspace, 1.0 / rate
    assert box is not None
    home = np.append(HOME, 0.04)
    guard = SafetyFilter(robot.limits, dt, Safety(jump=np.pi, workspace=box), robot.forward)
    physics = Physics("")
    physics.model.geom_contype[:] = physics.model.geom_conaffinity[:] = (
        0  # free space: the filter knows no obstacles
    )
    physics.reset(home[:7])
    rng, outside, left, spent = np.random.default_rng(seed), 0, 0, 0.0
    largest: dict[str, float] = {}
    rows = [guard.start(home)] * 4
    target = Target(home)
    for _ in range(count):
        if left == 0:
            target = _attack(str(rng.choice(ATTACKS)), rng, robot, rows[-1])
            left = int(rng.integers(1, 21))
        left -= 1
        began = time.perf_counter()
        rows = [*rows[1:], guard.step(target)]
        spent += time.perf_counter() - began
        q = np.stack([s.position for s in rows])
        shares = _shares(q, robot.limits, dt)
        bad = (
            max(shares.values()) > _NEAR
            or not np.isfinite(q[-1]).all()
            or not box.holds(robot.forward(q[-1]))
        )
        outside += bad
        shares |= _replay(physics, q[-2], q[-1])
        largest = {key: max(largest.get(key, 0.0), share) for key, share in shares.items()}
    return {
        "actions": count,
        "outside": outside,
        "largest": largest,
        "refusals": dict(guard.counts),
        "us": 1e6 * spent / count,
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
    _play(loop, seconds, lambda: arm.success)
    return loop, arm


def _play(loop: Loop, seconds: float, done: Callable[[], bool]) -> None:
    """Armed when it is ready, until `done`, too late, or stopped."""
    run(loop, True, seconds, lambda: done() or loop.machine.state in (HOLD, FAULT))


def joins(loop: Loop, joints: int = 7) -> tuple[float, float]:
    """Largest velocity step of the joint targets at joins of chunks, the fade included, and inside chunks, rad/s."""
    motion = loop.driver.motion
    knots = np.stack([motion.target(i) for i in range(-1, motion.steps)])[:, :joints]
    steps = np.abs(np.diff(knots, n=2, axis=0)).max(1) / motion.dt
    at = {h.step + k for h in loop.stats.handovers for k in range(-1, FADE + 1) if h.step > 1}
    join = [s for i, s in enumerate(steps) if i in at]
    inside = [s for i, s in enumerate(steps) if i not in at]
    return max(join, default=0.0), max(inside, default=0.0)


def handovers(
    policy: Imitation, task: str, seeds: Sequence[int], delays: Sequence[float] = (0.0, 0.1, 0.2),
    kinds: Sequence[str] = ("committed", "naive", "ensemble"), show: str = "clean",
) -> list[dict[str, Any]]:  # fmt: skip
    """Success and smoothness for each way to hand over, at injected delays."""
    env, rows = make_env(task, policy.spec.action_size), []
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
    env, clock = make_env(task, load_policy(policy).spec.action_size), RealClock()
    env.terminate_on_success = False
    arm = SimArm(env, clock)
    loop = build(policy, arm_mapping(env), arm, worker=worker, clock=clock)
    _play(loop, seconds, lambda: False)
    s = loop.stats
    return {
        "seconds": seconds, "rate": s.rate, "period": quantiles(s.periods), "busy": quantiles(s.busy),
        "inference": quantiles(s.inference), "age": quantiles(s.state_age), "late": s.overruns, "slips": s.slips,
        "rejected": arm.rejected, "ran": any(c.new == RUNNING for c in loop.machine.changes),
    }  # fmt: skip


def watch(
    policy: Imitation,
    task: str,
    held_out: Episodes | None = None,
    episodes: int = 100,
    calm: int = 300,
    kinds: Sequence[str] = ("freeze", "blank", "offset"),
) -> dict[str, Any]:
    """The monitor while the policy acts on undisturbed readings: what it sees of wrong ones, and its false alarms.

    It is calibrated on `held_out`, or on `calm` undisturbed episodes of the policy; as many others count false alarms.

    Each kind befalls the hand's sensor and the task's own, for a second, in `episodes` episodes each. An episode counts
    if the reading was wrong by more than `_WRONG` for the time of a token, which is how often the monitor looks: a frozen
    reading of a thing at rest is right. It is seen if
    the sensor's token is doubtful in that second or within the memory after it.
    """
    env = make_env(task)
    if held_out is None:
        held_out = _joined([_record(env, policy, 30_000 + s, None).data for s in range(calm)])
    policy.reset(0)
    monitor = calibrate(policy.actor, held_out)
    out: dict[str, Any] = {"calibrated_on": len(held_out)}
    alarms = [_alarms(monitor, policy, _record(env, policy, 50_000 + s, None)) for s in range(calm)]
    out["false alarms"] = float(np.mean([any(map(len, flags.values())) for flags in alarms]))
    out["false alarms of"] = {token: sum(bool(flags[token]) for flags in alarms) for token in alarms[0]}
    for kind in kinds:
        for sensor in ("ee", env.main_sensor):
            seen, delays = [], []
            for seed in range(episodes):
                record = _record(env, policy, 10_000 + seed, {"kind": kind, "sensor": sensor})
                if len(record.wrong) < policy.spec.stride:
                    continue
                flags = _alarms(monitor, policy, record)[_token(policy, env, sensor)]
                reach = record.wrong[-1] + (policy.longest - 1) * policy.spec.stride
                hits = [f for f in flags if record.wrong[0] <= f <= reach]
                seen.append(bool(hits))
                delays += [hits[0] - record.wrong[0]] if hits else []
            out[f"{kind} {sensor}"] = {
                "wrong": len(seen), "seen": float(np.mean(seen)) if seen else None,
                "steps_to_alarm": float(np.mean(delays)) if delays else None,
            }  # fmt: skip
    return out


_WRONG = 0.01
"""m, and units of a rotation's columns."""


@dataclass(frozen=True)
class _Record:
    """An episode: its readings, the actions, and the env steps at which a reading was wrong."""

    data: Episodes
    wrong: NDArray[np.int64]


def _token(policy: Imitation, env: Any, sensor: str) -> str:
    """Name of the token that holds a sensor of the environment."""
    first = env.channel_names[env.sensors[sensor].start]
    return next(t.name for t in policy.spec.tokens if first in t.channels)


def _alarms(monitor: Monitor, policy: Imitation, record: _Record) -> dict[str, list[int]]:
    """Token -> env steps at which it was doubtful; looked at once per token, as in deployment."""
    policy.reset(0)
    first, stride = (policy.longest - 1) * policy.spec.stride, policy.spec.stride
    found: dict[str, list[int]] = {t.name: [] for t in policy.spec.tokens[:-1]}
    for look, (_, history) in enumerate(histories(policy.actor, record.data, stride)):
        for token in monitor.doubtful(monitor.scores(policy.actor, history)):
            found[token].append(first + look * stride)
    return found


def _joined(parts: Sequence[Episodes]) -> Episodes:
    """Episodes one after the other."""
    arrays = {key: np.concatenate([part.arrays[key] for part in parts]) for key in parts[0].arrays}
    return replace(parts[0], arrays=arrays, ends=np.cumsum([part.steps for part in parts]))


def _record(env: Any, policy: Imitation, seed: int, disturb: dict[str, Any] | None) -> _Record:
    """One episode: the policy acts on true readings, the wrong ones are what is recorded."""
    now, _ = env.reset(seed=seed, options={"disturb": disturb} if disturb else None)
    policy.reset(seed)
    seen, done, wrong = [], [], []
    for step in range(300):
        seen.append(now)
        wrong += [step] if np.abs(now - env.truth()).max() > _WRONG else []
        done.append(policy.act(env.truth()))
        now, _, over, _, _ = env.step(done[-1])
        if over:
            break
    rows = {"observations": np.stack(seen), "actions": np.stack(done)}
    return _Record(Episodes(rows, np.array([len(done)]), 0.05, "episode", {}), np.array(wrong, np.int64))
