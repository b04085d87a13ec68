from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dfplan.envs as envs
from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import LIMITS
from dfplan.envs.arm import DT, ArmEnv, ArmPickEnv, ArmReachEnv
from dfplan.envs.arm.clearance import clearance, crosses
from dfplan.envs.arm.model import TORQUE

TASKS = ("arm-reach", "arm-pick")
LOWER, UPPER = LIMITS.lower, LIMITS.upper


def make(task: str, **kwargs: Any) -> ArmEnv:
    return {"arm-reach": ArmReachEnv, "arm-pick": ArmPickEnv}[task](**kwargs)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("action", ["joint", "ee"])
def test_gymnasium_contract(task: str, action: str) -> None:
    env = gym.make(envs.ARM_IDS[task], action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Joint velocities have no bound, and actions are in rad and m.
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity.*")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    assert env.spec.max_episode_steps == {"arm-reach": 150, "arm-pick": 300}[task]
    assert isinstance(envs.make(task, action=action).unwrapped, ArmEnv)


def test_import_registers_and_does_not_load_mujoco() -> None:
    code = (
        "import sys, gymnasium, dfplan.envs as e; import dfplan.envs.arm as a; a.DT; "
        "import dfplan.envs.arm.clearance; print(len(e.ARM_IDS), 'mujoco' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]


def test_lazy_names() -> None:
    from dfplan.envs import arm

    assert all(hasattr(arm, name) for name in arm.__all__)
    assert set(arm.__all__) <= set(dir(arm))
    with pytest.raises(AttributeError, match="nothing"):
        _ = arm.nothing


@pytest.mark.parametrize("task", TASKS)
def test_sensors_name_every_column_once(task: str) -> None:
    env = make(task)
    observation, _ = env.reset(seed=0)
    assert next(iter(env.sensors)) == "joints" and env.sensors["joints"] == slice(0, 15)
    assert env.sensors["ee"] == slice(15, 24)
    ends = [part.stop for part in env.sensors.values()]
    assert [part.start for part in env.sensors.values()] == [0, *ends[:-1]]
    assert ends[-1] == len(observation) == len(env.channel_names) == len(env.units)
    assert len(set(env.channel_names)) == len(env.channel_names)
    named = dict(zip(env.channel_names, zip(observation, env.units, strict=True), strict=True))
    assert named["gripper"] == (pytest.approx(0.08), "m") and named["qd7"][1] == "rad/s"
    position, rotation = env.tcp()
    np.testing.assert_allclose(observation[env.sensors["ee"]][:3], position, atol=1e-6)
    np.testing.assert_allclose(rotations.matrix(observation[env.sensors["ee"]][3:]), rotation, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_episode(task: str) -> None:
    runs = []
    for _ in range(2):
        env = make(task)
        env.action_space.seed(3)
        env.reset(seed=1)
        rows = [env.reset(seed=7)[0]]
        rows += [env.step(env.action_space.sample())[0] for _ in range(15)]
        runs.append(np.array(rows))
    np.testing.assert_array_equal(*runs)
    assert np.abs(make(task).reset(seed=8)[0] - runs[0][0]).max() > 0.01


@pytest.mark.parametrize("pattern", ["white", "steps", "extremes"])
def test_limits_hold_in_free_motion(pattern: str) -> None:
    env = make("arm-pick")
    # Without the table: nothing but the joints' own motors moves them.
    env.physics.model.geom_contype[env.physics.model.geom("table").id] = 0
    env.physics.model.geom_conaffinity[env.physics.model.geom("table").id] = 0
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    action = low
    for step in range(200):
        if pattern == "white" or (pattern == "steps" and step % 20 == 0):
            action = rng.uniform(low, high)
        elif pattern == "extremes" and step % 3 == 0:
            action = np.where(rng.random(8) < 0.5, low, high)
        observation, *_ = env.step(action)
        assert (observation[:7] <= UPPER + 0.015).all() and (observation[:7] >= LOWER - 0.015).all()
        assert (np.abs(observation[7:14]) <= 1.05 * LIMITS.velocity).all()
        assert (np.abs(env.physics.data.qfrc_actuator[:7]) <= np.array(TORQUE) + 1e-9).all()


def test_a_step_command_is_followed_without_overshoot() -> None:
    env = make("arm-pick")
    observation, _ = env.reset(seed=0)
    start = observation[:7].astype(np.float64)
    goal = start + [0.2, -0.2, 0.2, -0.2, 0.2, 0.2, -0.2]
    seen = np.array([env.step(np.append(goal, 0.08))[0][:7] for _ in range(20)])
    part = (seen - start) / (goal - start)
    assert part.max() < 1.05
    np.testing.assert_allclose(part[-1], 1.0, atol=0.02)
    # The first step is bounded by the acceleration limit.
    assert (np.abs(seen[0] - start) <= LIMITS.acceleration * DT**2).all()


def test_gripper_opens_and_closes() -> None:
    env = make("arm-pick")
    observation, _ = env.reset(seed=0)
    for opening in (0.0, 0.05, 0.08):
        for _ in range(20):
            observation, *_ = env.step(np.append(observation[:7], opening))
        assert env.physics.opening == pytest.approx(opening, abs=0.003)


@pytest.mark.parametrize("task", TASKS)
def test_ee_action_reaches_a_pose(task: str) -> None:
    env = make(task, action="ee")
    env.reset(seed=0)
    position, rotation = (
        np.array([0.45, 0.2, 0.45]),
        rotations.turn([0.1, 0.0, 0.4]) @ np.diag([1.0, -1.0, -1.0]),
    )
    for _ in range(50):
        env.step(np.concatenate([position, rotations.rot6d(rotation), [0.04]]))
    p, r = env.tcp()
    assert np.linalg.norm(p - position) < 0.004
    assert rotations.angle_between(r, rotation) < 0.02
    assert env.physics.opening == pytest.approx(0.04, abs=0.003)


@pytest.mark.parametrize("task", TASKS)
def test_bad_input_is_refused(task: str) -> None:
    env = make(task)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(8))
    env.reset(seed=0)
    for bad in (np.full(8, np.nan), np.full(8, np.inf), np.zeros(7), "left"):
        with pytest.raises(ValueError, match=r"got action .*expected 8 finite numbers.*check"):
            env.step(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'joints'"):
        env.reset(options={"joint": np.zeros(7)})
    with pytest.raises(ValueError, match="expected them within"):
        env.reset(options={"joints": np.zeros(7)})
    with pytest.raises(ValueError, match="did you mean 'joint'"):
        make(task, action="joints")
    with pytest.raises(ValueError, match="expected one of rgb_array"):
        make(task, render_mode="human")
    with pytest.raises(ValueError, match="got pictures of 2000 x 320"):
        make(task, height=2000)
    with pytest.raises(ValueError, match="render_mode=None"):
        env.render()
    ee = make(task, action="ee")
    ee.reset(seed=0)
    with pytest.raises(ValueError, match="neither zero nor parallel"):
        ee.step(np.zeros(10))


def test_make_knows_the_arm_and_refuses_what_is_near() -> None:
    assert envs.make("dfplan/ArmPick-v1").spec is not None
    assert envs.make("arm-reach", max_episode_steps=7).spec.max_episode_steps == 7  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="did you mean 'arm-pick'"):
        envs.make("arm-pik")


def test_clipped_says_that_the_action_was_out_of_range() -> None:
    env = make("arm-reach")
    observation, info = env.reset(seed=0)
    assert not info["clipped"]
    assert not env.step(np.append(observation[:7], 0.08))[4]["clipped"]
    assert env.step(np.append(observation[:7], 0.2))[4]["clipped"]


def test_reset_options_are_taken_exactly() -> None:
    reach, pick = make("arm-reach"), make("arm-pick")
    q = np.array([0.1, 0.0, -0.1, -2.0, 0.0, 2.0, 0.7])
    target = np.array([0.5, -0.2, 0.2, 1, 0, 0, 0, -1, 0])
    box = np.array([0.46, -0.04, 0.0, 0.54, 0.04, 0.2])
    seen, info = reach.reset(seed=0, options={"joints": q, "target": target, "obstacle": box})
    np.testing.assert_allclose(seen[:7], q, atol=1e-6)
    np.testing.assert_allclose(seen[reach.sensors["target"]], target, atol=1e-6)
    np.testing.assert_allclose(seen[reach.sensors["obstacle"]], box, atol=1e-6)
    np.testing.assert_allclose(info["goal"], target, atol=1e-6)
    seen, info = pick.reset(seed=0, options={"object": [0.5, 0.1, 0.3], "spot": [0.6, -0.1]})
    np.testing.assert_allclose(seen[pick.sensors["object"]][:3], [0.5, 0.1, 0.02], atol=1e-6)
    np.testing.assert_allclose(seen[pick.sensors["object"]][3:5], [np.cos(0.3), np.sin(0.3)], atol=1e-6)
    np.testing.assert_allclose(info["goal"], [0.6, -0.1, 0.0])
    with pytest.raises(ValueError, match="low < high"):
        reach.reset(options={"obstacle": -box})


def test_the_straight_line_is_always_blocked_and_both_ends_are_clear() -> None:
    env = ArmReachEnv()
    sides = set()
    for seed in range(200):
        observation, info = env.reset(seed=seed)
        target, low, high = observation[24:33], observation[33:36], observation[36:39]
        centre, half = (low + high) / 2, (high - low) / 2
        assert crosses(observation[15:18], target[:3], centre, half)
        assert clearance(observation[:7], centre, half) > 0.055
        assert low[2] == pytest.approx(0, abs=1e-6)  # it stands on the table
        assert not info["success"] and not info["collided"] and info["progress"] < 0.2
        sides.add(bool(observation[16] > 0))
    assert sides == {True, False}


def test_cube_and_spot_lie_apart_on_the_table() -> None:
    env = ArmPickEnv()
    places = []
    for seed in range(100):
        observation, info = env.reset(seed=seed)
        cube, spot = observation[24:27], observation[33:36]
        assert np.linalg.norm(cube[:2] - spot[:2]) >= 0.1
        assert abs(np.arctan2(observation[28], observation[27])) <= np.deg2rad(40.01)
        assert not info["success"] and cube[2] == pytest.approx(0.02)
        places.append(cube[:2])
    assert (np.ptp(places, axis=0) > [0.2, 0.3]).all()


def test_touching_the_obstacle_rules_out_success() -> None:
    env = ArmReachEnv()
    env.reset(seed=0)
    target, rotation = env.goal[:3], rotations.matrix(env.goal[3:])
    q, met = panda.solve(env.physics.q, target, rotation, env.physics.q)
    assert met
    infos = [env.step(np.append(q, 0.08))[4] for _ in range(60)]  # straight at it, through the box
    assert any(info["collision"] for info in infos) and infos[-1]["collided"]
    assert not any(info["success"] for info in infos) and infos[-1]["first_reach"] is None


def test_touching_the_table_is_a_collision() -> None:
    env = ArmPickEnv(action="ee")
    env.reset(seed=0, options={"object": [0.6, 0.15, 0.0], "spot": [0.6, -0.1]})
    down = np.concatenate([[0.45, 0.0, 0.0], rotations.rot6d(np.diag([1.0, -1.0, -1.0])), [0.08]])
    infos = [env.step(down)[4] for _ in range(50)]
    assert infos[-1]["collision"] and infos[-1]["collided"] and not infos[0]["collided"]


def test_rendering_shows_something() -> None:
    code = (
        "import numpy as np, dfplan.envs as e\n"
        "env = e.make('arm-reach', render_mode='rgb_array'); env.reset(seed=0)\n"
        "a = env.render(); env.reset(seed=1); b = env.render(); env.close()\n"
        "print(a.shape, a.dtype, a.std() > 10, np.abs(a.astype(int) - b).max() > 50)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"MUJOCO_GL": "egl", **os.environ},
    )
    if done.returncode:
        pytest.skip(f"no OpenGL here: {done.stderr.strip().splitlines()[-1][:120]}")
    assert done.stdout.split() == ["(240,", "320,", "3)", "uint8", "True", "True"]
