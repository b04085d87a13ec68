"""`dfplan record`."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dfplan.cli.arm.link import LINK, Link
from dfplan.cli.common import FLAT, app, read_options

if TYPE_CHECKING:
    from dfplan.deploy import Mapping

_KEYS = "Enter: begin an episode, Enter again: keep it; d Enter: discard it; q Enter or Ctrl-C: end"


@dataclass(frozen=True)
class About:
    """What is recorded.

    Attributes:
        name: what is done, in words; the robot's name if left out.
        relative: column=column: an object's column that is told relative to the tool's, such as object_x=ee_x.
    """

    name: str = ""
    relative: tuple[str, ...] = ()


ABOUT = About()


@app.command(name="record")
def record(
    out: Path,
    transport: Literal["ros2", "rosbridge", "sim"] | None = None,
    link: Annotated[Link, FLAT] = LINK,
    from_bag: tuple[Path, ...] = (),
    episodes: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    about: Annotated[About, FLAT] = ABOUT,
) -> None:
    """Record demonstrations to train on, in the columns of the robot's mapping file.

    dfplan record --transport ros2 --robot arm.yaml --out demos.hdf5 (Enter begins an episode, Enter ends it)

    dfplan record --transport ros2 --robot arm.yaml --out demos.hdf5 --resume (go on another day)

    dfplan record --from-bag monday/* --robot arm.yaml --out demos (a LeRobot folder; one bag, one episode)

    dfplan record --transport sim --task arm-reach --episodes 50 --out demos.hdf5 (the scripted expert drives)

    Args:
        out: .hdf5: robomimic's layout; no ending: a LeRobot folder.
        transport: how the arm is reached; nothing is sent to it.
        link: which arm, and where; with --resume the simulated arm wants another --seed than before.
        from_bag: bags of ROS 2 (folders) or ROS 1 (.bag) to read instead of a robot.
        episodes: end after so many kept ones.
        seconds: end each episode after so long, and keep it.
        resume: go on with the recording in --out.
        about: what is recorded.
    """
    if bool(from_bag) == (transport is not None):
        raise ValueError("got both --transport and --from-bag, or neither; give one of them")
    if transport == "sim" and episodes is None:
        raise ValueError("got no --episodes with --transport sim, where nobody says when it is enough")
    options: dict[str, Any] = {
        "resume": resume, "name": about.name, "relative": read_options(about.relative)
    }  # fmt: skip
    if from_bag:
        from dfplan.deploy.recording.bag import record_bags

        if link.robot is None:
            raise ValueError(
                "got no --robot with --from-bag; give the robot's mapping file, see docs/deploy.md"
            )
        made = record_bags(from_bag, link.robot, out, sim_time=link.sim_time, **options)
    else:
        from dfplan.deploy.recording.recorder import record as run

        assert transport is not None
        mapping, arm = link.connect(transport)
        more: dict[str, Any] = {"control": _Keys()}
        if transport == "sim":
            more = _scripted(arm, mapping, link.task, link.seed, options)
        made = run(mapping, arm, out, episodes=episodes, seconds=seconds, **{**options, **more})
    print(
        f"done: {out}, {len(made)} episodes, {made.steps} steps; try: dfplan train imitation --data {out} --out RUN"
    )


def _scripted(arm: Any, mapping: Mapping, task: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Settings of a recording of the simulated arm: its expert, simulated time, what is known of its columns."""
    from dfplan import envs
    from dfplan.deploy import FakeClock

    if not isinstance(arm, envs.SimArm):
        raise ValueError(
            "got --transport sim with a --robot that nobody drives; leave out --robot for a task with an expert, or drive it "
            "from a program: dfplan.deploy.record"
        )
    arm.clock = FakeClock()
    driver = envs.ScriptedTeleoperator(arm, mapping, seed)
    relative, env_args = envs.task_info(arm.env, mapping)
    out = {"control": driver, "commands": driver.commands, "clock": arm.clock, "env_args": env_args}
    return out | {"name": options["name"] or task, "relative": relative | options["relative"]}


class _Keys:
    """The keyboard as the control of a recording."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._listen, name="keyboard", daemon=True).start()
        print(_KEYS)

    def _listen(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip().lower())
        self._lines.put("q")

    def __call__(self, recording: bool) -> str:
        """What was typed since the last tick."""
        try:
            line = self._lines.get_nowait()
        except Empty:
            return ""
        words = {"": "stop" if recording else "start", "d": "discard", "q": "quit"}
        if line not in words:
            print(_KEYS)
        return words.get(line, "")
