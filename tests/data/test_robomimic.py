import json

import h5py
import numpy as np
import pytest
from samples import MASKS, same, sample

from dfplan.data import load, read_robomimic, write_robomimic

CONTROLLERS = {
    "1.4": {"type": "OSC_POSE", "control_delta": True},
    "1.5": {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "absolute"}}},
}


@pytest.fixture
def make(tmp_path):
    """Write a file by hand as robomimic does: demo_0, demo_2, demo_10 of 3, 4, 5 env steps."""

    def build(env=None, edit=None, images=True, compression=None, key="type"):
        rng = np.random.default_rng(0)
        path = tmp_path / "demo.hdf5"
        kwargs = {"control_freq": 20, "controller_configs": CONTROLLERS["1.4"]}
        env = (
            {"env_name": "Lift", key: 1, "env_version": "1.4.1", "env_kwargs": kwargs} if env is None else env
        )
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            for number, steps in ((10, 5), (2, 4), (0, 3)):
                demo = data.create_group(f"demo_{number}")
                arrays = {
                    "actions": rng.uniform(-1, 1, (steps, 7)),
                    "actions_abs": rng.standard_normal((steps, 7)),
                    "action_dict/abs_pos": rng.standard_normal((steps, 3)).astype(np.float32),
                    "action_dict/abs_rot_6d": rng.standard_normal((steps, 6)).astype(np.float32),
                    "action_dict/gripper": rng.standard_normal((steps, 1)).astype(np.float32),
                    "rewards": np.zeros(steps),
                    "dones": np.arange(steps) == steps - 1,
                    "states": np.c_[np.arange(steps) * 0.05, rng.standard_normal((steps, 4))],
                    "obs/robot0_eef_pos": rng.standard_normal((steps, 3)),
                    "obs/object": rng.standard_normal((steps, 5)).astype(np.float32),
                    "next_obs/object": rng.standard_normal((steps, 5)).astype(np.float32),
                }
                if images:
                    arrays["obs/agentview_image"] = np.zeros((steps, 84, 84, 3), np.uint8)
                for name, array in arrays.items():
                    demo.create_dataset(name, data=array, compression=compression)
                demo.attrs.update({"num_samples": steps, "model_file": f"<mujoco model='{number}'/>"})
            data.attrs.update({"total": 12, "env_args": json.dumps(env)})
            file["mask/train"] = np.array([b"demo_10", b"demo_0"])
            file["mask/valid"] = np.array([b"demo_2"])
            if edit:
                edit(file)
        return path

    return build


@pytest.mark.parametrize("key", ["type", "env_type"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_as_robomimic_writes_it(make, key, compression):
    path = make(key=key, compression=compression)
    got = load(path)
    assert (got.name, got.dt, got.ends.tolist()) == ("Lift", 0.05, [3, 7, 12])
    assert [e["name"] for e in got.info["episodes"]] == ["demo_0", "demo_2", "demo_10"]
    assert got.info["episodes"][2]["attrs"] == {"model_file": "<mujoco model='10'/>"}
    assert got.info["masks"] == {"train": ["demo_10", "demo_0"], "valid": ["demo_2"]}
    assert got.info["groups"] == {"object": [0, 5], "robot0_eef_pos": [5, 8]}
    assert got.info["names"]["observations"][4:6] == ["object[4]", "robot0_eef_pos[0]"]
    assert got.info["env_args"][key] == 1
    assert got.info["left_out"] == ["obs/agentview_image"]
    assert (got.info["version"], got.info["action_mode"]) == ("1.4", "delta")
    with h5py.File(path) as file:
        for i, name in enumerate(("demo_0", "demo_2", "demo_10")):
            rows, demo = slice(got.starts[i], got.ends[i]), file["data"][name]
            np.testing.assert_array_equal(got.arrays["actions"][rows], demo["actions"])
            np.testing.assert_array_equal(got.arrays["observations"][rows, :5], demo["obs/object"])
            np.testing.assert_array_equal(got.arrays["observations"][rows, 5:], demo["obs/robot0_eef_pos"])
            for key in ("rewards", "dones", "states", "actions_abs", "action_dict/gripper"):
                np.testing.assert_array_equal(got.arrays[key][rows], demo[key])
                assert got.arrays[key].dtype == demo[key].dtype


def test_layout_of_robosuite_1_5_and_the_rate_of_a_gym_task(make):
    kwargs = {"control_freq": 10, "controller_configs": CONTROLLERS["1.5"]}
    got = read_robomimic(make({"env_name": "Stack", "type": 1, "env_kwargs": kwargs}))
    assert (got.info["version"], got.info["action_mode"], got.dt) == ("1.5", "absolute", 0.1)
    assert read_robomimic(make({"env_name": "Hopper-v3", "type": 2, "env_kwargs": {}})).dt == 0.008
    path = make({"env_name": "Mine", "type": 2, "env_kwargs": {}})
    with pytest.raises(ValueError, match="time step of 'Mine' is not known; pass dt="):
        read_robomimic(path)
    assert read_robomimic(path, dt=0.2).dt == 0.2


def test_masks_select(make):
    got = read_robomimic(make(), mask="train")
    assert [e["name"] for e in got.info["episodes"]] == ["demo_0", "demo_10"]
    assert got.ends.tolist() == [3, 8] and got.info["masks"]["valid"] == []
    whole = read_robomimic(make())
    np.testing.assert_array_equal(got.arrays["actions"], whole.select([0, 2]).arrays["actions"])
    assert whole.select([1]).info["masks"] == {"train": [], "valid": ["demo_2"]}
    with pytest.raises(
        ValueError, match=r"mask for .*demo.hdf5 'trian', expected one of train, valid; did you mean"
    ):
        read_robomimic(make(), mask="trian")


def test_observations_and_actions_are_chosen(make, tmp_path):
    keys = ("action_dict/abs_pos", "action_dict/abs_rot_6d", "action_dict/gripper")
    got = read_robomimic(make(), obs=("robot0_eef_pos",), action=keys)
    assert got.arrays["actions"].shape == (12, 10) and got.arrays["actions"].dtype == np.float32
    assert got.arrays["demo/actions"].shape == (12, 7)
    assert got.info["groups"] == {"robot0_eef_pos": [0, 3]} and "obs/object" in got.info["left_out"]
    write_robomimic(got, tmp_path / "again.hdf5")
    same(read_robomimic(tmp_path / "again.hdf5"), got, ("groups", "action_groups", "names"))
    assert read_robomimic(make(), action="actions_abs").arrays["actions"].dtype == np.float64
    assert read_robomimic(make(), obs=("states", "object")).arrays["observations"].shape == (12, 10)
    with pytest.raises(ValueError, match=r"'robot0_eef_poz'.*did you mean 'robot0_eef_pos'"):
        read_robomimic(make(), obs=("robot0_eef_poz",))
    with pytest.raises(ValueError, match=r"'action_abs'.*did you mean 'actions_abs'"):
        read_robomimic(make(), action="action_abs")


def test_file_to_episodes_to_file_keeps_every_array_and_attribute(make, tmp_path):
    path, again = make(images=False), tmp_path / "again.hdf5"
    assert write_robomimic(read_robomimic(path), again) == ()

    def contents(file):
        out = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and "next_obs" not in name:
                out[name] = (item.dtype, item[()].tolist())
            out[name + "@"] = {k: v for k, v in item.attrs.items() if k not in ("dfplan", "env_args")}

        file.visititems(visit)
        return out, json.loads(file["data"].attrs["env_args"])

    with h5py.File(path) as a, h5py.File(again) as b:
        assert {k: v for k, v in contents(b)[0].items() if "next_obs" not in k} == {
            k: v for k, v in contents(a)[0].items() if "next_obs" not in k
        }
        assert contents(a)[1] == contents(b)[1]
        np.testing.assert_array_equal(b["data/demo_2/next_obs/object"][:-1], a["data/demo_2/obs/object"][1:])
    same(read_robomimic(again), read_robomimic(path), ("groups", "masks", "episodes", "env_args", "dtypes"))


def test_raw_robosuite_file(tmp_path):
    path = tmp_path / "raw.hdf5"
    times = np.cumsum([0.01, 0.01, 0.024, 0.01])
    with h5py.File(path, "w") as file:
        file["data/demo_1/states"] = np.c_[times, np.ones((4, 3))]
        file["data/demo_1/left_dpos"] = np.zeros((4, 0))
        file["data/demo_1/joint_velocities"] = np.ones((4, 7))
        file["data"].attrs["env"] = "SawyerLift"
    got = load(path)
    assert "actions" not in got.arrays and got.arrays["observations"].shape == (4, 4)
    assert set(got.arrays) == {"observations", "states", "joint_velocities"}
    assert got.info["left_out"] == ["left_dpos"] and "no observations" in got.info["notes"][0]
    assert got.dt == 0.01 and "0.01 to 0.024 s" in got.info["warnings"][0]


def test_actions_outside_the_range(tmp_path):
    expected = sample()
    expected.arrays["actions"][4] = [-3.5, 0.3]
    with pytest.raises(ValueError, match=r"'actions' row 4 column 0 is -3.5.*rescale=True"):
        write_robomimic(expected, tmp_path / "a.hdf5")
    notes = write_robomimic(expected, tmp_path / "a.hdf5", rescale=True)
    assert "divided by [4.0, 1.0]" in notes[0]
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert abs(file["data/demo_0/actions"][:]).max() <= 1
    same(read_robomimic(tmp_path / "a.hdf5"), expected)
    same(read_robomimic(tmp_path / "a.hdf5", mask="train"), expected.select([0, 2]), ("masks",))


def test_episodes_of_other_names_are_renumbered_and_come_back(tmp_path):
    info = {"episodes": [{"name": n, "tasks": [n]} for n in "abc"], "masks": {"train": ["c"]}}
    expected = sample(info=info)
    assert "renamed" in write_robomimic(expected, tmp_path / "a.hdf5")[0]
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"] and file["mask/train"][0] == b"demo_2"
    same(read_robomimic(tmp_path / "a.hdf5"), expected, ("episodes", "masks"))
    expected.info["masks"]["train"] = ["d"]
    with pytest.raises(ValueError, match=r"info\['masks'\]\['train'\] names 'd'"):
        write_robomimic(expected, tmp_path / "b.hdf5")


def test_a_file_whose_writing_was_cut_short_is_read_when_asked(make):
    path = make(edit=lambda file: file["data"].attrs.pop("total"))
    with pytest.raises(ValueError, match="no attribute 'total'"):
        read_robomimic(path)
    assert len(read_robomimic(path, partial=True)) == 3


@pytest.mark.parametrize("seq_length", [1, 4])
def test_robomimic_itself_opens_what_is_written(tmp_path, seq_length):
    install = (
        "pip install --no-deps robomimic==0.3.0 && pip install psutil six tensorboardX termcolor imageio"
    )
    dataset = pytest.importorskip("robomimic.utils.dataset", reason=f"robomimic is not installed: {install}")
    from robomimic.utils import obs_utils

    expected = sample()
    write_robomimic(expected, tmp_path / "a.hdf5")
    keys = list(expected.info["groups"])
    obs_utils.initialize_obs_utils_with_obs_specs(
        {"obs": {"low_dim": keys, "rgb": [], "depth": [], "scan": []}}
    )
    got = dataset.SequenceDataset(
        str(tmp_path / "a.hdf5"),
        obs_keys=keys,
        dataset_keys=("actions", "rewards", "dones"),
        seq_length=seq_length,
        hdf5_cache_mode="low_dim",
        filter_by_attribute="train",
    )
    train = expected.select([0, 2])
    assert got.n_demos == 2 and len(got) == train.steps and MASKS["train"] == got.demos
    for i in range(len(got)):
        item, end = got[i], int(train.ends[np.searchsorted(train.ends, i, "right")])
        np.testing.assert_array_equal(item["actions"][: end - i], train.arrays["actions"][i:end][:seq_length])
        assert (
            item["dones"][0] == train.arrays["terminals"][i]
            and item["rewards"][0] == train.arrays["rewards"][i]
        )
        for key, (start, stop) in expected.info["groups"].items():
            np.testing.assert_array_equal(item["obs"][key][0], train.arrays["observations"][i, start:stop])
