"""A kept run once more: its readings through filter and policy, and where the answers differ."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.data.files import ZIP_DAMAGE
from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer, Decide, Request
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.machine import RUNNING
from dfplan.deploy.recording.run_log import STATES, Asked
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import Mapping, load_mapping
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status
from dfplan.deploy.run import make_decide
from dfplan.tools.clock import FakeClock
from dfplan.tools.serialize import from_dict, read_values

Array = NDArray[np.float64]
_STOPS = ("stop was asked for", "fault acknowledged", "the loop ends")
"""Reasons of changes that come from outside the loop; all others it must find by itself."""


@dataclass(frozen=True)
class KeptRun:
    """A run that `RunLog` has kept.

    Attributes:
        mapping: of the robot.
        asked: what decided.
        pace: settings of the driver.
        tables: `table/column` -> (N, ...) rows, see `RunLog`.
    """

    mapping: Mapping
    asked: Asked
    pace: dict[str, Any]
    tables: dict[str, NDArray[Any]]

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> KeptRun:
        """Read a folder; ValueError where it holds no run, a run of no tick, or one with a gap."""
        folder = Path(folder)
        parts = sorted(folder.glob("part-*.npz"))
        if not parts:
            raise ValueError(
                f"{folder} holds no run (no part-00000.npz); give a folder of `dfplan deploy --record`"
            )
        if missing := {f"part-{i:05d}.npz" for i in range(len(parts))} - {part.name for part in parts}:
            raise ValueError(
                f"{folder}: {min(missing)} is missing; delete the parts after it to play those before"
            )
        rows: dict[str, list[NDArray[Any]]] = {}
        for part in parts:
            try:
                with np.load(part, allow_pickle=False) as file:
                    for key in file.files:
                        rows.setdefault(key, []).append(file[key])
            except (*ZIP_DAMAGE, ValueError) as error:
                raise ValueError(
                    f"{part}: cut short or damaged ({error}); delete it and the parts after it to play those before"
                ) from error
        tables = {key: np.concatenate(each) for key, each in rows.items()}
        about = read_values(folder / "about.json")
        if "tick/now" not in tables:
            raise ValueError(f"{folder}: the run ended before its first tick; there is nothing to replay")
        if missing := {"asked", "pace"} - about.keys():
            raise ValueError(
                f"{folder}/about.json: got no {min(missing)}; give a folder of `dfplan deploy --record`"
            )
        asked = from_dict(Asked, about["asked"], str(folder / "about.json"))
        return KeptRun(load_mapping(folder / "mapping.yaml"), asked, about["pace"], tables)

    def column(self, name: str) -> NDArray[Any]:
        """(N, ...) rows of `table/column`; none where there never was one."""
        return self.tables.get(name, np.zeros(0))

    def answers(self) -> list[Answer]:
        """The answers, as they were taken."""
        out, at, c = list[Answer](), 0, self.column
        for i, count in enumerate(c("answer/count").tolist()):
            rows, at = slice(at, at + count), at + count
            doubtful = tuple(t for t in str(c("answer/doubtful")[i]).split("\n") if t)
            out.append(
                Answer(
                    int(c("answer/first")[i]), c("chunk/action")[rows], c("chunk/joints")[rows],
                    float(c("answer/seconds")[i]), doubtful=doubtful, error=str(c("answer/error")[i]),
                    run=int(c("answer/run")[i]),
                )
            )  # fmt: skip
        return out


@dataclass(frozen=True)
class Differences:
    """How a replay differs from the run.

    Attributes:
        ticks: that were played.
        decisions: answers that were decided anew; 0 without a policy.
        answers: greatest difference of an action, in its unit; infinite where one decided and the other did not.
        told: greatest difference of a setpoint, rad or m; infinite where one planned and the other did not.
        states: ticks at which the states differ.
        first: s after the beginning at which anything first differed, or NaN.
    """

    ticks: int
    decisions: int
    answers: float
    told: float
    states: int
    first: float


def replay(run: KeptRun, decide: Decide | None = None) -> Differences:
    """Play a run's readings through the loop again: the same filter, the same answers at the same ticks.

    Args:
        run: the run.
        decide: asked again what the run's was asked; its answers are compared, and not used. None: nobody is.
    """
    clock, robot, pace = FakeClock(float(run.column("begin/now")[0])), body(run.mapping.robot), run.pace
    worker, link = _Answers(run, decide), _Readings(run, clock)
    like: Any = SimpleNamespace(**{key: pace[key] for key in ("stride", "steps", "ahead", "chunk")})
    driver = Driver(
        worker, like, run.mapping.policy.dt, pace["tokens"], pace["actions"], pace["handover"], pace["slow"],
        pace["hold_on"], run.mapping.loop.commit,
    )  # fmt: skip
    loop = Loop(run.mapping, robot, link, worker, driver, clock)
    loop.connect()
    changes, told, states, firsts = _outside(run), run.column("tick/told"), 0, list[float]()
    farthest, times = 0.0, run.column("tick/now").tolist()
    for i, time in enumerate(times):
        clock.advance(time - clock.now())
        worker.tick = link.tick = i
        for reason in changes.get(i, ()):
            loop.machine.stop(reason)
        wanted = STATES[int(run.column("tick/state")[i])]
        if i and wanted == RUNNING != loop.machine.state:
            loop.machine.arm()
        loop.tick()
        off, other = _off(told[i], loop), loop.machine.state != wanted
        farthest, states = max(farthest, off), states + other
        if off or other or worker.differ:
            firsts.append(time - times[0])
    first = firsts[0] if firsts else float("nan")
    return Differences(len(times), worker.compared, worker.farthest, farthest, states, first)


def decide_of(run: KeptRun, policy: str | None = None, device: str = "cpu") -> Decide | None:
    """What decided in a run, or `policy` in its place; None where the run names none."""
    name = policy or run.asked.policy
    if not name:
        return None
    return make_decide(name, run.mapping, run.asked.act, run.asked.monitor, False, run.asked.show, device)


def _outside(run: KeptRun) -> dict[int, list[str]]:
    """Tick -> reasons for which somebody stopped the loop before it."""
    out: dict[int, list[str]] = {}
    rows = zip(*(run.column(f"event/{key}").tolist() for key in ("tick", "kind", "text")), strict=True)
    for tick, kind, text in rows:
        reason = text.partition(": ")[2]
        if kind == "state" and reason in _STOPS:
            out.setdefault(tick, []).append(reason)
    return out


def _off(told: Array, loop: Loop) -> float:
    """How far the last setpoint is from `told` (J,)."""
    if bool(loop.plan.setpoints) == bool(np.isnan(told).any()):
        return float("inf")
    return float(np.abs(loop.plan.setpoints[-1].position - told).max()) if loop.plan.setpoints else 0.0


class _Answers:
    """A worker that answers as the run's did, when it did."""

    alive = ready = True

    def __init__(self, run: KeptRun, decide: Decide | None) -> None:
        self.decide, self.tick = decide, 0
        self.answers, self.ticks = run.answers(), run.column("answer/tick").tolist()
        self.asked, self.taken, self.compared, self.farthest, self.differ = 0, 0, 0, 0.0, False

    def submit(self, request: Request) -> None:
        self.asked += 1
        if self.decide is None or self.asked > len(self.answers):
            return  # the run ended before this one was answered
        old, new = self.answers[self.asked - 1].actions, self.decide(request).actions
        same = old.shape == new.shape
        off = float(np.abs(new - old).max(initial=0.0)) if same else float("inf")
        self.compared, self.farthest, self.differ = self.compared + 1, max(self.farthest, off), off > 0

    def poll(self) -> Answer | None:
        if self.taken >= min(self.asked, len(self.answers)) or self.ticks[self.taken] > self.tick:
            return None
        self.taken += 1
        return self.answers[self.taken - 1]

    @property
    def busy(self) -> bool:
        return self.taken < self.asked

    def close(self) -> None:
        pass


class _Readings:
    """A transport that says what the run's said, tick by tick."""

    def __init__(self, run: KeptRun, clock: FakeClock) -> None:
        self.run, self.clock, self.tick = run, clock, 0
        self._newest: dict[str, Reading] = {}
        self._rows: dict[int, list[Reading]] = {}
        groups = zip(run.column("group/source").tolist(), run.column("group/names").tolist(), strict=True)
        for number, (source, names) in enumerate(groups):
            keys = [k for k in run.tables if k.startswith(f"read:{number}/")]
            columns = {k.partition("/")[2]: run.tables[k] for k in keys}
            fields = [k for k in columns if k not in ("tick", "stamp", "received")]
            for i, tick in enumerate(columns["tick"].tolist()):
                values = {k: columns[k][i] for k in fields}
                stamps = float(columns["stamp"][i]), float(columns["received"][i])
                self._rows.setdefault(tick, []).append(
                    Reading(source, tuple(names.split("\n")), values, *stamps)
                )

    def connect(self, handlers: Handlers) -> None:
        pass

    def connected(self) -> bool:
        return bool(self.run.tables["tick/connected"][self.tick])

    def connection(self) -> int:
        return int(self.run.tables["tick/number"][self.tick])

    def now(self) -> float:
        return float(self.run.tables["tick/robot"][self.tick])

    def read(self) -> list[Reading]:
        self.clock.advance(float(self.run.tables["tick/read"][self.tick]) - self.clock.now())
        self._newest |= {r.source: r for r in self._rows.get(self.tick, ())}
        return list(self._newest.values())

    def send(self, trajectory: JointTrajectory) -> bool:
        sent = self.run.tables["tick/sent"]
        return int(sent[self.tick]) > (int(sent[self.tick - 1]) if self.tick else 0)

    def hold(self) -> None:
        pass

    def publish_status(self, status: Status) -> None:
        pass

    def close(self) -> None:
        pass
