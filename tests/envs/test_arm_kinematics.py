from __future__ import annotations

from math import pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfplan.deploy.robot import panda, rotations
from dfplan.deploy.robot.panda import DOWN, HOME, LIMITS
from dfplan.envs.arm.clearance import clearance, crosses
from dfplan.envs.arm.model import CAPSULES, mjcf

unit = st.floats(-1.0, 1.0, allow_nan=False)


def draw_joints(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(LIMITS.lower, LIMITS.upper, (count, 7))


def dh_product(q: np.ndarray) -> np.ndarray:
    """The maker's table, multiplied out the long way: RotX(alpha) TransX(a) RotZ(theta) TransZ(d)."""

    def rot(axis: int, angle: float) -> np.ndarray:
        i, j = {0: (1, 2), 2: (0, 1)}[axis]
        out = np.eye(4)
        out[i, i] = out[j, j] = np.cos(angle)
        out[i, j], out[j, i] = -np.sin(angle), np.sin(angle)
        return out

    def shift(x: float, z: float) -> np.ndarray:
        out = np.eye(4)
        out[0, 3], out[2, 3] = x, z
        return out

    a = (0, 0, 0, 0.0825, -0.0825, 0, 0.088)
    d = (0.333, 0, 0.316, 0, 0.384, 0, 0)
    alpha = (0, -pi / 2, pi / 2, pi / 2, -pi / 2, pi / 2, pi / 2)
    out = np.eye(4)
    for i in range(7):
        out = out @ rot(0, alpha[i]) @ shift(a[i], 0) @ rot(2, q[i]) @ shift(0, d[i])
    return out @ shift(0, 0.107) @ rot(2, -pi / 4) @ shift(0, 0.1034)


def test_forward_kinematics_is_the_dh_product_and_mujocos() -> None:
    import mujoco

    model = mujoco.MjModel.from_xml_string(mjcf(""))
    data = mujoco.MjData(model)
    q = draw_joints(20)
    for one, position, rotation in zip(q, *panda.forward(q), strict=True):
        closed = dh_product(one)
        np.testing.assert_allclose(position, closed[:3, 3], atol=1e-12)
        np.testing.assert_allclose(rotation, closed[:3, :3], atol=1e-12)
        data.qpos[:7] = one
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("tcp").xpos, position, atol=1e-12)
        np.testing.assert_allclose(data.site("tcp").xmat.reshape(3, 3), rotation, atol=1e-12)


def test_jacobian_against_finite_differences() -> None:
    for q in draw_joints(5):
        jac = panda.jacobian(panda.frames(q))
        for i in range(7):
            step = np.eye(7)[i] * 1e-6
            (p0, r0), (p1, r1) = panda.forward(q - step), panda.forward(q + step)
            np.testing.assert_allclose((p1 - p0) / 2e-6, jac[:3, i], atol=1e-7)
            np.testing.assert_allclose(rotations.rotation_vector(r1 @ r0.T) / 2e-6, jac[3:, i], atol=1e-6)


def test_inverse_kinematics_meets_poses_within_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        place = rng.uniform([0.38, -0.3, 0.02], [0.62, 0.3, 0.4])
        tool = rotations.turn([0, 0, rng.uniform(-0.7, 0.7)]) @ DOWN
        q, met = panda.solve(HOME, place, tool, HOME)
        position, rotation = panda.forward(q)
        assert (
            met and np.linalg.norm(position - place) < 1e-3 and rotations.angle_between(rotation, tool) < 1e-2
        )
        assert (q >= LIMITS.lower).all() and (q <= LIMITS.upper).all()
    assert not panda.solve(HOME, [2.0, 0.0, 0.5], DOWN, HOME)[1]


def test_inverse_kinematics_is_continuous_in_the_pose() -> None:
    q, last = HOME, None
    for y in np.linspace(-0.3, 0.3, 61):
        q, met = panda.solve(q, [0.5, y, 0.2], DOWN, HOME, 60)
        assert met and (last is None or np.abs(q - last).max() < 0.05)
        last = q


@settings(deadline=None)
@given(st.tuples(unit, unit, unit), st.floats(0.0, 3.1))
def test_rotations_round_trip(axis: tuple[float, float, float], angle: float) -> None:
    size = np.linalg.norm(axis)
    vector = np.array([angle, 0, 0]) if size < 1e-3 else np.array(axis) / size * angle
    rotation = rotations.turn(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotations.matrix(rotations.rot6d(rotation)), rotation, atol=1e-12)
    np.testing.assert_allclose(rotations.rotation_vector(rotation), vector, atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5, allow_nan=False), min_size=6, max_size=6))
def test_six_numbers_give_a_rotation_or_are_refused(six: list[float]) -> None:
    try:
        rotation = rotations.matrix(six)
    except ValueError as error:
        assert "neither zero nor parallel" in str(error)
        assert np.linalg.norm(np.cross(six[:3], six[3:])) < 1e-4
        return
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-8)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize("axis", np.eye(3).tolist() + [[0.6, 0.8, 0.0]])
def test_half_turns_have_a_rotation_vector(axis: list[float]) -> None:
    vector = rotations.rotation_vector(rotations.turn(pi * np.array(axis)))
    assert np.linalg.norm(vector) == pytest.approx(pi)
    np.testing.assert_allclose(np.abs(vector / pi), np.abs(axis), atol=1e-6)


def test_six_numbers_batch() -> None:
    _, turned = panda.forward(draw_joints(6).reshape(2, 3, 7))
    np.testing.assert_allclose(rotations.matrix(rotations.rot6d(turned)), turned, atol=1e-12)


def test_clearance_against_mujoco() -> None:
    import mujoco

    half = np.array([0.05, 0.04, 0.15])
    model = mujoco.MjModel.from_xml_string(
        mjcf(
            f'<geom name="box" class="world" type="box" size="{half[0]} {half[1]} {half[2]}" pos="0.5 0 0.15"/>'
        )
    )
    data = mujoco.MjData(model)
    box = model.geom("box").id
    arm = [g for g in range(model.ngeom) if model.geom_contype[g] == 1 and model.geom_bodyid[g] > 1]
    for q in draw_joints(40):
        data.qpos[:9] = [*q, 0.03, 0.03]
        mujoco.mj_kinematics(model, data)
        exact = min(mujoco.mj_geomDistance(model, data, g, box, 2.0, None) for g in arm)
        if exact > 0.01:  # the fingers are boxes there and one capsule here
            assert clearance(q, [0.5, 0.0, 0.15], half) == pytest.approx(exact, abs=0.012)
    assert len({capsule.link for capsule in CAPSULES}) == 8


def test_crosses() -> None:
    box = ([0.5, 0.0, 0.1], [0.05, 0.05, 0.1])
    assert crosses([0.5, -0.3, 0.1], [0.5, 0.3, 0.15], *box)
    assert not crosses([0.5, -0.3, 0.25], [0.5, 0.3, 0.25], *box)
    assert not crosses([0.5, -0.3, 0.1], [0.5, -0.1, 0.1], *box)
    assert crosses([0.5, 0.0, 0.1], [0.9, 0.0, 0.1], *box)
