import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import same, sample

from dfplan.data import Episodes, convert, load, read_npy, read_npz, write_npz
from dfplan.data.formats.registry import FORMATS, detect

TARGETS = {
    "robomimic": "out.hdf5",
    "lerobot": "out",
    "zarr": "out.zarr",
    "zip": "out.zarr.zip",
    "npz": "out.npz",
}
KEPT = ("names", "groups", "masks", "units", "tasks", "env_args", "episodes")


@pytest.fixture(params=TARGETS)
def target(request, tmp_path):
    """Format, and a path whose ending means it."""
    if request.param == "lerobot":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'dfplan[lerobot]'")
    return ("zarr" if request.param == "zip" else request.param), tmp_path / TARGETS[request.param]


def put(form, episodes, path, **options):
    return FORMATS[form].write(episodes, path, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_is_read_bit_for_bit(target, dtype):
    form, path = target
    expected = sample(dtype)
    assert put(form, expected, path) == ()
    assert detect(path) == form
    got = load(path)
    assert got.info["format"] == form
    same(got, expected, KEPT)


@pytest.mark.parametrize("middle", ["robomimic", "lerobot", "zarr", "npz"])
def test_a_format_between_loses_nothing(target, tmp_path, middle):
    form, path = target
    if middle == "lerobot":
        pytest.importorskip("pyarrow")
    put(form, sample(), path)
    through = tmp_path / f"through-{TARGETS[middle]}"
    assert convert(path, through) == ()
    back = tmp_path / f"back-{path.name}"
    assert convert(through, back, form) == ()
    same(load(back), sample(), KEPT)


def test_episodes_without_names_actions_or_groups(target):
    form, path = target
    expected = Episodes({"observations": np.arange(8.0)[:, None]}, np.array([3, 8]), 1 / 30, "plain")
    notes = put(form, expected, path)
    assert (form == "robomimic") == any("no actions" in note for note in notes)
    same(load(path), expected, ("names", "groups"))


@pytest.mark.parametrize("form", ["robomimic", "lerobot", "zarr", "npz"])
@settings(max_examples=20)  # one file each
@given(data=st.data())
def test_any_shape_and_type_comes_back(form, data, tmp_path_factory):
    if form == "lerobot":
        pytest.importorskip("pyarrow")
    kinds = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|u1"])
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    steps, rng = sum(lengths), np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = {
        key: (rng.integers(-1 if kind != "|u1" else 0, 2, (steps, *shape))).astype(kind)
        for key, kind, shape in (
            ("observations", data.draw(kinds), (data.draw(st.integers(1, 4)),)),
            ("actions", data.draw(kinds), (data.draw(st.integers(1, 3)),)),
            ("extra/one", data.draw(kinds), data.draw(st.sampled_from([(), (1,), (2,), (2, 3)]))),
        )
    }
    dt = data.draw(st.floats(1e-3, 10.0))
    expected = Episodes(arrays, np.cumsum(lengths), dt, "any")
    path = tmp_path_factory.mktemp("any") / TARGETS[form]
    put(form, expected, path)
    same(load(path), expected)


def test_nothing_is_overwritten_and_nothing_half_written_stays(target, tmp_path, monkeypatch):
    form, path = target
    put(form, sample(), path)
    before = load(path)
    with pytest.raises(FileExistsError, match="is not overwritten"):
        put(form, sample(np.float64), path)
    with pytest.raises(FileExistsError):
        convert(path, path)
    same(load(path), before)
    bad = sample()
    bad.arrays["keypoint"][3] = np.nan
    with pytest.raises(ValueError, match="'keypoint' row 3"):
        put(form, bad, tmp_path / f"bad-{path.name}")
    monkeypatch.setattr(json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        put(form, sample(), tmp_path / f"cut-{path.name}")
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_text_arrays_and_pictures_are_named_when_they_are_not_written(target):
    form, path = target
    whole = sample()
    arrays = {**whole.arrays, "word": np.array(["a"] * 12)}
    notes = put(form, Episodes(arrays, whole.ends, 0.1, "x", {"left_out": ["camera"]}), path)
    assert any("'word' is left out" in note for note in notes) and any("camera" in note for note in notes)
    assert "word" not in load(path).arrays


def test_two_arrays_that_would_share_a_name_are_refused(tmp_path):
    arrays = {"observations": np.ones((2, 1)), "state": np.ones((2, 1))}
    with pytest.raises(ValueError, match="share names"):
        put("zarr", Episodes(arrays, [2], 1.0), tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="'obs/flat' cannot be written"):
        put(
            "robomimic",
            Episodes({"observations": np.ones((2, 1)), "obs/flat": np.ones(2)}, [2], 1.0),
            tmp_path / "a.h5",
        )
    with pytest.raises(ValueError, match="'dt' has a name that the layout needs"):
        write_npz(Episodes({"observations": np.ones((2, 1)), "dt": np.ones(2)}, [2], 1.0), tmp_path / "a.npz")


def test_d4rl_converts(write, tmp_path):
    path, _ = write("maze2d-umaze-sparse-v1.hdf5")
    for name in ("a.h5", "a.zarr", "a.npz"):
        convert(path, tmp_path / name)
        same(load(tmp_path / name), load(path))


def test_options_reach_the_reader_and_unknown_ones_name_the_nearest(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(sample(), path)
    assert load(path, obs=("states",)).arrays["observations"].shape == (12, 6)
    with pytest.raises(
        ValueError, match=r"option for a npz file 'observation', expected one of.*did you mean"
    ):
        load(path, observation=("states",))
    with pytest.raises(ValueError, match=r"did you mean 'rescale'"):
        convert(path, tmp_path / "b.hdf5", rescal=True)
    with pytest.raises(
        ValueError, match=r"format 'zar', expected one of robomimic, lerobot, zarr, npz; did you mean 'zarr'"
    ):
        convert(path, tmp_path / "b", "zar")
    with pytest.raises(ValueError, match=r"b.txt: the ending tells no format"):
        convert(path, tmp_path / "b.txt")
    assert convert(path, tmp_path / "b.txt", "npz", obs=("states",), dt=0.5, compress=False) == ()
    assert load(tmp_path / "b.txt").dt == 0.5


def test_format_is_told_by_content_and_not_by_name(tmp_path):
    write_npz(sample(), tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.hdf5")
    same(load(tmp_path / "a.hdf5"), sample())


def zipped(**entries):
    def make(path):
        with zipfile.ZipFile(path, "w") as file:
            for name, text in entries.items():
                file.writestr(name, text)

    return make


STRANGE = {
    "pickle": (lambda p: p.write_bytes(b"\x80\x03]q\x00."), r"a Python pickle.*never loaded.*np.savez"),
    "old pickle": (lambda p: p.with_suffix(".pkl").write_bytes(b"(lp0\n."), "a Python pickle"),
    "pytorch": (zipped(**{"archive/data.pkl": ""}), "a PyTorch file, a Python pickle"),
    "zip": (zipped(a="b"), r"a zip that holds \['a'\], expected D4RL"),
    "cut zip": (lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "a zip that is cut short"),
    "empty": (lambda p: p.write_bytes(b""), "is empty, expected D4RL"),
    "text": (lambda p: p.write_text("hello there"), "begins with b'hello th'"),
    "parquet": (lambda p: p.write_bytes(b"PAR1...."), "a single parquet file; pass the folder"),
    "folder": (lambda p: (p.mkdir(), (p / "x.npy").touch()), r"a folder that holds \['x.npy'\]"),
    "hdf5": (
        lambda p: h5py.File(p, "w").create_group("x").file.close(),
        r"holds \['x'\], expected D4RL's layout",
    ),
    "nothing": (lambda p: None, "no such file"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_is_no_data_set_says_what_it_is(tmp_path, case):
    make, message = STRANGE[case]
    path = tmp_path / "strange"
    make(path)
    path = path.with_suffix(".pkl") if case == "old pickle" else path
    with pytest.raises(FileNotFoundError if case == "nothing" else ValueError, match=message):
        load(path)


def test_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    np.save(tmp_path / "a.npy", np.array([Evil()], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", observations=np.array([Evil()], object), episode_ends=[1])
    for name in ("a.npy", "b.npz"):
        (tmp_path / "run").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="never loaded"):
            load(tmp_path / name)
        assert not (tmp_path / "run").exists()


def test_npz_by_hand(tmp_path):
    path = tmp_path / "robot.npz"
    rows = np.arange(12.0).reshape(6, 2)
    np.savez(path, observations=rows, actions=rows[:, :1], episode_ends=[2, 6], dt=0.1, names=["a", "b"])
    got = read_npz(path)
    assert (got.dt, got.name, got.info["names"]["observations"]) == (0.1, "robot", ["a", "b"])
    np.testing.assert_array_equal(got.arrays["observations"], rows)
    assert got.select([1]).arrays["observations"].tolist() == rows[2:].tolist()
    with np.load(path) as file:
        assert set(file) == {"observations", "actions", "episode_ends", "dt", "names"}


def test_npz_in_fortran_order_and_of_the_other_byte_order(tmp_path):
    rows = np.arange(12.0).reshape(6, 2)
    np.savez(tmp_path / "a.npz", observations=np.asfortranarray(rows.astype(">f8")), episode_ends=[6])
    got = read_npz(tmp_path / "a.npz", dt=1.0).arrays["observations"]
    assert got.dtype == np.float64 and got.dtype.isnative
    np.testing.assert_array_equal(got, rows)


def test_npy_of_episodes_and_of_one(tmp_path):
    rows = np.arange(24.0).reshape(3, 4, 2)
    np.save(tmp_path / "a.npy", rows)
    got = read_npy(tmp_path / "a.npy", dt=0.1)
    assert got.ends.tolist() == [4, 8, 12] and "actions" not in got.arrays
    np.testing.assert_array_equal(got.arrays["observations"], rows.reshape(12, 2))
    np.save(tmp_path / "a.npy", rows[0])
    assert load(tmp_path / "a.npy", dt=0.1).ends.tolist() == [4]
    with pytest.raises(ValueError, match="time step of 'a' is not known; pass dt="):
        load(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", rows.ravel())
    with pytest.raises(ValueError, match=r"shape \(24,\)"):
        load(tmp_path / "a.npy", dt=0.1)


def test_npy_folder(tmp_path):
    """Files of episodes are tasks, files of one episode are not; both in the order of their numbers."""
    rows, folder = np.arange(24.0).reshape(3, 4, 2), tmp_path / "letters"
    folder.mkdir()
    np.save(folder / "b.npy", rows)
    np.save(folder / "a.npy", rows[:2, :3] + 100)
    got = load(folder, dt=0.1)
    assert got.ends.tolist() == [3, 6, 10, 14, 18] and got.arrays["observations"][0].tolist() == [100, 101]
    assert load(folder, dt=0.1, task="b").ends.tolist() == [4, 8, 12]
    for i in (10, 9):
        np.save(tmp_path / f"letters/take{i}.npy", np.full((i, 2), i))
    for name in "ab":
        (folder / f"{name}.npy").unlink()
    got = load(folder, dt=0.1)
    assert got.ends.tolist() == [9, 19] and [e["name"] for e in got.info["episodes"]] == ["take9", "take10"]
    assert not any("task" in note for note in got.info["notes"])
    np.save(folder / "c.npy", rows[..., :1])
    with pytest.raises(ValueError, match=r"take9.npy: has 2 columns, c.npy has 1"):
        load(folder, dt=0.1)


def test_npz_unpacked(tmp_path):
    """A folder of an archive's arrays is read as the archive."""
    rows = np.arange(12.0).reshape(6, 2)
    for name, array in {
        "observations": rows,
        "actions": rows[:, :1],
        "episode_ends": [2, 6],
        "dt": 0.1,
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    got = load(tmp_path)
    assert got.dt == 0.1 and got.ends.tolist() == [2, 6]
    np.testing.assert_array_equal(got.arrays["actions"], rows[:, :1])
    (tmp_path / "episode_ends.npy").unlink()
    with pytest.raises(ValueError, match="no 'episode_ends'"):
        load(tmp_path)


def test_reading_needs_no_optional_package(tmp_path):
    write_npz(sample(), tmp_path / "a.npz")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['h5py', 'pyarrow', 'zarr', 'matplotlib']))\n"
        "from dfplan.data import load; load(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.npz")], check=True)
