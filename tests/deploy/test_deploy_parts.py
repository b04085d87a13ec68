"""Mapping, observation, trajectory, chunks: what does not need time."""

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from robots import YAML, limits, mapping

from dfplan.deploy import (
    DryRun,
    FakeClock,
    JointTrajectory,
    Motion,
    dump_mapping,
    load_mapping,
    move,
    to_trajectory,
)
from dfplan.deploy.robot.body import body
from dfplan.deploy.robot.mapping import parse
from dfplan.deploy.robot.observe import Assembler
from dfplan.deploy.robot.panda import DH, FLANGE, HAND_YAW, HOME, TCP
from dfplan.deploy.robot.tables import Joint, Robot
from dfplan.deploy.robot.transport import Reading, reading
from dfplan.deploy.robot.urdf import Chain, read_urdf

URDF = """<robot name="r">
<joint name="lift" type="prismatic"><parent link="base"/><child link="l1"/><axis xyz="0 0 1"/>
  <limit lower="0" upper="0.5" velocity="0.3" effort="1"/></joint>
<joint name="a" type="revolute"><parent link="l1"/><child link="l2"/><origin xyz="0 0 1" rpy="0 0 0"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
<joint name="b" type="continuous"><parent link="l2"/><child link="l3"/><origin xyz="1 0 0"/><axis xyz="0 1 0"/>
  <limit velocity="2" effort="1"/></joint>
<joint name="tool" type="fixed"><parent link="l3"/><child link="tip"/><origin xyz="0.5 0 0" rpy="0 0 1.5707963"/></joint>
</robot>"""


def test_a_mapping_is_read_written_and_read_again(tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(YAML)
    first = load_mapping(file)
    file.write_text(dump_mapping(first))
    assert load_mapping(file) == first
    lim = body(first.robot).limits
    np.testing.assert_allclose(lim.upper, [2, np.pi / 2])
    np.testing.assert_allclose(lim.margin, 0.02)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("robot:", "robto:", "did you mean 'robot'"), ("max_age", "maxage", "did you mean 'max_age'"),
        ("source: lamp", "source: lmap", "did you mean 'lamp'"), ("names: [on]}\n", "names: [of]}\n", "did you mean 'on'"),
        ("names: [b], unit: deg", "names: [b], unit: degree", "did you mean 'deg'"),
        ("joints: [a, b]}", "joints: [a]}", "exactly once"), ("dt: 0.05", "dt: 0.005", "a tick per action at least: rate 200"),
        ("jerk: 300", "jerk: fast", "expected float"), ("  dt: 0.05", "  dt: 0.05\n  dt: 0.1", "given twice"),
        ("required: false", "required: no", "expected bool"), ("lower: -2", "lower: 3", "lower"),
        (", jerk: 300", "", "has no jerk"), ("robot:", "robot: [", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_mapping_that_is_wrong_is_refused(tmp_path, old, new, message):
    assert old in YAML
    file = tmp_path / "robot.yaml"
    file.write_text(YAML.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        body(load_mapping(file).robot)


def test_yaml_names_and_numbers_are_what_they_look_like():
    assert parse("{on: off, y: no, a: 1e-3, b: true, c: .5, d: 3, e: 777, f: 1:30, g: -2.5e+1}") == {
        "on": "off", "y": "no", "a": 1e-3, "b": True, "c": 0.5, "d": 3, "e": 777, "f": "1:30", "g": -25.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="line 2: a key is given twice"):
        parse("a: 1\na: 2")
    with pytest.raises(ValueError, match="expected a table"):
        parse("- a")


def test_urdf_limits_and_kinematics(tmp_path):
    file = tmp_path / "r.urdf"
    file.write_text(URDF)
    joints = read_urdf(file)
    chain = Chain(joints, "base", "tip", ["a", "b", "lift"])
    position, rotation = chain.pose(np.array([[0, 0, 0.2], [np.pi / 2, 0, 0], [0, np.pi / 2, 0]]))
    np.testing.assert_allclose(position, [[1.5, 0, 1.2], [0, 1.5, 1], [1, 0, 0.5]], atol=1e-7)
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3)[None].repeat(3, 0), atol=1e-9)
    file.write_text("<!DOCTYPE x>" + URDF)
    with pytest.raises(ValueError, match="document type"):
        read_urdf(file)


def panda_as_urdf() -> str:
    """The built-in arm by its own numbers, with meshes that are not there."""
    rows = [(a, -d * np.sin(alpha), d * np.cos(alpha), alpha) for a, d, alpha in DH]
    parts = [
        f"""<link name="l{i}"><visual><geometry><mesh filename="package://gone.dae"/></geometry></visual></link>
        <joint name="q{i + 1}" type="revolute"><parent link="l{i}"/><child link="l{i + 1}"/><axis xyz="0 0 1"/>
        <origin xyz="{x} {y} {z}" rpy="{roll} 0 0"/><limit lower="-2" upper="2" velocity="1"/></joint>"""
        for i, (x, y, z, roll) in enumerate(rows)
    ]
    return f"""<robot name="panda">{"".join(parts)}<joint name="tool" type="fixed"><parent link="l7"/>
        <child link="tip"/><origin xyz="0 0 {FLANGE + TCP}" rpy="0 0 {HAND_YAW}"/></joint></robot>"""


def test_a_urdf_of_the_built_in_arm_is_that_arm(tmp_path):
    file = tmp_path / "panda.urdf"
    file.write_text(panda_as_urdf())
    joints = tuple(Joint(f"q{i + 1}", acceleration=7, jerk=900) for i in range(7))
    gripper = Joint("g", "m", 0, 0.08, 0.2, 9, 900, grips=True)
    built_in = body(Robot((*joints, gripper), model="panda"))
    chain = Chain(read_urdf(file), "l0", "tip", [*(j.name for j in joints), "g"])
    generic = type(built_in)(
        built_in.limits, built_in.unit, None, chain.pose, chain.look, np.append(HOME, 0.08)
    )
    q = np.array([0.1, -0.2, 0.1, -2.0, 0.1, 2.0, 0.5, 0.04])
    for mine, theirs in zip(built_in.look(q), generic.look(q), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    rows = np.stack([q, 0.5 * q])[None]
    for mine, theirs in zip(built_in.pose(rows), generic.pose(rows), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    position, rotation = built_in.pose(q)
    for made in (built_in, generic):
        found, met = made.inverse(q + 0.1 * np.array([1, -1, 1, 1, -1, 1, 1, 0]), position, rotation)
        assert met and np.abs(built_in.forward(found) - position).max() < 1e-3
        assert found[7] == 0.04  # a joint that does not move the tool is left alone
    with pytest.raises(ValueError, match="not above"):
        Chain(read_urdf(file), "nowhere", "tip", [])


def test_observations_are_matched_by_name_with_ages():
    m = mapping()
    a = Assembler(m, body(m.robot))
    assert np.isnan(a.observe(0, 0).values).all() and a.stale(a.ages(0, 0)).startswith("'joints' has not")
    a.update([reading("joints", ["extra", "b", "a"], 9.98, 0.0, position=[9, 180, 0.1], velocity=[])])
    a.update([reading("lamp", ["on"], 10.0, 0.0, value=[1.0])])
    got = a.observe(0.05, 10.05)
    np.testing.assert_allclose(got.values, [0.1, np.pi, 1.0])
    assert got.ages == pytest.approx({"joints": 0.07, "lamp": 0.05}) and got.doubtful == ()
    assert "'joints' is 0.1" in a.stale(a.ages(0.1, 10.1))
    assert a.observe(0.3, 10.3).doubtful == ("arm", "lamp")
    a.update([reading("joints", ["a"], 11, 1.0, position=[5.0])])  # one is missing
    a.update([reading("joints", ["x"], 11, 1.0, position=[5.0])])  # somebody else's
    a.update([reading("joints", ["a", "b"], 11, 1.0, position=[np.nan, 0])])
    a.update([reading("joints", ["a", "b"], 9, 1.0, position=[5.0, 0])])  # older
    assert a.measured(1.0, 11.0).position[0] == 0.1
    assert dict(a.counts) == {"joints: missing": 1, "joints: not finite": 1}
    a.update([reading("joints", ["a", "b"], 10.08, 0.1, position=[0.2, 180.0])])
    np.testing.assert_allclose(a.measured(0.1, 10.1).velocity, [1.0, 0.0])
    with pytest.raises(ValueError, match="did you mean 'lamp'"):
        a.update([Reading("lmap", (), {}, 0, 0)])


@pytest.mark.parametrize(
    "change", [{"times": [0.0, 1.0]}, {"times": [1.0, 1.0]}, {"times": [1.0]}, {"positions": [[np.nan], [0]]}]
)
def test_a_trajectory_that_an_arm_would_refuse_cannot_be_made(change):
    good = {"times": [0.5, 1.0], "positions": [[0.0], [1.0]], "velocities": [[1.0], [0.0]]}
    made = JointTrajectory(("a",), **good, stamp=0.0, expires=1.0)
    assert made.at(0.5)[1] == 1.0 and made.at(9)[0] == 1.0 and made.select(["a"]).names == ("a",)
    with pytest.raises(ValueError, match="expected"):
        JointTrajectory(("a",), **{**good, **change}, stamp=0.0, expires=1.0)


def test_a_motion_is_smooth_and_a_new_chunk_never_changes_what_was_used():
    rng = np.random.default_rng(0)
    motion, rows = Motion(0.05, np.zeros(2)), 0.1 * rng.normal(size=(8, 2)).cumsum(0)
    motion.accept(0, rows, rows, 0.0)
    for i in range(8):
        np.testing.assert_allclose(motion.at(0.05 * (i + 1))[0], rows[i], atol=1e-12)
    t = np.linspace(0, 0.23, 500)
    before = np.array([np.concatenate(motion.at(x)[:2]) for x in t])
    new = rows[-1] + rng.normal(size=(6, 2))
    took = motion.accept(3, new, new, 0.23)
    assert took.late == 2 and took.step == 5 and motion.steps == 9
    np.testing.assert_array_equal(before, [np.concatenate(motion.at(x)[:2]) for x in t])
    x = np.linspace(1e-6, 0.44, 20001)
    q, v, a = (np.array(part) for part in zip(*[motion.at(s) for s in x], strict=True))
    assert np.abs(np.diff(q, axis=0)).max() < 2e-3 and np.abs(np.diff(v, axis=0)).max() < 0.2
    np.testing.assert_allclose(np.gradient(q, x, axis=0)[5:-5], v[5:-5], atol=0.05)
    assert np.isfinite(a).all()


def test_three_ways_to_hand_over():
    old, new = np.zeros((8, 1)), np.ones((8, 1))
    for kind, expected in (("naive", 1.0), ("committed", 1 / 3), ("ensemble", 0.5)):
        motion = Motion(0.05, np.zeros(1), kind)
        motion.accept(0, old, old, 0.0)
        motion.accept(4, new, new, 0.12)
        got = [float(motion.action(i)[0]) for i in range(motion.steps)]
        assert got[:4] == [0] * 4 and got[4] == pytest.approx(expected, abs=0.01) and got[9] == 1
    with pytest.raises(ValueError, match="did you mean 'naive'"):
        Motion(0.05, np.zeros(1), "naiv")


def test_a_whole_chunk_as_one_trajectory_and_a_move_home():
    made = to_trajectory(("a", "b", "c"), np.zeros(3), np.full((5, 3), 0.2), 0.05, 7.0)
    assert made.times[0] == 0.05 and not made.velocities[-1].any() and made.expires == pytest.approx(7.1)
    lim = limits()
    home = move(lim, [0, 0, 0], [1, -1, 0.3])
    assert not home.velocities[-1].any() and np.abs(home.velocities).max() <= 0.2 * 1.2 + 1e-9
    np.testing.assert_allclose(home.positions[-1], [1, -1, 0.3])
    with pytest.raises(ValueError, match="goal"):
        move(lim, [0, 0, 0], [1, -3, 0.3])


def test_a_dry_run_prints_and_follows_itself(capsys):
    m, clock = mapping(), FakeClock(5.0)
    dry = DryRun(m, clock=clock)
    names = [r.source for r in dry.read()]
    assert names == ["joints", "lamp"] and dry.connected() and dry.connection() == 1
    dry.send(to_trajectory(("a", "b"), [0, 0], [[0.1, 0.1]], 0.05, dry.now()))
    clock.advance(0.5)
    np.testing.assert_allclose(dry.read()[0].values["position"], [0.1, np.rad2deg(0.1)], rtol=1e-4)
    assert "/arm/joint_trajectory (trajectory): 1 points" in capsys.readouterr().out
