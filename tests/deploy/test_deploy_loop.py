"""The loop on a fake clock: what is sent, when it stops, and that it never starts by itself."""

import numpy as np
import pytest

pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from robots import Robot, Sines, loop, play

from dfplan.tools.clock import FakeClock


def positions(robot):
    """Where the arm was told to be every 10 ms, as it would be with each message obeyed at once."""
    out, sent = [], list(robot.sent)
    begin, end = sent[0][0], sent[-1][0] + 1.0
    for t in np.arange(begin + 0.01, end, 0.01):
        trajectory = [m for at, m in sent if at < t - 1e-9][-1]
        out.append(trajectory.at(t + 1000.0 - trajectory.stamp)[0])
    return np.array(out)


def test_it_follows_the_policy_and_nothing_is_sent_before_it_is_armed():
    made, robot, decide = loop()
    play(made, 1.0, arm=False)
    assert made.machine.state == "READY" and not robot.sent
    play(made, 2.0)
    assert made.machine.state == "RUNNING" and not made.stats.overruns
    begun = made.machine.changes[-1].time
    t = made.clock.now() - begun - made._lead - 2 * made.dt
    wanted = made.driver.motion.at(made.driver.time)[0]
    assert np.abs(made.plan.setpoints[0].position - wanted).max() < 0.02 and t > 1.5
    actions = np.stack([made.driver.motion.action(i) for i in range(20)])
    np.testing.assert_allclose(actions, [decide.action(i) for i in range(20)])


@pytest.mark.parametrize("rate", [30.0, 60.0, 7.0])
def test_a_rate_of_actions_that_does_not_divide_that_of_the_loop(rate):
    made, robot, decide = loop(min(0.1, 2 / rate), policy={"dt": 1 / rate})
    play(made, 5.0)
    assert made.machine.state == "RUNNING" and made.stats.overruns <= 1
    running = made.clock.now() - made.machine.changes[-1].time
    assert abs(max(r.step for r in decide.requests) - rate * running) < 0.1 * rate * running + 4
    shown = made.driver.motion
    np.testing.assert_allclose(shown.action(20), decide.action(20))
    np.testing.assert_allclose(shown.at(21 / rate)[0], decide.action(20), atol=1e-3)  # action i is where to be after it
    assert np.abs(np.diff(positions(robot)[:-100], axis=0)).max() <= made.body.limits.velocity.max() * 0.0101


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2])
def test_hand_overs_are_smooth_whatever_the_delay(delay):
    made, robot, decide = loop(delay)
    play(made, 4.0)
    assert made.machine.state == "RUNNING"
    assert made.stats.overruns <= 1  # the first chunk teaches how long it takes
    later = [r for r in decide.requests if r.step > 10]
    needed = min(delay + 0.03, 0.2) / 0.05  # slower than 0.2 s: time passes more slowly
    assert all(len(r.committed) >= np.ceil(needed - 1e-6) for r in later)
    for r in later:
        np.testing.assert_allclose(r.committed, [decide.action(r.step + i) for i in range(len(r.committed))])
    q = positions(robot)[:-100]  # what follows is the stop
    assert np.abs(np.diff(q, n=2, axis=0)).max() < 0.01**2 * 5.5


def test_every_message_is_a_valid_motion_that_ends_at_rest_within_limits():
    made, robot, _ = loop(0.1)
    play(made, 3.0)
    lim = made.body.limits
    assert 60 < len(robot.sent) < 160
    for at, m in robot.sent:
        assert m.names == ("a", "b") and not m.velocities[-1].any() and m.times[0] > 0
        assert m.stamp == at + 1000.0 and m.expires == pytest.approx(m.stamp + 0.1)
        assert (m.positions >= lim.low).all() and (m.positions <= lim.high).all()
        assert (np.abs(m.velocities) <= lim.velocity).all()


def test_a_stale_state_stops_the_arm_and_it_does_not_go_on_by_itself():
    made, robot, _ = loop()
    play(made, 1.5)
    robot.alive, since = False, made.clock.now()
    play(made, 0.5, arm=False)
    change = made.machine.changes[-1]
    assert change.new == "HOLD" and "'joints' is 0.1" in change.reason
    assert change.time - since <= 0.1 + 0.011
    robot.alive = True
    play(made, 1.0, arm=False)
    assert made.machine.state == "HOLD"
    assert made.arm()[0]
    play(made, 0.2, arm=False)
    assert made.machine.state == "RUNNING"


@pytest.mark.parametrize("drop", ["seen", "between two ticks"])
def test_after_a_disconnection_nothing_is_sent_until_it_is_armed_again(drop):
    made, robot, _ = loop()
    play(made, 1.5)
    if drop == "seen":
        robot.up = False
        play(made, 1.0, arm=False)  # the robot asserts that nothing is sent
        robot.up = True
    robot.number += 1
    before = len(robot.sent)
    play(made, 2.0, arm=False)
    assert made.machine.state == "READY" and len(robot.sent) == before
    assert "lost" in [c.reason for c in made.machine.changes if c.new == "DISARMED"][-1]
    assert made.arm()[0]
    play(made, 0.3, arm=False)
    assert len(robot.sent) > before
    assert robot.sent[before][1].stamp > robot.sent[before - 1][1].stamp + 0.9


def test_a_policy_that_is_too_late_uses_up_its_chunk_then_stops():
    made, robot, _ = loop()
    play(made, 1.5)
    made.worker.delay = 1e9
    asked, since = made.driver.motion.end, made.driver.time
    play(made, 3.0, arm=False)
    change = made.machine.changes[-1]
    assert change.new == "HOLD" and "did not come in time" in change.reason
    assert made.driver.time > since + 0.1 and made.driver.motion.end >= asked
    assert made.driver.time >= made.driver.motion.end - 0.05
    q = positions(robot)
    assert np.abs(np.diff(q, n=2, axis=0)).max() < 0.01**2 * 7.5  # the stop keeps the acceleration limit


def test_a_policy_that_fails_is_a_fault_that_must_be_acknowledged():
    decide = Sines()
    decide.break_at = 10
    made, _, _ = loop(decide=decide)
    play(made, 2.0)
    assert made.machine.state == "FAULT" and "it broke" in made.machine.reason
    assert not made.arm()[0]
    assert made.machine.stop()[0] and made.machine.state == "DISARMED"


def test_a_chunk_with_nan_is_refused_and_the_last_one_goes_on():
    decide = Sines()
    decide.nan_at = 16
    made, robot, _ = loop(decide=decide)
    play(made, 3.0)
    assert made.stats.counts["chunk not finite"] >= 1 and made.machine.state == "HOLD"
    assert all(np.isfinite(m.positions).all() for _, m in robot.sent)


def test_a_blocked_joint_is_a_fault():
    made, robot, _ = loop(safety={"following": 0.1, "jump": 0.3, "max_age": 0.5})
    play(made, 0.3)
    robot.blocked = True
    play(made, 2.0, arm=False)
    assert made.machine.state == "FAULT" and "is it blocked" in made.machine.reason and robot.held
    count = len(robot.sent)
    play(made, 1.0, arm=False)
    assert len(robot.sent) == count


def test_a_dead_worker_stops_the_arm_at_once():
    made, _, _ = loop()
    play(made, 1.0)
    made.worker.close()
    play(made, 0.02, arm=False)
    assert made.machine.state == "HOLD" and "process has ended" in made.machine.reason


def test_a_stale_sensor_that_is_not_required_becomes_doubtful():
    made, robot, decide = loop()
    play(made, 1.0)
    robot.lamp_stamp = robot.now()
    play(made, 1.0, arm=False)
    assert made.machine.state == "RUNNING"
    assert (
        decide.requests[-1].history.doubtful[-1] == ("lamp",)
        and decide.requests[0].history.doubtful[-1] == ()
    )


def test_what_the_monitor_doubts_slows_or_holds():
    decide = Sines()
    made, _, _ = loop(decide=decide)
    made.driver.slow = 0.5
    play(made, 1.0)
    decide.score = ("lamp",)
    before, at = made.driver.time, made.clock.now()
    play(made, 2.0, arm=False)
    assert made.driver.speed == 0.5 and (made.driver.time - before) < 0.65 * (made.clock.now() - at)
    assert made.status().doubtful == ("lamp",) and made.status().speed == 0.5
    made.driver.hold_on = ("lamp",)
    play(made, 0.5, arm=False)
    assert made.machine.state == "HOLD" and "unlike the demonstrations: lamp" in made.machine.reason


@pytest.mark.parametrize("pause", [0.015, 0.05, 0.3])
def test_a_loop_that_oversleeps_goes_on_from_where_the_arm_is(pause):
    made, robot, _ = loop()
    play(made, 1.0)
    made.clock.advance(pause)
    play(made, 1.0, arm=False)
    assert made.stats.slips >= int(pause / 0.01 + 1e-6) - 1
    q = positions(robot)
    assert np.abs(np.diff(q, axis=0)).max() <= 0.01 * 1.6 and np.abs(np.diff(q, n=2, axis=0)).max() < 0.0025


def test_a_bug_in_the_loop_is_a_fault_and_asks_the_arm_to_hold():
    made, robot, _ = loop()
    play(made, 1.0)
    made.driver.target = None
    play(made, 0.1, arm=False)
    assert made.machine.state == "FAULT" and "TypeError" in made.machine.reason and robot.held
    count = len(robot.sent)
    play(made, 0.5, arm=False)
    assert len(robot.sent) == count


def test_arming_is_refused_where_the_arm_is_outside_its_limits():
    clock = FakeClock()
    robot = Robot(clock)
    robot.q = np.array([2.5, 0.0])
    made, _, _ = loop(robot=robot, clock=clock)
    play(made, 1.0, arm=False)
    done, why = robot.handlers.arm()
    assert not done and "joint 'a' is at 2.5" in why and made.machine.state == "READY"


def test_ending_stops_the_arm_first():
    made, robot, _ = loop()
    play(made, 1.3)
    assert made.plan.setpoints[-1].velocity.any()
    made.run(lambda: True)
    last = robot.sent[-1][1]
    assert np.ptp(last.positions, axis=0).max() < 1e-9 and not robot.up
    assert [c.new for c in made.machine.changes][-2:] == ["HOLD", "DISARMED"]


def test_a_first_chunk_that_took_too_long_is_decided_anew():
    made, robot, decide = loop(1.5)
    play(made, 1.0)
    made.worker.delay = 0.05
    play(made, 1.5, arm=False)
    assert made.stats.counts["first chunk too old"] == 1 and len(decide.requests) > 1 and robot.sent
