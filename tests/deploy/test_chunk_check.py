"""A chunk is refused for the first thing that no motion through its targets could do within the limits."""

from dataclasses import replace

import numpy as np
import pytest
from robots import limits, mapping

from dfplan.deploy import Box, ChunkCheck, Safety, SafetyFilter, Target
from dfplan.deploy.motion.chunk_check import PASSES

DT = 0.05
REST = np.zeros((3, 3))


def tool(q):
    return np.stack([np.cos(q[..., 0]), np.sin(q[..., 0]), q[..., 1]], -1)


@pytest.mark.parametrize(
    ("order", "reason", "most"), [(1, "velocity", 1.2), (2, "acceleration", 5.0), (3, "jerk", 20.0)]
)
@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_constant_derivative_is_measured_exactly(order, reason, most, share):
    """share x most x t^k / k! has the k-th derivative share x most everywhere; the lower ones stay small in a short chunk."""
    chunk = np.zeros((4, 3))
    chunk[:, 1] = share * most * (DT * np.arange(4)) ** order / (1, 1, 2, 6)[order]
    verdict = ChunkCheck(limits(jerk=20.0), DT).judge(chunk)
    assert bool(verdict) == (share < 1)
    if share > 1:
        assert (verdict.reason, verdict.step, verdict.joint) == (reason, order, "j1")
        assert verdict.value == pytest.approx(share * most) and verdict.limit == most
        assert str(verdict).startswith(f"step {order}, j1: got {reason}")


def test_the_join_counts_with_what_was_commanded_before():
    check, t = ChunkCheck(limits(), DT), DT * np.arange(8)[:, None] + np.zeros(3)
    line = 0.5 * t  # 0.5 rad/s goes on
    assert check.judge(line[3:], before=line[:3]) == PASSES
    late = check.judge(line[3:] + [0.0, 0.0, 0.04], before=line[:3])  # 0.5 rad/s + 0.04 rad at once
    assert (late.reason, late.step, late.joint) == ("velocity", 0, "j2")
    assert late.value == pytest.approx(0.5 + 0.04 / DT)
    bend = check.judge(
        np.tile(line[2], (2, 1)), before=line[:3]
    )  # stands still at once: 0.5 / 0.05 = 10 rad/s^2
    assert (bend.reason, bend.step) == ("acceleration", 0) and bend.value == pytest.approx(10)
    assert check.judge(np.tile(line[2], (2, 1)))  # nothing is known of before


def test_the_arm_stands_where_it_is_measured():
    check = ChunkCheck(limits(), DT, Safety(jump=0.3))
    near, far = np.full((2, 3), 0.01), np.full((2, 3), 0.4)
    assert check.judge(near, measured=np.zeros(3))
    assert check.judge(far, measured=np.zeros(3)).reason == "jump"
    lagging = check.judge(far, before=np.full((3, 3), 0.4), measured=np.zeros(3))  # it did not follow
    assert (lagging.reason, lagging.value, lagging.limit) == ("jump", pytest.approx(0.4), 0.3)
    gripping = replace(limits(), grips=np.array([False, False, True]))
    held = np.array([[0.0, 0.0, 0.4]])
    assert ChunkCheck(gripping, DT, Safety(jump=0.3)).judge(held, before=held, measured=np.zeros(3))


def test_position_workspace_and_what_is_no_number():
    box = Safety(workspace=Box((-1.1, -1.1, -0.5), (1.1, 1.1, 0.5)))
    check = ChunkCheck(limits(), DT, box, tool)
    chunk = np.zeros((6, 3))
    assert check.judge(chunk, REST)
    chunk[:, 1] = 0.3 + 1.1 * DT * np.arange(6)  # past 0.5 at step 4
    found = check.judge(chunk)
    assert (found.reason, found.step, found.joint, found.limit) == ("workspace", 4, "tool z", 0.5)
    low = check.judge(np.full((2, 3), -1.96))
    assert (low.reason, low.step, low.value, low.limit) == ("position", 0, -1.96, -1.95)
    assert "or more" in str(low)
    chunk[2, 0] = np.nan
    found = check.judge(chunk, REST)
    assert (found.reason, found.step, found.joint) == ("not finite", 2, "j0") and "finite" in str(found)


def test_what_the_safety_filter_gives_passes():
    """The filter moves within the limits at every tick, so its setpoints are a chunk that may be executed."""
    pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")
    rng, lim = np.random.default_rng(0), limits()
    check, guard = ChunkCheck(lim, 0.01), SafetyFilter(lim, 0.01)
    guard.start(np.zeros(3))
    rows = [guard.step(Target(rng.uniform(-0.5, 0.5, 3))).position for _ in range(300)]
    assert check.judge(np.array(rows), np.zeros((3, 3)))
    for step in rng.integers(0, 300, 20):
        bad = np.array(rows)
        bad[step, 1] += 0.03  # more than 1.2 rad/s in 0.01 s
        found = check.judge(bad, np.zeros((3, 3)))
        assert found.step == step and found.joint == "j1"


def test_units_of_the_mapping_and_shapes():
    pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
    check = ChunkCheck.of(mapping().robot, DT)
    chunk = np.array([[0.0, 0.0], [0.0, 5.0]])  # 5 deg in 0.05 s: 100 deg/s, of 90
    found = check.judge(chunk)
    assert (found.joint, found.reason) == ("b", "velocity")
    assert (found.value, found.limit) == (pytest.approx(100), pytest.approx(90))
    with pytest.raises(ValueError, match=r"got chunk of shape \(2,\), expected \(steps, 2\)"):
        check.judge(chunk[0])
    with pytest.raises(ValueError, match="workspace without kinematics"):
        ChunkCheck.of(mapping().robot, DT, Safety(workspace=Box((0, 0, 0), (1, 1, 1))))
    with pytest.raises(ValueError, match="got dt=0"):
        ChunkCheck(limits(), 0)
