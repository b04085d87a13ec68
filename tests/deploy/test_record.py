"""Recording: columns, what ends an episode, and what is on the disk when."""

import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from guided import Guided, path, plan, recorded
from robots import mapping

from dfplan.data import load
from dfplan.deploy import FakeClock, Sampler, record
from dfplan.deploy.recording.recording import Recording, _beside, action_info, observation_info
from dfplan.envs import arm_mapping
from dfplan.envs.arm import ArmPickEnv, ArmReachEnv


def test_without_commands_the_action_is_where_the_joints_are_one_step_later():
    made, told, robot = recorded((0.1, "start"), (1.1, "stop"), (2.0, "start"), (2.53, "stop"))
    assert made.ends.tolist() == [20, 30] and made.dt == 0.05 and robot.untouched()
    t = np.concatenate([0.1 + 0.05 * np.arange(21), 2.0 + 0.05 * np.arange(11)])
    rows = np.stack([np.append(path(x) * [1, np.pi / 180], 0.5 + x) for x in t])
    keep = np.delete(np.arange(32), [20, 31])
    np.testing.assert_allclose(made.arrays["observations"], rows[keep], atol=1e-6)
    np.testing.assert_allclose(made.arrays["actions"], rows[keep + 1, :2], atol=1e-6)
    assert not made.arrays["doubtful"].any()
    assert made.info["names"] == {
        "observations": ["a", "b", "on"], "actions": ["a target", "b target"], "doubtful": ["lamp"]
    }  # fmt: skip
    assert made.info["groups"] == {"arm": [0, 2], "lamp": [2, 3]}
    assert made.info["units"] == {"observations": ["rad", "rad", "1"], "actions": ["rad", "rad"]}
    assert made.info["episodes"][1]["begun"] == pytest.approx(1002.0)
    assert robot.handlers.arm() == (False, "recording, not driving")
    assert "episode 2: kept, 10 steps; actions: measured, nobody commands a joint" in told


def test_seconds_end_an_episode_and_episodes_end_the_recording():
    made, _, _ = recorded((0.1, "start"), (0.7, "start"), (9.0, "start"), seconds=0.5, episodes=2)
    assert made.ends.tolist() == [10, 20]


@pytest.mark.parametrize(
    "broken, words",
    [
        ({"joints": (0.5, 0.9, "silent")}, "'joints' is 0.1"),
        ({"lamp": (0.5, 0.9, "nan")}, "sensor 'lamp' has no number (source 'lamp' on /lamp)"),
        ({"joints": (0.5, 0.9, "nan")}, "'joints' is 0.1"),
    ],
)
def test_what_is_missing_ends_the_episode_and_is_never_filled_in(broken, words):
    made, told, _ = recorded(
        (0.1, "start"), (0.3, "stop"), (0.35, "start"), (1.2, "start"), (1.5, "stop"), broken=broken
    )
    assert made.ends.tolist() == [4, 10], "the broken episode is not kept, the one after it is"
    assert [line for line in told if "episode 2: discarded" in line and words in line]


def test_a_required_source_that_never_came_is_named():
    told = []
    with pytest.raises(ValueError, match="no episode was kept"):
        clock = FakeClock()
        robot = Guided(clock, {"joints": (0, 99, "silent")})
        record(mapping(), robot, control=plan(clock, (0.1, "start")), clock=clock, tell=told.append)
    assert told == ["cannot begin: 'joints' has not been received on /joint_states"]


def test_a_sensor_that_is_not_required_may_be_old_and_the_data_say_where():
    made, told, _ = recorded((0.1, "start"), (1.1, "stop"), broken={"lamp": (0.5, 0.9, "silent")})
    old = made.arrays["doubtful"][:, 0]
    assert old.tolist() == [0.7 - 1e-6 < t < 0.9 - 1e-6 for t in 0.1 + 0.05 * np.arange(20)]
    assert "  'lamp' showed something old in 20 % of them" in told


def test_a_late_sample_and_a_clock_that_is_set_back_end_the_episode():
    clock, told = FakeClock(), []
    robot = Guided(clock)
    asked = plan(clock, (0.1, "start"), (0.5, ""), (1.0, "start"), (1.5, ""), (2.0, ""))

    def control(recording):
        if recording and 0.3 <= clock.now() < 0.31:
            clock.advance(0.15)
        if recording and 1.3 <= clock.now() < 1.31:
            robot.now = lambda: clock.now() + 900.0
        return asked(recording)

    with pytest.raises(ValueError, match="no episode was kept"):
        record(mapping(), robot, control=control, clock=clock, tell=told.append)
    assert "a sample is 0.1" in told[1] and "the robot's clock was set back" in told[3]


def test_discarded_and_too_short_episodes_are_not_kept_and_words_are_checked():
    made, told, _ = recorded(
        (0.1, "start"), (0.5, "discard"), (0.6, "start"), (0.61, "stop"), (0.7, "start"), (0.9, "stop")
    )
    assert made.ends.tolist() == [4]
    assert told[1] == "episode 1: discarded" and "shorter than two samples" in told[3]
    with pytest.raises(ValueError, match="did you mean 'stop'"):
        recorded((0.1, "stopp"))


def test_ctrl_c_costs_the_running_episode_alone():
    clock, told = FakeClock(), []
    ask = plan(clock, (0.1, "start"), (0.5, "stop"), (0.6, "start"), (9.0, ""))

    def control(recording):
        if clock.now() > 1.0:
            raise KeyboardInterrupt
        return ask(recording)

    robot = Guided(clock)
    made = record(mapping(), robot, control=control, clock=clock, tell=told.append)
    assert made.ends.tolist() == [8] and told[-1] == "stopped" and robot.untouched()


def test_a_slow_source_is_mentioned():
    m = mapping()
    fast = replace(m, sources=(m.sources[0], replace(m.sources[1], rate=300.0)))
    clock, told = FakeClock(), []
    robot = Guided(clock)
    read = robot.read

    def slow():
        robot.broken["lamp"] = (0, 99, "silent") if round(100 * clock.now()) % 10 else (0, 0, "")
        return read()

    robot.read = slow
    record(fast, robot, control=plan(clock, (0.1, "start"), (1.1, "stop")), clock=clock, tell=told.append)
    assert told[-1] == "  'lamp' came 10.0 times a second, the mapping says 300"


# --- files


@pytest.mark.parametrize("name", ["demos.hdf5", "demos", "demos.npz"])
def test_each_kept_episode_is_on_the_disk_at_once_and_a_recording_goes_on(tmp_path, name):
    out, seen = tmp_path / name, []

    def watch(line):
        if "kept" in line:
            seen.append(len(load(out)))

    asked = [(0.1 + i, "start" if i % 2 == 0 else "stop") for i in range(6)]
    made, _, _ = recorded(*asked, out=out, tell=watch)
    assert seen == [1, 2, 3] and len(load(out)) == len(made) == 3
    with pytest.raises(FileExistsError, match="not overwritten"):
        recorded(*asked, out=out)
    more, _, _ = recorded((0.1, "start"), (0.5, "stop"), out=out, resume=True)
    back = load(out)
    assert len(more) == len(back) == 4 and [e["name"] for e in back.info["episodes"]] == [
        f"demo_{i}" for i in range(4)
    ]
    for key in ("observations", "actions", "doubtful"):
        np.testing.assert_array_equal(back.arrays[key].reshape(more.arrays[key].shape), more.arrays[key])
    for key in ("names", "units", "groups", "relative"):
        assert {k: back.info[key][k] for k in more.info[key]} == more.info[key]
    assert back.dt == 0.05 and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["demos.hdf5", "demos"])
def test_a_writer_that_dies_leaves_what_was_there(tmp_path, name, monkeypatch):
    out = tmp_path / name
    recorded((0.1, "start"), (0.5, "stop"), out=out)
    before = load(out)

    def dies(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace" if name.endswith("5") else "pathlib.Path.rename", dies)
    with pytest.raises(OSError, match="full"):
        recorded((0.1, "start"), (0.9, "stop"), out=out, resume=True)
    monkeypatch.undo()
    (tmp_path / f"..new.{name}.0a1b2c3d.part").mkdir()  # and of one that was killed at once
    np.testing.assert_array_equal(load(out).arrays["actions"], before.arrays["actions"])
    made, _, _ = recorded((0.1, "start"), (0.9, "stop"), out=out, resume=True)
    assert len(made) == 2 and os.listdir(tmp_path) == [name]


def test_a_folder_whose_writer_was_killed_between_two_renames_is_put_back(tmp_path):
    out = tmp_path / "demos"
    recorded((0.1, "start"), (0.5, "stop"), out=out)
    out.rename(_beside(out, "old"))
    with pytest.raises(FileExistsError):
        recorded((0.1, "start"), (0.5, "stop"), out=out)
    assert len(load(out)) == 1


def test_another_mapping_does_not_go_on_with_a_recording(tmp_path):
    out = tmp_path / "demos.hdf5"
    recorded((0.1, "start"), (0.5, "stop"), out=out)
    m = mapping()
    swapped = replace(m, policy=replace(m.policy, observation=m.policy.observation[::-1]))
    with pytest.raises(ValueError, match="has names"):
        Recording(swapped, out, resume=True)
    with pytest.raises(ValueError, match=r"is at 0\.05 s"):
        Recording(replace(m, policy=replace(m.policy, dt=0.1)), out, resume=True)
    with pytest.raises(ValueError, match="the ending tells no format"):
        Recording(m, tmp_path / "demos.txt")
    with pytest.raises(ValueError, match="did you mean 'on'"):
        Recording(m, relative={"onn": "a"})


def test_actions_are_told_relative_to_joints_that_are_seen_in_the_same_unit():
    m = mapping()
    a, b, lamp = m.policy.observation
    assert action_info(m)[2] == {"a target": "a", "b target": "b"}
    degrees = replace(m, policy=replace(m.policy, observation=(a, replace(b, unit="1"), lamp)))
    assert action_info(degrees)[2] == {"a target": "a"}
    grips = replace(
        m, robot=replace(m.robot, joints=(replace(m.robot.joints[0], grips=True), m.robot.joints[1]))
    )
    assert action_info(grips)[2] == {"b target": "b"}
    apart = replace(m, policy=replace(m.policy, observation=(a, lamp, b)))
    assert observation_info(apart)[2] == {"arm": [0, 1], "lamp": [1, 2], "arm_2": [2, 3]}


def test_tool_actions_need_kinematics():
    m = mapping()
    with pytest.raises(ValueError, match="no kinematics"):
        Sampler(
            replace(m, policy=replace(m.policy, action="tool")), Guided(FakeClock()), FakeClock(), lambda: ()
        )


@pytest.mark.parametrize("action", ["joint", "ee"])
@pytest.mark.parametrize("make", [ArmPickEnv, ArmReachEnv])
def test_columns_of_the_arm_are_called_as_in_its_own_demonstrations(make, action):
    env = make(action=action)
    m = arm_mapping(env)
    names, units, groups = observation_info(m)
    actions, action_units, relative = action_info(m)
    assert names == list(env.channel_names) and units[:24] == list(env.units)[:24]
    assert actions == [f"{n} target" for n in (names[:7] if action == "joint" else names[15:24])] + [
        "gripper target"
    ]
    assert relative == {f"{n} target": n for n in (names[:7] if action == "joint" else names[15:24])}
    assert groups["joints"] == [0, 15] and groups["ee"] == [15, 24] and action_units[-1] == "m"
