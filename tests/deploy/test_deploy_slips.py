"""Slips in a mapping file that would switch the safety filter off are refused, and what arms have is not."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")

from robots import YAML, mapping
from test_deploy_parts import URDF

from dfplan.deploy import load_mapping
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.panda import JOINTS
from dfplan.deploy.robot.tables import Joint, Robot

A = "lower: -2, upper: 2, velocity: 1.5, acceleration: 6, jerk: 300}"
B = "acceleration: 400, jerk: 20000, unit: deg}"


@pytest.mark.parametrize(
    "old, new, message",
    [
        (A, "lower: -170, upper: 170, velocity: 180, acceleration: 600, jerk: 30000}", "lower=-170"),
        (B, B.replace("deg", "m"), "lower=-90 in m"), ("velocity: 1.5", "velocity: 1.0e9", "velocity=1e.09"),
        ("acceleration: 6", "acceleration: 5000", "acceleration=5000"), ("jerk: 300", "jerk: 1.0e12", "jerk=1e.12"),
        ("velocity: 1.5", "velocity: 1:30", "expected float"), ("velocity: 1.5", "velocity: 010", "line 5: got 010"),
        ("jerk: 300}", "jerk: 300, grips: true}", ""), ("velocity: 1.5", "velocity: .inf", "no velocity"),
        ("loop: {", "safety: {jump: 1.0e9}\nloop: {", "jump"), ("loop: {", "safety: {following: 20}\nloop: {", "following"),
        ("loop: {", "safety: {max_age: 1.0e9}\nloop: {", "max_age"), ("rate: 100", "rate: 100, max_age: 100", "max_age"),
        ("loop: {", "safety: {workspace: {low: [0, 0, 0], high: [800, 800, 800]}}\nloop: {", "within 20 m"),
        ("loop: {", "loop: {lead: 30, ", "lead"), ("loop: {", "loop: {commit: 200, ", "commit"),
    ],
)  # fmt: skip
def test_a_slip_is_refused(tmp_path, old, new, message):
    assert old in YAML
    text = YAML.replace(old, new, 1)
    if not message:  # one joint may grip, but not each
        body(parsed(tmp_path, text).robot)
        text, message = text.replace(B, B[:-1] + ", grips: true}"), "grips for each"
    with pytest.raises(ValueError, match=message):
        body(parsed(tmp_path, text).robot)


def parsed(folder, text):
    (folder / "robot.yaml").write_text(text)
    return load_mapping(folder / "robot.yaml")


@pytest.mark.parametrize(
    "joint, change, message",
    [
        (2, {"velocity": 20.0}, "velocity=20 .* 2 in the robot's own"), (1, {"upper": 1.5}, "upper=1.5 .* 1 in"),
        (0, {"unit": "rad"}, "unit rad of a prismatic"), (1, {"unit": "m"}, "unit m of a revolute"),
        (2, {"grips": True}, "'b' moves the tool"),
    ],
)  # fmt: skip
def test_a_mapping_that_its_urdf_belies_is_refused(tmp_path, joint, change, message):
    (tmp_path / "r.urdf").write_text(URDF)
    more = {"acceleration": 9, "jerk": 900}
    joints = [Joint("lift", "m", **more), Joint("a", **more), Joint("b", lower=-30, upper=30, **more)]
    joints[2] = replace(joints[2], lower=-6, upper=6, velocity=1.0)
    robot = Robot(tuple(joints), urdf=str(tmp_path / "r.urdf"), base="base", tip="tip")
    np.testing.assert_allclose(body(robot).limits.velocity, [0.3, 2, 1])  # narrower is fine
    joints[joint] = replace(joints[joint], **change)
    with pytest.raises(ValueError, match=message):
        body(replace(robot, joints=tuple(joints)))


def test_a_joint_of_the_built_in_arm_does_not_grip():
    joints = [Joint(name) for name in JOINTS]
    gripper = Joint("gripper", "m", grips=True)
    assert body(Robot((*joints, gripper), model="panda")).limits.grips.sum() == 1
    joints[3] = replace(joints[3], grips=True)
    with pytest.raises(ValueError, match="moves the tool"):
        body(Robot((*joints, gripper), model="panda"))


def test_what_is_not_required_may_be_old():
    sources = [s if s["name"] == "joints" else s | {"max_age": 1e6} for s in SOURCES]
    assert mapping(sources=sources).source("lamp").max_age == 1e6


SOURCES = [
    {"name": "joints", "topic": "/joint_states", "kind": "joint_state", "rate": 100},
    {"name": "lamp", "topic": "/lamp", "names": ["on"], "required": False},
]
