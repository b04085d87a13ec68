"""The arms whose mappings ship: sound, and driven in simulation from their own URDFs with the filter silent."""

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from reaching import Reach

from dfplan.cli import main
from dfplan.deploy import FakeClock, Loop, ModelArm, arms, body, home, load_mapping, to_trajectory
from dfplan.deploy.check import doubts
from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.robot import panda
from dfplan.deploy.robot.virtual import start_near_home
from dfplan.deploy.run import run

ARMS = ("panda", "so101", "ur5e", "xarm6")
ZERO = {"ur5e": (0.8172, 0.2329, 0.0628), "panda": (0.088, 0, 0.8226), "xarm6": (0.207, 0, 0.112)}
"""Where the makers' tables put the tool with all joints at 0, m."""


def watched(arm):
    """Speeds of the arm's joints at each reading, as a list that grows."""
    seen, read = [], arm.read

    def reading():
        rows = read()
        seen.append(rows[0].values["velocity"])
        return rows

    arm.read = reading
    return seen


@pytest.mark.parametrize("name", ARMS)
def test_a_mapping_that_ships_is_sound(name):
    mapping = load_mapping(name)
    assert name in arms() and doubts(mapping) == []
    if name in ZERO:
        robot = body(mapping.robot)
        np.testing.assert_allclose(robot.forward(0 * robot.home), ZERO[name], atol=1e-3)


def test_the_panda_of_the_package_is_the_built_in_arm():
    robot, q = body(load_mapping("panda").robot), np.array([0.3, -0.6, 0.2, -2.1, 0.4, 1.7, 0.9])
    position, rotation = robot.pose(np.append(q, 0.04))
    mine, turned = panda.forward(q)
    np.testing.assert_allclose(position, mine, atol=1e-9)
    np.testing.assert_allclose(rotation, turned, atol=1e-9)
    np.testing.assert_allclose(robot.limits.jerk[:7], panda.LIMITS.jerk)


@pytest.mark.parametrize("name", ARMS)
def test_it_goes_home_with_the_filter_silent(name):
    clock, mapping = FakeClock(), load_mapping(name)
    arm = ModelArm(mapping, clock, start_near_home(mapping, 3))
    speeds, limits = watched(arm), body(mapping.robot).limits
    there, report = home(mapping, arm, share=0.3, clock=clock)
    assert there and not report.status.refusals and not arm.rejected
    assert [c.new for c in report.changes] == ["READY", "RUNNING", "HOLD", "DISARMED"]
    assert 0.05 < np.abs(speeds / limits.velocity).max() < 0.32


@pytest.mark.parametrize("name", ARMS)
def test_a_scripted_policy_reaches_a_place_with_the_filter_silent(name):
    clock, mapping = FakeClock(), load_mapping(name)
    robot = body(mapping.robot)
    arm = ModelArm(mapping, clock)
    posture = robot.home + 0.3 * np.cos(np.arange(len(robot.home)) + 1.0)
    goal, rotation = robot.pose(robot.limits.check(np.clip(posture, robot.limits.low, robot.limits.high)))
    assert np.linalg.norm(goal - robot.forward(robot.home)) > 0.04
    decide = Reach(robot, mapping.policy.dt, goal, rotation, 2.0)
    worker = DelayedWorker(decide, clock, 0.08)
    driver = Driver(worker, decide, mapping.policy.dt, {}, len(robot.home))
    loop = Loop(mapping, robot, arm, worker, driver, clock)
    report = run(loop, True, 4.0)
    reached = robot.forward(arm.read()[0].values["position"] * robot.unit)
    assert np.linalg.norm(reached - goal) < 2e-3
    assert not report.status.refusals and not report.status.overruns and not arm.rejected
    assert [c.new for c in report.changes] == ["READY", "RUNNING", "HOLD", "DISARMED"]


def test_a_model_arm_obeys_as_a_controller_does():
    clock, mapping = FakeClock(5.0), load_mapping("ur5e")
    arm, names = ModelArm(mapping, clock), body(mapping.robot).limits.names
    start = body(mapping.robot).home
    motion = to_trajectory(names, start, start + np.linspace(0.05, 0.5, 10)[:, None], 0.1, clock.now(), 0.1)
    arm.send(motion)
    clock.advance(0.55)
    rows = arm.read()[0].values
    # In the middle of an even motion a critically damped servo with the setpoint's speed has no lag.
    np.testing.assert_allclose(rows["position"], motion.at(0.55)[0], atol=2e-3)
    np.testing.assert_allclose(rows["velocity"], 0.5, atol=0.02)
    arm.hold()
    clock.advance(1.0)
    rows = arm.read()[0].values
    assert not rows["velocity"].any() and (rows["position"] - start < 0.35).all()
    arm.send(motion)  # long expired
    assert arm.rejected == 1


def test_an_arm_by_name_in_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dfplan", "check", "xarm6", "--copy", "mine"])
    main()
    assert "xarm6: no doubts" in capsys.readouterr().out
    assert load_mapping(tmp_path / "mine" / "xarm6.yaml").robot.joints == load_mapping("xarm6").robot.joints
    monkeypatch.setattr("sys.argv", ["dfplan", "check", "urse"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "did you mean 'ur5e'" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["dfplan", "list"])
    main()
    assert "arms           panda, so101, ur5e, xarm6" in capsys.readouterr().out


@pytest.mark.parametrize("name", ARMS)
def test_the_command_brings_a_simulated_arm_home(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["dfplan", "home", "--transport", "sim", "--robot", name, "--seed", "1"])
    main()
    out = capsys.readouterr().out
    assert "the arm is at its home" in out and "0 ticks missed" in out and "refused" not in out
