"""`dfplan check`: a sound mapping is read back, a doubtful one is named."""

import pytest
from robots import YAML, mapping

from dfplan import envs
from dfplan.cli import main
from dfplan.deploy import dump_mapping
from dfplan.deploy.check import doubts, understood
from dfplan.envs import arm_mapping
from dfplan.models import find
from dfplan.train import checkpoint

URDF = """<robot name="two">
<joint name="a" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
  <limit lower="-2" upper="2" velocity="1.5" effort="1"/></joint>
<joint name="b" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0.5 0 0"/><axis xyz="0 0 1"/>
  <limit lower="-1.6" upper="1.6" velocity="1.6" effort="1"/></joint>
<joint name="end" type="fixed"><parent link="lower"/><child link="tool"/><origin xyz="0.5 0 0"/></joint>
<joint name="finger" type="prismatic"><parent link="tool"/><child link="tip"/><axis xyz="0 1 0"/>
  <limit lower="0" upper="0.05" velocity="0.2" effort="1"/></joint>
</robot>"""


def joint(name="a", **changes):
    return {"name": name, "lower": -2, "upper": 2, "velocity": 1.5, "acceleration": 6, "jerk": 300} | changes


def jointed(**changes):
    """The mapping of the tests, its joint a changed."""
    second = joint("b", unit="deg", lower=-90, upper=90, velocity=90, acceleration=400, jerk=20000)
    return mapping(robot={"joints": [joint(**changes), second]})


def test_a_sound_mapping_is_read_back_without_doubts():
    text = "\n".join(understood(mapping()))
    assert doubts(mapping()) == []
    for part in ("a: -1.98 to 1.98 rad (-113 to 113 deg), 1.5 rad/s, 6 rad/s^2", "b: -1.551 to 1.551 rad"):
        assert part in text
    assert "/lamp, 20 Hz; older than 0.2 s: its sensors are left out" in text
    assert "the policy sees 3 numbers: a, b, on" in text and "a, b to /arm/joint_trajectory" in text


@pytest.mark.parametrize("task", ["arm-pick", "swap"])
def test_what_ships_has_no_doubts(task):
    found = arm_mapping(envs.make(task, action="ee").unwrapped)
    assert doubts(found, checkpoint.load(find(task))) == []


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: jointed(acceleration=0.3), "come to rest from full speed in 5 s"),
        (lambda: jointed(acceleration=900, jerk=45000), "come to rest from full speed in 0.0017 s"),
        (lambda: jointed(jerk=3), "full acceleration in 2 s"),
        (lambda: jointed(lower=-0.025, upper=0.025), "may move by 0.01 only"),
        (lambda: mapping(robot={"home": [2.5, 0]}), "home of joint 'a' is 2.5, outside its limits"),
        (
            lambda: mapping(sources=[{"name": "joints", "topic": "/j", "kind": "joint_state", "rate": 5},
                                     {"name": "lamp", "topic": "/lamp", "names": ["on"]}]),
            "'joints' comes every 0.2 s and is stale after 0.1 s",
        ),
        (
            lambda: mapping(policy={"observation": [
                {"name": "arm", "source": "joints", "field": "position", "names": ["a", "b"], "unit": "rad"}]}),
            "reads joint 'b' in rad, which is commanded in deg",
        ),
    ],
)  # fmt: skip
def test_what_no_arm_is_like(made, said):
    (found,) = doubts(made())
    assert said in found


def with_urdf(folder, **changes):
    (folder / "two.urdf").write_text(URDF)
    joints = [joint("a"), joint("b", lower=-1.5, upper=1.5)]
    robot = {
        "joints": joints,
        "urdf": str(folder / "two.urdf"),
        "base": "base",
        "tip": "tool",
        "home": [0, 0],
    }
    return mapping(robot=robot | changes.pop("robot", {}), **changes)


def test_the_tool_and_its_workspace(tmp_path):
    box = {"low": [0.3, -0.9, -0.1], "high": [1.1, 0.9, 0.1]}
    sound = with_urdf(tmp_path, safety={"workspace": box})
    assert "at home the tool is at x 1.000, y 0.000, z 0.000 m" in "\n".join(understood(sound))
    units = {
        "observation": [
            {"name": "arm", "source": "joints", "field": "position", "names": ["a", "b"], "unit": "rad"}
        ]
    }
    assert doubts(with_urdf(tmp_path, safety={"workspace": box}, policy=units)) == []
    high = {"low": [0.3, -0.9, 0.2], "high": [1.1, 0.9, 0.4]}
    outside, never = doubts(with_urdf(tmp_path, safety={"workspace": high}, policy=units))
    assert "at home the tool is at [1.0, 0.0, 0.0], outside the workspace" in outside
    assert "in none of 2000 postures" in never


def test_a_gripper_that_is_not_called_one(tmp_path):
    finger = joint("finger", unit="m", lower=0, upper=0.05, velocity=0.2, acceleration=5, jerk=500)
    robot = {"joints": [joint("a"), joint("b", lower=-1.5, upper=1.5), finger], "home": [0, 0, 0]}
    command = [{"topic": "/arm", "joints": ["a", "b", "finger"]}]
    seen = [{"name": "arm", "source": "joints", "field": "position", "names": ["a", "b"], "unit": "rad"}]
    said = doubts(with_urdf(tmp_path, robot=robot, commands=command, policy={"observation": seen}))
    assert len(said) == 1 and "'finger' does not move the tool" in said[0]


def test_a_policy_of_another_arm_or_unit():
    found = arm_mapping(envs.make("arm-pick", action="ee").unwrapped)
    model = checkpoint.load(find("arm-pick"))
    with pytest.raises(ValueError, match="42 columns, the model was trained on 36"):
        doubts(arm_mapping(envs.make("swap", action="ee").unwrapped), model)
    names = [t.name for t in model.config.spec.tokens]
    hand = names.index("hand")
    column = model.config.spec.tokens[hand].channels.index("gripper")
    model.normalizer.mean[hand, column] *= 1000  # as if it had been recorded in mm
    (said,) = doubts(found, model)
    assert "joint 'gripper' was at" in said and "units and order" in said


def test_the_command(tmp_path, monkeypatch, capsys):
    file = tmp_path / "robot.yaml"
    file.write_text(YAML)
    monkeypatch.setattr("sys.argv", ["dfplan", "check", str(file)])
    main()
    assert "robot.yaml: no doubts" in capsys.readouterr().out
    file.write_text(YAML.replace("acceleration: 6,", "acceleration: 0.3,"))
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "doubtful: joint 'a' would come to rest" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["dfplan", "check", str(file), "--sure"])
    main()
    assert "taken as it is" in capsys.readouterr().out
    file.write_text(dump_mapping(arm_mapping(envs.make("arm-pick", action="ee").unwrapped)))
    monkeypatch.setattr("sys.argv", ["dfplan", "check", str(file), "--policy", "arm-pick"])
    main()
    assert "no doubts" in capsys.readouterr().out


def test_an_arm_is_not_driven_by_a_doubtful_mapping(tmp_path, monkeypatch, capsys):
    file = tmp_path / "robot.yaml"
    sound = dump_mapping(arm_mapping(envs.make("arm-pick", action="ee").unwrapped))
    file.write_text(sound.replace("max_age: 0.2", "max_age: 0.02"))
    deploy = f"dfplan deploy --policy arm-pick --transport dry-run --robot {file} --seconds 0.1 --worker thread".split()
    monkeypatch.setattr("sys.argv", deploy)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "is stale after 0.02 s: always; correct the mapping, or say --sure" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*deploy, "--sure"])
    main()
