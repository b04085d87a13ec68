"""An SO-101 as LeRobot records it: its numbers to rad and back, and the page's commands from the recording to the arm."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from hypothesis import given
from hypothesis import strategies as st
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan.data import load
from dfplan.deploy import ChunkCheck, FakeClock, Loop, ModelArm, body, load_mapping
from dfplan.deploy.check import doubts, understood
from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer, PolicyDecide
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.recording.recording import action_info, observation_info
from dfplan.deploy.recording.sampler import Sampler
from dfplan.deploy.replaying import KeptRun, decide_of, replay
from dfplan.deploy.robot.mapping import mapping_file
from dfplan.deploy.robot.observe import Assembler
from dfplan.deploy.robot.tables import Joint, Robot
from dfplan.deploy.run import run
from dfplan.models import find
from dfplan.train import checkpoint

pa = pytest.importorskip("pyarrow", reason="pip install 'dfplan[lerobot]'")
pq = pytest.importorskip("pyarrow.parquet")

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text().split("## An SO-101 recorded")[1]
PAGE = PAGE.split("\n## ")[0]
ARM = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"]
JOINTS = [*ARM, "gripper"]
RANGES = {
    "shoulder_pan": (781, 3313), "shoulder_lift": (842, 3110), "elbow_flex": (911, 3104), "wrist_flex": (967, 3148),
    "wrist_roll": (0, 4095), "gripper": (2030, 3451),
}  # fmt: skip
"""Ends of the ranges that somebody moved the joints through."""
TURN = 2 * np.pi / 4096  # rad of a count


def calibration(**changes):
    """A file as LeRobot writes it."""
    rows = {
        name: {"id": i + 1, "drive_mode": 0, "homing_offset": 100 * i - 250, "range_min": a, "range_max": b}
        for i, (name, (a, b)) in enumerate(RANGES.items())
    }
    return {name: row | changes.get(name, {}) for name, row in rows.items()}


def written(folder, text=None, rows=None):
    """The page's mapping in a folder, with URDF and calibration; its file."""
    folder.mkdir(exist_ok=True)
    blocks = re.findall(r"^```yaml\n# mine/(\S+)\n(.*?)^```", PAGE, re.M | re.S)
    ((name, page),) = blocks
    (folder / name).write_text(page if text is None else text(page))
    (folder / "so101.urdf").write_text(mapping_file("so101").with_suffix(".urdf").read_text())
    (folder / "follower.json").write_text(json.dumps(calibration() if rows is None else rows))
    return folder / name


def normalised(count, low, high, mode, drive):
    """What LeRobot says of a motor that is at `count` (closed form of its bus)."""
    share = (min(max(count, low), high) - low) / (high - low)
    if mode == "degrees":
        return (count - (low + high) / 2) * 360 / 4095
    if mode == "range_0_100":
        return 100 * (1 - share if drive else share)
    return (100 - 200 * share) if drive else (200 * share - 100)


def counts(number, low, high, mode, drive):
    """Where LeRobot sends a motor (closed form of its bus), before it drops the fraction of a count."""
    if mode == "degrees":
        return number * 4095 / 360 + (low + high) / 2
    if mode == "range_0_100":
        number = min(max(100 - number if drive else number, 0), 100) / 100
    else:
        number = (min(max(-number if drive else number, -100), 100) + 100) / 200
    return low + number * (high - low)


def one(file, low, high, mode, drive, **changes):
    """A joint of its own, and the jaw of the page, as a body."""
    row = {"id": 1, "drive_mode": int(drive), "homing_offset": -5, "range_min": low, "range_max": high}
    file.write_text(json.dumps({"j": row}))
    ends = {"velocity": 2.0, "acceleration": 6.0, "jerk": 1200.0, "margin": 0.0} | changes
    return body(Robot((Joint("j", norm_mode=mode, **ends),), calibration=str(file)))


MODES = st.sampled_from(["range_m100_100", "range_0_100", "degrees"])


@given(st.integers(0, 4000), st.integers(1, 4095), st.floats(0, 1), MODES, st.booleans())
def test_numbers_are_lerobots_there_and_back(tmp_path_factory, low, width, share, mode, drive):
    high, file = low + width, tmp_path_factory.mktemp("j") / "c.json"
    robot = one(file, low, high, mode, drive)
    (scale,), (offset,) = robot.affine(["j"])
    count = low + share * width
    number = normalised(count, low, high, mode, drive)
    # The joint's angle: counts from the middle, or of a jaw from its closed end, against the motor where that is reversed.
    angle = (count - (low + high) / 2) * TURN * (-1 if drive else 1)
    angle += width / 2 * TURN if mode == "range_0_100" else 0
    assert scale * number + offset == pytest.approx(angle, abs=1e-9)
    assert (angle - offset) / scale == pytest.approx(number, abs=1e-6)
    assert counts((angle - offset) / scale, low, high, mode, drive) == pytest.approx(count, abs=1e-6)
    ends = sorted(normalised(c, low, high, mode, drive) * scale + offset for c in (low, high))
    np.testing.assert_allclose([robot.limits.lower[0], robot.limits.upper[0]], ends, atol=1e-9)


@given(st.integers(0, 4000), st.integers(1, 4095), st.floats(-120, 120), MODES, st.booleans())
def test_the_closed_forms_are_those_of_the_installed_lerobot(low, width, number, mode, drive):
    pytest.importorskip("lerobot", reason="pip install lerobot: an environment of its own is best")
    from lerobot.motors import Motor, MotorCalibration, MotorNormMode
    from lerobot.motors.feetech import FeetechMotorsBus as Bus

    bus = SimpleNamespace(  # one without the driver of its serial port
        motors={"j": Motor(1, "sts3215", MotorNormMode(mode))}, _id_to_name=lambda _: "j", _id_to_model=lambda _: "sts3215",
        calibration={"j": MotorCalibration(1, int(drive), 0, low, low + width)},
        apply_drive_mode=Bus.apply_drive_mode, model_resolution_table=Bus.model_resolution_table,
    )  # fmt: skip
    wanted = Bus._unnormalize(bus, {1: number})[1]
    assert (
        abs(wanted - counts(number, low, low + width, mode, drive)) < 1 + 1e-9
    )  # a fraction of a count is dropped
    assert Bus._normalize(bus, {1: wanted})[1] == pytest.approx(
        normalised(wanted, low, low + width, mode, drive)
    )


def test_every_place_takes_the_policys_numbers(tmp_path):
    mapping = load_mapping(written(tmp_path / "mine"))
    robot, clock = body(mapping.robot), FakeClock()
    scale, offset = robot.affine(JOINTS)
    posture = robot.home + 0.1
    arm = ModelArm(mapping, clock, posture)
    seen = Assembler(mapping, robot)
    seen.update(arm.read())
    numbers = seen.observe(0.0, 0.0).values
    half = (np.array([b - a for a, b in RANGES.values()]) / 2)[:5] * TURN
    np.testing.assert_allclose(numbers[:5], 100 * posture[:5] / half)
    closed, span = -0.174533, (RANGES["gripper"][1] - RANGES["gripper"][0]) * TURN
    np.testing.assert_allclose(numbers[5], 100 * (posture[5] - closed) / span)

    class Nothing:
        stride = steps = ahead = chunk = 1

    decide = PolicyDecide(Nothing(), mapping, robot)  # actions in the same numbers are targets in rad
    np.testing.assert_allclose(decide.joints(numbers[None], robot.home)[0], posture)
    np.testing.assert_allclose(Sampler(mapping, arm)._action(posture), numbers)  # and recorded in them
    assert observation_info(mapping)[1] == ["1"] * 6 == action_info(mapping)[1]
    jaw = replace(mapping, policy=replace(mapping.policy, action="tool", action_joints=("gripper",)))
    held = Sampler(jaw, arm)._action(posture)  # a pose of the tool is in m, the jaw beside it is not
    np.testing.assert_allclose(held, [*robot.tool(posture), numbers[5]])
    target = PolicyDecide(Nothing(), jaw, robot).joints(held[None], robot.home)[0]
    np.testing.assert_allclose(robot.tool(target), robot.tool(posture), atol=2e-3)
    assert target[5] == pytest.approx(posture[5])
    velocity = np.full(6, 0.5)
    reading = replace(arm.read()[0], values={"velocity": velocity * scale})
    sensor = mapping.policy.observation[0]
    fast = type(sensor)("v", "joints", "velocity", sensor.names, "rad", columns=sensor.columns)
    np.testing.assert_allclose(seen._part(fast, reading), velocity)

    check = ChunkCheck.of(mapping.robot, 1 / 30, mapping.safety)
    chunk = np.tile(numbers, (6, 1))
    assert check.judge(chunk, measured=numbers)
    chunk[:, 1] = -100
    verdict = check.judge(chunk, before=chunk)
    limit = (robot.limits.low[1] - offset[1]) / scale[1]
    assert (verdict.reason, verdict.joint) == ("position", "shoulder_lift")
    assert (verdict.value, verdict.limit) == pytest.approx((-100, limit))
    fast = numbers + np.array([8.0, 0, 0, 0, 0, 0]) * np.arange(6)[:, None]
    verdict = check.judge(fast)
    assert verdict.reason == "velocity" and verdict.value == pytest.approx(240)
    assert verdict.limit == pytest.approx(2 / scale[0])


def test_it_is_read_back(tmp_path):
    mapping = load_mapping(written(tmp_path / "mine"))
    text = "\n".join(understood(mapping))
    assert doubts(mapping) == []
    assert "the policy's -100 to 100 is -1.942 to 1.942 rad; home is 0" in text and text.count("home is") == 6
    assert "the policy's 0 to 100 is -0.1745 to 2.005 rad" in text
    for line in re.search(r"^```\n(  shoulder_pan.*?)\n```", PAGE, re.M | re.S)[1].splitlines():
        assert line in text
    degrees = written(tmp_path / "deg", lambda t: t.replace("range_m100_100", "degrees"))
    assert "the policy's -110 to 110 is -1.92 to 1.92 rad" in "\n".join(understood(load_mapping(degrees)))


def test_a_calibrated_range_narrows_the_joint_and_nothing_widens_it(tmp_path):
    rows = calibration(elbow_flex={"range_min": 1500, "range_max": 2500})
    limits = body(load_mapping(written(tmp_path / "mine", rows=rows)).robot).limits
    assert limits.upper[2] == pytest.approx(500 * TURN) and limits.lower[2] == pytest.approx(-500 * TURN)
    assert (limits.lower[0], limits.upper[0]) == (
        -1.91986,
        1.91986,
    )  # the URDF's, narrower than the calibrated
    wide = written(
        tmp_path / "wide", lambda t: t.replace("elbow_flex, norm", "elbow_flex, upper: 1.6, norm"), rows
    )
    with pytest.raises(
        ValueError, match=r"elbow_flex.*upper=1.6.*calibration, which a mapping may narrow only"
    ):
        body(load_mapping(wide).robot)


def test_scale_and_offset_by_hand(tmp_path):
    def by_hand(text):
        text = text.replace(
            "  calibration: follower.json               # of the follower, as LeRobot wrote it\n", ""
        )
        text = text.replace("norm_mode: range_m100_100", "scale: 0.0174533")
        return text.replace("norm_mode: range_0_100", "scale: -0.019, offset: 1.7")

    mapping = load_mapping(written(tmp_path / "mine", by_hand))
    robot, check = body(mapping.robot), ChunkCheck.of(mapping.robot, 1 / 30)
    assert "the policy's -110 to 110 is -1.92 to 1.92 rad" in (text := "\n".join(understood(mapping)))
    assert "the policy's -2.386 to 98.66 is 1.745 to -0.1745 rad" in text  # a jaw that opens towards 0
    home = np.array([*np.rad2deg(robot.home[:5]), (robot.home[5] - 1.7) / -0.019])
    assert check.judge(np.tile(home, (4, 1)), measured=home)
    home[5] = 99.0
    verdict = check.judge(np.tile(home, (4, 1)))
    assert (verdict.reason, verdict.joint) == ("position", "gripper") and verdict.value == pytest.approx(99)


WRONG = [
    ("no file", lambda f: (f / "follower.json").unlink(), "follower.json, which is no file; copy LeRobot's"),
    ("no JSON", lambda f: (f / "follower.json").write_text("{"), "follower.json: not valid JSON"),
    ("a list", lambda f: (f / "follower.json").write_text("[1]"), r"follower.json: got \[1\], expected a table"),
    ("a joint missing", {"elbow_flex": None}, "motor in .*follower.json 'elbow_flex', expected one of shoulder_pan"),
    ("no width", {"gripper": {"range_max": 2030}}, "gripper: got range_min=2030, range_max=2030.*lerobot-calibrate"),
    ("upside down", {"gripper": {"range_max": 2000}}, "expected a range from 1 to 4096 wide"),
    ("two turns", {"gripper": {"range_max": 9000}}, "expected a range from 1 to 4096 wide"),
    ("drive_mode", {"gripper": {"drive_mode": 2}}, "drive_mode=2"),
    ("a fraction", {"gripper": {"range_max": 3000.5}}, r"gripper.range_max: got 3000.5 \(float\), expected int"),
    ("a text", {"gripper": {"range_max": "3000"}}, "expected int"),
    ("another key", {"gripper": {"range_maxx": 3000}}, "did you mean 'range_max'"),
    ("a number for a motor", {"gripper": 3}, "gripper: got 3, expected a table"),
    ("norm_mode", ("norm_mode: range_0_100", "norm_mode: range_100"), "did you mean 'range_0_100'"),
    ("of a sliding joint", ("norm_mode: range_0_100", "norm_mode: range_0_100, unit: mm"), "a joint that turns"),
    ("scale of 0", ("velocity: 2, acceleration: 6, jerk: 1200, m", "scale: 0, velocity: 2, m"), "scale=0.0.*not 0"),
    ("offset nan", ("grips: true", "grips: true, offset: .nan"), "offset=nan.*expected finite numbers"),
    ("no calibration", ("  calibration: follower.json", "  # "), "got calibration=''.*expected both or neither"),
]  # fmt: skip


@pytest.mark.parametrize("what, change, said", WRONG, ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_named(tmp_path, what, change, said):
    rows, text = calibration(), None
    if isinstance(change, dict):
        ((name, value),) = change.items()
        rows[name] = rows[name] | value if isinstance(value, dict) else value
        rows = {key: row for key, row in rows.items() if row is not None}
    elif isinstance(change, tuple):
        text = lambda page: page.replace(*change)  # noqa: E731
    file = written(tmp_path / "mine", text, rows)
    if callable(change):
        change(tmp_path / "mine")
    with pytest.raises(ValueError, match=said) as error:
        body(load_mapping(file).robot)
    assert "\n" not in str(error.value)


def recorded(root, episodes=12, length=120, fps=30):
    """A data set of version 3 as `lerobot-record` writes it of this arm, without its video: reach, close the jaw, go back."""
    rng, rows = np.random.default_rng(0), []
    home = np.array([0.0, -46.0, 47.5, 36.0, 0.0, 31.0])
    there = np.array([40.0, 30.0, 30.0, 20.0, 30.0, 0.0])
    for _ in range(episodes):
        begin, goal = home + rng.uniform(-6, 6, 6), home + there * rng.uniform(-0.6, 0.6, 6)
        phase = np.clip(np.arange(length + 3) / length, 0, 1)[:, None]
        path = begin + (goal - begin) * np.sin(np.pi * phase) ** 2
        path[:, 5] = np.clip(path[:, 5] - 25 * np.sin(np.pi * phase[:, 0]) ** 8, 0, 100)
        rows.append((path[:-3], path[3:]))  # the leader is three frames ahead of the arm
    states, actions = (np.concatenate(part).astype(np.float32) for part in zip(*rows, strict=True))
    frame, episode = np.tile(np.arange(length), episodes), np.repeat(np.arange(episodes), length)
    names = [f"{joint}.pos" for joint in JOINTS]
    number = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0", "robot_type": "so101_follower", "fps": fps, "total_episodes": episodes,
        "total_frames": len(states), "total_tasks": 1, "chunks_size": 1000, "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {
            "action": {"dtype": "float32", "names": names, "shape": [6]},
            "observation.state": {"dtype": "float32", "names": names, "shape": [6]},
            "observation.images.front": {"dtype": "video", "shape": [480, 640, 3], "names": None},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        },
    }  # fmt: skip
    table = {
        "action": pa.array(list(actions), pa.list_(pa.float32(), 6)),
        "observation.state": pa.array(list(states), pa.list_(pa.float32(), 6)),
        "timestamp": pa.array((frame / fps).astype(np.float32)), "frame_index": frame, "episode_index": episode,
        "index": np.arange(len(states)), "task_index": np.zeros(len(states), np.int64),
    }  # fmt: skip
    places = [
        {"episode_index": i, "tasks": ["close the jaw"], "length": length, "data/chunk_index": 0, "data/file_index": 0}
        for i in range(episodes)
    ]  # fmt: skip
    tables = {
        "data/chunk-000/file-000.parquet": pa.table(table),
        "meta/episodes/chunk-000/file-000.parquet": pa.Table.from_pylist(places),
        "meta/tasks.parquet": pa.table({"task_index": [0], "__index_level_0__": ["close the jaw"]}),
    }
    for name, rows in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, root / name)
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


class Demonstration(PolicyDecide):
    """Decides what was recorded, in its own numbers."""

    stride, steps, ahead, chunk = 4, 1, 24, 8

    def __init__(self, mapping, robot, actions):
        super().__init__(self, mapping, robot)
        self.actions = np.concatenate([actions, np.repeat(actions[-1:], 200, 0)])

    def __call__(self, request):
        first = request.step + len(request.committed)
        rows = self.actions[first : request.step + self.ahead]
        return Answer(first, rows, self.joints(rows, request.joints), 0.0, run=request.run)


@pytest.mark.parametrize("rate, send", [(50, 50), (100, 50), (240, 60)])
def test_30_hz_on_a_loop_of_any_rate(tmp_path, rate, send):
    mapping = load_mapping(written(tmp_path / "mine"))
    mapping = replace(mapping, loop=replace(mapping.loop, rate=rate, send=send))
    actions = load(recorded(tmp_path / "dataset")).arrays["actions"][:120].astype(np.float64)
    robot, clock, rows = body(mapping.robot), FakeClock(), []
    scale, offset = robot.affine(JOINTS)
    arm = ModelArm(mapping, clock, actions[0] * scale + offset)
    decide = Demonstration(mapping, robot, actions)
    worker = DelayedWorker(decide, clock, 0.05)
    loop = Loop(mapping, robot, arm, worker, Driver(worker, decide, mapping.policy.dt, {}, 6), clock)

    def look(_):
        rows.append([clock.now(), *(arm.read()[0].values["position"] - offset) / scale])

    loop.after = look
    report = run(loop, True, 6.0)
    assert not report.status.refusals and not report.status.overruns and not arm.rejected
    times, seen = np.array(rows)[:, 0], np.array(rows)[:, 1:]

    def off(begun):
        """How far the arm is from the recording at its own speed, from `begun` on."""
        wanted = [np.interp(times - begun, np.arange(1, 121) / 30, column) for column in actions.T]
        return np.abs(seen - np.stack(wanted, 1)).max()

    assert min(map(off, np.arange(1.0, 1.4, 0.005))) < 0.3  # of 100


def test_from_the_recording_to_the_arm_by_the_pages_commands(dfplan, tmp_path):  # noqa: F811
    recorded(tmp_path / "dataset")
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
    lines = [line.split("#")[0].split() for line in block.splitlines() if line.startswith("dfplan")]
    inspect, train, judge, copy, check, deploy = ([*line[1:]] for line in lines)
    assert [line[1] for line in lines] == ["data", "train", "judge", "check", "check", "deploy"]
    small = "--steps 60 --batch 32 --model.width 32 --warmup 5 --save-every 60".split()
    done = dfplan(*inspect)
    assert not done.code and "30 Hz" in done.out and "shoulder_pan.pos" in done.out
    for words in (train + small, judge, copy):
        done = dfplan(*words)
        assert not done.code, done.err
    episodes = load(tmp_path / "dataset")
    assert episodes.info["names"]["observations"] == [f"{joint}.pos" for joint in JOINTS]
    assert "copied: mine/so101.urdf" in done.out
    written(tmp_path / "mine")
    done = dfplan(*check)
    assert not done.code and "no doubts" in done.out and "the policy's -100 to 100 is" in done.out, done.err
    done = dfplan(*[w if w != "10" else "3" for w in deploy], "--record", "run", "--worker", "thread")
    assert not done.code, done.err
    assert "READY -> RUNNING" in done.out and "RUNNING -> FAULT" not in done.out
    kept = KeptRun.load("run")
    assert kept.mapping.policy.dt == 0.0333 and kept.mapping.loop.rate == 100
    # What it decided is near the arm in rad, and near the demonstrations in their own numbers.
    joints, actions = kept.column("chunk/joints"), kept.column("chunk/action")
    scale, offset = body(kept.mapping.robot).affine(JOINTS)
    np.testing.assert_allclose(joints, actions * scale + offset, atol=1e-9)
    low, high = episodes.arrays["actions"].min(0), episodes.arrays["actions"].max(0)
    assert (actions >= low - 1e-3).all() and (actions <= high + 1e-3).all()
    same = replay(kept, decide_of(kept))
    assert same.decisions and same.answers == 0 and same.told == 0
    assert (
        same.states <= 1
    )  # in real time READY may come within microseconds of a tick, and so at the next one
    # What LeRobot never writes in that mode was degrees.
    model, mapping = checkpoint.load(find("runs/so101")), load_mapping("mine/lerobot.yaml")
    assert doubts(mapping, model) == []
    model.calibration["observations"]["high"][4] = 130.0
    (said,) = doubts(mapping, model)
    assert (
        "'wrist_roll' was at" in said and "130 in training, but range_m100_100 ends at -100 and 100" in said
    )
    # The same model where nothing says what its numbers are: doubted, and never armed.
    text = (tmp_path / "mine/lerobot.yaml").read_text()
    plain = re.sub(r"norm_mode: \w+, |  calibration:.*\n", "", text)
    (tmp_path / "mine/lerobot.yaml").write_text(plain)
    done = dfplan(*check)
    assert done.code == 1 and "are units and order those of the demonstrations?" in done.err
    done = dfplan(*[w if w != "10" else "2" for w in deploy], "--worker", "thread")
    assert "RUNNING" not in done.out and "far from all demonstrations" in done.out + done.err
