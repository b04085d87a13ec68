"""Recordings of ROS (rosbag2 with sqlite3 or mcap, and bags of ROS 1) as demonstrations; no ROS is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfplan.data import Episodes
from dfplan.deploy.recording.commanded import OBEYED, Said
from dfplan.deploy.recording.recorder import keep
from dfplan.deploy.recording.recording import Name, Recording
from dfplan.deploy.recording.sampler import Sampler
from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.robot.mapping import load_mapping
from dfplan.deploy.robot.transport import Reading
from dfplan.deploy.ros import messages as ros
from dfplan.tools.clock import FakeClock
from dfplan.tools.errors import one_of, optional_import

_CLOCK = "/clock"


@contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    """Name the bag in whatever goes wrong: rosbags and the libraries below it raise classes of their own."""
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path}: {what}: {text[:300]}; if the file is cut short or damaged, copy it again, or repair it by `ros2 bag "
            "reindex` or `mcap recover`"
        ) from error


class Bag:
    """Plays a bag: at each moment of `clock` the newest readings that were logged by then.

    Attributes:
        clock: 0 at the first message.
        seconds: length of the bag.
    """

    def __init__(self, path: Name, mapping: RobotMapping, sim_time: bool = False) -> None:
        """Open a bag: a folder of rosbag2, one of its files, or a `.bag` of ROS 1.

        The mapping's sources and commands are read; commands may be missing. With `sim_time` stamps are in the time of
        the topic /clock, else in that of the log.

        Raises:
            FileNotFoundError: there is nothing at `path`.
            ValueError: it cannot be read, or a topic is missing or of another type.
            ImportError: rosbags is not installed.
        """
        self.path, self.mapping, self.clock = Path(path).expanduser(), mapping, FakeClock()
        highlevel: Any = optional_import("rosbags.highlevel", "bags")
        typesys: Any = optional_import("rosbags.typesys", "bags")
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such bag; check the path")
        # Older bags of ROS 2 hold no definitions; those of the messages here are the same in all its releases.
        types = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        self._types = {s.name: ros.message_type(s.kind, s.message) for s in mapping.sources}
        with _decoding(self.path, "not a bag that can be read"):
            self._reader = highlevel.AnyReader([self.path], default_typestore=types)
            self._reader.open()
        try:
            self._select(sim_time)
        except BaseException:
            self._reader.close()
            raise

    def _select(self, sim_time: bool) -> None:
        """Choose the topics, and look at the first message."""
        wanted: dict[str, str] = {_CLOCK: ros.CLOCK} if sim_time else {}
        used = {s.source for s in self.mapping.policy.observation}
        there = {c.topic for c in self._reader.connections}
        for s in self.mapping.sources:
            if s.required or s.name in used or s.topic in there:
                wanted[s.topic] = self._types[s.name]
        for command in self.mapping.commands:
            if command.kind in OBEYED and command.topic in there:
                wanted[command.topic] = ros.COMMANDS[command.kind]
        for topic, kind in wanted.items():
            one_of(f"topic for {self.path}", topic, there)
            got = {c.msgtype for c in self._reader.connections if c.topic == topic}
            if got != {kind}:
                raise ValueError(
                    f"{self.path}: topic {topic} holds {', '.join(sorted(got))}, the mapping expects {kind}; give the "
                    "type in `message` of its source, or another topic"
                )
        chosen = [c for c in self._reader.connections if c.topic in wanted]
        self._messages: Iterator[tuple[Any, int, Any]] = self._reader.messages(chosen)
        with _decoding(self.path, "its first message cannot be read"):
            self._next = next(self._messages, None)
        if self._next is None:
            raise ValueError(f"{self.path}: no message on {', '.join(wanted)}")
        self._first = self._next[1]
        self.seconds = 1e-9 * (self._reader.end_time - self._first)
        self._sim, self._sim_now = sim_time, math.nan
        self._newest: dict[str, Reading] = {}
        self._said: list[Said] = []
        self._joints: dict[str, set[str]] = {}

    def read(self) -> Sequence[Reading]:
        """The newest reading of each source, as of the clock's time."""
        until = self._first + round(1e9 * self.clock.now())
        while self._next is not None and self._next[1] <= until:
            connection, time, raw = self._next
            with _decoding(self.path, f"topic {connection.topic}"):
                message = self._reader.deserialize(raw, connection.msgtype)
                self._take(connection.topic, message, time)
                self._next = next(self._messages, None)
        return tuple(self._newest.values())

    def _take(self, topic: str, message: Any, time: int) -> None:
        """Keep what a message says, logged at `time` ns."""
        received = 1e-9 * (time - self._first)
        if topic == _CLOCK and self._sim:
            self._sim_now = ros.seconds(ros.take(message, "clock"))
        for source in self.mapping.sources:
            if source.topic == topic:
                kind = self._types[source.name]
                r = ros.to_reading(source.name, kind, source.names, message, received)
                if source.kind == "joint_state":
                    self._joints.setdefault(source.name, set()).update(r.names)
                if self.mapping.concerns(source.name, r.names):
                    self._newest[source.name] = r
        for command in self.mapping.commands:
            if command.topic == topic and command.kind in OBEYED:
                self._said.append((command, message, self._sim_now if self._sim else 1e-9 * time))

    def check(self) -> None:
        """Raise, after the bag was played, unless each joint that is needed was in it; ValueError with the nearest name."""
        for source in self.mapping.sources:
            for name in self.mapping.needed[source.name] if source.name in self._joints else ():
                one_of(f"joint on {source.topic} of {self.path}", name, sorted(self._joints[source.name]))

    def commands(self) -> list[Said]:
        """What the controllers were told since the last call."""
        said, self._said = self._said, []
        return said

    def now(self) -> float:
        """The robot's clock: the log's, or /clock."""
        return self._sim_now if self._sim else 1e-9 * self._first + self.clock.now()

    def close(self) -> None:
        """Close the files."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def record_bags(
    paths: Sequence[Name], mapping: RobotMapping | Name, out: Name | None = None, *, resume: bool = False,
    sim_time: bool = False, name: str = "", relative: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = print,
) -> Episodes:  # fmt: skip
    """Bags as demonstrations, through the same recorder as a robot: one bag, one episode.

    Where a bag could not be recorded live, because a required source is stale or a number missing, the episode
    ends, and another begins where everything is there again. See `record` for columns, actions and the other
    arguments, and `Bag` for `sim_time`; `out` is written once, at the end.

    Returns:
        the episodes, those from before included.

    Raises:
        FileExistsError: `out` is there, without `resume`.
        FileNotFoundError: a bag is not there.
        ValueError: a bag cannot be read, lacks a topic or joint, or has nothing to keep; naming the bag and what.
        ImportError: rosbags is not installed.
    """
    mapping = mapping if isinstance(mapping, RobotMapping) else load_mapping(mapping)
    recording = Recording(mapping, out, resume=resume, name=name, relative=relative)
    for path in paths:
        bag = Bag(path, mapping, sim_time)
        try:
            _play(bag, recording, tell)
        finally:
            bag.close()
    recording.save()
    return recording.episodes()


def _play(bag: Bag, recording: Recording, tell: Callable[[str], None]) -> None:
    """Add what a bag holds."""
    sampler = Sampler(bag.mapping, bag, bag.clock, bag.commands)
    before, flaw, tick = len(recording), "", 0
    while bag.clock.now() <= bag.seconds:
        sampler.read()
        if sampler.running:
            flaw = sampler.sample()
            if flaw:
                tell(f"{bag.path.name} after {bag.clock.now():.2f} s: {flaw}")
                keep(sampler, recording, tell, bag.path.name)
        elif math.isfinite(bag.now()):
            flaw = sampler.flaw()
            if not flaw:
                sampler.start()
                sampler.sample()
        tick += 1
        bag.clock.sleep_until(tick / bag.mapping.loop.rate)
    if sampler.running:
        keep(sampler, recording, tell, bag.path.name)
    bag.check()
    if len(recording) == before:
        refused = "".join(f"; not used, {why}: {n}" for why, n in sampler.assembler.counts.items())
        raise ValueError(
            f"{bag.path}: nothing to keep in its {bag.seconds:.2f} s: {flaw or 'they are too short'}{refused}"
        )
