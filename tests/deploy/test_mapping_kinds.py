"""Implausible mappings, a hundred kinds: each is refused, or doubted by `dfplan check`, and none ends in another error."""

import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")

from dfplan.deploy import load_mapping
from dfplan.deploy.check import doubts, understood
from dfplan.deploy.robot.mapping import arms, mapping_file

U = mapping_file("ur5e").read_text()
J = "{name: elbow_joint, acceleration: 3.14, jerk: 800}"
KINDS = [
    ("home in degrees", "[0.0, -1.5708, 1.5708, -1.5708, -1.5708, 0.0]", "[0.0, -90, 90, -90, -90, 0.0]"),
    ("home of five joints", "-1.5708, -1.5708, 0.0]", "-1.5708, -1.5708]"),
    ("acceleration in deg/s^2", J, J.replace("3.14", "180")),
    ("acceleration in mrad", J, J.replace("3.14", "3140")),
    ("acceleration too small", J, J.replace("3.14", "0.0314")),
    ("acceleration negative", J, J.replace("3.14", "-3.14")),
    ("acceleration nan", J, J.replace("3.14", ".nan")),
    ("acceleration decimal comma", J, J.replace("3.14", "'3,14'")),
    ("acceleration with a unit", J, J.replace("3.14", "3.14 rad/s^2")),
    ("jerk in deg", J, J.replace("800", "45000000")),
    ("jerk too large", J, J.replace("800", "900000")),
    ("jerk too small", J, J.replace("800", "0.8")),
    ("jerk zero", J, J.replace("800", "0")),
    ("velocity in deg", J, J[:-1] + ", velocity: 180}"),
    ("velocity in rpm", J, J[:-1] + ", velocity: 30}"),
    ("velocity 1e9", J, J[:-1] + ", velocity: 1.0e9}"),
    ("velocity sexagesimal", J, J[:-1] + ", velocity: 1:30}"),
    ("velocity octal", J, J[:-1] + ", velocity: 010}"),
    ("lower in deg", J, J[:-1] + ", lower: -180, upper: 180}"),
    ("lower above upper", J, J[:-1] + ", lower: 2, upper: -2}"),
    ("range of nothing", J, J[:-1] + ", lower: 0.1, upper: 0.1}"),
    ("range of hardly anything", J, J[:-1] + ", lower: 0.0, upper: 0.015, margin: 0}"),
    ("margin in deg", J, J[:-1] + ", margin: 5}"),
    ("margin negative", J, J[:-1] + ", margin: -0.1}"),
    ("unit m of a joint that turns", J, J[:-1] + ", unit: m}"),
    ("unit unknown", J, J[:-1] + ", unit: degrees}"),
    ("unit mm of a joint that turns", J, J[:-1] + ", unit: mm}"),
    ("grips on an arm joint", J, J[:-1] + ", grips: true}"),
    ("grips as text", J, J[:-1] + ", grips: 'no'}"),
    ("joint misspelled", J, J.replace("elbow_joint", "elbow_jiont")),
    ("joint twice", J, J + "\n    - " + J),
    ("joint left out", "    - " + J + "\n", ""),
    (
        "two joints exchanged in the command",
        "joints: &arm [shoulder_pan_joint, shoulder_lift_joint,",
        "joints: &arm [shoulder_pan_joint, shoulder_pan_joint,",
    ),
    ("base unknown", "base: base_link", "base: base_lnk"),
    ("tip unknown", "tip: tool0", "tip: tool9"),
    ("base and tip exchanged", "base: base_link\n  tip: tool0", "base: tool0\n  tip: base_link"),
    ("urdf not there", "urdf: ur5e.urdf", "urdf: ur50e.urdf"),
    ("urdf and model", "urdf: ur5e.urdf", "urdf: ur5e.urdf\n  model: panda"),
    ("rate zero", "rate: 500", "rate: 0"),
    ("rate negative", "rate: 500", "rate: -500"),
    ("rate in kHz", "rate: 500", "rate: 0.5"),
    ("rate implausible", "rate: 500", "rate: 1.0e9"),
    ("rate as text", "rate: 500", "rate: '500 Hz'"),
    ("max_age in ms", "rate: 500", "rate: 500, max_age: 100"),
    ("max_age zero", "rate: 500", "rate: 500, max_age: 0"),
    ("max_age below the interval", "rate: 500", "rate: 500, max_age: 0.001"),
    ("kind unknown", "kind: joint_state", "kind: joint_states"),
    ("state not required", "rate: 500", "rate: 500, required: false"),
    ("topic with a space", "topic: /joint_states", "topic: /joint states"),
    ("topic empty", "topic: /joint_states", "topic: ''"),
    (
        "topic of the command as source",
        "topic: /joint_states",
        "topic: /scaled_joint_trajectory_controller/joint_trajectory",
    ),
    (
        "source misspelled",
        "source: joints, field: position, names: *arm, unit: rad}",
        "source: jionts, field: position, names: *arm, unit: rad}",
    ),
    (
        "field unknown",
        "field: position, names: *arm, unit: rad}",
        "field: positions, names: *arm, unit: rad}",
    ),
    (
        "field of an array",
        "field: position, names: *arm, unit: rad}",
        "field: value, names: *arm, unit: rad}",
    ),
    (
        "read in deg, commanded in rad",
        "field: position, names: *arm, unit: rad}",
        "field: position, names: *arm, unit: deg}",
    ),
    ("convert unknown", "convert: tool", "convert: tcp"),
    ("columns too few", "[v1, v2, v3, v4, v5, v6]", "[v1, v2, v3, v4, v5]"),
    ("columns twice", "[v1, v2, v3, v4, v5, v6]", "[v1, v2, v3, v4, v5, v5]"),
    ("dt in ms", "dt: 0.05", "dt: 50"),
    ("dt zero", "dt: 0.05", "dt: 0"),
    ("dt shorter than a tick", "dt: 0.05", "dt: 0.0005"),
    ("dt as a rate", "dt: 0.05", "dt: 20"),
    (
        "workspace in mm",
        "low: [-0.95, -0.95, 0.05], high: [0.95, 0.95, 1.1]",
        "low: [-950, -950, 50], high: [950, 950, 1100]",
    ),
    (
        "workspace upside down",
        "low: [-0.95, -0.95, 0.05], high: [0.95, 0.95, 1.1]",
        "low: [-0.95, -0.95, 1.1], high: [0.95, 0.95, 0.05]",
    ),
    ("workspace of two numbers", "low: [-0.95, -0.95, 0.05]", "low: [-0.95, -0.95]"),
    (
        "workspace out of reach",
        "low: [-0.95, -0.95, 0.05], high: [0.95, 0.95, 1.1]",
        "low: [2, 2, 0.05], high: [3, 3, 1.1]",
    ),
    ("workspace without home", "high: [0.95, 0.95, 1.1]", "high: [0.2, 0.95, 1.1]"),
    (
        "workspace in cm",
        "low: [-0.95, -0.95, 0.05], high: [0.95, 0.95, 1.1]",
        "low: [-9.5, -9.5, 0.5], high: [9.5, 9.5, 11]",
    ),
    ("jump in deg", "safety:\n", "safety:\n  jump: 34\n"),
    ("following in deg", "safety:\n", "safety:\n  following: 17\n"),
    ("action age in ms", "safety:\n", "safety:\n  max_age: 2000\n"),
    ("safety misspelled", "safety:\n", "saftey:\n"),
    ("key misspelled", "safety:\n", "safety:\n  jmup: 0.3\n"),
    ("key twice", "safety:\n", "safety:\n  jump: 0.3\n  jump: 0.4\n"),
    ("loop rate zero", "safety:\n", "loop: {rate: 0}\nsafety:\n"),
    ("loop rate in kHz", "safety:\n", "loop: {rate: 0.1}\nsafety:\n"),
    ("loop rate implausible", "safety:\n", "loop: {rate: 1.0e6, send: 1.0e6}\nsafety:\n"),
    ("send no divisor", "safety:\n", "loop: {rate: 100, send: 33}\nsafety:\n"),
    ("send faster than rate", "safety:\n", "loop: {rate: 100, send: 200}\nsafety:\n"),
    ("lead in ms", "safety:\n", "loop: {lead: 30}\nsafety:\n"),
    ("lead zero", "safety:\n", "loop: {lead: 0}\nsafety:\n"),
    ("expire in ms", "safety:\n", "loop: {expire: 100}\nsafety:\n"),
    ("expire zero", "safety:\n", "loop: {expire: 0}\nsafety:\n"),
    ("settle negative", "safety:\n", "loop: {settle: -1}\nsafety:\n"),
    ("settle in ms", "safety:\n", "loop: {settle: 1000}\nsafety:\n"),
    ("commit in ms", "safety:\n", "loop: {commit: 200}\nsafety:\n"),
    ("status zero", "safety:\n", "loop: {status: 0}\nsafety:\n"),
    ("command kind unknown", "  - topic: /scaled", "  - kind: velocity\n    topic: /scaled"),
    ("command topic empty", "topic: /scaled_joint_trajectory_controller/joint_trajectory", "topic: ''"),
    (
        "command topic with a space",
        "topic: /scaled_joint_trajectory_controller/joint_trajectory",
        "topic: /scaled joint",
    ),
    ("action a number", "action: /scaled_joint_trajectory_controller/follow_joint_trajectory", "action: 7"),
    ("policy action unknown", "policy:\n", "policy:\n  action: tcp\n"),
    ("action joints unknown", "policy:\n", "policy:\n  action_joints: [elbow]\n"),
    ("a list for a table", U, "- robot\n- sources\n"),
    ("an empty file", U, ""),
    ("no YAML", "robot:\n", "robot: [\n"),
    ("a tab", "robot:\n  name", "robot:\n\tname"),
]


@pytest.mark.parametrize("what, old, new", KINDS, ids=[kind[0] for kind in KINDS])
def test_what_no_robot_has_is_refused_or_doubted(tmp_path, what, old, new):
    assert old in U
    (tmp_path / "ur5e.urdf").write_text(mapping_file("ur5e").with_suffix(".urdf").read_text())
    (tmp_path / "arm.yaml").write_text(U.replace(old, new, 1))
    try:
        mapping = load_mapping(tmp_path / "arm.yaml")
        understood(mapping)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert doubts(mapping)


@pytest.mark.parametrize("arm", arms())
def test_what_ships_is_beyond_doubt(arm):
    assert doubts(load_mapping(arm)) == []
