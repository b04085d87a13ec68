"""Bags written with rosbags, of both ROS and every storage, read back as demonstrations."""

import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("rosbags", reason="pip install 'dfplan[bags]'")

from robots import mapping
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from dfplan import deploy
from dfplan.data import load
from dfplan.deploy import Bag, record_bags

BEGIN = 1_700_000_000_000_000_000
STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
TRAJECTORY, CLOCK, POSE = (
    "trajectory_msgs/msg/JointTrajectory",
    "rosgraph_msgs/msg/Clock",
    "geometry_msgs/msg/PoseStamped",
)


def path(t):
    """Where the joints are: a in rad, b in deg."""
    return np.array([0.4 * np.sin(t), 20.0 * np.cos(0.7 * t)])


class Make:
    """Messages of one typestore."""

    def __init__(self, store):
        self.store = get_typestore(store)
        self.one = store == Stores.ROS1_NOETIC

    def kind(self, name):
        return self.store.types[name]

    def header(self, ns):
        time = self.kind("builtin_interfaces/msg/Time")(ns // 10**9, ns % 10**9)
        extra = {"seq": 0} if self.one else {}
        return self.kind("std_msgs/msg/Header")(stamp=time, frame_id="", **extra)

    def state(self, ns, names, position, velocity=()):
        rows = [np.array(row, np.float64) for row in (position, velocity, ())]
        return self.kind(STATE)(self.header(ns), list(names), *rows)

    def array(self, values):
        layout = self.kind("std_msgs/msg/MultiArrayLayout")(dim=[], data_offset=0)
        return self.kind(ARRAY)(layout, np.array(values, np.float64))

    def clock(self, ns):
        return self.kind(CLOCK)(self.header(ns).stamp)

    def trajectory(self, ns, names, position, after):
        empty = np.zeros(0)
        time = self.kind("builtin_interfaces/msg/Duration")(after // 10**9, after % 10**9)
        point = self.kind("trajectory_msgs/msg/JointTrajectoryPoint")(
            np.array(position), empty, empty, empty, time
        )
        return self.kind(TRAJECTORY)(self.header(ns), list(names), [point])

    def pose(self, ns, position, quaternion):
        g = "geometry_msgs/msg/"
        place, turn = self.kind(g + "Point")(*position), self.kind(g + "Quaternion")(*quaternion)
        return self.kind(POSE)(self.header(ns), self.kind(g + "Pose")(place, turn))


def messages(make, seconds=3.0, names=("gripper", "b", "a"), quiet=(), told=None, sim=None):
    """(topic, type, ns, message) of a robot that is moved by hand; silent in the spans of `quiet`, s."""
    for tick in range(int(100 * seconds) + 1):
        t, log = tick / 100, BEGIN + tick * 10_000_000
        stamp = log if sim is None else sim + tick * 10_000_000
        if sim is not None:
            yield "/clock", CLOCK, log, make.clock(stamp)
        q = {"a": path(t)[0], "b": path(t)[1], "gripper": 7.0}
        if not any(begin <= t < end for begin, end in quiet):
            yield "/joint_states", STATE, log, make.state(stamp, names, [q.get(n, 0.0) for n in names])
        yield "/joint_states", STATE, log, make.state(stamp, ["wheel"], [1.0])  # somebody else's
        if tick % 5 == 0:
            yield "/lamp", ARRAY, log, make.array([0.5 + t])
            yield "/camera", ARRAY, log, make.array(np.zeros(100))
        if told is not None and tick % 2 == 0:
            yield "/arm/joint_trajectory", TRAJECTORY, log, told(make, stamp, t)


def write(path, rows, kind="mcap", one=False):
    """A bag with these messages."""
    make = Make(Stores.ROS1_NOETIC if one else Stores.ROS2_HUMBLE)
    writer = (
        Writer1(path)
        if one
        else Writer2(
            path, version=9, storage_plugin=StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        )
    )
    with writer:
        topics = {}
        for topic, name, ns, message in rows(make):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, name, typestore=make.store)
            raw = make.store.serialize_ros1(message, name) if one else make.store.serialize_cdr(message, name)
            writer.write(topics[topic], ns, bytes(raw))
    return path


def expected(count, begin=0.0):
    t = begin + 0.05 * np.arange(count + 1)
    rows = np.stack([np.append(path(x) * [1, np.pi / 180], 0.5 + x) for x in t])
    return rows[:-1], rows[1:, :2]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "one"])
def test_a_bag_is_an_episode_resampled_and_matched_by_name(tmp_path, kind):
    name = "day.bag" if kind == "one" else "day"
    bag = write(tmp_path / name, messages, kind, one=kind == "one")
    told = []
    made = record_bags([bag], mapping(), tmp_path / "demos.hdf5", tell=told.append)
    observations, actions = expected(60)
    assert made.ends.tolist() == [60]
    np.testing.assert_allclose(made.arrays["observations"], observations, atol=1e-5)
    np.testing.assert_allclose(made.arrays["actions"], actions, atol=1e-5)
    np.testing.assert_array_equal(load(tmp_path / "demos.hdf5").arrays["actions"], made.arrays["actions"])
    assert made.info["episodes"][0] == {
        "name": "demo_0",
        "begun": BEGIN * 1e-9,
        "commanded": [],
        "source": name,
    }
    assert told == ["episode 1: kept, 60 steps; actions: measured, nobody commands a joint"]


def test_commands_in_the_bag_are_the_actions(tmp_path):
    def told(make, ns, t):
        return make.trajectory(ns, ["b", "a"], (path(t + 0.02) + [0.1, 1.0])[::-1], 20_000_000)

    bag = write(tmp_path / "day", lambda make: messages(make, told=told))
    made = record_bags([bag], mapping(), tell=lambda _: None)
    np.testing.assert_allclose(
        made.arrays["actions"][2:], expected(60)[1][2:] + [0.1, np.deg2rad(1)], atol=1e-3
    )
    assert made.info["episodes"][0]["commanded"] == ["a", "b"]


def test_a_bag_is_split_where_a_source_is_stale_and_bags_follow_each_other(tmp_path):
    one = write(tmp_path / "one", lambda make: messages(make, quiet=[(1.0, 1.5)]))
    two = write(tmp_path / "two", messages)
    told = []
    made = record_bags([one, two], mapping(), tmp_path / "demos.hdf5", tell=told.append)
    assert made.ends.tolist() == [21, 51, 111]  # up to 0.1 s old, as the mapping allows
    assert told[0] == "one after 1.10 s: 'joints' is 0.110 s old (limit 0.1 s)"
    np.testing.assert_allclose(made.arrays["observations"][21:51], expected(30, 1.5)[0], atol=1e-5)
    assert [e["source"] for e in made.info["episodes"]] == ["one", "one", "two"]
    more = record_bags([two], mapping(), tmp_path / "demos.hdf5", resume=True, tell=told.append)
    assert len(more) == len(load(tmp_path / "demos.hdf5")) == 4


def test_simulated_time_comes_from_the_clock_topic(tmp_path):
    bag = write(tmp_path / "day", lambda make: messages(make, sim=5_000_000_000))
    with pytest.raises(ValueError, match=r"'joints' is 1\d+\.\d+ s old"):
        record_bags([bag], mapping(), tell=lambda _: None)
    made = record_bags([bag], mapping(), sim_time=True, tell=lambda _: None)
    np.testing.assert_allclose(made.arrays["observations"], expected(60)[0], atol=1e-5)
    assert made.info["episodes"][0]["begun"] == 5.0


def test_poses_are_read_and_their_rotation_is_converted(tmp_path):
    def rows(make):
        yield from messages(make, 1.0)
        for tick in range(21):
            ns = BEGIN + tick * 50_000_000
            yield (
                "/object_pose",
                POSE,
                ns,
                make.pose(ns, [0.1, 0.2, 0.01 * tick], [0, 0, np.sqrt(0.5), np.sqrt(0.5)]),
            )

    m = mapping()
    sensors = [
        {"name": "object", "source": "object", "names": ["x", "y", "z"], "unit": "m"},
        {"name": "object", "source": "object", "names": ["qx", "qy", "qz", "qw"], "convert": "rot6d"},
    ]
    own = mapping(
        sources=[
            {"name": "joints", "topic": "/joint_states", "kind": "joint_state"},
            {"name": "object", "topic": "/object_pose", "kind": "pose", "rate": 20, "max_age": 0.2},
        ],
        policy={"observation": sensors},
    )
    made = record_bags(
        [write(tmp_path / "day", lambda make: sorted(rows(make), key=lambda r: r[2]))], own, tell=print
    )
    want = [[0.1, 0.2, 0.01 * i, 0, 1, 0, -1, 0, 0] for i in range(20)]
    np.testing.assert_allclose(made.arrays["observations"], want, atol=1e-6)
    assert made.info["groups"] == {"object": [0, 9]} and "doubtful" not in made.arrays
    assert m.commands == own.commands


def test_what_does_not_fit_is_named(tmp_path):
    bag, m = write(tmp_path / "day", messages), mapping()
    lamp = m.sources[1]
    with pytest.raises(ValueError, match=r"topic for .*day '/lamps'.*did you mean '/lamp'"):
        record_bags([bag], replace(m, sources=(m.sources[0], replace(lamp, topic="/lamps"))))
    with pytest.raises(
        ValueError, match=r"topic /camera holds std_msgs/msg/Float64MultiArray, the mapping expects sensor"
    ):
        record_bags([bag], replace(m, sources=(replace(m.sources[0], topic="/camera"), lamp)))
    with pytest.raises(ValueError, match=r"topic /camera: source 'lamp': got value of shape \(100,\)"):
        record_bags([bag], replace(m, sources=(m.sources[0], replace(lamp, topic="/camera"))))
    other = write(tmp_path / "other", lambda make: messages(make, names=("aa", "b")))
    with pytest.raises(
        ValueError,
        match=r"joint on /joint_states of .*other 'a', expected one of aa, b, wheel; did you mean 'aa'",
    ):
        record_bags([other], m, tmp_path / "demos.hdf5")
    short = write(tmp_path / "short", lambda make: messages(make, 0.04))
    with pytest.raises(ValueError, match=r"nothing to keep in its 0\.04 s: they are too short"):
        record_bags([short], m, tell=lambda _: None)
    with pytest.raises(FileNotFoundError, match="no such bag"):
        Bag(tmp_path / "nothing", m)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "metadata.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="not a bag that can be read"):
        Bag(tmp_path / "text", m)
    assert not (tmp_path / "demos.hdf5").exists() and "record_bags" in deploy.__all__


def test_without_rosbags_the_line_that_installs_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[bags\]'"):
        Bag(tmp_path, mapping())


def test_a_bag_that_is_cut_short_is_refused_by_name(tmp_path):
    bag = write(tmp_path / "day", messages)
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="day"):
        record_bags([bag], mapping())
