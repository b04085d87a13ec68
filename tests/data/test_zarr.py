import json
import sys
import zipfile

import numpy as np
import pytest
from samples import same, sample

from dfplan.data import load, read_npz, read_zarr, write_npz, write_zarr

zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'dfplan[zarr]'")
THREE = not zarr.__version__.startswith("2.")
three = pytest.mark.skipif(not THREE, reason="zarr 3 is not installed; it needs Python 3.11")

COMPRESSORS = {
    "none": None,
    "zlib": {"id": "zlib", "level": 5},
    "gzip": {"id": "gzip", "level": 5},
    "zstd": {"id": "zstd", "level": 3},
    "lz4": {"id": "lz4", "acceleration": 1},
    "bz2": {"id": "bz2", "level": 1},
    "lzma": {"id": "lzma"},
    "blosc zstd bit": {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2, "blocksize": 0},
    "blosc lz4 byte": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "blosc zlib none": {"id": "blosc", "cname": "zlib", "clevel": 5, "shuffle": 0, "blocksize": 0},
}


def encode(data, compressor):
    if compressor is None:
        return data
    codecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed: pip install 'dfplan[zarr]'")
    return bytes(codecs.get_codec(dict(compressor)).encode(data))


def entries(key, array, rows=4, compressor=None, order="C", filters=None, **header):
    """Store entries of an array, in chunks of `rows` rows, and of 2 columns where there are more axes."""
    chunks = [rows, *[2] * (array.ndim - 1)]
    text = {
        "zarr_format": 2, "shape": list(array.shape), "chunks": chunks, "dtype": array.dtype.str,
        "compressor": compressor, "fill_value": 0, "order": order, "filters": filters,
    }  # fmt: skip
    out = {f"{key}/.zarray": json.dumps(text | header).encode()}
    grid = [range(-(-n // c)) for n, c in zip(array.shape, chunks, strict=True)]
    separator = header.get("dimension_separator", ".")
    for place in np.ndindex(*map(len, grid)):
        corner = [p * c for p, c in zip(place, chunks, strict=True)]
        part = array[tuple(slice(b, b + c) for b, c in zip(corner, chunks, strict=True))]
        block = np.full(chunks, 7, array.dtype)
        block[tuple(map(slice, part.shape))] = part
        data = block.tobytes(order)
        for config in filters or ():
            data = encode(block, config)
        out[f"{key}/{separator.join(map(str, place))}"] = encode(data, compressor)
    return out


ROWS = np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32)


def store(root, compressor=None, ends=(4, 11), action=None, data=None, zip_root=None, drop=(), **options):
    """Write a replay buffer with 11 rows; `zip_root` gives a zip with everything below that folder."""
    action = ROWS[:, :2] if action is None else action
    state = ROWS if data is None else data
    every = entries("data/state", state, compressor=compressor, **options) | entries("data/action", action)
    every |= entries("meta/episode_ends", np.array(ends)) | {".zgroup": b'{"zarr_format": 2}'}
    every = {key: value for key, value in every.items() if key not in drop}
    if zip_root is not None:
        with zipfile.ZipFile(root, "w") as file:
            for key, value in every.items():
                file.writestr(zip_root + key, value)
        return root
    for key, value in every.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(value)
    return root


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_compressor_and_order(tmp_path, compressor, order):
    got = load(store(tmp_path / "a.zarr", COMPRESSORS[compressor], order=order), dt=0.1)
    np.testing.assert_array_equal(got.arrays["observations"], ROWS)
    assert got.ends.tolist() == [4, 11] and got.info["groups"] == {"state": [0, 5]}


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", ">i2", "|u1", "|b1"])
def test_every_type_comes_in_native_order(tmp_path, dtype):
    rows = (ROWS * 3).astype(dtype)
    got = load(store(tmp_path / "a.zarr", data=rows), dt=0.1).arrays["observations"]
    np.testing.assert_array_equal(got, rows)
    assert got.dtype.isnative and got.dtype == np.dtype(dtype).newbyteorder("=")


def test_a_filter_and_a_slash_between_chunk_numbers(tmp_path):
    pytest.importorskip("numcodecs")
    delta = [{"id": "delta", "dtype": "<i8"}]
    rows = np.arange(11)
    path = store(tmp_path / "a.zarr", data=rows, filters=delta, dimension_separator="/")
    np.testing.assert_array_equal(load(path, dt=0.1).arrays["observations"][:, 0], rows)


@pytest.mark.parametrize("root", ["", "pusht_replay.zarr/", "a/b/"])
def test_a_zip_with_the_store_at_its_root_or_in_a_folder(tmp_path, root):
    got = load(store(tmp_path / "a.zip", zip_root=root), dt=0.1)
    np.testing.assert_array_equal(got.arrays["observations"], ROWS)


def test_chunks_left_out_are_the_fill_value_when_asked(tmp_path):
    path = store(tmp_path / "a.zarr", drop=("data/state/1.1",), fill_value=-2.5)
    with pytest.raises(ValueError, match=r"chunk 'data/state/1.1' is not in the store.*fill_missing=True"):
        read_zarr(path, dt=0.1)
    got = read_zarr(path, dt=0.1, fill_missing=True).arrays["observations"]
    assert (got[4:8, 2:4] == -2.5).all()
    np.testing.assert_array_equal(got[:4], ROWS[:4])


def test_keys_observation_action_and_time_step(tmp_path):
    path = store(tmp_path / "pusht_mine.zarr")
    assert read_zarr(path).dt == 0.1
    got = read_zarr(path, dt=0.5, obs=("action", "state"), action="state")
    assert got.info["groups"] == {"action": [0, 2], "state": [2, 7]} and got.arrays["actions"].shape == (
        11,
        5,
    )
    assert set(read_zarr(path, ("state",)).arrays) == {"observations"}
    with pytest.raises(ValueError, match=r"'staet', expected one of action, state; did you mean 'state'"):
        read_zarr(path, ("staet",))


def test_pictures_are_left_out_unless_asked_for(tmp_path):
    path = store(tmp_path / "a.zarr")
    for key, value in entries("data/img", np.zeros((11, 3, 3, 2), np.uint8)).items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(value)
    got = read_zarr(path, dt=1.0)
    assert got.info["left_out"] == ["img"] and "img" not in got.arrays
    assert read_zarr(path, ("state", "img"), 1.0).arrays["img"].shape == (11, 3, 3, 2)


@pytest.mark.parametrize("kind", ["blosc lz4 byte", "zstd", "none"])
@pytest.mark.parametrize("change", [-1, -3, 5])
def test_a_chunk_of_another_length_is_refused(tmp_path, kind, change):
    path = store(tmp_path / "a.zarr", COMPRESSORS[kind])
    chunk = path / "data/state/1.1"
    chunk.write_bytes((chunk.read_bytes() + bytes(5))[: change + chunk.stat().st_size])
    with pytest.raises(ValueError, match=r"data/state.*does not decode"):
        load(path, dt=0.1)


def test_a_fill_value_that_says_nothing_is_never_filled_in(tmp_path):
    path = store(tmp_path / "a.zarr", drop=("data/state/1.1",), fill_value=None)
    with pytest.raises(ValueError, match=r"chunk 'data/state/1.1' is not in the store"):
        read_zarr(path, dt=0.1, fill_missing=True)


CODECS = ["as it comes", "gzip", "blosc", "uncompressed", "sharded", "shards missing a chunk", "v2 names"]


def version_3(path, kind, rows=ROWS):
    """A replay buffer of zarr's version 3."""
    from zarr.codecs import BloscCodec, GzipCodec

    options = {
        "as it comes": {}, "gzip": {"compressors": GzipCodec()}, "blosc": {"compressors": BloscCodec()},
        "uncompressed": {"compressors": None}, "sharded": {"chunks": (2, 5), "shards": (8, 5)},
        "shards missing a chunk": {"chunks": (2, 5), "shards": (8, 5)},
        "v2 names": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    }[kind]  # fmt: skip
    target = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.open_group(target, mode="w", zarr_format=3, attributes={"note": 1})
    options = {"chunks": (4, 5)} | options
    root.create_array("data/state", data=rows, **options)
    root.create_array("data/action", data=rows[:, :2].copy(), chunks=(4, 2))
    root.create_array("meta/episode_ends", data=np.array([4, 11]))
    root.store.close()
    return path


@three
@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("ending", ["zarr", "zarr.zip"])
def test_version_3_with_any_codec(tmp_path, kind, ending):
    rows = ROWS.copy()
    if (
        kind == "shards missing a chunk"
    ):  # its writer leaves out zeros inside a shard, which a copy cannot lose
        rows[2:4] = 0
    got = load(version_3(tmp_path / f"a.{ending}", kind, rows), dt=0.1)
    np.testing.assert_array_equal(got.arrays["observations"], rows)
    assert got.arrays["actions"].shape == (11, 2) and got.ends.tolist() == [4, 11]
    assert got.info["version"] == "3"


@three
@pytest.mark.parametrize("kind, name", [("as it comes", "c/1/0"), ("sharded", "c/1/0"), ("v2 names", "1.0")])
def test_a_missing_chunk_of_version_3_is_named(tmp_path, kind, name):
    path = version_3(tmp_path / "a.zarr", kind)
    (path / "data/state" / name).unlink()
    with pytest.raises(ValueError, match=f"chunk 'data/state/{name}' is not in the store"):
        load(path, dt=0.1)
    assert (
        read_zarr(path, dt=0.1, fill_missing=True).arrays["observations"][8:] == 0
    ).all() or kind != "sharded"


def test_without_zarr_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr")
    write_npz(sample(), tmp_path / "a.npz")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[zarr\]'"):
        read_zarr(path, dt=1.0)
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[zarr\]'"):
        write_zarr(sample(), tmp_path / "b.zarr")
    assert len(read_npz(tmp_path / "a.npz")) == 3
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.npz", "a.zarr"]


def test_the_zarr_package_opens_what_is_written(tmp_path):
    write_zarr(sample(), tmp_path / "a.zarr")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    np.testing.assert_array_equal(group["data/state"][:], sample().arrays["observations"])
    assert group["meta/episode_ends"][:].tolist() == [5, 8, 12]
    assert sorted(group["data"]) == [
        "action",
        "contacts",
        "infos.goal",
        "keypoint",
        "rewards",
        "state",
        "states",
        "terminals",
    ]


@pytest.mark.filterwarnings("error:Duplicate name")
@pytest.mark.parametrize("ending", ["zarr", "zarr.zip"])
def test_what_is_written_is_version_2_and_zeros_are_stored(tmp_path, ending):
    zeros = sample(arrays={"observations": np.zeros((12, 9), np.float32)}, info={})
    write_zarr(zeros, tmp_path / f"a.{ending}")
    same(load(tmp_path / f"a.{ending}"), zeros)
    write_zarr(sample(), tmp_path / "b.zarr")
    header = json.loads((tmp_path / "b.zarr/data/state/.zarray").read_text())
    assert (header["zarr_format"], header["dtype"], header["shape"]) == (2, "<f4", [12, 9])


def test_long_arrays_are_cut_into_chunks_and_read_whole(tmp_path):
    rows = np.arange(600_000, dtype=np.float64)
    big = sample(arrays={"observations": rows[:, None]}, ends=np.array([600_000]), info={})
    write_zarr(big, tmp_path / "a.zarr.zip")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip") as file:
        assert len([n for n in file.namelist() if n.startswith("data/state/") and n[-2:] == ".0"]) == 5
    np.testing.assert_array_equal(load(tmp_path / "a.zarr.zip").arrays["observations"][:, 0], rows)
