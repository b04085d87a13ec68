"""HDF5 files that pull in other files are refused, and files that cannot be written leave nothing behind."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import sample

from dfplan.data import load, read_minari, write_robomimic
from dfplan.data.formats.hdf5_write import new_hdf5

ROWS = 12


def d4rl(file):
    file["actions"], file["rewards"] = np.zeros((ROWS, 2), "f4"), np.zeros(ROWS, "f4")
    file["terminals"], file["timeouts"] = np.zeros(ROWS, bool), np.arange(ROWS) == ROWS - 1
    file["observations"] = np.zeros((ROWS, 4), "f4")


def minari(file):
    group = file.create_group("episode_0")
    group["observations"], group["actions"] = np.zeros((ROWS + 1, 4), "f4"), np.zeros((ROWS, 2), "f4")
    for key in ("rewards", "terminations", "truncations"):
        group[key] = np.zeros(ROWS)


def robomimic(file):
    demo = file.create_group("data/demo_0")
    demo["actions"], demo["obs/flat"] = np.zeros((ROWS, 2), "f4"), np.zeros((ROWS, 4), "f4")
    demo.attrs["num_samples"] = file["data"].attrs["total"] = ROWS


LAYOUTS = {
    "d4rl": (d4rl, "observations", "observations"),
    "d4rl at depth": (lambda f: (d4rl(f), f.create_dataset("infos/goal", data=np.zeros((ROWS, 4), "f4"))), "infos/goal", "infos"),
    "minari": (minari, "episode_0/observations", "episode_0"),
    "robomimic": (robomimic, "data/demo_0/obs/flat", "data/demo_0"),
}  # fmt: skip


def external_storage(file, key, shape, other):
    file.create_dataset(key, shape, "u1", external=[(str(other), 0, int(np.prod(shape)))])


def virtual(file, key, shape, other):
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", shape)
    file.create_virtual_dataset(key, layout)


def link(file, key, shape, other):
    file[key] = h5py.ExternalLink(str(other), "x")


def soft_link_to_a_link(file, key, shape, other):
    file["aside"] = h5py.ExternalLink(str(other), "/")
    file[key] = h5py.SoftLink("/aside/x")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pull", [external_storage, virtual, link, soft_link_to_a_link])
def test_numbers_of_another_file_are_refused_and_the_file_is_named(tmp_path, layout, pull):
    fill, key, _ = LAYOUTS[layout]
    path, other = tmp_path / "a.hdf5", tmp_path / "private.hdf5"
    with h5py.File(path, "w") as file:
        fill(file)
    assert load(path, dt=0.1).steps == ROWS
    with h5py.File(path, "a") as file:
        shape = file[key].shape
        del file[key]
        pull(file, key, shape, other)
    with h5py.File(other, "w") as file:
        file["x"] = np.full(shape, 42, "f4")
    with pytest.raises(ValueError, match=f"outside this file, in '{other}") as caught:
        load(path, dt=0.1)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_group_of_another_file_is_refused(tmp_path, layout):
    fill, _, group = LAYOUTS[layout]
    path, other = tmp_path / "a.hdf5", tmp_path / "private.hdf5"
    for name in (path, other):
        with h5py.File(name, "w") as file:
            fill(file)
    with h5py.File(path, "a") as file:
        del file[group]
        file[group] = h5py.ExternalLink(str(other), group)
    with pytest.raises(ValueError, match=f"a link outside this file, in '{other}:{group}'"):
        load(path, dt=0.1)


def test_links_inside_a_file_are_followed(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        d4rl(file)
        file["kept/rows"] = np.arange(4.0 * ROWS).reshape(ROWS, 4)
        file["again"] = h5py.SoftLink("kept")
        del file["observations"]
        file["observations"] = h5py.SoftLink("/again/rows")
    assert load(path, dt=0.1).arrays["observations"][1].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("target", ["/observations", "/nowhere"])
def test_links_to_nothing_or_round_in_a_circle_are_refused(tmp_path, target):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        d4rl(file)
        del file["observations"]
        file["observations"] = h5py.SoftLink(target)
    with pytest.raises(ValueError, match=r"round in a circle|no 'observations'"):
        load(path, dt=0.1)


def test_a_group_that_holds_itself_is_refused(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        minari(file)
        del file["episode_0/observations"]
        file["episode_0/observations/x"] = np.zeros((ROWS + 1, 1))
        file["episode_0/observations/self"] = file["episode_0/observations"]
    with pytest.raises(ValueError, match="groups in groups"):
        read_minari(path, dt=0.1)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from samples import sample
from dfplan.data.formats.registry import FORMATS
form, path, limits = sys.argv[2], Path(sys.argv[3]), map(int, sys.argv[4:])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        FORMATS[form].write(sample(), path)
    except OSError as error:
        print(f"{limit}: {error}; left: {[*path.parent.iterdir()]}")
"""


@pytest.mark.parametrize(
    "form, name", [("robomimic", "a.hdf5"), ("npz", "a.npz"), ("zarr", "a.zarr.zip"), ("lerobot", "a")]
)
def test_what_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path, form, name):
    """A limit on the size of a file stands in for a full disk: writing fails with an error of the system."""
    pytest.importorskip("resource", reason="only POSIX limits the size of files")
    if form in ("lerobot", "zarr"):
        pytest.importorskip(
            "pyarrow" if form == "lerobot" else "zarr", reason=f"the extra {form} is not installed"
        )
    limits = ["16", "700", "3000"]
    command = [sys.executable, "-c", FULL, str(Path(__file__).parent), form, str(tmp_path / name), *limits]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    for limit, line in zip(limits, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{limit}: ") and "File too large" in line and line.endswith("left: []")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_is_the_same_as_h5py_writes(tmp_path):
    with new_hdf5(tmp_path / "a.hdf5") as (file, check):
        file["x"], file["y/z"] = np.arange(5), np.ones((3000, 50))
        check()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["x"][:].tolist() == [0, 1, 2, 3, 4] and (file["y/z"][:] == 1).all()
    with pytest.raises(FileExistsError), new_hdf5(tmp_path / "a.hdf5"):
        pass


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new_hdf5(tmp_path / "a.hdf5") as (file, _):
        file["x"] = 1 / 0
    assert list(tmp_path.iterdir()) == []
    write_robomimic(sample(), tmp_path / "a.hdf5")
