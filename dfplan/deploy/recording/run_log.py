"""What happens in a run, kept in a folder: readings, questions, answers, setpoints, refusals, changes of state.

The loop only appends to lists. Every ten seconds a thread beside it writes them as one part, whole or not at all, so that a
process that is killed leaves what it had written, and a long run needs no more memory than a short one.
"""

from __future__ import annotations

import atexit
import json
import logging
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan.act import ImitationConfig
from dfplan.deploy.loop.inference import Answer, Request
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.machine import DISARMED, FAULT, HOLD, READY, RUNNING, Change
from dfplan.deploy.loop.monitor import Monitor
from dfplan.deploy.loop.workers import Worker
from dfplan.deploy.robot.mapping import dump_mapping
from dfplan.deploy.robot.transport import Handlers, JointTrajectory, Reading, Status, Transport
from dfplan.show.base import whole
from dfplan.tools.serialize import to_dict

Array = NDArray[np.float64]
Rows = dict[str, list[dict[str, Any]]]
_LOG = logging.getLogger(__name__)

STATES = (DISARMED, READY, RUNNING, HOLD, FAULT)
_PART = 10.0  # s of the loop in one part
_PACE = ("stride", "steps", "ahead", "chunk", "tokens", "actions", "handover", "slow", "hold_on")


@dataclass(frozen=True)
class Asked:
    """What decides in a run: a policy by name, or empty where it has none; how it acts; its monitor; `committed.SHOWN`."""

    policy: str = ""
    act: ImitationConfig | None = None
    monitor: Monitor | None = None
    show: str = "clean"


@dataclass(frozen=True)
class _Link:
    """The robot's clock, s, when readings had come, s on the loop's, the connection's number, and whether it is up."""

    robot: float
    read: float
    number: int
    connected: bool


class RunLog:
    """Keeps one run.

    Tables, one row each time, with the number of the tick where there is `tick`:

    - `begin`: `now`, the loop's clock when it was connected, s.
    - `tick`: `now`, the loop's clock, and what it was when readings had come, `read`; `robot`, the robot's, s; `connected`; the
      connection's `number`; whether the worker is `alive`; commands `sent` and `dropped` so far; `state`, see `STATES`; `told`
      (J,), the last setpoint, rad or m, NaN for none.
    - `group`: `source` and `names` of messages that are alike; `read:N`: a message of group N: `stamp`, `received`, its fields.
    - `asked`: `step`, `run`, `committed` actions of a question; `committed`: those actions, one a row.
    - `answer`: `first`, `count`, `run`, `seconds`, `error`, `doubtful`; `chunk`: its actions and joint targets, one a row.
    - `event`: `time`, `kind` (`state` or `refused`), `text`, `count`.
    """

    def __init__(self, folder: Path, loop: Loop, asked: Asked | None = None) -> None:
        """Keep what a loop does, which is not yet connected, in a new folder, with all that a replay needs.

        Raises:
            FileExistsError: the folder is there already.
        """
        mapping, driver = loop.mapping, loop.driver
        if folder.exists():
            raise FileExistsError(
                f"{folder} is there already, and a run is not overwritten; name another folder"
            )
        folder.mkdir(parents=True)
        names = {"urdf": "robot.urdf", "calibration": "calibration.json"}
        kept: dict[str, Any] = {key: name for key, name in names.items() if getattr(mapping.robot, key)}
        for key, name in kept.items():
            shutil.copy(getattr(mapping.robot, key), folder / name)
        mapping = replace(mapping, robot=replace(mapping.robot, **kept))
        (folder / "mapping.yaml").write_text(dump_mapping(mapping), encoding="utf-8")
        about = {"asked": to_dict(asked or Asked()), "pace": {key: getattr(driver, key) for key in _PACE}}
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        self.folder, self._rows, self._open = folder, defaultdict[str, list[dict[str, Any]]](list), True
        self._per_part = max(1, round(_PART * mapping.loop.rate))
        self._tick, self._groups, self._newest = 0, dict[Any, int](), dict[str, Reading]()
        self._counts, self._link = Counter[str](), _Link(0.0, 0.0, 0, False)
        self._last: Change | None = None
        self._loop = loop
        self._queue: SimpleQueue[Rows | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="dfplan-run-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        loop.transport = _Transport(loop.transport, self)
        loop.worker = driver.worker = _Worker(loop.worker, self)
        loop.begun, loop.after = self.begun, self.tick

    def now(self) -> float:
        """The loop's clock, s."""
        return self._loop.clock.now()

    def begun(self, now: float) -> None:
        """The loop is connected, at `now` s on its clock."""
        self._rows["begin"].append({"now": now})

    def link(self, link: _Link) -> None:
        """What the connection is like in this tick."""
        self._link = link

    def read(self, rows: Sequence[Reading]) -> None:
        """What the transport said in this tick; the same message again is not kept twice."""
        for r in rows:
            old = self._newest.get(r.source)
            if old is not None and (old.received, repr(old.stamp)) == (r.received, repr(r.stamp)):
                continue
            self._newest[r.source] = r
            key = (r.source, r.names, tuple(r.values))
            if key not in self._groups:
                self._groups[key] = len(self._groups)
                self._rows["group"].append({"source": r.source, "names": "\n".join(r.names)})
            row = {"tick": self._tick, "stamp": r.stamp, "received": r.received, **r.values}
            self._rows[f"read:{self._groups[key]}"].append(row)

    def asked(self, request: Request) -> None:
        """A question."""
        count = len(request.committed)
        self._rows["asked"].append(
            {"tick": self._tick, "step": request.step, "run": request.run, "committed": count}
        )
        self._rows["committed"] += [{"action": row} for row in request.committed]

    def answered(self, a: Answer) -> None:
        """An answer, when the loop takes it."""
        row: dict[str, Any] = {"tick": self._tick, "first": a.first, "count": len(a.actions), "run": a.run}
        row |= {"seconds": a.seconds, "error": a.error, "doubtful": "\n".join(a.doubtful)}
        self._rows["answer"].append(row)
        self._rows["chunk"] += [{"action": x, "joints": q} for x, q in zip(a.actions, a.joints, strict=False)]

    def tick(self, now: float) -> None:
        """A tick of the loop is over, which began at `now` s on its clock."""
        loop, link, setpoints = self._loop, self._link, self._loop.plan.setpoints
        told = setpoints[-1].position if setpoints else np.full(len(loop.body.limits.names), np.nan)
        row = {
            "now": now,
            "robot": link.robot,
            "read": link.read,
            "connected": link.connected,
            "number": link.number,
        }
        row |= {"alive": loop.worker.alive, "sent": loop.stats.sent, "dropped": loop.stats.dropped}
        self._rows["tick"].append(row | {"state": STATES.index(loop.machine.state), "told": told})
        counts = loop.filter.counts + loop.assembler.counts + loop.stats.counts
        for text in [name for name, count in counts.items() if count != self._counts[name]]:
            self._event(now, "refused", text, counts[text] - self._counts[text])
        self._counts = counts
        self._changes()
        self._tick += 1
        if self._tick % self._per_part == 0:
            self._hand_over()

    def _changes(self) -> None:
        changes, new = tuple(self._loop.machine.changes), list[Change]()
        while changes and changes[-1] is not self._last:
            new.append(changes[-1])
            changes = changes[:-1]
        for change in reversed(new):
            self._event(change.time, "state", f"{change.new}: {change.reason}", 1)
            self._last = change

    def _event(self, time: float, kind: str, text: str, count: int) -> None:
        row = {"tick": self._tick, "time": time, "kind": kind, "text": text, "count": count}
        self._rows["event"].append(row)

    def _hand_over(self) -> None:
        self._queue.put(dict(self._rows))
        self._rows = defaultdict(list)

    def _write(self) -> None:
        """The thread: writes parts until there are no more; a part that cannot be written is told, and left out."""
        number = 0
        while (rows := self._queue.get()) is not None:
            part, number = self.folder / f"part-{number:05d}.npz", number + 1
            try:
                columns = {
                    f"{table}/{key}": np.array([row[key] for row in each])
                    for table, each in rows.items()
                    for key in (each[0] if each else ())
                }
                with whole(part) as new, new.open("wb") as file:
                    np.savez(file, allow_pickle=False, **columns)  # type: ignore[arg-type]
            except Exception as error:  # whatever it is, the arm is not concerned
                _LOG.warning("%s is lost: %s", part, error)

    def close(self) -> None:
        """Write what is left; may be repeated, and is called when the process ends, however it does."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        self._changes()
        self._hand_over()
        self._queue.put(None)
        self._thread.join()


class _Transport:
    """A transport whose words are kept."""

    def __init__(self, inside: Transport, log: RunLog) -> None:
        self._inside, self._log, self._robot, self._number = inside, log, 0.0, 0

    def connect(self, handlers: Handlers) -> None:
        self._inside.connect(handlers)

    def connected(self) -> bool:
        return self._inside.connected()

    def connection(self) -> int:
        """The loop asks for it once a tick, before anything else; only where it is connected does it read."""
        self._number = self._inside.connection()
        self._log.link(_Link(self._robot, 0.0, self._number, False))
        return self._number

    def now(self) -> float:
        self._robot = self._inside.now()
        return self._robot

    def read(self) -> Sequence[Reading]:
        rows = self._inside.read()
        self._log.link(_Link(self._robot, self._log.now(), self._number, True))
        self._log.read(rows)
        return rows

    def send(self, trajectory: JointTrajectory) -> bool:
        return self._inside.send(trajectory)

    def hold(self) -> None:
        self._inside.hold()

    def publish_status(self, status: Status) -> None:
        self._inside.publish_status(status)

    def close(self) -> None:
        self._inside.close()
        self._log.close()


class _Worker:
    """A worker whose questions and answers are kept."""

    def __init__(self, inside: Worker, log: RunLog) -> None:
        self._inside, self._log = inside, log

    def submit(self, request: Request) -> None:
        self._log.asked(request)
        self._inside.submit(request)

    def poll(self) -> Answer | None:
        answer = self._inside.poll()
        if answer is not None:
            self._log.answered(answer)
        return answer

    @property
    def busy(self) -> bool:
        return self._inside.busy

    @property
    def alive(self) -> bool:
        return self._inside.alive

    @property
    def ready(self) -> bool:
        return self._inside.ready

    def close(self) -> None:
        self._inside.close()
