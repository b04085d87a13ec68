"""Whatever comes in, what goes out is within every limit, and a stop is always still possible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from robots import limits

from dfplan.deploy.motion.profile import Stop
from dfplan.deploy.motion.safety import SafetyFilter
from dfplan.deploy.robot.limits import Box, Safety, Target

DT = 0.01


def forward(q):
    return np.stack([np.cos(q[..., 0]) + q[..., 2], np.sin(q[..., 0]), q[..., 1]], -1)


def inside(found, lim, dt=DT, near=1 + 1e-7):
    q, v, a = (np.array([getattr(s, key) for s in found]) for key in ("position", "velocity", "acceleration"))
    assert np.isfinite(q).all() and np.isfinite(v).all() and np.isfinite(a).all()
    assert (q >= lim.low).all() and (q <= lim.high).all()
    assert (np.abs(v) <= lim.velocity).all() and (np.abs(a) <= lim.acceleration).all()
    assert (np.abs(np.diff(a, axis=0)) <= lim.jerk * dt * near).all()
    for order, limit in ((1, lim.velocity), (2, lim.acceleration), (3, lim.jerk)):  # as the arm sees it
        assert (np.abs(np.diff(q, n=order, axis=0)) / dt**order <= limit * near).all()


def adversary(kind, rng, lim, state):
    size = len(lim.names)
    q = rng.uniform(lim.lower - 1, lim.upper + 1)
    v, a = rng.normal(size=size) * rng.choice([0, 1, 1e3]), rng.normal(size=size) * rng.choice([0, 5, 1e6])
    return {
        "random": Target(q, v, a),
        "nan": Target(np.where(rng.random(size) < 0.5, np.nan, q), v),
        "huge": Target(q * 1e12, v * 1e12, a),
        "infinite": Target(q, np.full(size, np.inf)),
        "reversed": Target(-state.position, -10 * state.velocity, -state.acceleration),
        "stale": Target(q, v, age=float(rng.choice([-1, 1e3, np.nan]))),
        "shape": Target(np.zeros(size + 1)),
        "edge": Target(np.where(rng.random(size) < 0.5, lim.low, lim.high), np.sign(v) * lim.velocity),
        "near": Target(state.position + 0.01 * rng.normal(size=size), v),
        "none": None,
    }[kind]


KINDS = ("random", "nan", "huge", "infinite", "reversed", "stale", "shape", "edge", "near", "none")


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 40)), min_size=3, max_size=8),
    st.integers(0, 2**31), st.sampled_from([2000.0, 200.0, 30.0]), st.booleans(),
)  # fmt: skip
def test_nothing_leaves_outside_a_limit(story, seed, jerk, boxed):
    rng, lim = np.random.default_rng(seed), limits(jerk=jerk)
    box = Box((-1.5, -0.6, -0.8), (1.4, 0.7, 0.9))
    guard = SafetyFilter(lim, DT, Safety(jump=np.pi, workspace=box if boxed else None), forward)
    found = [guard.start(rng.uniform(-0.2, 0.2, 3))]
    for kind, times in story:
        target = adversary(kind, rng, lim, found[-1])
        found += [guard.step(target) for _ in range(times)]
    inside(found, lim)
    while np.any(found[-1].velocity) and len(found) < 2000:
        found.append(guard.step(None))
    inside(found, lim)
    assert not np.any(found[-1].velocity) and not np.any(found[-1].acceleration)  # a stop was possible
    if boxed:
        assert box.holds(forward(np.array([s.position for s in found])))


def test_a_motion_within_the_limits_passes_unchanged():
    lim, t = limits(), np.arange(1, 400) * DT
    q = 0.3 * np.sin(t)[:, None] ** 3 * np.ones(3)
    v, a = np.gradient(q, DT, axis=0), np.gradient(np.gradient(q, DT, axis=0), DT, axis=0)
    guard = SafetyFilter(lim, DT)
    guard.start(np.zeros(3))
    out = np.array([guard.step(Target(*row)).position for row in zip(q, v, a, strict=True)])
    assert np.abs(out - q).max() < 1e-4 and not {"position", "velocity", "workspace"} & set(guard.counts)


def test_a_step_is_approached_without_overshoot_and_reached():
    lim = limits(jerk=60.0)
    guard = SafetyFilter(lim, DT)
    guard.start(np.zeros(3))
    q = np.array([guard.step(Target([0.5, -0.5, 1.45])).position for _ in range(300)])
    np.testing.assert_allclose(q[-1], [0.5, -0.5, 1.45], atol=1e-6)
    assert q[:, 0].max() <= 0.5 + 1e-6 and q[:, 1].min() >= -0.5 - 1e-6


@pytest.mark.parametrize(
    "target, measured, reason",
    [
        (Target([np.nan, 0, 0]), None, "not finite"), (Target([0, 0]), None, "shape"),
        (Target([0, 0, 0], age=0.6), None, "stale"), (Target([0, 0, 0], age=-0.1), None, "stale"),
        (Target([0.7, 0, 0]), np.zeros(3), "jump"), (Target([0, 0, 0]), [np.nan, 0, 0], "measured"),
        (Target([9, 0, 0]), None, "position"), (Target([0, 0, 0], [9, 0, 0]), None, "velocity"),
        (Target([0.2, 0, 0]), None, "acceleration"), (Target([0, 0, 1.4]), None, "workspace"),
    ],
)  # fmt: skip
def test_each_refusal_is_counted_with_its_reason(target, measured, reason):
    guard = SafetyFilter(
        limits(), DT, Safety(max_age=0.5, workspace=Box((-3, -3, -3), (1.0005, 3, 3))), forward
    )
    guard.start(np.zeros(3))
    for _ in range(30):
        guard.step(target, measured)
    assert guard.counts[reason] > 0 and guard.reason in ("", reason)


def test_a_start_outside_a_limit_or_the_workspace_is_refused():
    with pytest.raises(ValueError, match=r"joint 'j1' is at 1\.6, expected -1\.95 to 1\.45"):
        SafetyFilter(limits(), DT).start([0, 1.6, 0])
    with pytest.raises(ValueError, match="outside the workspace"):
        SafetyFilter(limits(), DT, Safety(workspace=Box((0, 0, 0), (1, 1, 1))), forward).start([0, -0.5, 0])
    with pytest.raises(ValueError, match="without kinematics"):
        SafetyFilter(limits(), DT, Safety(workspace=Box((0, 0, 0), (1, 1, 1))))
    with pytest.raises(RuntimeError, match="call start"):
        SafetyFilter(limits(), DT).step(None)


@pytest.mark.parametrize("field", ["jump", "following", "max_age"])
@pytest.mark.parametrize("value", [0, -1, np.inf, np.nan])
def test_no_check_can_be_switched_off_by_a_number(field, value):
    with pytest.raises(ValueError, match=field):
        Safety(**{field: value})


@settings(max_examples=60)
@given(st.floats(-1.2, 1.2), st.floats(-5, 5), st.sampled_from([20.0, 300.0]))
def test_the_stop_is_exact(v, a, jerk):
    stop = Stop(np.array([v]), np.array([a]), np.array([5.0]), np.array([jerk]))
    t = np.linspace(0, float(stop.seconds[0]), 20001)
    x, dx, ddx = (row[:, 0] for row in stop.at(t))
    h = t[1] - t[0] if t[-1] > 0 else 1.0
    np.testing.assert_allclose(np.diff(x), h * (dx[1:] + dx[:-1]) / 2, atol=1e-7)
    np.testing.assert_allclose(np.diff(dx), h * (ddx[1:] + ddx[:-1]) / 2, atol=1e-6)
    assert np.abs(ddx).max() <= 5 + 1e-9 and np.abs(np.diff(ddx)).max() <= jerk * h + 1e-9
    assert dx[-1] == ddx[-1] == 0 and abs(x[-1] - stop.end[0]) < 1e-12
    assert abs(min(x.min(), 0) - stop.low[0]) < 1e-6 and abs(max(x.max(), 0) - stop.high[0]) < 1e-6
    assert abs(np.abs(dx).max() - stop.fastest[0]) < 1e-5
    mid = len(t) // 3  # the rest of a stop is the stop from there
    rest = Stop(dx[mid : mid + 1], ddx[mid : mid + 1], np.array([5.0]), np.array([jerk]))
    assert abs(x[mid] + rest.end[0] - x[-1]) < 1e-7
