"""What the arm carries out: messages are taken to arrive until a reading shows that one did not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.motion.course import Course
from dfplan.deploy.robot.limits import JointLimits, Setpoint

Array = NDArray[np.float64]

_SMALL = 0.05
"""Share of acceleration x tick^2: a deviation that the cubic of one tick takes back at 2 to 3 x the acceleration limit."""
_SLOW = 0.05  # share of the speed limit: below it a joint says nothing about its lag
_SLACK, _MANY = 0.05, 4.0  # s of lag that is not known at first; mean errors that are not unusual
_EARLY, _QUICK, _SLOWLY = 60, 0.15, 0.002
"""Readings of a moving joint that are learned from quickly; weight of a new one then, and later."""
_LEAST = 1e-4  # s of lag
_CLEARLY = 0.5  # an older message must fit so much better than the newest
_KEPT, _SEARCHED, _REFUTED, _ALIKE = 8, 50, 4, 4
"""Courses that are remembered; where none of them explains a reading; of those that are refuted and may still arrive; older
ones, for each controller, that explain it as well."""
_SAME = 1e-6  # ticks
_QUIET = 2.5  # intervals between readings after which the next one is missed


class UnderWay:
    """Which of the last courses each controller is on.

    A joint follows its setpoint with a lag, and with errors; both are learned from readings while it moves. A reading that
    the newest course cannot explain, while an older one can, tells that what was sent since was lost.
    """

    def __init__(
        self, limits: JointLimits, groups: Sequence[Sequence[str]], dt: float, interval: float
    ) -> None:
        """Nothing is under way.

        Args:
            limits: of the J joints.
            groups: joints of each controller; every joint is in one of them.
            dt: s between two ticks.
            interval: expected between two readings, s.
        """
        self._groups = [np.array([limits.names.index(name) for name in group]) for group in groups]
        self._slow, self._push = _SLOW * limits.velocity, limits.acceleration
        held = ~np.isfinite(limits.scale)  # a gripper is stopped by what it holds
        self._small = np.where(held, np.inf, _SMALL * limits.acceleration * dt**2)
        self._judged = [group for group in self._groups if not held[group].all()]
        self._noise, self._lag, self._slack = limits.zeros(), limits.zeros(), limits.zeros() + _SLACK
        self._moved = limits.zeros()
        self._every, self._age, self._seen = max(1.0, interval / dt), 0.0, -np.inf
        self.clear()

    def clear(self) -> None:
        """Nothing is under way; what was learned about the arm stays."""
        self._courses: list[Course] = []
        self._now: list[Course] = []
        self.doubt = False

    def add(self, course: Course) -> None:
        """A message was handed over."""
        self._courses.append(course)
        self._now = [course] * len(self._groups)

    @property
    def last(self) -> int:
        """Tick up to which the arm does what was planned, before the stop that was sent along."""
        return min(course.last for course in self._now)

    @property
    def over(self) -> int:
        """Tick from which the arm rests."""
        return max((course.over for course in self._now), default=0)

    @property
    def time(self) -> float:
        """The policy's time at `last`, s."""
        return min(course.time for course in self._now)

    def state(self, tick: float) -> Setpoint:
        """Where each joint is told to be at a tick."""
        states = {id(course): course.state(tick) for course in self._now}
        parts = np.zeros((3, len(self._slow)))
        for group, course in zip(self._groups, self._now, strict=True):
            one = states[id(course)]
            parts[:, group] = np.stack([one.position, one.velocity, one.acceleration])[:, group]
        return Setpoint(*parts)

    def silent(self, tick: float) -> bool:
        """Whether the next reading is overdue at a tick: then it is not known what arrives either."""
        return tick - self._seen > self._age + _QUIET * self._every

    def see(self, tick: float, position: Array, now: float) -> None:
        """Take a reading.

        Args:
            tick: when it was measured.
            position: (J,) rad or m.
            now: tick at which it is seen.
        """
        if tick <= self._seen + _SAME:
            return
        if np.isfinite(self._seen):
            self._every += 0.05 * (min(tick - self._seen, 3 * self._every) - self._every)
            self._age += 0.05 * (now - tick - self._age)
        self._seen = tick
        rows = self._compare(tick, position)
        if not rows:
            return
        (newest, told, _), self.doubt, lost = rows[0], False, False
        later = [course for course in self._courses if course.begin > tick + _SAME]
        for i, group in enumerate(self._groups):
            found = self._fit([(course, float(off[group].max())) for course, _, off in rows])
            self.doubt |= found is None
            lost |= found is not None and found is not newest
            self._now[i] = self._courses[-1] if found is None else self._follow(found, later, group)
        if not lost:
            self._learn(position - told.position, told.velocity)
        self._forget(tick, position, _REFUTED if lost else _SEARCHED if self.doubt else _KEPT)

    def _forget(self, tick: float, position: Array, count: int) -> None:
        """All but the newest `count` courses, and those that fit a reading best.

        Stops that begin on each other look alike for a while, so the newest that fits need not be the one under way.
        """
        old = self._courses[:-count]
        off = [self._off(course.state(tick), position) for course in old]
        alike: set[int] = set()
        for group in self._judged:
            fits = sorted((float(row[group].max()), i) for i, row in enumerate(off))
            alike |= {i for far, i in fits[:_ALIKE] if far <= 1}
        self._courses = [old[i] for i in sorted(alike)] + self._courses[-count:]

    def _follow(self, found: Course, later: list[Course], group: NDArray[np.int_]) -> Course:
        """The newest course that, one after the other, begins where `found` leads: nothing speaks against those."""
        for course in later:
            gap = np.abs(course.setpoints[0].position - found.state(course.begin).position)
            if (gap <= self._small)[group].all():
                found = course
        return found

    def _compare(self, tick: float, position: Array) -> list[tuple[Course, Setpoint, Array]]:
        """Courses, newest first, with the setpoint at a tick and how far off (J,) it is in units of what is usual."""
        rows = []
        for course in reversed(self._courses):
            if course.begin > tick + _SAME:
                continue  # nothing of it shows yet
            told = course.state(tick)
            rows.append((course, told, self._off(told, position)))
            if (rows[-1][2] <= 1).all():
                break
        return rows

    def _off(self, told: Setpoint, position: Array) -> Array:
        """(J,) how far off a reading is, its lag set aside, in units of what changes of speed hide, and errors."""
        error = position - told.position + self._lag * told.velocity
        errors = self._noise + self._slack * np.abs(told.velocity)
        return np.abs(error) / (self._small + self._push * self._lag**2 + _MANY * errors)

    @staticmethod
    def _fit(rows: list[tuple[Course, float]]) -> Course | None:
        """The newest course if it explains the reading, else one that does clearly better, else None."""
        if rows[0][1] <= 1:
            return rows[0][0]
        return next((course for course, off in rows[1:] if off <= min(1.0, _CLEARLY * rows[0][1])), None)

    def _learn(self, error: Array, velocity: Array) -> None:
        """Lag, of joints that move, and the errors that are left of it.

        After the first readings slowly, and from none more than from a few usual errors: a loss must not pass for a lag.
        """
        early, moves = self._moved < _EARLY, np.abs(velocity) > self._slow
        gain = np.where(early, _QUICK, _SLOWLY)
        slack = np.where(early, np.inf, _MANY * self._slack + _LEAST)
        noise = np.where(early, np.inf, _MANY * self._noise + self._small)
        speed = np.where(moves, velocity, 1.0)
        self._lag += gain * np.where(moves, np.clip(-error / speed - self._lag, -slack, slack), 0.0)
        left = np.abs(error + self._lag * velocity)
        seconds = np.minimum(left / np.abs(speed), slack)
        self._slack += gain * np.where(moves, seconds - self._slack, 0.0)
        self._noise += gain * (np.minimum(left, noise) - self._noise)
        self._moved += moves
