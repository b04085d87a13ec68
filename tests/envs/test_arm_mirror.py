"""The arm's mirror symmetry: exact in kinematics, true in the simulator, an involution on demonstrations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfplan import envs
from dfplan.data import Episodes
from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import LIMITS
from dfplan.envs.arm import collect
from dfplan.envs.arm.mirror import mirrored, reflect
from dfplan.envs.arm.pick import least_turned

FLIP = np.diag([1.0, -1.0, 1.0])
JOINTS = [f"q{i}" for i in range(1, 8)]


def mirror(names, values):
    return reflect(values, list(names))


@given(st.lists(st.floats(0.05, 0.95), min_size=7, max_size=7))
def test_mirrored_joints_put_the_hand_in_the_mirrored_pose(parts):
    low, high = LIMITS.lower, LIMITS.upper
    q = low + np.array(parts) * (high - low)
    position, rotation = panda.forward(q)
    other, turned = panda.forward(mirror(JOINTS, q))
    np.testing.assert_allclose(other, FLIP @ position, atol=1e-7)
    np.testing.assert_allclose(turned, FLIP @ rotation @ FLIP, atol=1e-7)


@pytest.mark.parametrize("task", ["arm-pick", "arm-reach"])
def test_the_simulator_moves_as_its_mirror_image(task):
    env, twin = envs.make(task).unwrapped, envs.make(task).unwrapped
    seen, _ = env.reset(seed=3)
    names = env.channel_names
    image = mirror(names, seen)
    part = env.sensors
    if task == "arm-pick":
        yaw = np.arctan2(image[28], image[27])
        options = {"object": [*image[24:26], yaw], "spot": image[33:35]}
    else:
        options = {"target": image[part["target"]], "obstacle": image[part["obstacle"]]}
    other, _ = twin.reset(seed=0, options={"joints": image[:7], **options})
    np.testing.assert_allclose(other, image, atol=2e-4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        target = seen[:7] + rng.uniform(-0.05, 0.05, 7)
        seen, *_ = env.step(np.append(target, 0.04))
        other, *_ = twin.step(np.append(mirror(JOINTS, target), 0.04))
    np.testing.assert_allclose(other, mirror(names, seen), atol=1e-2)  # contacts are solved in another order


def test_mirrored_demonstrations_follow_the_recorded_ones():
    one = collect("arm-pick", 2, seed=4, action="ee")
    both = envs.prepare("arm-pick", one)
    assert len(both) == 4 and both.steps == 2 * one.steps and both.info["relative"] == one.info["relative"]
    half = Episodes({k: v[one.steps :] for k, v in both.arrays.items()}, one.ends, one.dt, "x", both.info)
    back = mirrored(half)
    for key in ("observations", "actions", "executed"):
        np.testing.assert_allclose(back.arrays[key][one.steps :], one.arrays[key], atol=1e-6)
    with pytest.raises(ValueError, match="expected the arm's"):
        mirrored(Episodes({"observations": np.zeros((3, 2))}, np.array([3]), 0.1, "x"))


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 3), st.integers(0, 3))
def test_equal_poses_of_a_cube_are_told_alike(vector, about_z, about_x):
    rotation = rotations.turn(np.array(vector))
    quarter = rotations.turn(np.array([0, 0, np.pi / 2 * about_z])) @ rotations.turn(
        np.array([np.pi / 2 * about_x, 0, 0])
    )
    one, two = least_turned(rotation), least_turned(rotation @ quarter)
    assert (
        np.trace(one) == pytest.approx(np.trace(two), abs=1e-9) and np.trace(one) >= np.trace(rotation) - 1e-9
    )
    assert np.linalg.det(one) == pytest.approx(1)
