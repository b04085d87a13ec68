import json
import warnings

import h5py
import numpy as np
import pytest

from dfplan.data import load, read_minari


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def put(cache, name, episodes, metadata=True):
    """Write Minari's layout by hand; a value of an episode may be a nested dictionary."""
    data = cache / name / "data"
    data.mkdir(parents=True)
    if metadata:
        (data / "metadata.json").write_text(json.dumps({"dataset_id": name, "data_format": "hdf5"}))

    def fill(group, values):
        for key, value in values.items():
            if isinstance(value, dict):
                fill(group.create_group(key), value)
            elif value is not None:
                group[key] = value

    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number, episode in episodes.items():
            fill(file.create_group(f"episode_{number}"), episode)
    return data / "main_data.hdf5"


def episode(steps, observations=None, **changes):
    rows = np.arange(steps + 1, dtype=np.float64)[:, None]
    return {
        "observations": np.tile(rows, 3) if observations is None else observations,
        "actions": rows[:-1],
        "rewards": np.ones(steps),
        "terminations": np.arange(steps) == steps - 1,
        "truncations": np.zeros(steps, bool),
    } | changes


def goal_observation(steps):
    rows = np.arange(steps + 1, dtype=np.float64)[:, None]
    return {
        "observation": np.tile(rows, 4),
        "achieved_goal": rows * [1, 2],
        "desired_goal": np.full((steps + 1, 2), 7.0),
    }


def test_what_minari_writes_is_what_is_read(cache):
    minari = pytest.importorskip("minari", reason="minari is not installed: pip install 'dfplan[minari]'")
    collector = pytest.importorskip("minari.data_collector")
    from gymnasium import spaces

    rng = np.random.default_rng(0)
    sizes = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    space = spaces.Dict({key: spaces.Box(-np.inf, np.inf, (n,)) for key, n in sizes.items()})
    buffers = [
        collector.EpisodeBuffer(
            id=i,
            observations={key: rng.standard_normal((steps + 1, n)) for key, n in sizes.items()},
            actions=rng.uniform(-1, 1, (steps, 2)),
            rewards=list(rng.uniform(size=steps)),
            terminations=[False] * steps,
            truncations=[False] * (steps - 1) + [True],
            infos={},
        )
        for i, steps in enumerate([3, 1, 12])
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "D4RL/pointmaze/tiny-v0",
            buffer=buffers,
            observation_space=space,
            action_space=spaces.Box(-1, 1, (2,)),
        )
    data = read_minari("D4RL/pointmaze/tiny-v0")
    assert (data.name, data.dt, data.ends.tolist()) == ("D4RL/pointmaze/tiny-v0", 0.01, [3, 4, 16])
    for key, source in (("observations", "observation"), ("achieved_goal",) * 2, ("desired_goal",) * 2):
        expected = np.concatenate([b.observations[source][:-1] for b in buffers]).astype(np.float32)
        np.testing.assert_array_equal(data.arrays[key], expected)
    actions = np.concatenate([b.actions for b in buffers]).astype(np.float32)
    np.testing.assert_array_equal(data.arrays["actions"], actions)
    assert data.arrays["rewards"].shape == (16,) and not data.arrays["terminals"].any()


def test_episodes_go_by_number_and_lose_their_last_observation(cache):
    put(cache, "mine-v0", {10: episode(2), 2: episode(4)})
    data = read_minari("mine-v0", dt=0.1)
    assert data.ends.tolist() == [4, 6]
    np.testing.assert_array_equal(data.arrays["observations"][:, 0], [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(data.arrays["terminals"], [0, 0, 0, 1, 0, 1])


def test_dictionaries_tuples_and_vectors_become_columns(cache):
    rows = np.arange(4.0)
    nested = {"b": {"y": rows, "x": rows[:, None] + 10}, "a": np.stack([rows + 20, rows + 30], 1)}
    put(
        cache,
        "nested-v0",
        {
            0: episode(
                3, nested, actions={"_index_0": rows[:3], "_index_10": rows[:3] + 2, "_index_2": rows[:3] + 1}
            )
        },
    )
    data = read_minari("nested-v0", dt=0.1)
    np.testing.assert_array_equal(data.arrays["observations"][0], [20, 30, 10, 0])
    np.testing.assert_array_equal(data.arrays["actions"][0], [0, 1, 2])
    chosen = read_minari("nested-v0", dt=0.1, observation_keys=("b/y", "a"))
    np.testing.assert_array_equal(chosen.arrays["observations"][1], [1, 21, 31])


def test_a_goal_environment_gives_observation_and_keeps_its_goals(cache):
    file = put(cache, "D4RL/antmaze/x-v0", {0: episode(3, goal_observation(3))})
    data = read_minari(file)
    assert {key: array.shape[1:] for key, array in data.arrays.items()} == {
        "observations": (4,),
        "actions": (1,),
        "achieved_goal": (2,),
        "desired_goal": (2,),
        "rewards": (),
        "terminals": (),
    }
    both = read_minari(file, observation_keys=("achieved_goal", "observation"))
    np.testing.assert_array_equal(both.arrays["observations"][:, :2], data.arrays["achieved_goal"])
    assert both.dt == 0.05


@pytest.mark.parametrize("way", ["id", "folder", "data", "file", "load id", "load folder", "load file"])
def test_every_way_to_name_a_set(cache, way):
    name = "D4RL/kitchen/x-v0"
    file = put(cache, name, {0: episode(3)}, metadata=False)
    where = {"id": name, "folder": cache / name, "data": file.parent, "file": file}[way.split()[-1]]
    data = load(where) if way.startswith("load") else read_minari(where)
    assert (data.steps, data.dt, data.name) == (3, 0.08, name)


def nan_row():
    rows = np.zeros((4, 3))
    rows[2, 1] = np.nan
    return rows


BAD = {
    "no episodes": ({}, r"holds \[\], expected Minari's groups episode_0"),
    "no observations": ({0: {**episode(3), "observations": None}}, "no 'observations' in episode_0"),
    "no actions": ({0: {**episode(3), "actions": None}}, "no 'actions' in episode_0"),
    "no rewards": ({0: episode(3), 1: {**episode(2), "rewards": None}}, "no 'rewards' in episode_1"),
    "no terminations": ({0: {**episode(3), "terminations": None}}, "no 'terminations' in episode_0"),
    "as many observations as actions": (
        {0: episode(3, np.zeros((3, 3)))},
        r"'episode_0/observations' has shape \(3, 3\), expected 4 rows of 3",
    ),
    "another width": (
        {0: episode(3), 1: episode(2, np.zeros((3, 5)))},
        r"'episode_1/observations' has shape \(3, 5\)",
    ),
    "an entry is missing": (
        {0: episode(3, goal_observation(3)), 1: episode(2)},
        "no 'observations/observation' in episode_1",
    ),
    "nan": ({0: episode(3), 1: episode(3, nan_row())}, "'episode_1/observations' row 2 is .*nan"),
    "images": ({0: episode(3, np.zeros((4, 8, 8, 3), np.uint8))}, "'episode_0/observations' has shape"),
    "text": ({0: episode(3, np.full(4, b"go"))}, "dtype .S2, expected numbers"),
    "empty episode": ({0: episode(3), 1: episode(0)}, "'episode_1/actions' has 0 rows"),
    "fewer rewards": ({0: episode(3, rewards=np.ones(2))}, "'episode_0/rewards' has 2 rows, expected 3"),
    "odd flags": ({0: episode(3, terminations=np.array([0, 3, 1]))}, "terminations' row 1 is 3.0"),
    "an episode that is an array": ({0: episode(3)}, "no 'actions' in"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(cache, case):
    episodes, message = BAD[case]
    file = put(cache, "D4RL/pointmaze/x-v0", episodes)
    if case == "an episode that is an array":
        with h5py.File(file, "a") as out:
            out["episode_1"] = np.zeros(3)
    with pytest.raises(ValueError, match=message) as error:
        read_minari(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "time step of 'mine-v0' is not known; pass dt="),
        ({"dt": 1.0, "observation_keys": ("x",)}, "got observation_keys .'x',.*plain array"),
        ({"dt": 1.0, "observation_keys": ()}, "got observation_keys"),
    ],
)
def test_refuses_options(cache, options, message):
    put(cache, "mine-v0", {0: episode(3)})
    with pytest.raises(ValueError, match=message):
        read_minari("mine-v0", **options)


def test_refuses_another_storage_format_bad_metadata_and_nothing(cache):
    file = put(cache, "D4RL/pen/x-v0", {0: episode(3)})
    (file.parent / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match=r"metadata\.json: not readable as JSON"):
        read_minari("D4RL/pen/x-v0")
    file.unlink()
    with pytest.raises(ValueError, match=r"not stored as HDF5.*data_format='hdf5'"):
        read_minari("D4RL/pen/x-v0")
    with pytest.raises(FileNotFoundError, match="run: minari download D4RL/pen/y-v0"):
        read_minari("D4RL/pen/y-v0")


def test_load_refuses_other_layouts(tmp_path):
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file.create_group("action/demo_0")
    with pytest.raises(ValueError, match=r"demo.hdf5: holds \['action'\], expected D4RL's layout"):
        load(tmp_path / "demo.hdf5")
