"""Every file of the recorded data opens, or is refused with its reason."""

import numpy as np
import pytest

from dfplan.data import convert, inspect, load

pytestmark = pytest.mark.shared
PUSHT = "pusht-human/pusht_cchi_v7_replay"
ROBOSUITE = {
    "door": (261, 23, 7), "lift": (412, 32, 7), "nut-assembly": (1036, 45, 7),
    "pick-place": (1482, 71, 7), "stack": (532, 45, 7), "wipe": (174, 15, 6),
}  # fmt: skip


@pytest.fixture
def find(shared):
    def at(name):
        if not (shared / name).exists():
            pytest.skip(f"no {name} in {shared}")
        return shared / name

    return at


@pytest.mark.parametrize("file", [f"{PUSHT}.zarr.zip", f"{PUSHT}.lowdim.zarr.zip"])
def test_pusht(find, file):
    pytest.importorskip("numcodecs", reason="numcodecs is not installed: pip install 'dfplan[zarr]'")
    got = load(find(file))
    shapes = {key: array.shape for key, array in got.arrays.items()}
    assert shapes == {
        "observations": (25650, 5), "actions": (25650, 2), "keypoint": (25650, 9, 2), "n_contacts": (25650, 1),
    }  # fmt: skip
    lengths = np.diff(got.ends, prepend=0)
    assert (len(got), got.dt, lengths.min(), lengths.max()) == (206, 0.1, 49, 246)
    assert got.info.get("left_out") == (None if "lowdim" in file else ["img"])
    assert 11 < got.arrays["actions"].min() < 13 and 510 < got.arrays["actions"].max() < 512
    assert inspect(got).problems[0].startswith("observations: angles wrap by 2 pi inside episodes (state[4]")


def test_pusht_pictures_on_request(find):
    pytest.importorskip("numcodecs")
    got = load(find(f"{PUSHT}.zarr.zip"), keys=("state", "action", "n_contacts"))
    assert set(got.arrays) == {"observations", "actions", "n_contacts"}


def test_unitree_g1(find, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'dfplan[lerobot]'")
    got = load(find("lerobot-v21-unitree-g1"))
    assert got.arrays["observations"].shape == got.arrays["actions"].shape == (35965, 26)
    assert (len(got), got.info["fps"], got.info["robot_type"]) == (100, 30, "Unitree_G1_Inspire")
    assert got.info["left_out"] == ["observation.images.cam_high"]
    assert got.info["names"]["actions"][0] == "kLeftShoulderPitch"
    report = inspect(got)
    assert report.problems == () and "targets" in report.guesses[0]
    convert(find("lerobot-v21-unitree-g1"), tmp_path / "v3")
    again = load(tmp_path / "v3")
    for key, array in got.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)


@pytest.mark.parametrize("task", ROBOSUITE)
def test_robosuite_demonstrations(find, task):
    got = load(find(f"robosuite-human-demos/v1.0.0/{task}/panda/demo.hdf5"))
    steps, states, actions = ROBOSUITE[task]
    assert got.arrays["observations"].shape == (steps, states) and got.arrays["actions"].shape == (
        steps,
        actions,
    )
    assert got.dt == 0.05 and got.info["action_mode"] == "delta"
    assert "no observations" in got.info["notes"][0]
    assert got.info["episodes"][0]["name"] == "demo_1"
    outside = [p for p in inspect(got).problems if "leave [-1, 1]" in p]
    assert len(outside) == (task == "wipe")


def test_old_robosuite_demonstrations(find):
    for path in sorted(find("robosuite-human-demos/v0.3.0").rglob("demo.hdf5")):
        got = load(path)
        assert got.arrays["observations"].shape == got.arrays["states"].shape and 0.009 < got.dt < 0.025
        assert "irregular" in got.info["warnings"][0]


@pytest.mark.parametrize("letter", "dehlorw")
def test_franka_letters(find, letter):
    path = find(f"franka-helloworld/{letter}.npy")
    got = load(path, dt=0.01)
    assert got.arrays["observations"].shape == (8000, 2) and len(got) == 8 and "actions" not in got.arrays
    with pytest.raises(ValueError, match="pass dt="):
        load(path)


def test_franka_letters_as_one_set(find):
    got = load(find("franka-helloworld"), dt=0.01, action="next")
    assert len(got) == 56 and got.arrays["actions"].shape[1] == 2
    assert len(load(find("franka-helloworld"), dt=0.01, task="w")) == 8


def test_pickle_is_refused(find):
    with pytest.raises(ValueError, match="a Python pickle, which can run code and is never loaded"):
        load(find("adroit-door-human/door-v0_demos.pickle"))


@pytest.mark.parametrize("maze", ["umaze", "medium"])
def test_maze2d_converts_without_loss(find, tmp_path, maze):
    got = load(find(f"d4rl-maze2d-20k/maze2d-{maze}-sparse-v1-20k.hdf5"))
    for file in ("a.h5", "a.zarr.zip", "a.npz"):
        notes = convert(find(f"d4rl-maze2d-20k/maze2d-{maze}-sparse-v1-20k.hdf5"), tmp_path / file)
        assert ["env_args" in note for note in notes] == [True] * (file == "a.h5")
        again = load(tmp_path / file)
        assert set(again.arrays) == set(got.arrays) and (again.ends == got.ends).all() and again.dt == got.dt
        for key, array in got.arrays.items():
            np.testing.assert_array_equal(again.arrays[key], array)
