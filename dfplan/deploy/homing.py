"""To the home position of the mapping, slowly: through the controllers' own actions, or by the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TextIO, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer, Request
from dfplan.deploy.loop.loop import Loop
from dfplan.deploy.loop.machine import READY, RUNNING
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.motion.chunks import move
from dfplan.deploy.robot.body import Body, body
from dfplan.deploy.robot.mapping import Mapping, load_mapping
from dfplan.deploy.robot.transport import JointTrajectory, Transport
from dfplan.deploy.run import Name, Report, run
from dfplan.tools.clock import Clock, RealClock

Array = NDArray[np.float64]

_LOG = logging.getLogger(__name__)
_DT = 0.05
_NEAR = 0.02
"""rad, and ten times less in m: there."""


@runtime_checkable
class _Follows(Protocol):
    """A transport that reaches the controllers' FollowJointTrajectory actions."""

    def follow(self, trajectory: JointTrajectory, done: Callable[[bool, str], None]) -> bool:
        """Run a motion; `done` once for each controller."""


def home(
    mapping: Mapping | Name, transport: Transport, *, share: float = 0.2, seconds: float = 60.0,
    out: TextIO | None = None, clock: Clock | None = None,
) -> tuple[bool, Report]:  # fmt: skip
    """Move an arm to `robot.home`, from rest to rest, and stay there. It is armed by calling this.

    Where every command of the mapping names an `action` that answers, the controllers run the whole motion; else the
    loop does, behind the safety filter, as it runs a policy. Either way Ctrl-C or a reading that stays away stops it.

    Args:
        mapping: of the robot, or its file.
        transport: to the robot.
        share: of the velocity and acceleration limits, above 0 to 1.
        seconds: after which it is given up.
        out: where the status line goes; None: standard error where that is a terminal.
        clock: None: the real one.

    Returns:
        whether the arm rests at home, and how it went.

    Raises:
        ValueError: for a mapping without a home, or with one outside the limits, or a share out of range.
    """
    mapping = mapping if isinstance(mapping, Mapping) else load_mapping(mapping)
    robot, clock = body(mapping.robot), clock or RealClock()
    if robot.home is None:
        raise ValueError("the mapping has no home; give robot.home, one position for each joint")
    decide = _Move(robot, robot.home, share)
    decide.plan(robot.home)  # refuses a home outside the limits, and the share
    worker = DelayedWorker(decide, clock)
    driver = Driver(worker, decide, _DT, {}, len(robot.home), commit=mapping.loop.commit)
    loop = Loop(mapping, robot, transport, worker, driver, clock)
    by_action = _ByAction(loop, decide)
    there = False

    def over() -> bool:
        nonlocal there
        there = _arrived(loop)
        if by_action.possible:
            return by_action.over()
        if not loop.machine.run and loop.machine.state == READY:
            loop.arm()
        return bool(loop.machine.run) and (there or loop.machine.state != RUNNING)

    report = run(loop, False, seconds, over, out)
    return there, report


def _arrived(loop: Loop) -> bool:
    """Whether the arm rests at its home."""
    measured = loop.assembler.measured(loop.clock.now(), loop.transport.now())
    if measured is None or loop.body.home is None:
        return False
    far = np.abs(measured.position - loop.body.home) / loop.body.limits.scale
    slow = np.abs(measured.velocity) < 0.02 * loop.body.limits.velocity
    return bool((far < _NEAR).all() and slow.all())


class _Move:
    """Decides a motion home from where the run began, whatever it sees."""

    stride, steps, ahead, chunk = 1, 1, 40, 20

    def __init__(self, robot: Body, goal: Array, share: float) -> None:
        self.robot, self.goal, self.share = robot, goal, share
        self._run, self._rows = -1, goal[None]

    def __call__(self, request: Request) -> Answer:
        first = request.step + len(request.committed)
        if request.run != self._run:
            try:
                self._run, self._rows = request.run, self.plan(request.joints).positions
            except ValueError as error:
                return Answer(first, self._rows, self._rows, 0.0, error=str(error), run=request.run)
        rows = self._rows[np.minimum(np.arange(first, request.step + self.ahead), len(self._rows) - 1)]
        return Answer(first, rows, rows, 0.0, run=request.run)

    def plan(self, start: Array, stamp: float = 0.0) -> JointTrajectory:
        """From rest at `start` (J,)."""
        return move(self.robot.limits, start, self.goal, share=self.share, dt=_DT, stamp=stamp, expire=1.0)


class _ByAction:
    """The motion as one goal for each controller; the loop looks on, and commands nothing.

    Attributes:
        possible: whether it is, as far as is known.
    """

    def __init__(self, loop: Loop, decide: _Move) -> None:
        self.loop, self.decide, self._asked = loop, decide, False
        self._said: list[tuple[bool, str]] = []
        named = all(c.action for c in loop.mapping.commands)
        self.possible = named and isinstance(loop.transport, _Follows)

    def over(self) -> bool:
        """Asked at every tick."""
        loop, transport = self.loop, self.loop.transport
        if self._asked:
            if loop.machine.state != READY:  # readings stay away, or somebody asked for a stop
                transport.hold()
                return True
            return len(self._said) == len(loop.mapping.commands)
        measured = loop.assembler.measured(loop.clock.now(), transport.now())
        if loop.machine.state != READY or measured is None or loop.unfit():
            return False
        motion = self.decide.plan(measured.position, transport.now())
        assert isinstance(transport, _Follows)
        if self._inside(motion) and transport.follow(motion, lambda *said: self._said.append(said)):
            self._asked = True
            return False
        transport.hold()
        reason = self._said[-1][1] if self._said else "it would leave the workspace"
        _LOG.warning("not by action (%s): the loop moves the arm", reason)
        self.possible = False
        return False

    def _inside(self, motion: JointTrajectory) -> bool:
        box, robot = self.loop.mapping.safety.workspace, self.loop.body
        return box is None or box.holds(robot.forward(motion.positions))
