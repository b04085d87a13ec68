import subprocess
import sys

import h5py
import numpy as np
import pytest

from dfplan.data import load, read_d4rl
from dfplan.data.formats.d4rl import segment_ends
from dfplan.data.sources import D4RL_URLS, d4rl_name, time_step


def flags(*rows, steps=12, dtype=bool):
    out = np.zeros(steps, dtype)
    out[list(rows)] = 1
    return out


def with_row(value, row=5, columns=2):
    out = np.zeros((12, columns), np.float64)
    out[row, 0] = value
    return out


def test_round_trip(write):
    path, arrays = write()
    data = read_d4rl(path)
    assert (data.name, data.dt, data.ends.tolist()) == ("maze2d-test", 0.01, [4, 10, 12])
    assert set(data.arrays) == {"observations", "actions", "rewards", "terminals", "infos/goal"}
    for key, array in data.arrays.items():
        np.testing.assert_array_equal(array, arrays[key])
    assert data.arrays["observations"].dtype == data.arrays["rewards"].dtype == np.float32


def test_terminals_cut_too_and_can_be_left_out(write):
    path, _ = write("Ant_maze_x.hdf5", terminals=flags(5, 6))
    assert read_d4rl(path).ends.tolist() == [4, 6, 7, 10, 12]
    assert read_d4rl(path, cuts=("timeouts",)).ends.tolist() == [4, 10, 12]
    assert read_d4rl(path).dt == 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_numeric_flags_and_single_columns(write, dtype):
    path, arrays = write(
        timeouts=flags(2, dtype=dtype)[:, None], rewards=np.arange(12.0)[:, None], terminals=None
    )
    data = read_d4rl(path)
    assert data.ends.tolist() == [3, 12] and "terminals" not in data.arrays
    np.testing.assert_array_equal(data.arrays["rewards"], arrays["rewards"][:, 0])


def test_a_flag_on_the_last_row_leaves_no_empty_segment(write):
    assert read_d4rl(write(timeouts=flags(11))[0]).ends.tolist() == [12]


def test_integers_doubles_and_compressed_chunks_become_float32(write, tmp_path):
    path, _ = write(observations=np.arange(48).reshape(12, 4), actions=np.ones((12, 2), np.float64))
    with h5py.File(path, "a") as file:
        goal = file["infos/goal"][:]
        del file["infos/goal"]
        file.create_dataset("infos/goal", data=goal, compression="gzip", chunks=(5, 1))
    data = read_d4rl(path)
    assert {data.arrays[k].dtype for k in ("observations", "actions")} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(data.arrays["infos/goal"], goal)


def test_a_set_of_several_blocks_reads_whole(write):
    rows = np.arange(200_000, dtype=np.float32)
    path, _ = write(
        observations=rows[:, None],
        actions=rows[:, None],
        rewards=None,
        terminals=None,
        infos__goal=None,
        timeouts=flags(70_000, steps=200_000),
    )
    data = read_d4rl(path)
    np.testing.assert_array_equal(data.arrays["observations"][:, 0], rows)
    assert data.ends.tolist() == [70_001, 200_000]


def test_more_arrays_on_request_and_infos_as_a_vector(write):
    path, arrays = write("kitchen.hdf5", infos__goal=None, infos=np.arange(12))
    data = read_d4rl(path, also=("infos",))
    np.testing.assert_array_equal(data.arrays["infos"], arrays["infos"])
    assert data.dt == 0.08


def test_time_step_argument_then_file_then_task(write):
    assert read_d4rl(write(attrs={"dt": 0.02})[0]).dt == 0.02
    assert read_d4rl(write(attrs={"dt": 0.02})[0], dt=0.5).dt == 0.5
    assert read_d4rl(write("mine.hdf5", attrs={"dt": 0.02})[0], name="robot").name == "robot"


def test_episode_steps_where_no_flag_marks_an_end(write):
    path, _ = write(timeouts=flags())
    assert read_d4rl(path, episode_steps=5).ends.tolist() == [5, 10, 12]
    assert read_d4rl(path, episode_steps=12).ends.tolist() == [12]
    assert segment_ends(flags(6), 3).tolist() == [3, 6, 7, 10, 12]


BAD = {
    "no observations": ({"observations": None}, r"no 'observations' in the file, which holds \['actions'"),
    "no actions": ({"actions": None}, "no 'actions'"),
    "fewer actions": ({"actions": np.zeros((11, 2))}, "'actions' has 11 rows, expected 12"),
    "fewer flags": ({"timeouts": flags(1, steps=9)}, "'timeouts' has 9 rows, expected 12"),
    "fewer goals": ({"infos__goal": np.zeros((3, 2))}, "'infos/goal' has 3 rows"),
    "nan observation": ({"observations": with_row(np.nan)}, r"'observations' row 5 is \[nan  ?0"),
    "infinite action": ({"actions": with_row(np.inf)}, "'actions' row 5 is .*inf.*repair that row"),
    "too large for float32": ({"actions": with_row(1e300)}, "'actions' row 5"),
    "nan reward": ({"rewards": with_row(np.nan, columns=1)}, "'rewards' row 5"),
    "strings": ({"observations": np.full((12, 2), b"x")}, r"'observations' has dtype \|S1, expected numbers"),
    "complex": ({"actions": np.zeros((12, 2), complex)}, "'actions' has dtype complex128"),
    "records": ({"actions": np.zeros(12, [("a", "f4")])}, "'actions' has dtype"),
    "vector observations": (
        {"observations": np.zeros(12)},
        r"'observations' has shape \(12,\), expected \(N, C\)",
    ),
    "images": ({"observations": np.zeros((12, 4, 4, 3))}, r"shape \(12, 4, 4, 3\).*flatten"),
    "scalar": ({"actions": 3.0}, r"'actions' has shape \(\)"),
    "no columns": ({"actions": np.zeros((12, 0))}, r"'actions' has shape \(12, 0\)"),
    "no rows": ({"observations": np.zeros((0, 4))}, "'observations' has 0 rows"),
    "two rewards": ({"rewards": np.zeros((12, 2))}, r"'rewards' has shape \(12, 2\), expected one number"),
    "flag of 2": ({"timeouts": flags(4, dtype=int) * 2}, "'timeouts' row 4 is 2.0, expected a flag"),
    "flag of a half": ({"terminals": flags(4, dtype=float) / 2}, "'terminals' row 4 is 0.5"),
    "flag of nan": ({"terminals": with_row(np.nan, columns=1)}, "'terminals' row 5 is .nan"),
    "no ends": (
        {"timeouts": flags()},
        "'timeouts' never True, 'terminals' never True.*episode_steps=.*or 12",
    ),
    "no flags": ({"timeouts": None, "terminals": None}, "none of .* in the file"),
    "bad dt": ({"attrs": {"dt": "fast"}}, "attribute 'dt'"),
    "negative dt": ({"attrs": {"dt": -1.0}}, "dt=-1.0, expected seconds"),
    "unknown dt": ({"file": "mine.hdf5"}, "time step of 'mine' is not known; pass dt="),
    "a group": ({"actions": None, "actions__0": np.zeros(3)}, "'actions' is a group, expected an array"),
    "group of infos": ({"infos__goal": None, "infos__goal__x": np.zeros(3)}, "'infos/goal' is a group"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_contents(write, case):
    changes, message = BAD[case]
    path, _ = write(**changes)
    with pytest.raises(ValueError, match=message) as error:
        read_d4rl(path)
    assert path.stem in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"also": ("infos/qpos",)}, "no 'infos/qpos' in the file"),
        ({"cuts": ("dones",)}, "got cuts .'dones',.*timeouts"),
        ({"cuts": ("terminals",)}, "'terminals' never True"),
        ({"episode_steps": 0}, "episode_steps=0"),
        ({"dt": 0.0}, "dt=0.0"),
    ],
)
def test_refuses_options(write, options, message):
    with pytest.raises(ValueError, match=message):
        read_d4rl(write()[0], **options)


def bad_file(tmp_path, write, kind):
    path, _ = write(observations=np.random.default_rng(0).standard_normal((12, 400)))
    whole = path.read_bytes()
    if kind == "folder":
        (tmp_path / "maze2d-folder").mkdir()
        return tmp_path / "maze2d-folder"
    contents = {
        "empty": b"",
        "text": b"observations,actions\n" * 99,
        "html": b"<!doctype html>",
        "half": whole[: len(whole) // 2],
        "signature only": whole[:8],
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "is a folder, expected an HDF5 file"),
        ("empty", "the file is empty"),
        ("text", "not an HDF5 file"),
        ("html", "not an HDF5 file"),
        ("half", "cut short or damaged.*truncated"),
        ("signature only", "cut short or damaged"),
    ],
)
def test_refuses_files(tmp_path, write, kind, message):
    path = bad_file(tmp_path, write, kind)
    with pytest.raises(ValueError, match=message) as error:
        read_d4rl(path)
    assert str(path) in str(error.value)


def test_a_damaged_block_names_its_rows(write):
    path, _ = write()
    rows = np.random.default_rng(0).standard_normal((12, 400))
    with h5py.File(path, "a") as file:
        del file["observations"]
        blocks = file.create_dataset("observations", data=rows, compression="gzip", chunks=(12, 400))
        where = blocks.id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    damaged[where.byte_offset : where.byte_offset + 64] = bytes(64)
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"'observations' rows 0 to 11 cannot be read.*damaged"):
        read_d4rl(path)


def test_flipped_bytes_are_read_or_refused_never_a_crash(write):
    path, _ = write()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_d4rl(path, episode_steps=5, dt=0.01)
        except ValueError as error:
            assert str(path) in str(error) or path.stem in str(error)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.hdf5: no such file"):
        read_d4rl(tmp_path / "nowhere.hdf5")


def test_time_steps_of_known_names():
    assert d4rl_name("maze2d-large-sparse-v1") == "maze2d-large-v1"
    assert all(time_step(name) for name in D4RL_URLS)
    assert all(time_step(url.rsplit("/", 1)[1]) for url in D4RL_URLS.values())
    expected = {
        "ant-medium-v2": 0.05,
        "antmaze-large-play-v2": 0.1,
        "hopper-medium-v2": 0.008,
        "pen-human-v1": 0.01,
    }
    assert {name: time_step(name) for name in expected} == expected
    assert time_step("D4RL/antmaze/umaze-v1", minari=True) == 0.05
    assert time_step("D4RL/door/human-v2", minari=True) == 0.01
    assert time_step("bullet-hopper-medium-v0") is time_step("plants-v0") is time_step("outdoor-v0") is None


def test_importing_the_package_stays_light():
    code = (
        "import sys, dfplan.data; print([m for m in ('h5py', 'minari', 'torch', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("maze", "timeouts", "lengths"), [("umaze", 250, (1, 76.5, 202)), ("medium", 126, (1, 163.5, 338))]
)
def test_recorded_maze2d(shared, maze, timeouts, lengths):
    path = shared / "d4rl-maze2d-20k" / f"maze2d-{maze}-sparse-v1-20k.hdf5"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    data = load(path)
    with h5py.File(path) as file:
        ends = np.flatnonzero(file["timeouts"][:]) + 1
        qpos = file["infos/qpos"][:]
    between = np.diff(data.ends[:timeouts], prepend=0)
    np.testing.assert_array_equal(data.ends, np.append(ends, 20_000))
    assert len(ends) == timeouts and data.dt == 0.01
    assert (between.min(), np.median(between), between.max()) == lengths
    goal = np.array({"umaze": (1, 1), "medium": (6, 6)}[maze])
    near = np.linalg.norm(data.arrays["observations"][:, :2] - goal, axis=1) <= 0.5
    np.testing.assert_array_equal(data.arrays["rewards"] > 0, near)
    np.testing.assert_array_equal(read_d4rl(path, also=("infos/qpos",)).arrays["infos/qpos"], qpos)
