"""A format of a user's own, by `module:Name`."""

import numpy as np
import pytest
from samples import sample

from dfplan.data import convert, inspect, load, write_npz
from dfplan.data.formats.registry import FORMATS, detect

MODULE = """
import json
import numpy as np
from dfplan.data import Episodes, Format

def read(path, *, scale=1.0):
    text = json.loads(path.read_text()[5:])
    rows = np.array(text["rows"], np.float32) * scale
    return Episodes({"observations": rows}, np.array(text["ends"]), 0.1, path.stem, {"format": "mine"})

def write(episodes, path, *, digits=9):
    rows = np.round(episodes.arrays["observations"], digits).tolist()
    path.write_text("MINE!" + json.dumps({"rows": rows, "ends": episodes.ends.tolist()}))
    return ("only observations are kept",)

mine = Format(lambda path: path.read_text(errors="replace").startswith("MINE!"), read, write)
only_read = Format(mine.recognise, read)
other = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "own_format.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    rows = [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]
    path = tmp_path / "a.mine"
    path.write_text('MINE!{"rows": ' + str(rows) + ', "ends": [1, 3]}')
    return path, np.array(rows, np.float32)


def test_it_is_read_inspected_and_converted(mine, tmp_path):
    path, rows = mine
    np.testing.assert_array_equal(load(path, read_as="own_format:mine").arrays["observations"], rows)
    doubled = load(path, read_as="own_format:mine", scale=2.0)
    np.testing.assert_array_equal(doubled.arrays["observations"], 2 * rows)
    assert inspect(path, read_as="own_format:mine").lengths == (1, 2)
    assert convert(path, tmp_path / "a.npz", read_as="own_format:mine", scale=3.0) == ()
    np.testing.assert_array_equal(load(tmp_path / "a.npz").arrays["observations"], 3 * rows)
    notes = convert(tmp_path / "a.npz", tmp_path / "b.mine", "own_format:mine", digits=0)
    assert "only observations are kept" in notes
    got = load(tmp_path / "b.mine", read_as="own_format:mine").arrays["observations"]
    np.testing.assert_array_equal(got, np.round(3 * rows))


def test_what_cannot_be_used_is_refused(mine, tmp_path):
    path, _ = mine
    write_npz(sample(), tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"option for a own_format:mine file 'scal'.*did you mean 'scale'"):
        load(path, read_as="own_format:mine", scal=1.0)
    with pytest.raises(ValueError, match="not in the format 'own_format:mine', which does not recognise it"):
        load(tmp_path / "a.npz", read_as="own_format:mine")
    with pytest.raises(ValueError, match=r"did you mean 'mine'"):
        load(path, read_as="own_format:min")
    with pytest.raises(ValueError, match=r"which is 3, expected an object of dfplan.data.Format"):
        load(path, read_as="own_format:other")
    with pytest.raises(ValueError, match="which has no write="):
        convert(tmp_path / "a.npz", tmp_path / "b", "own_format:only_read")
    with pytest.raises(ValueError, match=r"a.mine: begins with b'MINE!"):
        load(path)


def test_a_format_of_ours_can_be_asked_for(tmp_path):
    write_npz(sample(), tmp_path / "a.npz")
    assert len(load(tmp_path / "a.npz", read_as="npz")) == 3
    with pytest.raises(ValueError, match="not in the format 'zarr'"):
        load(tmp_path / "a.npz", read_as="zarr")
    with pytest.raises(ValueError, match="did you mean 'npz'"):
        load(tmp_path / "a.npz", read_as="npzz")


def test_each_file_is_recognised_by_one_format(tmp_path):
    for form, name in (("robomimic", "a.hdf5"), ("npz", "a.npz"), ("zarr", "a.zarr.zip"), ("lerobot", "a")):
        if form in ("zarr", "lerobot"):
            pytest.importorskip(
                "zarr" if form == "zarr" else "pyarrow", reason=f"the extra {form} is not installed"
            )
        FORMATS[form].write(sample(), tmp_path / name)
        assert [key for key in FORMATS if FORMATS[key].recognise(tmp_path / name)] == [form]
        assert detect(tmp_path / name) == form
