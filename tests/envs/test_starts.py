"""Published start and goal sets of mazes."""

import h5py
import numpy as np
import pytest

from dfplan.envs import Starts


def test_options_are_taken_in_order_and_begin_again():
    states = np.array([[1.05, 1.0, 0.5, -0.25], [3.0, 3.0, 0.0, 0.0]])
    starts = Starts(states, np.array([[3.0, 3.0], [1.0, 1.1]]), seed=10)
    for seed, row in ((10, 0), (11, 1), (12, 0)):
        got = starts.options(seed)
        np.testing.assert_array_equal([*got["qpos"], *got["qvel"]], states[row])
        np.testing.assert_array_equal(got["goal"], starts.goals[row])
    assert Starts(states[:, :2]).options(1).keys() == {"qpos", "qvel"}
    assert not Starts(states[:, :2]).options(1)["qvel"].any()


@pytest.mark.parametrize("name", ["starts.npz", "starts.hdf5"])
@pytest.mark.parametrize("with_goals", [True, False])
def test_starts_are_read(tmp_path, name, with_goals):
    states, goals = np.arange(8.0).reshape(2, 4), np.arange(4.0).reshape(2, 2)
    arrays = {"start_state": states} | ({"goal_pos": goals} if with_goals else {})
    if name.endswith("npz"):
        np.savez(tmp_path / name, other=np.zeros(3), **arrays)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file.update(arrays)
    got = Starts.read(tmp_path / name)
    np.testing.assert_array_equal(got.states, states)
    assert (got.goals is not None) == with_goals
    if with_goals:
        np.testing.assert_array_equal(got.goals, goals)


GOOD = np.zeros((2, 4))


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"start": GOOD}, "expected 'start_state'"),
        ({"start_state": np.zeros(4)}, "'start_state' has shape"),
        ({"start_state": GOOD * np.nan}, "finite"),
        ({"start_state": GOOD, "goal_pos": np.zeros((3, 2))}, "'goal_pos' has shape"),
        ({"start_state": GOOD, "goal_pos": np.zeros((2, 2)) + np.inf}, "finite"),
        ({"start_state": np.array([["a", "b"]])}, "cannot be read"),
        ({"start_state": np.array([[None]])}, "cannot be read"),
    ],
)
def test_starts_refuse_other_arrays(tmp_path, arrays, what):
    np.savez(tmp_path / "starts.npz", **arrays)
    with pytest.raises(ValueError, match=what) as error:
        Starts.read(tmp_path / "starts.npz")
    assert "starts.npz" in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 cut short", b"\x89HDF\r\n\x1a\n cut short"]
)
def test_starts_refuse_other_files(tmp_path, suffix, content):
    path = tmp_path / f"starts{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"starts{suffix}.*expected"):
        Starts.read(path)


def test_starts_refuse_a_missing_file_a_folder_and_a_bare_array(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; give an \.npz or \.hdf5"):
        Starts.read(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="expected"):
        Starts.read(tmp_path)
    np.save(tmp_path / "array.npy", GOOD)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="expected"):
        Starts.read(tmp_path / "array.npz")


def test_starts_in_another_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["start_state"] = GOOD
    with h5py.File(tmp_path / "starts.hdf5", "w") as file:
        file["start_state"] = h5py.ExternalLink("other.hdf5", "start_state")
    with pytest.raises(ValueError, match=r"starts\.hdf5.*other\.hdf5"):
        Starts.read(tmp_path / "starts.hdf5")
