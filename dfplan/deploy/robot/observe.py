"""From readings to the policy's observation: matched by name, with ages, and what is not to be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.body import Body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.tables import UNITS, Sensor
from dfplan.deploy.robot.transport import Reading
from dfplan.tools.errors import one_of

if TYPE_CHECKING:
    from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]

_AHEAD, _BACK = 1.0, 0.05  # s: of a stamp, and of the robot's clock
_SHARE, _SAME = 0.01, 0.005
"""Of the speed limit times 1 s, or rad (m: a tenth) if that is more: a joint that moved less stands still."""
_FLAWS = {
    "missing": "joints or numbers are missing",
    "ahead": "it is stamped ahead of the robot's clock, are the clocks of its computers the same?",
    "not finite": "positions are not finite",
}


@dataclass(frozen=True)
class Observed:
    """What the policy would see now.

    Attributes:
        values: (O,) in rad, m and 1, or the policy's own numbers of joints; NaN where there is no reading.
        doubtful: sensors that are stale, missing or not finite.
        ages: source -> s.
    """

    values: Array
    doubtful: tuple[str, ...]
    ages: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """Where the joints are.

    Attributes:
        position: (J,) rad or m.
        velocity: (J,) per s, 0 where unknown.
        age: how old that is, s.
        still: (J,) for how long each position has been the same, s: what a driver says of velocities may be wrong.
    """

    position: Array
    velocity: Array
    age: float
    still: Array


class Assembler:
    """Keeps the newest reading of each source, and makes observations of them.

    Attributes:
        counts: why readings were not taken -> how often.
    """

    def __init__(self, mapping: Mapping, body: Body) -> None:
        self.mapping, self.body = mapping, body
        self.counts: Counter[str] = Counter()
        self._newest: dict[str, Reading] = {}
        self._before: dict[str, Reading] = {}
        self._flaws: dict[str, str] = {}
        self._robot_now = -math.inf
        limits = body.limits
        self._same = np.maximum(_SHARE * limits.velocity, np.where(limits.sliding, 0.1, 1.0) * _SAME)
        self._place = self._since = np.full(len(limits.names), np.nan)

    def update(self, readings: Iterable[Reading], robot_now: float = math.nan) -> bool:
        """Take what is newer than what there is.

        A message with none of the source's names is somebody else's on the same topic, and is ignored; one with some
        of them but not all is counted as `missing` and not taken, so that the source grows old; so is one that is
        stamped more than a second `ahead` of the robot's clock.

        Returns:
            whether the robot's clock was set back: nothing that was read before counts then.
        """
        back = robot_now < self._robot_now - _BACK
        self._robot_now = robot_now
        if back:
            self.forget()
        for r in readings:
            name = one_of("source", r.source, self.mapping.needed)
            last = self._newest.get(name)
            if last is r or (last is not None and (r.received < last.received or r.stamp < last.stamp)):
                continue
            if not self.mapping.concerns(name, r.names):
                continue
            missing = set(self.mapping.needed[name]).difference(r.names)
            ahead = r.stamp > robot_now + _AHEAD
            flaw = "missing" if missing else "ahead" if ahead else "" if self._finite(r) else "not finite"
            self._flaws[name] = flaw
            if flaw:
                self.counts[f"{name}: {flaw}"] += 1
                continue
            if last is not None:
                self._before[name] = last
            self._newest[name] = r
            if name == self.mapping.robot.state:
                position = self._position(r)
                moved = ~(np.abs(position - self._place) <= self._same)
                self._place = np.where(moved, position, self._place)
                self._since = np.where(moved, r.received, self._since)
        return back

    def forget(self) -> None:
        """Drop all readings: after a disconnection nothing old counts, and the robot's clock may have been reset."""
        self._newest.clear()
        self._before.clear()
        self._place = np.full_like(self._place, np.nan)

    def _position(self, r: Reading) -> Array:
        """(J,) rad or m, of a reading of the state."""
        return _pick(r, "position", [joint.name for joint in self.mapping.robot.joints]) * self.body.unit

    def _finite(self, r: Reading) -> bool:
        """A state whose positions are not finite is not taken; other sources' NaN makes their sensor doubtful."""
        return r.source != self.mapping.robot.state or bool(np.isfinite(self._position(r)).all())

    def age(self, source: str, now: float, robot_now: float) -> float:
        """Age of a source, s: since it arrived or since it was measured, whichever is longer; infinite if never."""
        r = self._newest.get(source)
        if r is None:
            return float("inf")
        stamped = robot_now - r.stamp
        return max(now - r.received, stamped if np.isfinite(stamped) else 0.0)

    def ages(self, now: float, robot_now: float) -> dict[str, float]:
        """Source -> age, s."""
        return {s.name: self.age(s.name, now, robot_now) for s in self.mapping.sources}

    def stale(self, ages: dict[str, float]) -> str:
        """Why a required source cannot be used now, or empty."""
        for s in self.mapping.sources:
            if s.required and not ages[s.name] <= s.max_age:
                flaw = self._flaws.get(s.name)
                more = f"; what comes is not taken: {_FLAWS[flaw]}" if flaw else ""
                if np.isinf(ages[s.name]):
                    return f"'{s.name}' has not been received on {s.topic}{more}"
                return f"'{s.name}' is {ages[s.name]:.3f} s old (limit {s.max_age:g} s){more}"
        return ""

    def measured(self, now: float, robot_now: float) -> Measured | None:
        """Where the joints are, or None before the first reading."""
        state = self.mapping.robot.state
        r = self._newest.get(state)
        if r is None:
            return None
        names = [j.name for j in self.mapping.robot.joints]
        velocity = np.nan_to_num(self._velocity(r, names) * self.body.unit)
        return Measured(
            self._position(r), velocity, self.age(state, now, robot_now), r.received - self._since
        )

    def observe(self, now: float, robot_now: float) -> Observed:
        """The policy's observation and which of its sensors are doubtful."""
        ages, parts, doubtful = self.ages(now, robot_now), [], []
        limits = {s.name: s.max_age for s in self.mapping.sources}
        for sensor in self.mapping.policy.observation:
            r = self._newest.get(sensor.source)
            part = np.full(sensor.size, np.nan) if r is None else self._part(sensor, r)
            if not np.isfinite(part).all() or not ages[sensor.source] <= limits[sensor.source]:
                doubtful.append(sensor.name)
            parts.append(part)
        return Observed(np.concatenate(parts), tuple(dict.fromkeys(doubtful)), ages)

    def _part(self, sensor: Sensor, r: Reading) -> Array:
        names = list(sensor.names)
        rows = self._velocity(r, names) if sensor.field == "velocity" else _pick(r, sensor.field, names)
        rows = rows * UNITS[sensor.unit]
        if sensor.convert == "none":
            if r.source != self.mapping.robot.state or sensor.field == "effort":
                return rows
            scale, offset = self.body.affine(names)
            return np.asarray(rows / scale if sensor.field == "velocity" else (rows - offset) / scale)
        if not np.isfinite(rows).all():
            return np.full(sensor.size, np.nan)
        if sensor.convert == "rot6d":
            return _six(rows)
        q = self.body.limits.zeros()
        q[self.body.limits.columns(names)] = rows
        return self.body.tool(q)

    def _velocity(self, r: Reading, names: list[str]) -> Array:
        """Velocities, from two positions where the message has none; 0 with a single one."""
        if "velocity" in r.values:
            return _pick(r, "velocity", names)
        old = self._before.get(r.source, r)
        between = r.stamp - old.stamp if r.stamp > old.stamp else r.received - old.received
        if not 0 < between < 1:
            return np.zeros(len(names))
        return (_pick(r, "position", names) - _pick(old, "position", names)) / between


def _pick(r: Reading, field: str, names: list[str]) -> Array:
    """Numbers of a reading by name, NaN where the message left the field empty."""
    values = r.values.get(field)
    if values is None:
        return np.full(len(names), np.nan)
    return np.array([values[r.names.index(n)] for n in names], np.float64)


def _six(quaternion: Array) -> Array:
    """Quaternion x y z w -> first two columns of its rotation (6,); NaN for one that is not of length 1."""
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1) > 0.01:
        return np.full(6, np.nan)
    x, y, z, w = (quaternion / length).tolist()
    return np.array(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w),
            2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w),
        ]
    )  # fmt: skip


def tokens_of(mapping: Mapping, spec: TrajectorySpec) -> dict[str, tuple[str, ...]]:
    """Which of the model's tokens each sensor fills; ValueError where the model is for other columns, actions or steps."""
    sensors = mapping.policy.observation
    names = [name for sensor in sensors for name in sensor.called]
    if abs(spec.dt - mapping.policy.dt) > 0.01 * spec.dt:  # 0.033 s is 30 Hz
        raise ValueError(
            f"got policy.dt={mapping.policy.dt} in the mapping, but the model was trained at {spec.dt} s"
        )
    if len(names) != spec.observation_size:
        raise ValueError(
            f"the mapping has {len(names)} columns, the model was trained on {spec.observation_size}; take the model of this "
            "robot, or read its sensors in policy.observation"
        )
    seen = {c.index: c.name for c in spec.channels if c.source == "observations"}
    for i, name in seen.items():
        if names[i] != name:
            raise ValueError(
                f"column {i} of the observation is '{names[i]}' in the mapping, the model was trained on '{name}'; put the "
                "sensors in its order, or name them in `columns`"
            )
    joints = mapping.policy.action_joints or tuple(j.name for j in mapping.robot.joints)
    size = len(joints) + (9 if mapping.policy.action == "tool" else 0)
    if spec.action_size != size:
        raise ValueError(
            f"the mapping has actions of {size} numbers, the model was trained on {spec.action_size}; take the model of this "
            "robot, or name its joints in policy.action_joints"
        )
    out: dict[str, tuple[str, ...]] = {}
    for sensor in sensors:
        got = tuple(t.name for t in spec.tokens[:-1] if set(sensor.called).intersection(t.channels))
        out[sensor.name] = tuple(dict.fromkeys(out.get(sensor.name, ()) + got))
    return out
