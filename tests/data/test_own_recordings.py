"""What people bring: replay buffers of real robots, poses without actions, ALOHA's and OGBench's files, several tasks."""

import shutil

import h5py
import numpy as np
import pytest

from dfplan.data import Episodes, inspect, load, write_lerobot, write_npz
from dfplan.train.imitate import imitation_spec

RNG = np.random.default_rng(0)


def walk(rows, columns):
    return RNG.normal(size=(rows, columns)).cumsum(0).astype(np.float32)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 146946961\n"


def buffer(path, zarr, stamps, **more):
    """A replay buffer of two episodes, 40 and 60 steps long."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for key, rows in {
        "action": walk(100, 2),
        "pose": walk(100, 3),
        "joint": walk(100, 4),
        "timestamp": stamps,
        **more,
    }.items():
        root.create_array(f"data/{key}", data=rows, chunks=(50, *rows.shape[1:]))
    root.create_array("meta/episode_ends", data=np.array([40, 100]))
    return path


@pytest.mark.parametrize("unit", [1, 10**9])
def test_a_buffer_with_a_clock_and_stages_needs_no_option(tmp_path, unit):
    zarr = pytest.importorskip("zarr", reason="pip install 'dfplan[zarr]'")
    times = 1.68e9 + np.arange(100) * 0.1 + 50.0 * (np.arange(100) >= 40) + RNG.normal(size=100) * 0.004
    stamps = times if unit == 1 else (times * unit).astype(np.int64)
    path = buffer(tmp_path / "robot.zarr", zarr, stamps, stage=np.zeros(100, np.int64))
    episodes = load(path)
    assert episodes.dt == pytest.approx(0.1) and list(episodes.info["groups"]) == ["joint", "pose"]
    assert not episodes.arrays["stage"].any() and len(episodes.arrays["timestamp"]) == 100
    assert any("stage, timestamp" in n or "timestamp, stage" in n for n in episodes.info["notes"])
    assert inspect(path).problems == ()
    assert list(load(path, obs=["pose", "stage"], fill_missing=True).info["groups"]) == ["pose", "stage"]
    with pytest.raises(
        ValueError, match="fill_missing=True"
    ):  # what is learned from may have been lost in a copy
        load(path, obs=["pose", "stage"])


def test_dropped_rows_show_in_the_time_stamps(tmp_path):
    times = np.arange(200) * 0.05
    times[50:] += 1.0
    times[60:] += 0.5
    times[70:] += 0.5
    arrays = {"observations": walk(200, 2), "actions": walk(200, 2), "timestamp": times}
    (problem,) = inspect(Episodes(arrays, np.array([200]), 0.05)).problems
    assert problem.startswith("timestamp: 3 of 199 steps") and "the worst is 1.05 s" in problem


@pytest.mark.parametrize(
    ("action", "steps", "columns"),
    [("next", 1, [0, 1, 2]), ("next:3", 3, [0, 1, 2]), ("next:2:xy", 2, [0, 1])],
)
def test_the_next_state_is_the_action_where_there_is_none(tmp_path, action, steps, columns):
    rows, info = (
        walk(50, 3),
        {"groups": {"xy": [0, 2], "z": [2, 3]}, "names": {"observations": ["x", "y", "z"]}},
    )
    write_npz(Episodes({"observations": rows}, np.array([20, 50]), 0.05, info=info), tmp_path / "guided.npz")
    assert any("action=next" in note for note in inspect(tmp_path / "guided.npz").notes)
    with pytest.raises(ValueError, match="--read action=next"):
        imitation_spec(load(tmp_path / "guided.npz"))
    episodes = load(tmp_path / "guided.npz", action=action)
    index = np.concatenate([np.minimum(np.arange(20) + steps, 19), np.minimum(np.arange(20, 50) + steps, 49)])
    np.testing.assert_array_equal(episodes.arrays["actions"], rows[index][:, columns])
    spec = imitation_spec(episodes)
    assert {c.name: c.reference for c in spec.channels if c.source == "actions"} == {
        f"next {n}": n for n in [["x", "y", "z"][i] for i in columns]
    }
    with pytest.raises(ValueError, match="did you mean 'xy'"):
        load(tmp_path / "guided.npz", action="next:xx")
    with pytest.raises(ValueError, match="1 or more steps"):
        load(tmp_path / "guided.npz", action="next:0")


def aloha(folder, lengths=(30, 20), columns=4):
    """A folder of episodes 9 and 10, with pictures; their rows."""
    folder.mkdir()
    out = []
    for number, steps in enumerate(lengths, 9):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            for key in ("action", "observations/qpos", "observations/qvel"):
                file[key] = walk(steps, columns)
            file["observations/images/top"] = np.zeros((steps, 8, 8, 3), np.uint8)
            out.append({key: file[key][:] for key in ("action", "observations/qpos", "observations/qvel")})
    return out


def test_a_folder_of_aloha_is_read_in_the_order_of_its_numbers(tmp_path):
    rows = aloha(tmp_path / "demos")
    episodes = load(tmp_path / "demos", dt=0.02)
    assert episodes.ends.tolist() == [30, 50] and episodes.info["episodes"][1] == {"name": "episode_10"}
    np.testing.assert_array_equal(
        episodes.arrays["actions"], np.concatenate([part["action"] for part in rows])
    )
    assert episodes.info["groups"] == {"qpos": [0, 4], "qvel": [4, 8]}
    assert episodes.info["left_out"] == ["observations/images"]
    one = load(tmp_path / "demos" / "episode_9.hdf5", dt=0.02, obs=["qvel"])
    np.testing.assert_array_equal(one.arrays["observations"], rows[0]["observations/qvel"])
    with pytest.raises(ValueError, match="pass dt="):
        load(tmp_path / "demos")
    with h5py.File(tmp_path / "demos" / "episode_10.hdf5", "a") as file:
        del file["observations/qvel"]
    with pytest.raises(ValueError, match=r"episode_10.hdf5: holds .*record them alike"):
        load(tmp_path / "demos", dt=0.02)


@pytest.mark.parametrize(
    ("name", "dt"),
    [("pointmaze-giant-navigate-v0", 0.1), ("humanoidmaze-large-stitch-v0-val", 0.025), ("scene-play-v0", 0.05), ("scene", None)],
)  # fmt: skip
def test_ogbench_files_are_cut_after_each_terminal(tmp_path, name, dt):
    flags = np.zeros(80, np.float32)
    flags[[29, 79]] = 1
    np.savez_compressed(
        tmp_path / f"{name}.npz", observations=walk(80, 2), actions=walk(80, 2), terminals=flags
    )
    if dt is None:
        with pytest.raises(ValueError, match="time step of 'scene' is not known"):
            load(tmp_path / f"{name}.npz")
    else:
        episodes = load(tmp_path / f"{name}.npz")
        assert episodes.ends.tolist() == [30, 80] and episodes.dt == dt


@pytest.mark.parametrize("names", [["x", "y", "z", "qx", "qy", "qz", "qw"], None])
def test_flips_of_a_quaternion_are_found_without_a_group_and_in_actions(names):
    angle = np.pi * 0.9 + 0.4 * np.sin(np.arange(300) / 10)
    turn = np.stack([0 * angle, 0 * angle, np.sin(angle / 2), np.cos(angle / 2)], 1)
    turn[turn[:, 3] < 0] *= -1
    pose = np.hstack([walk(300, 3) * 0.01, turn])
    info = {} if names is None else {"names": {"observations": names, "actions": names}}
    episodes = Episodes({"observations": pose, "actions": pose}, np.array([300]), 0.05, info=info)
    found = [p for p in inspect(episodes).problems if "sign flips" in p]
    assert len(found) == 2 and found[0].startswith("observations ") and found[1].startswith("actions ")
    assert names is None or "actions qx to qw" in found[1]


def test_a_git_lfs_pointer_is_called_one(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install 'dfplan[lerobot]'")
    for name in ("a.hdf5", "b.npz", "c.npy"):
        (tmp_path / name).write_text(POINTER)
    rows = walk(40, 2)
    write_lerobot(Episodes({"observations": rows, "actions": rows}, np.array([40]), 0.1), tmp_path / "set")
    next((tmp_path / "set").glob("data/**/*.parquet")).write_text(POINTER)
    aloha(tmp_path / "demos")
    (tmp_path / "demos" / "episode_10.hdf5").write_text(POINTER)
    for name in ("a.hdf5", "b.npz", "c.npy", "set", "demos"):
        (problem,) = inspect(tmp_path / name).problems
        assert "Git LFS pointer" in problem and "git lfs pull" in problem


@pytest.mark.parametrize("name", ["a.mcap", "b.bag", "c.db3", "folder", "rosbag2"])
def test_a_ros_recording_is_sent_to_record(tmp_path, name):
    heads = {"a.mcap": b"\x89MCAP0\r\n", "b.bag": b"#ROSBAG V2.0\n", "c.db3": b"SQLite format 3\x00"}
    path = tmp_path / name
    if name in heads:
        path.write_bytes(heads[name] + bytes(50))
    else:
        path.mkdir()
        (path / ("metadata.yaml" if name == "rosbag2" else "x.mcap")).write_text("")
    with pytest.raises(ValueError, match=r"dfplan record --from-bag .*docs/record.md"):
        load(path)


def two_tasks(path):
    tasks = ["push left", "push right"]
    info = {"tasks": tasks, "episodes": [{"name": f"{i}", "tasks": [tasks[i % 2]]} for i in range(4)]}
    arrays = {"observations": walk(80, 2), "actions": walk(80, 2), "task_index": np.repeat([0, 1, 0, 1], 20)}
    write_lerobot(Episodes(arrays, np.arange(20, 81, 20), dt=0.1, info=info), path)


def test_tasks_are_listed_and_can_be_chosen(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install 'dfplan[lerobot]'")
    two_tasks(tmp_path / "two")
    assert "  tasks, and episodes of each: 'push left' 2, 'push right' 2" in inspect(tmp_path / "two").lines()
    assert "2 tasks are learned as one" in inspect(tmp_path / "two").remarks()[-1]
    whole = load(tmp_path / "two").arrays["observations"]
    left = load(tmp_path / "two", task="push left")
    np.testing.assert_array_equal(left.arrays["observations"], np.concatenate([whole[:20], whole[40:60]]))
    some = load(tmp_path / "two", episodes=("0-1", 3))
    np.testing.assert_array_equal(some.arrays["observations"], np.concatenate([whole[:40], whole[60:]]))
    assert len(load(tmp_path / "two", episodes="1-3", task="push left")) == 1
    for options, message in (
        ({"task": "push lef"}, "did you mean 'push left'"), ({"episodes": 4}, "from 0 to 3"),
        ({"episodes": "a"}, "numbers and spans"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "two", **options)


@pytest.mark.parametrize("value", [1.0, 1e300])
def test_doubles_are_read_as_the_floats_that_a_set_promises_where_they_fit(tmp_path, value):
    pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'dfplan[lerobot]'")
    pa, rows = pytest.importorskip("pyarrow"), walk(60, 3)
    write_lerobot(
        Episodes({"observations": rows, "actions": rows}, np.array([30, 60]), dt=0.1), tmp_path / "wide"
    )
    file = next((tmp_path / "wide").glob("data/**/*.parquet"))
    table, wide = pq.read_table(file), rows.astype(np.float64)
    wide[5, 1] *= value
    column = pa.array(wide.tolist(), pa.list_(pa.float64()))
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)
    if value == 1.0:
        episodes = load(tmp_path / "wide")
        np.testing.assert_array_equal(episodes.arrays["actions"], rows)
        assert "'action' is stored as float64 and read as float32" in episodes.info["notes"][-1]
    else:
        with pytest.raises(
            ValueError, match=r"float64, meta/info\.json says float32, which does not hold it"
        ):
            load(tmp_path / "wide")
    shutil.rmtree(tmp_path / "wide")
