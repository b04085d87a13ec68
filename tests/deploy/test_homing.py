"""Home: by the loop, behind the filter, or by the controllers' own actions."""

from dataclasses import replace

import numpy as np
import pytest

from dfplan.deploy import FakeClock, home
from dfplan.deploy.robot.panda import HOME, LIMITS
from dfplan.envs import SimArm, arm_mapping, make

AWAY = [0.4, 0.3, -0.3, -1.8, 0.2, 2.2, 0.5]


class Acting(SimArm):
    """A simulated arm whose controllers have actions; `refuse`: they do not answer."""

    refuse, cut = False, np.inf
    ends, held = np.inf, 0

    def follow(self, trajectory, done):
        if self.refuse:
            done(False, "no server of action /arm/follow")
            return False
        self.send(replace(trajectory, expires=np.inf))
        self.ends, self.done = self.now() + trajectory.times[-1] + 0.05, done
        return True

    def read(self):
        rows = super().read()
        if self.now() > self.ends:
            self.ends = np.inf
            self.done(True, "arm")
            self.done(True, "gripper")
        return [] if self.now() > self.cut else rows

    def hold(self):
        self.held += 1
        super().hold()


def arm_at(joints, kind=SimArm):
    env, clock = make("arm-reach", action="ee").unwrapped, FakeClock()
    arm = kind(env, clock, record=True)
    arm.reset(0, {"joints": joints})
    return arm, arm_mapping(env), clock


def with_actions(mapping):
    return replace(mapping, commands=tuple(replace(c, action=f"{c.topic}/follow") for c in mapping.commands))


def speed(arm):
    """Largest share of the joints' velocity limits that was commanded."""
    rows = np.stack([row[:7] for row, _ in arm.commands])
    return float(np.abs(np.diff(rows, axis=0) / 0.0025 / LIMITS.velocity).max())


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_loop_moves_the_arm_home_at_its_share_of_the_speed(share):
    arm, mapping, clock = arm_at(AWAY)
    there, report = home(mapping, arm, share=share, clock=clock)
    assert there and np.abs(arm.env.physics.q - HOME).max() < 0.02
    # The mapping keeps to 70 % of the arm's speed; cubics between the points exceed it by some per cent.
    assert 0.3 * share < speed(arm) < 0.72 * share
    assert not report.status.refusals and not report.slips
    assert [c.new for c in report.changes] == ["READY", "RUNNING", "HOLD", "DISARMED"]


def test_it_is_given_up_where_the_arm_goes_silent():
    arm, mapping, clock = arm_at(AWAY, Acting)
    arm.cut = 2.0
    there, report = home(mapping, arm, clock=clock)
    assert not there and any("old" in c.reason and c.new == "HOLD" for c in report.changes)


def test_controllers_with_actions_run_the_motion_and_the_loop_commands_nothing():
    arm, mapping, clock = arm_at(AWAY, Acting)
    there, report = home(with_actions(mapping), arm, clock=clock)
    assert there and report.status.sent == 0 and np.abs(arm.env.physics.q - HOME).max() < 0.02
    assert "RUNNING" not in [c.new for c in report.changes]


def test_a_silent_arm_cancels_the_action():
    arm, mapping, clock = arm_at(AWAY, Acting)
    arm.cut = 2.0
    there, report = home(with_actions(mapping), arm, clock=clock)
    assert not there and arm.held >= 1 and clock.now() < 4 and report.status.sent == 0


def test_where_no_action_answers_the_loop_moves_the_arm(caplog):
    arm, mapping, clock = arm_at(AWAY, Acting)
    arm.refuse = True
    there, report = home(with_actions(mapping), arm, clock=clock)
    assert there and report.status.sent > 50 and "no server of action /arm/follow" in caplog.text


def test_bad_requests_are_refused_before_anything_moves():
    arm, mapping, clock = arm_at(AWAY)
    with pytest.raises(ValueError, match="no home"):
        home(replace(mapping, robot=replace(mapping.robot, home=())), arm, clock=clock)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"share {share}"):
            home(mapping, arm, share=share, clock=clock)
    assert not arm.commands and not arm.up
