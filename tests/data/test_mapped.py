"""Large arrays are mapped where their file allows it: the same numbers, the same refusals, little memory."""

import pathlib
import re
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import same, sample

from dfplan.data import Episodes, Windows, inspect, load, read_npy, write_npz, write_robomimic, write_zarr
from dfplan.data import rows as passes
from dfplan.data.rows import bad_rows, blocks


@pytest.fixture
def small(monkeypatch):
    """Map arrays of any size."""
    monkeypatch.setattr(passes, "MAPPED", 1)


def mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base if isinstance(array, np.ndarray) else None
    return array is not None


def test_an_archive_that_is_not_compressed_is_mapped_and_others_are_read(tmp_path, small):
    for name, compress in (("flat.npz", False), ("packed.npz", True)):
        write_npz(sample(), tmp_path / name, compress=compress)
        got = load(tmp_path / name)
        same(got, sample(), ("names", "groups"))
        assert {mapped(got.arrays[key]) for key in ("observations", "actions", "terminals")} == {not compress}
    np.savez(tmp_path / "numpy.npz", observations=sample().arrays["observations"], episode_ends=[12])
    assert mapped(load(tmp_path / "numpy.npz", dt=0.1).arrays["observations"])


def test_small_arrays_are_read_so_that_their_file_may_change(tmp_path):
    write_npz(sample(), tmp_path / "a.npz", compress=False)
    got = load(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    same(got, sample(), ("names", "groups"))


@pytest.mark.parametrize("change", [lambda a: a.astype(">f4"), np.asfortranarray])
def test_arrays_in_another_order_are_read(tmp_path, small, change):
    rows = sample().arrays["observations"]
    np.savez(tmp_path / "a.npz", observations=change(rows), episode_ends=[12])
    got = load(tmp_path / "a.npz", dt=0.1).arrays["observations"]
    assert not mapped(got) and got.dtype == np.float32
    np.testing.assert_array_equal(got, rows)


def test_a_single_array_is_mapped(tmp_path, small):
    rows = np.arange(24.0).reshape(3, 4, 2)
    np.save(tmp_path / "a.npy", rows)
    got = read_npy(tmp_path / "a.npy", dt=0.1).arrays["observations"]
    assert mapped(got)
    np.testing.assert_array_equal(got, rows.reshape(12, 2))


def test_hdf5_in_one_piece_is_mapped_and_chunks_are_read(write, small):
    path, arrays = write()
    assert mapped(load(path).arrays["observations"])
    np.testing.assert_array_equal(load(path).arrays["observations"], arrays["observations"])
    with h5py.File(path, "a") as file:
        for key, options in (
            ("actions", {"chunks": True, "compression": "gzip"}),
            ("rewards", {"dtype": ">f4"}),
        ):
            del file[key]
            file.create_dataset(key, data=arrays[key], **options)
    got = load(path)
    for key in ("actions", "rewards"):
        assert not mapped(got.arrays[key])
        np.testing.assert_array_equal(got.arrays[key], arrays[key])


def test_one_demonstration_of_robomimic_is_mapped(tmp_path, small):
    one = Episodes(
        {"observations": np.ones((5, 2), "f4"), "actions": np.zeros((5, 1), "f4")}, [5], 0.1, "one"
    )
    write_robomimic(one, tmp_path / "a.hdf5")
    got = load(tmp_path / "a.hdf5")
    assert mapped(got.arrays["actions"])
    same(got, one)


def test_what_is_mapped_is_checked_like_what_is_read(tmp_path, small, write):
    write_npz(sample(), tmp_path / "a.npz", compress=False)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    at = data.index(sample().arrays["observations"].tobytes()[40:60])
    data[at] ^= 1
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="'observations' is damaged"):
        load(tmp_path / "a.npz")
    rows = sample().arrays["observations"].copy()
    rows[7, 2] = np.inf
    np.savez(tmp_path / "b.npz", observations=rows, episode_ends=[12])
    with pytest.raises(ValueError, match="'observations' row 7"):
        load(tmp_path / "b.npz", dt=0.1)
    path, _ = write(observations=rows)
    with pytest.raises(ValueError, match="'observations' row 7"):
        load(path)


@pytest.mark.parametrize("put", [write_npz, write_robomimic, write_zarr])
def test_what_is_mapped_can_be_converted(tmp_path, small, put):
    write_npz(sample(), tmp_path / "a.npz", compress=False)
    name = {"write_npz": "b.npz", "write_robomimic": "b.hdf5", "write_zarr": "b.zarr"}[put.__name__]
    if put is write_zarr:
        pytest.importorskip("zarr")
    put(load(tmp_path / "a.npz"), tmp_path / name)
    same(load(tmp_path / name), sample(), ("names", "groups"))


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 400), st.sets(st.integers(0, 199)))
def test_bad_rows_are_found_whatever_the_block(count, columns, size, bad):
    array = np.zeros((count, columns), np.float32)
    bad = sorted(row for row in bad if row < count)
    array[bad, np.arange(len(bad)) % columns] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_BLOCK", size)
        assert bad_rows(array).tolist() == bad
        assert bad_rows(np.ones((count, columns), np.int32)).tolist() == []
        parts = list(blocks(array))
    assert [begin for begin, _ in parts] == np.cumsum([0, *(len(part) for _, part in parts[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), array)


def test_neighbouring_episodes_are_selected_without_a_copy():
    whole = sample()
    assert np.shares_memory(whole.select([1, 2]).arrays["observations"], whole.arrays["observations"])
    assert not np.shares_memory(whole.select([0, 2]).arrays["observations"], whole.arrays["observations"])
    np.testing.assert_array_equal(
        whole.select([1, 2]).arrays["observations"], whole.arrays["observations"][5:]
    )
    np.testing.assert_array_equal(whole.select([2]).arrays["actions"], whole.arrays["actions"][8:])


def test_windows_of_rows_that_are_not_aligned(tmp_path, small):
    """In an archive an array begins at any byte; numpy would copy the whole to take rows of such a one."""
    rows = np.arange(60.0, dtype=np.float32).reshape(20, 3)
    for name in ("a", "ab", "abc", "abcd"):
        np.savez(tmp_path / "a.npz", **{name: np.zeros(20, "u1")}, observations=rows, episode_ends=[20])
        episodes = load(tmp_path / "a.npz", dt=0.1)
        windows = Windows(episodes, np.arange(4)[:, None], ("observations", name), (0, 0))
        got = windows.gather([2, 18]).arrays["observations"][:, :, 0]
        np.testing.assert_array_equal(got, rows[[[2, 3, 4, 5], [18, 19, 19, 19]]])


@pytest.mark.parametrize("name", ["a.npz", "maze2d-a.hdf5"])
def test_a_large_set_is_looked_at_in_a_fraction_of_its_size(tmp_path, name):
    """80 MiB on disk, read, summed up, inspected and drawn from in less than half of that."""
    shape, ends = (5 << 20, 4), np.arange(1 << 20, (5 << 20) + 1, 1 << 20)
    rows = np.random.default_rng(0).random(shape, np.float32)
    if name == "a.npz":
        np.savez(tmp_path / name, observations=rows, episode_ends=ends, dt=0.01)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file["observations"], file["actions"] = rows, rows[:, :1]
            file.create_dataset("timeouts", data=np.isin(np.arange(len(rows)) + 1, ends))
    mean = rows.mean(0, np.float64)
    del rows
    tracemalloc.start()
    try:
        episodes = load(tmp_path / name)
        if name != "a.npz":  # flags are read as numbers first
            tracemalloc.reset_peak()
        assert str(np.round(mean, 4).tolist()) in episodes.summary()["observations"]
        inspect(episodes)
        windows = Windows(episodes, np.arange(8)[:, None], ("observations",), (0,))
        assert windows.draw(np.random.default_rng(0), 64).arrays["observations"].shape == (64, 8, 1, 4)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_a_pass_gives_back_what_it_read(tmp_path):
    """Of 64 MiB that are read through, little stays resident."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc here to tell resident pages of files")
    np.save(tmp_path / "a.npy", np.ones((1 << 22, 4), np.float32))
    before = int(re.search(r"RssFile:\s+(\d+)", status.read_text())[1])
    got = read_npy(tmp_path / "a.npy", dt=0.1)
    got.summary()
    assert mapped(got.arrays["observations"]) and got.steps == 1 << 22
    assert int(re.search(r"RssFile:\s+(\d+)", status.read_text())[1]) - before < 48 << 10
