import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from dfplan.data import Found, get, load
from dfplan.data.sources import D4RL_URLS

NAME = "maze2d-large-v1"
FILE = "maze2d-large-sparse-v1.hdf5"


def generate(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = np.zeros((6, 4)), np.zeros((6, 2))
        file["timeouts"] = np.arange(6) == 3


def never(path: Path) -> None:
    raise AssertionError("the generator was not needed")


@pytest.mark.parametrize("place", ["own", "d4rl"])
def test_finds_what_is_here(caches, place):
    file = caches / place / FILE
    file.parent.mkdir()
    file.write_bytes(b"rows")
    said = []
    assert get(NAME, generators={NAME: never}, say=said.append) == Found(file, "cached")
    assert said == [f"{NAME}: using {file} (cached)"]


def test_finds_minari_sets(caches):
    file = caches / "minari" / "D4RL" / "door" / "human-v2" / "data" / "main_data.hdf5"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"rows")
    assert get("D4RL/door/human-v2", download=False) == Found(file, "cached")


def test_downloads_into_its_folder_then_finds_it(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(D4RL_URLS, NAME, server.url)
    found = get(NAME, folder=tmp_path / "mine")
    assert found == Found(tmp_path / "mine" / "set.hdf5", "downloaded")
    assert found.path.read_bytes() == server.body
    assert f"{NAME}: downloaded to {found.path}" in capsys.readouterr().out
    assert get(NAME, folder=tmp_path / "mine").how == "cached" and len(server.requests) == 1


def test_a_wrong_digest_is_not_papered_over_by_the_generator(server, monkeypatch):
    monkeypatch.setitem(D4RL_URLS, NAME, server.url)
    with pytest.raises(ValueError, match="SHA-256"):
        get(NAME, generators={NAME: never}, sha256="0" * 64)


def test_generates_where_the_network_fails_and_never_under_the_published_name(server, monkeypatch):
    server.status = 404
    monkeypatch.setitem(D4RL_URLS, NAME, server.url)
    said = []
    found = get(NAME, generators={NAME: generate}, say=said.append)
    assert found.how == "generated" and found.path.name == f"{NAME}.generated.hdf5"
    assert "404" in said[-2] and "generating it instead" in said[-2] and "delete that file" in said[-1]
    assert get(NAME, generators={NAME: never}, say=said.append) == found
    assert len(server.requests) == 1
    data = load(NAME, generators={NAME: never})
    assert (data.name, data.dt, data.ends.tolist()) == (NAME, 0.01, [4, 6])


def test_a_failing_generator_leaves_nothing(caches):
    def half(path):
        path.write_bytes(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        get("mine-v0", generators={"mine-v0": half}, download=False)
    with pytest.raises(ValueError, match="wrote nothing"):
        get("mine-v0", generators={"mine-v0": lambda path: None}, download=False)
    assert [p.name for p in (caches / "own").iterdir()] == [".mine-v0.lock"]


def test_nowhere_says_why_and_where_to_put_it(caches):
    with pytest.raises(
        FileNotFoundError, match=f"downloads are off.*nothing here can generate it; put it at .*{FILE}"
    ):
        get(NAME, download=False)


def test_minari_downloads_through_minari(caches, monkeypatch):
    name = "D4RL/door/human-v2"
    file = caches / "minari" / name / "data" / "main_data.hdf5"

    def download_dataset(asked):
        assert asked == name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"rows")

    monkeypatch.setitem(sys.modules, "minari", types.SimpleNamespace(download_dataset=download_dataset))
    assert get(name) == Found(file, "downloaded")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'dfplan\[minari\]'"):
        get("D4RL/door/expert-v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maze2d-larg-v1", "did you mean maze2d-large-v1"),
        ("qqqq", "expected a D4RL name such as"),
        ("", "expected a name"),
        ("../secrets", "expected a name"),
        ("/etc/passwd", "expected a name"),
    ],
)
def test_unknown_names(caches, name, message):
    with pytest.raises(ValueError, match=message):
        get(name)


def test_load_tells_paths_from_names(caches):
    with pytest.raises(FileNotFoundError, match=r"runs/mine\.hdf5: no such file"):
        load("runs/mine.hdf5")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(Path("maze2d-large-v1"))
    with pytest.raises(ValueError, match="did you mean maze2d-umaze-v1"):
        load("maze2d-umase-v1")


def test_callers_that_ask_at_once_generate_once(caches):
    pytest.importorskip("fcntl", reason="this system has no file locks")
    calls = []

    def slow(path):
        calls.append(path)
        time.sleep(0.2)
        generate(path)

    def ask(_):
        return get("mine-v0", generators={"mine-v0": slow}, download=False, say=lambda line: None).how

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == ["generated"] * 3
    assert len(calls) == 1
