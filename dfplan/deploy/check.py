"""A mapping read back: what was understood of it, and what in it is doubtful, before anything moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.robot.body import Body, body
from dfplan.deploy.robot.mapping import Mapping
from dfplan.deploy.robot.observe import tokens_of
from dfplan.deploy.robot.tables import UNITS

if TYPE_CHECKING:
    from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
_TRIES = 2000  # postures drawn to see where the tool gets to
_REST = (0.02, 3.0)
"""s that real arms need to come to rest from full speed, at their full acceleration."""
_RISE = (0.001, 1.0)
"""s from rest to their full acceleration."""
_RATE = 10_000.0  # Hz: no sensor of an arm is read as often
_ENDS = {"range_m100_100": (-100.0, 100.0), "range_0_100": (0.0, 100.0)}
_ROUNDED = 0.5  # of LeRobot's 100: more than float32 does
_SPAN = 0.02  # rad, or a tenth in m: a joint that moves less is not driven by a policy


def understood(mapping: Mapping) -> list[str]:
    """Lines that say what a mapping means, in rad, m and s.

    Raises:
        ValueError: for what cannot be: see `body`.
    """
    robot = body(mapping.robot)
    limits, grips = robot.limits, _grips(robot)
    lines = [f"robot '{mapping.robot.name}', {len(limits.names)} joints:"]
    for i, name in enumerate(limits.names):
        unit = "m" if limits.sliding[i] else "rad"
        turn = (
            ""
            if limits.sliding[i]
            else f" ({np.rad2deg(limits.low[i]):.0f} to {np.rad2deg(limits.high[i]):.0f} deg)"
        )
        lines.append(
            f"  {name}: {limits.low[i]:.4g} to {limits.high[i]:.4g} {unit}{turn}, {limits.velocity[i]:.3g} {unit}/s, "
            f"{limits.acceleration[i]:.3g} {unit}/s^2" + (", grips" if grips[i] else "")
        )
        if name in robot.numbers:
            scale, offset = robot.numbers[name]
            ends = _ENDS.get(mapping.robot.joints[i].norm_mode) or _own(robot, i)
            low, high = (offset + scale * x for x in ends)
            lines.append(
                f"    the policy's {ends[0]:.4g} to {ends[1]:.4g} is {low:.4g} to {high:.4g} {unit}"
                + (f"; home is {(robot.home[i] - offset) / scale:.4g}" if robot.home is not None else "")
            )
    if robot.pose is not None and robot.home is not None:
        x, y, z = robot.forward(robot.home)
        lines.append(f"at home the tool is at x {x:.3f}, y {y:.3f}, z {z:.3f} m")
    for source in mapping.sources:
        stale = "the arm stops" if source.required else "its sensors are left out"
        lines.append(
            f"source '{source.name}' from {source.topic}, {source.rate:g} Hz; older than {source.max_age:g} s: {stale}"
        )
    columns = [name for sensor in mapping.policy.observation for name in sensor.called]
    lines.append(f"the policy sees {len(columns)} numbers: {', '.join(columns)}")
    moved = ", ".join(mapping.policy.action_joints or limits.names)
    lines.append(
        f"and moves {'the tool and ' if mapping.policy.action == 'tool' else ''}{moved} every {mapping.policy.dt:g} s"
    )
    lines += [f"{', '.join(c.joints)} to {c.topic} ({c.kind})" for c in mapping.commands]
    return lines


def doubts(mapping: Mapping, model: Checkpoint | None = None) -> list[str]:
    """What no arm is likely to be like, one sentence each.

    Args:
        mapping: of the robot.
        model: the policy that will drive it: its columns must be the mapping's, and where it was trained must be within reach.

    Raises:
        ValueError: the model is for other columns, actions or steps.
    """
    robot = body(mapping.robot)
    out = [*_joints(robot), *_tool(mapping, robot), *_readings(mapping)]
    if model is not None:
        tokens_of(mapping, model.config.spec)
        out += _trained(mapping, robot, model)
    return out


def _own(robot: Body, i: int) -> tuple[float, float]:
    """A joint's limits in the policy's numbers, the lower number first."""
    scale, offset = (row[0] for row in robot.affine([robot.limits.names[i]]))
    low, high = sorted(((robot.limits.lower[i] - offset) / scale, (robot.limits.upper[i] - offset) / scale))
    return float(low), float(high)


def _grips(robot: Body) -> NDArray[np.bool_]:
    return np.asarray(robot.limits.grips, bool)  # an array once the limits are made


def _joints(robot: Body) -> list[str]:
    limits, out = robot.limits, []
    for i, name in enumerate(limits.names):
        rest = float(limits.velocity[i] / limits.acceleration[i])
        if not _REST[0] <= rest <= _REST[1]:
            out.append(
                f"joint '{name}' would come to rest from full speed in {rest:.2g} s, expected {_REST[0]} to {_REST[1]}"
            )
        rise = float(limits.acceleration[i] / limits.jerk[i])
        if not _RISE[0] <= rise <= _RISE[1]:
            out.append(
                f"joint '{name}' would be at its full acceleration in {rise:.2g} s, expected {_RISE[0]} to {_RISE[1]}"
            )
        if limits.high[i] - limits.low[i] < _SPAN * (0.1 if limits.sliding[i] else 1.0):
            out.append(
                f"joint '{name}' may move by {limits.high[i] - limits.low[i]:.2g} only; is its unit right?"
            )
    if robot.home is not None:
        for i in np.flatnonzero((robot.home < limits.low) | (robot.home > limits.high)).tolist():
            out.append(f"home of joint '{limits.names[i]}' is {robot.home[i]:.3g}, outside its limits")
    if robot.look is not None:
        moving = np.abs(robot.look((limits.low + limits.high) / 2)[2]).max(0) > 0
        for i in np.flatnonzero(~moving & ~_grips(robot)).tolist():
            out.append(
                f"joint '{limits.names[i]}' does not move the tool; if it is a gripper, give it `grips: true`"
            )
    return out


def _tool(mapping: Mapping, robot: Body) -> list[str]:
    box = mapping.safety.workspace
    if box is None or robot.pose is None:
        return []
    out = []
    if robot.home is not None and not box.holds(tool := robot.forward(robot.home)):
        out.append(f"at home the tool is at {np.round(tool, 3).tolist()}, outside the workspace")
    rng, limits = np.random.default_rng(0), robot.limits
    postures = rng.uniform(limits.low, limits.high, (_TRIES, len(limits.low)))
    places = robot.forward(postures)
    inside = ((places >= np.array(box.low)) & (places <= np.array(box.high))).all(1).mean()
    if inside == 0:
        low, high = (np.round(f(0), 2).tolist() for f in (places.min, places.max))
        out.append(
            f"in none of {_TRIES} postures is the tool in the workspace; it gets from {low} to {high} m"
        )
    return out


def _readings(mapping: Mapping) -> list[str]:
    out = []
    for source in mapping.sources:
        if source.rate > _RATE:
            out.append(f"source '{source.name}' comes {source.rate:g} times a second; is that Hz?")
        if source.max_age < 1 / source.rate:
            out.append(
                f"source '{source.name}' comes every {1 / source.rate:.3g} s and is stale after {source.max_age:g} s: always"
            )
    units = {joint.name: joint.unit for joint in mapping.robot.joints}
    for sensor in mapping.policy.observation:
        if sensor.source != mapping.robot.state or sensor.field == "effort":
            continue
        for name in sensor.names:
            if name in units and UNITS[units[name]] != UNITS[sensor.unit]:
                out.append(
                    f"sensor '{sensor.name}' reads joint '{name}' in {sensor.unit}, which is commanded in {units[name]}"
                )
    return out


def _trained(mapping: Mapping, robot: Body, model: Checkpoint) -> list[str]:
    """Joints whose mean or standard deviation in training does not fit into their limits here, or their ends to LeRobot's."""
    spec, limits, out = model.config.spec, robot.limits, []
    ranges = model.calibration.get("observations")
    modes = {joint.name: joint.norm_mode for joint in mapping.robot.joints}
    seen = {c: (g, i) for g, token in enumerate(spec.tokens[:-1]) for i, c in enumerate(token.channels)}
    for sensor in mapping.policy.observation:
        if sensor.source != mapping.robot.state or sensor.field != "position" or sensor.convert != "none":
            continue
        for name, column in zip(sensor.names, sensor.called, strict=True):
            if name not in limits.names or column not in seen or spec.channel(column).reference:
                continue
            mean, scale = (float(v[seen[column]]) for v in (model.normalizer.mean, model.normalizer.scale))
            i = limits.names.index(name)
            lower, upper = _own(robot, i)
            if ranges and (ends := _ENDS.get(modes[name])):
                low, high = (float(ranges[key][spec.channel(column).index]) for key in ("low", "high"))
                if low < ends[0] - _ROUNDED or high > ends[1] + _ROUNDED:
                    out.append(
                        f"joint '{name}' was at {low:.4g} to {high:.4g} in training, but {modes[name]} ends at {ends[0]:g} and "
                        f"{ends[1]:g}; was it recorded in degrees?"
                    )
            span, middle = upper - lower, (lower + upper) / 2
            if abs(mean - middle) > 0.6 * span or scale > 0.6 * span:  # 0.5 and 0.5 are the most that can be
                out.append(
                    f"joint '{name}' was at {mean:.3g} +- {scale:.2g} in training, and may go from {lower:.3g} to "
                    f"{upper:.3g} here; are units and order those of the demonstrations?"
                )
    return out
