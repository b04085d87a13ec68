"""`deploy`: a policy, a mapping and a transport, run until told to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np

from dfplan.deploy.loop.committed import ACT, CommittedPolicy, History
from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.familiar import Familiar
from dfplan.deploy.loop.inference import Decide, PolicyDecide, Request
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.machine import READY, Change
from dfplan.deploy.loop.monitor import Monitor
from dfplan.deploy.loop.workers import DelayedWorker, ProcessWorker, ThreadWorker, Worker
from dfplan.deploy.recording.run_log import Asked, RunLog
from dfplan.deploy.remote.client import Remote, RemotePolicy
from dfplan.deploy.remote.worker import RemoteDecide, RemoteWorker
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import Mapping, load_mapping
from dfplan.deploy.robot.observe import tokens_of
from dfplan.deploy.robot.transport import Status, Transport
from dfplan.tools.clock import Clock, RealClock
from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    from dfplan.act import Acting, ImitationConfig

Name = str | os.PathLike[str]
WORKERS = ("thread", "process", "inline")
_SHOW = 0.2
"""s between two status lines."""


class Acts(Protocol):
    """A policy that has its actor, such as `dfplan.policies.Imitation` or `dfplan.runtime.Policy`."""

    @property
    def actor(self) -> Acting:
        """What decides."""


@dataclass(frozen=True)
class Report:
    """How a run went.

    Attributes:
        begun: when, s on the loop's clock.
        status: the last one.
        changes: of state, all of them.
        slips: ticks that were missed altogether.
        dropped: commands that the transport did not take.
        missing: why it was not READY, in the end, where it never was.
    """

    begun: float
    status: Status
    changes: tuple[Change, ...]
    slips: int
    dropped: int
    missing: str = ""


def load_policy(
    policy: Name | Acting | Acts, config: ImitationConfig | None = None, device: str = "cpu"
) -> Acting:
    """What decides: by name or folder onto `device`, as it is, or from a policy of `dfplan.policies`.

    A folder that `dfplan export` wrote is run without torch.

    Raises:
        ValueError: such a folder on another device than the CPU.
        ImportError: another model where there is no torch.
    """
    from dfplan import act, runtime

    if not isinstance(policy, (str, os.PathLike)):
        return policy if isinstance(policy, act.Acting) else policy.actor
    how = config or act.ImitationConfig(**ACT)
    if runtime.exported(policy):
        if device != "cpu":
            raise ValueError(
                f"got device '{device}' for {policy}, an exported policy, which runs on the CPU alone"
            )
        return runtime.Actor.load(policy, how)
    try:
        return act.Actor.load(policy, how, device)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{policy} is no folder that `dfplan export` wrote, and what other models need is not installed ({error}); export "
            "the model elsewhere, or install dfplan with its dependencies"
        ) from error


def make_decide(
    policy: Name | Acting | Acts, mapping: Mapping, config: ImitationConfig | None = None,
    monitor: Monitor | None = None, warm: bool = True, show: str = "clean", device: str = "cpu",
) -> PolicyDecide:  # fmt: skip
    """What a worker runs; importable, so that a process can make its own. `warm`: one decision in advance."""
    from dfplan import runtime

    loaded = load_policy(policy, config, device)
    tokens_of(mapping, loaded.spec)
    if monitor is not None:
        if isinstance(loaded, runtime.Actor):
            raise ValueError(
                "got a monitor with an exported policy; it needs the network itself, give the model"
            )
        monitor.check(loaded.spec)
    decide = PolicyDecide(CommittedPolicy(loaded, show), mapping, body(mapping.robot), monitor)
    if warm:
        limits, none = decide.body.limits, np.zeros((0, loaded.spec.action_size))
        rows = History(np.zeros((1, loaded.spec.observation_size)), ((),), none)
        decide(Request(0, rows, none, (limits.low + limits.high) / 2, -2))
    return decide


def build(
    policy: Name | Acting | Acts | Remote, mapping: Mapping | Name, transport: Transport, *,
    config: ImitationConfig | None = None, worker: str = "thread", delay: float = 0.0, handover: str = "committed",
    show: str = "clean", monitor: Monitor | None = None, slow: float = 1.0, hold_on: Sequence[str] = (),
    clock: Clock | None = None, device: str = "cpu", keep: Name | None = None, sure: bool = False,
) -> Loop:  # fmt: skip
    """A loop, not yet connected: for tests, and for programs that run it themselves.

    Args:
        policy: name of a shipped model, folder (of a checkpoint, or that `dfplan export` wrote), an `Actor` or `Imitation` (not
            with worker="process"), or a `Remote`, which asks a policy server.
        mapping: of the robot, or its file.
        transport: to the robot.
        config: how the policy looks back and acts; None: as `committed.ACT` has it.
        worker: `thread`, `process`, or `inline` (in the loop itself, its answer after `delay`; for simulation).
        delay: s, of an inline worker.
        handover: `committed`; `naive` and `ensemble` are there to compare with.
        show: how the network is shown committed actions, see `committed.SHOWN`.
        monitor: thresholds from `calibrate`; None: nothing is monitored.
        slow: share of the speed while the monitor distrusts a sensor: 0 holds the arm, 1 only leaves the sensor out.
        hold_on: tokens whose distrust holds the arm, such as the joints.
        clock: None: the real one.
        device: of a policy that is loaded here by name: `cpu`, `cuda`, ...
        keep: new folder for what happens, see `RunLog`; None: nothing is kept.
        sure: the arm may begin where readings are unlike all demonstrations. A policy server's model is not compared.

    Raises:
        ValueError: where policy and mapping do not fit together, naming what.
    """
    one_of("worker", worker, WORKERS)
    mapping = mapping if isinstance(mapping, Mapping) else load_mapping(mapping)
    clock, robot = clock or RealClock(), body(mapping.robot)
    decide: Decide
    start: Callable[[], Worker]
    if isinstance(policy, Remote):
        if worker == "process":
            raise ValueError(
                "got worker='process' with a policy server, whose process is its own; use 'thread'"
            )
        remote, model = RemotePolicy(policy, config, monitor, show), None
        spec, decide = remote.spec, (asked := RemoteDecide(remote, mapping, robot))
        start = partial(RemoteWorker, asked)
    else:
        loaded = load_policy(policy, config, device)
        if worker == "process" and not isinstance(policy, (str, os.PathLike)):
            raise ValueError("worker='process' loads the policy itself; give its name or folder")
        model, spec = loaded.model, loaded.spec
        decide = make_decide(loaded, mapping, None, monitor, worker == "thread", show)
        start = partial(ThreadWorker, decide)
        if worker == "process":
            there = partial(make_decide, policy, mapping, config, monitor, True, show, device)
            start = partial(ProcessWorker, there)
    tokens = tokens_of(mapping, spec)
    for name in hold_on:
        one_of("token", name, [t.name for t in spec.tokens[:-1]])
    made = DelayedWorker(decide, clock, delay) if worker == "inline" else start()
    pace = (handover, slow, hold_on, mapping.loop.commit)
    driver = Driver(made, decide, mapping.policy.dt, tokens, spec.action_size, *pace)
    loop = Loop(mapping, robot, transport, made, driver, clock)
    loop.familiar = None if sure or model is None else Familiar(model).unlike
    if keep is not None:
        name = str(policy) if isinstance(policy, (str, os.PathLike)) else ""
        name = str(Path(name).resolve()) if name and Path(name).exists() else name
        RunLog(Path(keep), loop, Asked(name, config, monitor, show))
    return loop


def deploy(
    policy: Name | Acting | Acts | Remote, mapping: Mapping | Name, transport: Transport, *, arm: bool = False,
    seconds: float | None = None, until: Callable[[], bool] | None = None, out: TextIO | None = None,
    **settings: Any,
) -> Report:  # fmt: skip
    """Run a policy on a robot until `seconds` are over, `until()` is true, or Ctrl-C; then stop the arm.

    Policy, mapping, transport and the other settings are those of `build`. `arm`: arm once when the robot is ready, else
    somebody must ask for it on the robot's side (`~/arm`); never more than once: after a hold or a lost connection a person
    arms again. `out`: where the status line goes; None: standard error where that is a terminal.
    """
    return run(build(policy, mapping, transport, **settings), arm, seconds, until, out)


def run(
    loop: Loop, arm: bool, seconds: float | None = None, until: Callable[[], bool] | None = None,
    out: TextIO | None = None,
) -> Report:  # fmt: skip
    """Run a loop that is not yet connected; see `deploy`."""
    out = sys.stderr if out is None and sys.stderr.isatty() else out
    loop.connect()
    begun, asked, shown, missing = loop.clock.now(), False, -np.inf, ""

    def over() -> bool:
        nonlocal asked, shown, missing
        now, missing = loop.clock.now(), loop.machine.reason
        if arm and not asked and loop.machine.state == READY:
            asked = loop.arm()[0]
        if out is not None and now >= shown + _SHOW:
            shown = now
            out.write("\r\x1b[K" + status_line(loop.status(now)))
            out.flush()
        late = seconds is not None and now - begun >= seconds
        return late or bool(until and until())

    try:
        loop.run(over)
    except KeyboardInterrupt:
        loop.run(lambda: True)
    if out is not None:
        out.write("\n")
    changes = tuple(loop.machine.changes)
    counts = loop.stats.slips, loop.stats.dropped
    return Report(begun, loop.status(), changes, *counts, "" if changes else missing)


def summary(report: Report) -> list[str]:
    """How a run went, in lines for a person."""
    s = report.status
    lines = [f"{c.time - report.begun:7.2f} s  {c.old} -> {c.new}: {c.reason}" for c in report.changes]
    if not lines:
        lines.append(f"never READY: {report.missing}")
    lines.append(
        f"sent {s.sent} commands, {report.dropped} more not taken; {s.overruns} chunks late, {report.slips} ticks missed"
    )
    if s.refusals:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(s.refusals.items()))
        lines.append(f"changed or refused on the way, in joint targets and readings: {counts}")
    return lines


def status_line(s: Status, columns: int = 79) -> str:
    """One line: while the arm is driven what may go wrong, else why it is not driven; cut to so many columns."""
    if s.state not in ("READY", "RUNNING"):
        text = f"{s.state:<8} {s.reason}"
    else:
        name, age = max(s.ages.items(), key=lambda item: item[1], default=("no source", 0.0))
        doubtful = f"doubtful: {', '.join(s.doubtful)}, " if s.doubtful else ""
        text = (
            f"{s.state:<8} {doubtful}{s.rate:.0f} Hz p99 {1e3 * s.period[1]:.0f} ms, {name} {1e3 * age:.0f} ms, chunk "
            f"{1e3 * s.inference[1]:.0f} ms, late {s.overruns}, changed {sum(s.refusals.values())}"
        )
    return text if len(text) <= columns else text[: columns - 1] + "…"
