import json
import sys

import numpy as np
import pytest
from samples import same, sample

from dfplan.data import Episodes, load, read_lerobot, write_lerobot

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'dfplan[lerobot]'")
pq = pytest.importorskip("pyarrow.parquet")


def v21(root, lengths=(3, 2), **info):
    """Write a version 2.1 data set by hand, with a video that is not there."""
    (root / "meta").mkdir(parents=True)
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": [["a", "b"]]},
        "observation.environment_state": {"dtype": "float64", "shape": [1], "names": {"axes": ["c"]}},
        "observation.images.top": {"dtype": "video", "shape": [480, 640, 3], "names": None},
        "action": {"dtype": "float32", "shape": [1], "names": {"motors": ["m"]}},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "note": {"dtype": "string", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{
            k: {"dtype": "int64", "shape": [1]}
            for k in ("frame_index", "episode_index", "index", "task_index")
        },
    }
    text = {
        "codebase_version": "v2.1", "fps": 10, "features": features, "total_episodes": len(lengths),
        "total_frames": sum(lengths), "chunks_size": 1000, "robot_type": "so100",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(text | info))
    rows = [{"episode_index": i, "tasks": [f"task {i % 2}"], "length": n} for i, n in enumerate(lengths)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = [{"task_index": i, "task": f"task {i}"} for i in range(2)]
    (root / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    begin = 0
    for i, n in enumerate(lengths):
        frame = np.arange(n)
        state = pa.array([[float(begin + t), 0.5] for t in frame], pa.list_(pa.float32(), 2 if i else -1))
        table = {
            "observation.state": state,
            "observation.environment_state": pa.array(frame * 2.0),
            "action": pa.array([[float(t)] for t in frame], pa.list_(pa.float32())),
            "next.done": pa.array(frame == n - 1),
            "note": pa.array(["x"] * n),
            "timestamp": pa.array((frame / 10).astype(np.float32)),
            "frame_index": pa.array(frame),
            "episode_index": pa.array(np.full(n, i)),
            "index": pa.array(begin + frame),
            "task_index": pa.array(np.full(n, i % 2)),
        }
        file = root / f"data/chunk-000/episode_{i:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), file)
        begin += n
    return root


def test_version_2_1(tmp_path):
    got = load(v21(tmp_path / "set"))
    assert (got.dt, got.ends.tolist(), got.name) == (0.1, [3, 5], "set")
    assert got.info["left_out"] == ["observation.images.top", "note"]
    assert got.info["names"] == {"observations": ["a", "b", "c"], "actions": ["m"]}
    assert got.info["groups"] == {"observation.state": [0, 2], "observation.environment_state": [2, 3]}
    assert got.info["tasks"] == ["task 0", "task 1"] and got.arrays["task_index"].tolist() == [0, 0, 0, 1, 1]
    assert got.info["episodes"][1] == {"name": "episode_000001", "tasks": ["task 1"]}
    np.testing.assert_array_equal(
        got.arrays["observations"], [[0, 0.5, 0], [1, 0.5, 2], [2, 0.5, 4], [3, 0.5, 0], [4, 0.5, 2]]
    )
    assert got.arrays["terminals"].tolist() == [False, False, True, False, True]
    assert got.arrays["actions"].shape == (5, 1)
    assert read_lerobot(tmp_path / "set", obs=("observation.state",)).arrays["observations"].shape == (5, 2)


def test_layout_of_version_3(tmp_path):
    expected = sample()
    write_lerobot(expected, tmp_path / "set", robot_type="panda")
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"], info["video_path"]) == (
        "v3.0",
        20,
        "panda",
        None,
    )
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 12, 1)
    assert (info["chunks_size"], info["data_files_size_in_mb"], info["splits"]) == (
        1000,
        100,
        {"train": "0:3"},
    )
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    names = expected.info["names"]["observations"]
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [9], "names": names}
    assert info["features"]["next.reward"] == {"dtype": "float32", "shape": [1], "names": ["rewards"]}
    file = pq.ParquetFile(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [5, 3, 4]
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    schema = file.schema_arrow
    assert schema.field("observation.state").type == pa.list_(pa.float32(), 9)
    assert schema.field("keypoint").type == pa.list_(pa.list_(pa.float32()))
    types = {
        key: str(schema.field(key).type) for key in ("timestamp", "frame_index", "next.reward", "next.done")
    }
    assert types == {
        "timestamp": "float",
        "frame_index": "int64",
        "next.reward": "float",
        "next.done": "bool",
    }
    table = file.read().to_pydict()
    np.testing.assert_allclose(table["timestamp"][5:8], [0, 0.05, 0.1], atol=1e-7)
    assert table["index"] == list(range(12)) and table["episode_index"] == [0] * 5 + [1] * 3 + [2] * 4
    np.testing.assert_array_equal(
        np.array(table["observation.state"], np.float32), expected.arrays["observations"]
    )


def test_episodes_statistics_and_tasks_of_version_3(tmp_path):
    write_lerobot(sample(), tmp_path / "set")
    rows = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["length"]) for r in rows] == [
        (0, 5, 5),
        (5, 8, 3),
        (8, 12, 4),
    ]
    assert (
        rows[0]["tasks"] == ["lift the cube"]
        and rows[0]["data/file_index"] == rows[0]["meta/episodes/chunk_index"] == 0
    )
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    actions = sample().arrays["actions"].astype(float)
    for key, value in (
        ("min", actions.min(0)),
        ("std", actions.std(0)),
        ("q10", np.quantile(actions, 0.1, 0)),
    ):
        np.testing.assert_allclose(stats["action"][key], value)
    assert stats["action"]["count"] == [12] and set(stats["action"]) >= {
        "max",
        "mean",
        "q01",
        "q50",
        "q90",
        "q99",
    }
    np.testing.assert_allclose(rows[1]["stats/action/mean"], actions[5:8].mean(0))
    tasks = pq.read_table(tmp_path / "set/meta/tasks.parquet")
    assert tasks.column_names == ["task_index", "__index_level_0__"]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]


def test_other_readers_of_the_layout_agree(tmp_path):
    """The calls that LeRobot makes: pandas for the tasks, datasets for the rows."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    write_lerobot(sample(), tmp_path / "set")
    assert pandas.read_parquet(tmp_path / "set/meta/tasks.parquet").loc["lift the cube", "task_index"] == 0
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    state = datasets.Sequence(length=9, feature=datasets.Value("float32"))
    files = [str(file) for file in (tmp_path / "set/data").glob("*/*.parquet")]
    rows = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert rows.features["observation.state"] == state and len(rows) == 12


def test_large_sets_are_cut_into_files(tmp_path):
    rows = np.random.default_rng(0).standard_normal((60_000, 10))
    expected = Episodes({"observations": rows}, np.arange(6000, 60_001, 6000), 0.05, "big")
    write_lerobot(expected, tmp_path / "set", file_mb=1)
    assert len(list((tmp_path / "set/data/chunk-000").iterdir())) == 10
    same(read_lerobot(tmp_path / "set"), expected)


def test_several_tasks_and_a_rate_that_is_no_whole_number(tmp_path):
    index = np.repeat([0, 1, 0], [5, 3, 4])
    expected = sample(dt=0.3)
    expected.arrays["task_index"] = index
    expected.info["tasks"] = ["lift", "stack"]
    notes = write_lerobot(expected, tmp_path / "set")
    assert "fps is 3.33333" in notes[0]
    got = read_lerobot(tmp_path / "set")
    same(got, expected, ("tasks",))
    rows = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["tasks"] for row in rows] == [["lift"], ["stack"], ["lift"]]
    write_lerobot(expected, tmp_path / "one", task="both")
    assert read_lerobot(tmp_path / "one").info["tasks"] == ["both"]


def test_groups_that_are_lerobot_features_stay_features(tmp_path):
    read = read_lerobot(v21(tmp_path / "set"))
    write_lerobot(read, tmp_path / "again")
    features = json.loads((tmp_path / "again/meta/info.json").read_text())["features"]
    assert features["observation.environment_state"]["names"] == ["c"]
    same(read_lerobot(tmp_path / "again"), read, ("names", "groups", "tasks", "episodes", "robot_type"))


def test_time_stamps_that_are_off_are_a_warning(tmp_path):
    root = v21(tmp_path / "set")
    file = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("timestamp")
    pq.write_table(table.set_column(place, "timestamp", pa.array([0.0, 0.15], pa.float32())), file)
    warning = read_lerobot(root).info["warnings"][0]
    assert "1 of 5 time stamps" in warning and "row 4: 0.15 s, expected 0.1 s" in warning


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    root = v21(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[lerobot\]'"):
        read_lerobot(root)
