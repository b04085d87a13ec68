"""Files that are damaged or contradict themselves: each is refused with its name, the field and what to do."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import sample

from dfplan.data import load, write_lerobot, write_npz, write_robomimic, write_zarr


def truncate(path, part=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def hdf5(change):
    def edit(path):
        with h5py.File(path, "a") as file:
            change(file)

    return edit


def put(key, value):
    """Replace an array of a robomimic file."""

    def change(file):
        del file[key]
        file[key] = value

    return hdf5(change)


def attr(group, key, value):
    def change(file):
        file[group].attrs[key] = value

    return hdf5(change)


def drop(*keys):
    def change(file):
        for key in keys:
            del file[key]

    return hdf5(change)


def unwritten(file):
    del file["data/demo_2/states"]
    file["data/demo_2"].create_dataset("states", (10**13, 6), "f8", chunks=(1000, 6))
    file["data/demo_2"].attrs["num_samples"] = 10**13


def with_nan(file):
    file["data/demo_2/actions"][1] = np.nan


def text_and_array(file):
    del file["data/demo_2"]
    file["data/demo_2"] = np.ones(3)


ROBOMIMIC = {
    "truncated": (lambda p: truncate(p, 0.5), "cut short or damaged"),
    "missing total": (hdf5(lambda f: f["data"].attrs.pop("total")), "no attribute 'total'.*partial=True"),
    "wrong total": (
        attr("data", "total", 13),
        "attribute 'total' of 'data' is 13, the demonstrations have 12",
    ),
    "wrong num_samples": (
        attr("data/demo_2", "num_samples", 4),
        "'data/demo_2' has num_samples 4 and 3 rows",
    ),
    "text num_samples": (
        attr("data/demo_2", "num_samples", "3"),
        "'data/demo_2' has num_samples 3 and 3 rows",
    ),
    "actions longer": (put("data/demo_2/actions", np.zeros((4, 2))), "num_samples 3 and 4 rows of actions"),
    "observation longer": (
        put("data/demo_2/obs/robot0_eef_pos", np.zeros((4, 3))),
        "'data/demo_2/obs/robot0_eef_pos' has 4 rows, expected 3",
    ),
    "other width": (
        put("data/demo_10/obs/robot0_eef_pos", np.zeros((4, 2))),
        r"'data/demo_10/obs/robot0_eef_pos' has shape \(4, 2\), expected \(3,\)",
    ),
    "observation missing": (drop("data/demo_10/obs/robot0_eef_pos"), "no 'data/demo_10/obs/robot0_eef_pos'"),
    "actions missing": (drop("data/demo_2/actions"), "no 'data/demo_2/actions', which demo_0 has"),
    "nan": (hdf5(with_nan), "'actions' row 6 is .*nan.*allow_nan=True"),
    "strings": (
        put("data/demo_0/obs/robot0_eef_pos", np.full((5, 3), b"x")),
        r"'data/demo_0/obs/.*dtype \|S1, expected numbers",
    ),
    "wrong rank": (put("data/demo_0/actions", np.zeros((5, 2, 1, 1))), r"shape \(5, 2, 1, 1\)"),
    "scalar actions": (put("data/demo_0/actions", 1.0), "'data/demo_0' has num_samples 5 and 0 rows"),
    "demo is an array": (hdf5(text_and_array), "'data/demo_2' is an array, expected a group"),
    "no demos": (
        drop("data/demo_0", "data/demo_2", "data/demo_10"),
        r"'data' holds \[\], expected demonstrations",
    ),
    "empty demo": (
        drop("data/demo_2/actions", "data/demo_2/states", "data/demo_2/obs"),
        "num_samples 3 and 0 rows",
    ),
    "mask of a missing demo": (put("mask/train", np.array([b"demo_7"])), "'mask/train' names 'demo_7'"),
    "mask of numbers": (put("mask/train", np.arange(3)), "'mask/train' is not a list of names"),
    "env_args not JSON": (attr("data", "env_args", "{nope"), "attribute 'env_args' of 'data' is not JSON"),
    "env_args a list": (
        attr("data", "env_args", "[]"),
        r"attribute 'env_args' of 'data' is \[\], expected a JSON object",
    ),
    "carried not ours": (attr("data", "dfplan", "{}"), "the entry 'dfplan' is {}"),
    "huge and never written": (hdf5(unwritten), "expected the same number|never written"),
}


def zarray(key, **changes):
    return lambda p: edit_json(p / key / ".zarray", lambda h: h.update(changes))


def ends(*values):
    def edit(path):
        file = path / "meta/episode_ends/0"
        edit_json(
            path / "meta/episode_ends/.zarray",
            lambda h: h.update(compressor=None, shape=[len(values)], chunks=[len(values)]),
        )
        file.write_bytes(np.array(values, "<i8").tobytes())

    return edit


STATE = "data/state"
ZARR = {
    "not rising": (ends(5, 5, 12), "'meta/episode_ends' row 1 is 5, expected exclusive episode ends that rise"),
    "falling": (ends(5, 3, 12), "row 1 is 3"),
    "first end 0": (ends(0, 5, 12), "row 0 is 0"),
    "ends beyond the data": (ends(5, 8, 13), r"has shape \(12.*ends at 13"),
    "ends before the data": (ends(5, 8, 11), r"has shape \(12.*ends at 11"),
    "ends of floats": (zarray("meta/episode_ends", dtype="<f8"), "dtype float64, expected .* integers"),
    "no ends": (lambda p: shutil.rmtree(p / "meta"), "no 'meta/episode_ends'|a folder that holds"),
    "no arrays": (lambda p: shutil.rmtree(p / "data"), "no arrays below 'data/'"),
    "chunk missing": (lambda p: (p / "data/state/0.0").unlink(), "chunk 'data/state/0.0' is not in the store.*in 1 chunks"),
    "chunk short": (lambda p: truncate(p / "data/state/0.0"), "'data/state.* does not decode"),
    "chunk empty": (lambda p: (p / "data/state/0.0").write_bytes(b""), "'data/state.* does not decode"),
    "chunk of other data": (lambda p: (p / "data/state/0.0").write_bytes(b"junk" * 9), "does not decode"),
    "raw chunk of wrong size": (zarray(STATE, compressor=None), "'data/state' does not decode"),
    "chunk larger than it says": (zarray(STATE, chunks=[11, 9]), "2 chunks|does not decode"),
    "header not JSON": (lambda p: (p / "data/state/.zarray").write_text("{"), "data/state/.zarray is not JSON"),
    "header a list": (lambda p: (p / "data/state/.zarray").write_text("[]"), r"data/state/.zarray is \[\]"),
    "format 3": (zarray(STATE, zarr_format=3), "'data/state' does not decode|chunks"),
    "shape missing": (zarray(STATE, shape=None), "'data/state' has sizes None, expected whole numbers"),
    "negative shape": (zarray(STATE, shape=[12, -9]), r"sizes \[12, -9\], expected whole numbers from 0 on"),
    "no chunks": (zarray(STATE, chunks=[0, 9]), r"sizes \[0, 9\], expected whole numbers from 1 on|'data/state' does not decode"),
    "chunks of another rank": (zarray(STATE, chunks=[12]), "'data/state' does not decode"),
    "unknown type": (zarray(STATE, dtype="<q9"), "'data/state' does not decode"),
    "strings": (zarray(STATE, dtype="|S4"), "'data/state' does not decode"),
    "objects": (zarray(STATE, dtype="|O"), "'data/state' does not decode"),
    "records": (zarray(STATE, dtype=[["a", "<f4"]]), "'data/state' does not decode"),
    "order": (zarray(STATE, order="K"), "'data/state' does not decode"),
    "unknown compressor": (zarray(STATE, compressor={"id": "imagecodecs_jpegxl"}), "imagecodecs_jpegxl.*leave .* out with keys="),
    "compressor a word": (zarray(STATE, compressor="zlib"), "'data/state' does not decode"),
    "filters a word": (zarray(STATE, filters="delta"), "'data/state' does not decode"),
    "huge shape": (zarray(STATE, shape=[10**12, 9]), r"has shape \(1000000000000, 9\).*ends at 12"),
    "huge ends": (zarray("meta/episode_ends", shape=[10**13], chunks=[10**3]), "chunk 'meta/episode_ends/1' is not in the store"),
    "a pickle as filter": (zarray(STATE, filters=[{"id": "pickle", "protocol": 5}]), "a Python pickle.*never loaded"),
    "huge chunk": (zarray(STATE, chunks=[10**12, 9]), "expected not many times its shape"),
    "attributes not JSON": (lambda p: (p / ".zattrs").write_text("x"), ".zattrs is not JSON"),
    "names of other columns": (
        lambda p: edit_json(p / ".zattrs", lambda a: a["dfplan"]["info"]["names"].update(actions=["a"])),
        r"info\['names'\]\['actions'\] has 1 entries, the array has 2",
    ),
}  # fmt: skip


def rezip(change):
    """Rewrite a zip entry by entry; `change(name, data)` gives pairs."""

    def edit(path):
        with zipfile.ZipFile(path) as file:
            entries = [(name, file.read(name)) for name in file.namelist()]
        with zipfile.ZipFile(path, "w") as file:
            for name, data in entries:
                for pair in change(name, data):
                    file.writestr(*pair)

    return edit


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(b"data/state/0.0") + 40] ^= 255
    path.write_bytes(bytes(data))


ZIP = {
    "truncated": (truncate, "a zip that is cut short or damaged"),
    "a flipped byte": (flip, "'data/state/0.0' is damaged|'data/state' does not decode .*data/state/0.0"),
}


def npz(**changes):
    def edit(path):
        with np.load(path) as file:
            arrays = dict(file)
        arrays = {k: v for k, v in (arrays | changes).items() if v is not None and k != "dfplan"}
        np.savez(path, **arrays)

    return edit


def huge_npy(path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    rezip(lambda n, d: [(n, data if n == "observations.npy" else d)])(path)


NPZ = {
    "truncated": (truncate, "a zip that is cut short"),
    "no observations": (npz(observations=None), "'observations', expected one of"),
    "no ends": (npz(episode_ends=None, terminals=None), r"no 'episode_ends' in the file, which holds .*np.cumsum"),
    "ends not rising": (npz(episode_ends=np.array([5, 4, 12])), "'episode_ends' row 1 is 4"),
    "ends of floats": (npz(episode_ends=np.array([5.0, 12.0])), "dtype float64, expected .* integers"),
    "ends beyond": (npz(episode_ends=np.array([5, 13])), "has 12 rows, 'episode_ends' ends at 13"),
    "fewer actions": (npz(actions=np.zeros((11, 2))), "'actions' has 11 rows"),
    "object array": (npz(extra=np.array([{}] * 12)), "'extra' holds Python objects .*never loaded"),
    "strings": (npz(extra=np.array(["a"] * 12)), "'extra' has shape .12,. and dtype <U1, expected numbers"),
    "scalar": (npz(extra=np.float64(1)), r"'extra' has shape \(\)"),
    "nan": (npz(actions=np.full((12, 2), np.nan)), "'actions' row 0 is .nan nan.*allow_nan"),
    "dt of many": (npz(dt=np.ones(3)), r"'dt' has shape \(3,\).*one number"),
    "dt 0": (npz(dt=np.float64(0)), "dt=0.0, expected seconds"),
    "names of other columns": (npz(names=np.array(["a"])), "has 1 entries, the array has 9 columns"),
    "huge shape": (huge_npy, r"shape \(1000000000000, 4\) of float64 needs 32000000000000; it is cut short"),
    "no numpy entry": (rezip(lambda n, d: [(n, b"junk" if n == "actions.npy" else d)]), "'actions' is not a numpy array"),
    "another file inside": (rezip(lambda n, d: [(n, d), ("evil.pkl", b"")]), "holds 'evil.pkl', expected arrays"),
}  # fmt: skip

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def info(**changes):
    def change(value):
        value.update(changes)
        for key in [key for key, new in changes.items() if new is None]:
            del value[key]

    return lambda p: edit_json(p / "meta/info.json", change)


def feature(key, **changes):
    return lambda p: edit_json(p / "meta/info.json", lambda v: v["features"][key].update(changes))


def column(file, key, change):
    """Change the Python values of a column."""

    def edit(path):
        import pyarrow as pa
        from pyarrow import parquet

        table = parquet.read_table(path / file)
        kind = table.schema.field(key).type
        values = change(table.column(key).to_pylist())
        place = table.column_names.index(key)
        column = values if isinstance(values, pa.Array) else pa.array(values, kind)
        parquet.write_table(table.set_column(place, key, column), path / file)

    return edit


def at(row, value):
    return lambda values: [value if i == row else v for i, v in enumerate(values)]


def rows(keep):
    def edit(path):
        from pyarrow import parquet

        table = parquet.read_table(path / DATA)
        parquet.write_table(table.take(keep), path / DATA)

    return edit


def doubles(values):
    import pyarrow as pa

    return pa.array([[float(x) + 1e300 for x in v] for v in values], pa.list_(pa.float64(), 9))


def ragged(values):
    import pyarrow as pa

    return pa.array([v[: 9 - (i == 1)] for i, v in enumerate(values)], pa.list_(pa.float32()))


LEROBOT = {
    "truncated parquet": (lambda p: truncate(p / DATA), "file-000.parquet: not readable as parquet"),
    "unfinished parquet": (lambda p: truncate(p / DATA, 0.98), "not readable as parquet.*was not finished"),
    "truncated episodes": (lambda p: truncate(p / EPISODES), "not readable as parquet"),
    "empty parquet": (lambda p: (p / DATA).write_bytes(b""), "not readable as parquet"),
    "missing parquet": (lambda p: (p / DATA).unlink(), "file-000.parquet: not there"),
    "missing episodes": (lambda p: (p / EPISODES).unlink(), "holds no parquet file"),
    "missing tasks": (lambda p: (p / "meta/tasks.parquet").unlink(), "tasks.parquet: not there"),
    "info not JSON": (lambda p: truncate(p / "meta/info.json"), "info.json: the file is not JSON"),
    "no features": (info(features=None), "no 'features', expected fps, features"),
    "no fps": (info(fps=None), "no 'fps'"),
    "fps 0": (info(fps=0), "fps is 0, expected env steps per second"),
    "fps a word": (info(fps="30"), "fps is '30'"),
    "no data_path": (info(data_path=None), "no 'data_path'"),
    "no total": (info(total_frames=None), "no 'total_frames'"),
    "total frames": (info(total_frames=13), r"total_frames is 13, the lengths in meta/episodes are \[5, 3, 4\]"),
    "total episodes": (info(total_episodes=4), "total_episodes is 4, meta/episodes lists 3"),
    "total episodes a word": (info(total_episodes="3"), "total_episodes is '3'"),
    "data_path escapes": (info(data_path="../{file_index}.parquet"), "expected a file below the folder"),
    "data_path of other fields": (info(data_path="{nope}.parquet"), "is not a pattern that fits"),
    "version 2.0": (info(codebase_version="v2.0"), "'v2.0', expected v2.1 or v3.0; convert it with LeRobot"),
    "version 1.6": (info(codebase_version="v1.6"), "'v1.6', expected v2.1 or v3.0; convert it"),
    "version 4": (info(codebase_version="v4.0"), "'v4.0', expected v2.1 or v3.0; use a newer dfplan"),
    "version unknown": (info(codebase_version="latest"), "'latest', expected v2.1 or v3.0"),
    "feature without shape": (feature("action", shape=None), "feature 'action' is .*expected a dtype and a shape"),
    "feature type": (feature("action", dtype="int64"), "'action' is float32, meta/info.json says int64"),
    "feature shape": (feature("action", shape=[3]), r"'action' has rows that are not of shape \(3,\)"),
    "column type": (column(DATA, "observation.state", doubles), "'observation.state' is float64, meta/info.json says"),
    "ragged rows": (column(DATA, "observation.state", ragged), r"'observation.state' has rows that are not of shape \(9,\)"),
    "column missing": (
        lambda p: edit_json(p / "meta/info.json", lambda v: v["features"].update(x={"dtype": "int64", "shape": [1]})),
        "no column 'x', which meta/info.json describes",
    ),
    "empty cell": (column(DATA, "next.reward", at(2, None)), "'next.reward' has 1 empty cells"),
    "empty vector": (column(DATA, "observation.state", at(2, None)), "'observation.state' has rows that are not"),
    "nan": (column(DATA, "next.reward", at(2, float("nan"))), "'rewards' row 2 is .nan"),
    "frame_index gap": (column(DATA, "frame_index", at(3, 4)), "'frame_index' of row 3 is 4, expected 3"),
    "episode_index unsorted": (column(DATA, "episode_index", lambda v: v[::-1]), "'episode_index' of row 0 is 2, expected 0"),
    "index twice": (column(DATA, "index", at(3, 2)), "'index' of row 3 is 2, expected 3"),
    "task_index beyond": (column(DATA, "task_index", at(3, 7)), "'task_index' runs from 0 to 7, there are 1 tasks"),
    "rows missing": (rows(list(range(11))), "has 11 rows, the episodes that the metadata place in it have 12"),
    "rows swapped": (rows([1, 0, *range(2, 12)]), "'frame_index' of row 0 is 1"),
    "lengths differ": (column(EPISODES, "length", lambda v: [4, 4, 4]), "'episode_index' of row 4 is 0, expected 1"),
    "length 0": (column(EPISODES, "length", lambda v: [8, 0, 4]), "expected lengths above 0"),
    "episode twice": (column(EPISODES, "episode_index", lambda v: [0, 1, 1]), r"meta/episodes lists 3: \[0, 1, 1\]"),
    "episode without number": (column(EPISODES, "episode_index", at(1, None)), r"meta/episodes lists 3: \[0, 2, None\]"),
    "file that is not there": (column(EPISODES, "data/file_index", lambda v: [0, 0, 1]), "has 12 rows, .* have 8"),
    "tasks twice": (column("meta/tasks.parquet", "task_index", lambda v: [1]), r"task_index is \[1\], expected each from 0"),
    "carried not ours": (lambda p: (p / "meta/dfplan.json").write_text("{}"), "the entry 'dfplan' is {}"),
}  # fmt: skip

FORMATS = {
    "robomimic": (ROBOMIMIC, write_robomimic, "a.hdf5"),
    "zarr": (ZARR, write_zarr, "a.zarr"),
    "zip": (ZIP, write_zarr, "a.zarr.zip"),
    "npz": (NPZ, write_npz, "a.npz"),
    "lerobot": (LEROBOT, write_lerobot, "a"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Copies a file or folder that is as it should be to a place where a test may damage it."""
    folder = tmp_path_factory.mktemp("sound")

    def copy(form, place):
        _, write, file = FORMATS[form]
        if not (folder / file).exists():
            write(sample(), folder / file)
            assert load(folder / file).steps == 12
        to = shutil.copytree if (folder / file).is_dir() else shutil.copy
        return Path(to(folder / file, place / file))

    return copy


@pytest.mark.parametrize(
    ("form", "case"), [(form, case) for form, given in FORMATS.items() for case in given[0]]
)
def test_refuses_with_a_message_that_names_file_and_field(tmp_path, sound, form, case):
    damage, message = FORMATS[form][0][case]
    if form == "lerobot":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'dfplan[lerobot]'")
    if form in ("zarr", "zip"):
        pytest.importorskip("zarr", reason="zarr is not installed: pip install 'dfplan[zarr]'")
    path = sound(form, tmp_path)
    damage(path)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}") as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_cut_anywhere_a_file_is_refused_or_whole(tmp_path, form):
    """No length of a file crashes a reader or is read as other numbers."""
    if form != "robomimic" and form != "npz":
        pytest.importorskip("pyarrow" if form == "lerobot" else "zarr")
    _, write, file = FORMATS[form]
    path = tmp_path / file
    write(sample(), path)
    expected = load(path).arrays
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for item in files:
        whole = item.read_bytes()
        for size in {0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            item.write_bytes(whole[:size])
            try:
                got = load(path)
            except (ValueError, FileNotFoundError) as error:
                assert str(path) in str(error)
            else:
                for key, array in got.arrays.items():
                    np.testing.assert_array_equal(array, expected.get(key, array))
        item.write_bytes(whole)


def test_nothing_huge_is_allocated():
    """Every case above ran in this process: its peak stays far below what the huge shapes declare."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 4 << 30


@pytest.mark.parametrize("form", FORMATS)
def test_changed_bytes_are_refused_or_read_and_never_another_error(tmp_path, form):
    if form != "robomimic" and form != "npz":
        pytest.importorskip("pyarrow" if form == "lerobot" else "zarr")
    _, write, file = FORMATS[form]
    path = tmp_path / file
    write(sample(), path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    rng = np.random.default_rng(0)
    for _ in range(60):
        item = files[rng.integers(len(files))]
        whole = item.read_bytes()
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.choice([1, 4, 16])):
            damaged[place] = rng.integers(256)
        item.write_bytes(bytes(damaged))
        try:
            load(path)
        except (ValueError, FileNotFoundError) as error:
            assert str(path) in str(error)
        item.write_bytes(whole)
