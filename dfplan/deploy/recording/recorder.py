"""`record`: demonstrations on a robot, in the columns of its mapping, written whole after each episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dfplan.data import Episodes
from dfplan.deploy.recording.commanded import Commands
from dfplan.deploy.recording.recording import Name, Recording
from dfplan.deploy.recording.sampler import Sampler
from dfplan.deploy.robot.mapping import Mapping as RobotMapping
from dfplan.deploy.robot.mapping import load_mapping
from dfplan.deploy.robot.transport import Handlers, Transport
from dfplan.tools.clock import Clock, RealClock
from dfplan.tools.errors import one_of

Control = Callable[[bool], str]
"""(whether an episode is under way) -> one of `ASKED`; called at each tick."""
ASKED = ("", "start", "stop", "discard", "quit")
"""Go on; begin an episode; end it and keep it; end it and forget it; end the recording."""


def record(
    mapping: RobotMapping | Name, transport: Transport, out: Name | None = None, *, control: Control,
    commands: Commands | None = None, episodes: int | None = None, seconds: float | None = None,
    resume: bool = False, name: str = "", relative: Mapping[str, str] | None = None,
    env_args: Mapping[str, Any] | None = None, clock: Clock | None = None, tell: Callable[[str], None] = print,
) -> Episodes:  # fmt: skip
    """Record demonstrations: the mapping's observation columns, and what the joints are told, at the policy's `dt`.

    The action of a step is where the joints were told to be one step later (rad, m; or the tool's pose there), and
    where they were one step later as far as nobody told them. A required source that is stale or missing ends the
    episode, which is then discarded; so does a number that is missing, and a sample that is late. A sensor that the
    robot can do without may show something old, which the array `doubtful` (N, S) tells.

    Args:
        mapping: of the robot, or its file.
        transport: to it; nothing is sent.
        out: `.hdf5` for robomimic's layout, no ending for a LeRobot folder, or another format that is written.
            After each kept episode all of them are written beside it and then put in its place.
        control: asked at each tick of the loop, see `Control`.
        commands: what the controllers are told; None: as far as it can be heard on ROS.
        episodes: end after so many kept ones; None: when told.
        seconds: end each episode after so long, and keep it; None: when told.
        resume: go on with the recording in `out`.
        name: of the data; None: the robot's.
        relative: observation column -> observation column that it is told relative to, such as an object's x and
            the tool's; see docs/imitation.md. Actions are told relative to the joints or the tool by themselves.
        env_args: of robomimic; None: a name.
        clock: None: the real one.
        tell: called with sentences about what happens.

    Returns:
        the episodes, those from before included.

    Raises:
        FileExistsError: `out` is there, without `resume`.
        ValueError: no episode was kept; what is in `out` has other columns; `episodes` is below 1 or `seconds` no longer
            than a step; or a bad word of `control`.
    """
    mapping = mapping if isinstance(mapping, RobotMapping) else load_mapping(mapping)
    if (episodes is not None and episodes < 1) or (seconds is not None and not seconds > mapping.policy.dt):
        raise ValueError(
            f"got episodes={episodes}, seconds={seconds}; expected 1 or more, and longer than the step of "
            f"{mapping.policy.dt} s, or None"
        )
    clock = clock or RealClock()
    recording = Recording(mapping, out, resume=resume, name=name, relative=relative, env_args=env_args)
    sampler = Sampler(mapping, transport, clock, commands)
    before, begun, tick = len(recording), clock.now(), 0
    try:
        transport.connect(Handlers(_refuse, _refuse))
        begun = clock.now()
        while episodes is None or len(recording) - before < episodes:
            asked = one_of("answer of control", control(sampler.running), ASKED)
            sampler.read()
            if asked == "quit":
                if sampler.running:
                    tell(f"episode {len(recording) + 1}: discarded")
                break
            _step(sampler, recording, asked, seconds, tell)
            tick = max(tick + 1, int((clock.now() - begun) * mapping.loop.rate))
            clock.sleep_until(begun + tick / mapping.loop.rate)
    except KeyboardInterrupt:
        tell("stopped")
    finally:
        transport.close()
    return recording.episodes()


def _refuse() -> tuple[bool, str]:
    return False, "recording, not driving"


def _step(
    sampler: Sampler, recording: Recording, asked: str, seconds: float | None, tell: Callable[[str], None]
) -> None:
    """One tick after `read`: begin, sample, end."""
    number = len(recording) + 1
    if asked == "start" and not sampler.running:
        flaw = sampler.flaw()
        if flaw:
            tell(f"cannot begin: {flaw}")
            return sampler.discard()
        sampler.start()
        tell(f"episode {number}: recording")
    if not sampler.running:
        return
    flaw = "" if asked == "discard" else sampler.sample()
    if flaw or asked == "discard":
        sampler.discard()
        tell(f"episode {number}: discarded{': ' if flaw else ''}{flaw}")
    elif asked == "stop" or (seconds is not None and sampler.seconds >= seconds - 1e-6):
        keep(sampler, recording, tell)


def keep(sampler: Sampler, recording: Recording, tell: Callable[[str], None], source: str = "") -> None:
    """End the episode under way, add it unless it is too short, and say so; write it, unless it is from a bag, `source`."""
    number, rows = len(recording) + 1, sampler.finish()
    if rows is None:
        tell(f"episode {number}: discarded: it is shorter than two samples")
        return
    recording.add(rows, sampler.optional, source)
    if not source:
        recording.save()
    how = f"commanded {', '.join(rows.commanded)}" if rows.commanded else "measured, nobody commands a joint"
    tell(f"episode {number}: kept, {len(rows.actions)} steps; actions: {how}")
    for sensor, part in zip(sampler.optional, rows.doubtful.mean(0).tolist(), strict=True):
        if part:
            tell(f"  '{sensor}' showed something old in {100 * part:.0f} % of them")
    for sentence in rows.notes:
        tell(f"  {sentence}")
