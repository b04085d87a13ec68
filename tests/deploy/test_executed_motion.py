"""Whatever is lost, refused or held up: what a stock controller makes of it stays inside the limits."""

import numpy as np
import pytest

pytest.importorskip("yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from executed import JERKS, LIMITS, WAYS, Trouble, drive, random_drive, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import limits, loop, play

from dfplan.deploy import JointTrajectory, SafetyFilter, Setpoint
from dfplan.deploy.motion.course import Course
from dfplan.deploy.motion.under_way import UnderWay
from dfplan.deploy.robot.limits import Target


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", LIMITS)
def test_random_trouble_stays_inside_the_limits(kind, seed):
    (speed, push), made = random_drive(kind, seed)
    assert speed <= LIMITS[kind][0] and push <= LIMITS[kind][1]
    assert "FAULT" not in [c.new for c in made.machine.changes]


def test_the_message_under_way_is_known_after_others_that_looked_like_it():
    (speed, push), made = random_drive("bursts", 1052)
    assert speed <= LIMITS["bursts"][0] and push <= LIMITS["bursts"][1]
    assert made.stats.counts["not carried out"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("jerk", JERKS)
@pytest.mark.parametrize("lost", [0.04, 0.3])
def test_what_was_refused_is_done_later_not_at_once(lost, jerk, way):
    trouble = Trouble(((1.5, 1.5 + lost),), says=False)
    made, arm = drive(trouble, way=way, jerk=jerk)
    speed, push = shares(made, arm)
    assert speed <= 1.05 and push <= 2.0 and made.stats.counts["not carried out"] >= 1
    undisturbed, _ = drive(Trouble(), way=way, jerk=jerk)
    behind = undisturbed.driver.time - made.driver.time
    assert 0.3 * lost - 0.04 <= behind <= lost + 0.4  # the policy's time waited, and then ran up gently


@pytest.mark.parametrize("seconds", [0.005, 0.012, 0.03, 0.3, 0.6, 2.0])
def test_a_stall_goes_on_or_ends_in_a_hold_that_names_it(seconds):
    made, arm = drive(Trouble(stall=(1.5, seconds)), seconds=1.9 + seconds, jerk=JERKS[1])
    speed, push = shares(made, arm)
    assert speed <= 1.05 and push <= 2.0
    stop = next(c for c in made.machine.changes if c.old == "RUNNING")
    assert stop.new == "HOLD"
    if seconds > 0.5:
        assert stop.reason.startswith(f"the loop was held up for {seconds:.1f}")
    else:
        assert stop.reason == "the loop ends"


@pytest.mark.parametrize("says", [True, False])
def test_losses_that_last_end_in_a_hold(says):
    made, arm = drive(Trouble(((1.5, 2.8),), says=says))
    stop = next(c for c in made.machine.changes if c.old == "RUNNING")
    assert stop.new == "HOLD" and "nothing that was sent was carried out for 0.5" in stop.reason
    assert 2.0 < stop.time < 2.2 and shares(made, arm)[1] <= (5.0 if says else 2.0)


def test_a_hold_while_readings_are_away_sends_nothing_that_leaps():
    trouble = Trouble(((1.5, 1.9),), ((1.5, 1.9),))
    made, arm = drive(trouble)
    assert any("'joints' is 0.1" in c.reason for c in made.machine.changes)
    assert made.stats.counts["no reading, nothing sent"] and shares(made, arm)[1] <= 5.0


@pytest.mark.parametrize("lag, noise", [(0.0, 2e-4), (0.01, 1e-4), (0.03, 2e-4), (0.12, 5e-4)])
def test_an_arm_that_follows_late_or_inexactly_is_driven_as_one_that_does_not(lag, noise):
    made, arm = drive(Trouble(), lag=lag, noise=noise)
    _, exact = drive(Trouble())
    assert not made.stats.counts["not carried out"]
    assert np.abs(np.array(arm.path) - np.array(exact.path)).max() < 3 * noise + 1e-6


@pytest.mark.parametrize("lag, noise", [(0.0, 2e-4), (0.01, 1e-4)])
def test_a_long_loss_is_noticed_behind_an_arm_that_follows_late(lag, noise):
    made, arm = drive(Trouble(((1.5, 1.8),)), lag=lag, noise=noise)
    assert made.stats.counts["not carried out"] and shares(made, arm)[0] <= 1.1


def test_arming_waits_until_the_stop_is_over():
    made, _, _ = loop()
    play(made, 1.3)
    made.machine.stop()
    play(made, 0.03, arm=False)
    assert made.arm() == (False, "not ready: the arm is still stopping")
    play(made, 0.5, arm=False)
    assert made.arm()[0]


def course(seed, jerk, begin=5, count=3):
    """A course of a filter that was driven about, and the filter."""
    rng, lim = np.random.default_rng(seed), limits(jerk=jerk)
    guard = SafetyFilter(lim, 0.01)
    guard.start(rng.uniform(-0.5, 0.5, 3))
    goal = Target(rng.uniform(-1.5, 1.2, 3))
    rows = [guard.step(goal) for _ in range(int(rng.integers(count, 60)))]
    return Course(begin, tuple(rows[-count:]), guard.stop(), 0.01, 1.0), lim


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([30.0, 300.0, 3000.0]), st.floats(0, 1))
def test_cubics_between_the_points_of_a_course_are_the_course(seed, jerk, share):
    made, lim = course(seed, jerk)
    ticks, positions, velocities = made.points()
    assert ticks[0] == made.begin and ticks[-1] == max(made.over, made.last + 1) and not velocities[-1].any()
    sent = JointTrajectory(lim.names, 0.01 * (ticks - 4), positions, velocities, 0.0, 1.0)
    for tick in range(made.begin, made.over + 2):
        told, state = sent.at(0.01 * (tick - 4)), made.state(tick)
        np.testing.assert_allclose(told[0], state.position, atol=1e-9)
        np.testing.assert_allclose(told[1], state.velocity, atol=1e-7)
    between = made.begin + share * (made.last - made.begin)
    np.testing.assert_allclose(sent.at(0.01 * (between - 4))[0], made.state(between).position, atol=1e-9)


def straight(lim, at, begin):
    """A course of three setpoints on a straight way."""
    guard, rows = SafetyFilter(lim, 0.01), (at(begin), at(begin + 1), at(begin + 2))
    guard.rewind(rows[-1])
    return Course(begin, rows, guard.stop(), 0.01)


def under_way(lim, groups=(("j0", "j1"), ("j2",))):
    """Courses one after the other on a straight way, and an arm that follows exactly."""
    made = UnderWay(lim, groups, 0.01, 0.01)
    moving = Setpoint(*np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0]]))

    def at(tick):
        return Setpoint(moving.position + 0.005 * tick, moving.velocity, moving.acceleration)

    for tick in range(0, 200, 2):
        made.add(straight(lim, at, tick))
        for seen in (tick, tick + 1):
            made.see(seen, at(seen).position, seen)
    return made, at


@pytest.mark.parametrize("joint", [0, 2])
def test_a_reading_tells_which_controller_did_not_get_the_last_message(joint):
    made, at = under_way(limits())
    assert made.last == 200 and made.over > 200
    first, stays = made.state(204), [joint] if joint == 2 else [0, 1]
    made.add(straight(limits(), at, 200))
    assert made.last == 202
    seen = at(202).position.copy()
    seen[stays] = straight(limits(), at, 198).state(202).position[stays]
    made.see(202, seen, 202)
    assert made.last == 200 and not made.doubt
    np.testing.assert_array_equal(made.state(204).position[stays], first.position[stays])
    others = [j for j in range(3) if j not in stays]
    assert (made.state(204).position[others] > first.position[others]).all()


def test_a_stop_that_resembles_the_one_under_way_does_not_hide_it():
    lim = limits(jerk=60)
    made, at = under_way(lim)
    arm = straight(lim, at, 198)  # what comes after it is lost
    for begin in range(200, 214, 2):
        faster = 6e-4 if begin == 204 else 0.2
        rows, guard = [arm.state(begin + i) for i in range(3)], SafetyFilter(lim, 0.01)
        rows[2] = Setpoint(rows[2].position, rows[2].velocity + faster, rows[2].acceleration)
        guard.rewind(rows[2])
        made.add(Course(begin, tuple(rows), guard.stop(), 0.01))
        for seen in (begin + 1, begin + 3):
            made.see(seen, arm.state(seen).position, seen)
            assert not made.doubt
    np.testing.assert_allclose(made.state(216).position, arm.state(216).position, atol=1e-9)


def test_a_reading_that_nothing_explains_changes_nothing():
    made, at = under_way(limits())
    before = made.state(203).position
    made.see(200, at(200).position + 0.2, 200)
    assert made.doubt
    np.testing.assert_array_equal(made.state(203).position, before)


def test_readings_that_stay_away_are_missed_by_their_own_pace():
    made, _ = under_way(limits())
    assert not made.silent(201) and made.silent(203)
    slow = UnderWay(limits(), (("j0", "j1", "j2"),), 0.01, 0.04)
    slow.see(0, np.zeros(3), 3)
    assert not slow.silent(9) and slow.silent(12)
