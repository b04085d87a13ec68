"""Models and demonstrations to a hub and back: the real command and `huggingface_hub`, against a server of this machine."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, Hub, Repo
from test_cli import QUICK, Result, demos, dfplan, elsewhere, run, shared  # noqa: F401  fixtures

from dfplan import models
from dfplan.data import Episodes, load, write_lerobot
from dfplan.train import checkpoint

COMMAND = """
import contextlib, io, json, os, sys
from dfplan import cli
for line in sys.stdin:
    words, folder, os.environ["HF_TOKEN"] = json.loads(line)
    os.chdir(folder)
    sys.argv, code = ["dfplan", "hub", *words], 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server, and a process with the command whose hub it is."""
    server = Hub()
    settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}
    settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        env=os.environ | settings,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    yield server, process
    process.stdin.close()
    process.wait(60)
    server.shutdown()


@pytest.fixture
def hub(place, tmp_path):
    """`hub(...)` is the command `dfplan hub ...`; `hub.repo(name)` what the server has."""
    server, process = place
    server.repos.clear()
    server.fetched.clear()

    def command(*words, token=TOKEN):
        process.stdin.write(json.dumps([list(map(str, words)), str(tmp_path), token]) + "\n")
        process.stdin.flush()
        return Result(*json.loads(process.stdout.readline()))

    command.server, command.repos = server, server.repos
    return command


def card(repo):
    """Front matter and the lines of the shell of a card."""
    text = repo.files["README.md"].decode()
    _, front, rest = text.split("---\n", 2)
    return yaml.safe_load(front), re.findall(r"^dfplan (.*)$", rest, re.M), rest


def same(one, two):
    return all(
        torch.equal(p, q)
        for p, q in zip(one.denoiser.state_dict().values(), two.denoiser.state_dict().values(), strict=True)
    )


def test_a_model_goes_there_and_back_and_acts_as_its_card_says(hub, run, dfplan, tmp_path):  # noqa: F811
    pushed = hub("push", run, "me/maze", "--license", "mit")
    assert (pushed.code, pushed.out.split()) == (0, [f"{hub.server.url}/me/maze"]), pushed.err
    repo = hub.repos["model", "me/maze"]
    exported = {"config.json", "model.safetensors", "evidence.safetensors"}
    assert set(repo.files) == {".gitattributes", "README.md", *exported} and not repo.private
    front, commands, text = card(repo)
    assert (front["library_name"], front["license"], front["pipeline_tag"]) == ("dfplan", "mit", "robotics")
    assert {"dfplan", "planning"} <= set(front["tags"])
    assert "position: x, y" in text and "| trained | 4 of 4 steps of 8 windows" in text

    assert commands[0] == "hub pull me/maze --out maze"
    pulled = hub(*commands[0].split()[1:], token="")
    assert (pulled.code, pulled.out) == (0, "maze\n"), pulled.err
    assert {p.name for p in (tmp_path / "maze").rglob("*")} == {"README.md", *exported}
    checkpoint.export(run / "checkpoint", tmp_path / "exported")
    assert same(checkpoint.load(tmp_path / "maze"), checkpoint.load(tmp_path / "exported"))
    assert commands[1] == "eval maze2d-umaze --checkpoint maze"
    played = dfplan(*commands[1].split(), "--episodes", 1, *QUICK)
    assert played.code == 0 and "success" in played.out, played.err


def test_a_second_push_leaves_what_the_owner_put_there_and_nothing_old(hub, run):  # noqa: F811
    assert hub("push", run, "me/maze").code == 0
    repo = hub.repos["model", "me/maze"]
    assert "license" not in card(repo)[0]
    repo.files |= {"old.safetensors": b"", "notes.md": b"", "maze.gif": b""}
    assert hub("push", run / "checkpoint", "me/maze").code == 0
    assert repo.commits == 2 and {"notes.md", "maze.gif"} < set(repo.files)
    assert "old.safetensors" not in repo.files
    pulled = hub("pull", "me/maze", "--out", "maze")
    assert pulled.code == 0 and "reads no pictures and films: 1, such as maze.gif" in pulled.out
    assert "maze.gif" not in hub.server.fetched


def test_a_model_that_ships_stays_as_it_is(hub, tmp_path):
    """Partly in 8 bits, which a second rounding would spoil."""
    assert hub("push", "swap", "me/swap").code == 0 and hub("pull", "me/swap", "--out", "swap").code == 0
    assert same(checkpoint.load(tmp_path / "swap"), checkpoint.load(models.find("swap")))
    front, commands, text = card(hub.repos["model", "me/swap"])
    assert "imitation-learning" in front["tags"] and "| acts |" in text and "act | " not in text
    assert commands[1] == "eval swap --checkpoint swap"


def lerobot(folder):
    rng = np.random.default_rng(0)
    arrays = {key: rng.normal(size=(30, 3)).astype(np.float32) for key in ("observations", "actions")}
    write_lerobot(Episodes(arrays, np.array([10, 30]), 0.05), folder)
    (folder / "videos").mkdir()
    (folder / "videos/episode_0.mp4").write_bytes(b"film")
    (folder / ".cache").mkdir()
    (folder / ".cache/of.lock").touch()
    return folder


def test_demonstrations_go_there_and_back_as_they_are(hub, demos, tmp_path):  # noqa: F811
    pushed = hub("push", demos, "me/walks", "--private")
    assert (pushed.code, pushed.out.split()) == (0, [f"{hub.server.url}/datasets/me/walks"]), pushed.err
    repo = hub.repos["dataset", "me/walks"]
    assert repo.private and set(repo.files) == {".gitattributes", "README.md", "umaze.hdf5"}
    front, commands, text = card(repo)
    assert "dfplan" in front["tags"] and "| format | d4rl |" in text and "3000 of 0.01 s" in text
    pulled = hub(*commands[0].split()[1:])
    assert (pulled.code, pulled.out) == (0, "walks/umaze.hdf5\n"), pulled.err
    assert (tmp_path / "walks/umaze.hdf5").read_bytes() == demos.read_bytes()
    assert commands[1] == "train imitation --data walks/umaze.hdf5 --out runs/walks"
    for token, name in (("", "datasets/me/walks"), (TOKEN, "me/walks")):
        refused = hub("pull", name, "--out", "other", token=token)
        assert refused.code == 2 and "shows you no such repository" in refused.err


def test_a_lerobot_folder_goes_there_with_its_films_and_comes_back_without(hub, tmp_path):
    folder = lerobot(tmp_path / "set")
    assert hub("push", folder, "datasets/me/set", "--read", "dt=0.05").code == 0
    repo = hub.repos["dataset", "me/set"]
    assert "videos/episode_0.mp4" in repo.files and not [name for name in repo.files if ".cache" in name]
    front, commands, _ = card(repo)
    assert "LeRobot" in front["tags"] and front["configs"][0]["data_files"] == "data/*/*.parquet"
    pulled = hub(*commands[0].split()[1:], "--out", "back")
    assert pulled.code == 0 and pulled.out.endswith("\nback\n") and "films" in pulled.out, pulled.err
    assert commands[1] == "train imitation --data set --out runs/set --read dt=0.05"
    one, two = load(folder), load(tmp_path / "back")
    assert all((one.arrays[key] == two.arrays[key]).all() for key in one.arrays)
    (folder / "README.md").write_text("by hand")
    assert hub("push", folder, "me/set").code == 0 and repo.files["README.md"] == b"by hand"
    refused = hub("push", folder, "me/set", "--license", "mit")
    assert refused.code == 2 and "is the card that goes along" in refused.err


@pytest.mark.parametrize("form", ["npy", "zarr"])
def test_other_folders_come_back_readable(hub, tmp_path, form):
    folder = tmp_path / "set"
    if form == "npy":
        folder.mkdir()
        np.save(folder / "walk.npy", np.ones((5, 2), np.float32))
    else:
        from dfplan.data import write_zarr

        arrays = {key: np.ones((30, 3), np.float32) for key in ("observations", "actions")}
        write_zarr(Episodes(arrays, np.array([10, 30]), 0.05), folder.with_suffix(".zarr"))
        folder = folder.with_suffix(".zarr")
    assert hub("push", folder, "me/set", "--read", "dt=0.05").code == 0
    pulled = hub("pull", "datasets/me/set", "--out", "back")
    assert (pulled.code, pulled.out) == (0, "back\n"), pulled.err
    assert load(tmp_path / "back", dt=0.05).steps == load(folder, dt=0.05).steps


GOOD = {"config.json": b"CONFIG", "model.safetensors": b"WEIGHTS"}
FOREIGN = {
    "a pickle": (GOOD | {"weights.pkl": b""}, "holds weights.pkl, expected of a model"),
    "code": (GOOD | {"model.py": b""}, "holds model.py"),
    "a way out": (GOOD | {"../../config.json": b""}, r"holds ../../config.json"),
    "no model": ({"config.json": b"{}"}, "expected config.json and model.safetensors"),
    "another library's": ({"config.json": b"{}", "model.safetensors": b""}, "checkpoint format None"),
    "a pickle in disguise": (
        GOOD | {"model.safetensors": pickle.dumps(1)},
        "me/it/model.safetensors: cannot be",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_model_of_dfplan_is_refused_and_nothing_is_left(hub, run, tmp_path, case):  # noqa: F811
    files, why = FOREIGN[case]
    real = {b"CONFIG": "config.json", b"WEIGHTS": "model.safetensors"}
    files = {
        name: (run / "checkpoint" / real[data]).read_bytes() if data in real else data
        for name, data in files.items()
    }
    hub.repos["model", "me/it"] = Repo(False, files)
    got = hub("pull", "me/it", "--out", "it")
    assert got.code == 2 and why in got.err and got.err.count("\n") == 1, got
    assert not list(tmp_path.iterdir())
    if why.startswith("holds"):
        assert not hub.server.fetched
        refused = hub("push", run, "me/it")
        assert refused.code == 2 and why in refused.err and hub.repos["model", "me/it"].files == files


def test_code_that_a_model_names_is_named(hub, run, tmp_path):  # noqa: F811
    files = {name: (run / "checkpoint" / name).read_bytes() for name in GOOD}
    files["config.json"] = files["config.json"].replace(b'"transformer"', b'"their_nets:Wide"')
    hub.repos["model", "me/it"] = Repo(False, files)
    got = hub("pull", "me/it", "--out", "it")
    assert got.code == 0 and "names their_nets:Wide, which is imported" in got.out


def test_data_that_dfplan_does_not_read_are_refused(hub, tmp_path):
    hub.repos["dataset", "me/it"] = Repo(False, {"a.json": b"{}"})
    got = hub("pull", "datasets/me/it", "--out", "it")
    assert got.code == 2 and "expected data that dfplan reads" in got.err
    folder = lerobot(tmp_path / "set")
    (folder / "extra.pkl").touch()
    got = hub("push", folder, "me/set")
    assert got.code == 2 and "holds extra.pkl" in got.err and ("dataset", "me/set") not in hub.repos


BAD = {
    "no repository": (["pull", "me/none", "--out", "it"], "shows you no such repository"),
    "no name": (["pull", "none", "--out", "it"], "expected OWNER/NAME"),
    "no folder": (["pull", "me/open"], "dfplan hub pull me/open --out FOLDER"),
    "a folder that is there": (["pull", "me/open", "--out", "."], "is there already"),
    "no source": (["push", "maze2d-lagre", "me/it"], "did you mean 'maze2d-large'"),
    "nowhere": (["push", "maze2d-large"], "give OWNER/NAME"),
    "a model as data": (["push", "maze2d-umaze", "datasets/me/it"], "which is a model"),
    "public already": (["push", "maze2d-umaze", "me/open", "--private"], "is there already and public"),
    "nobody": (
        ["push", "maze2d-umaze", "me/it"],
        "Invalid username or password; log in with `hf auth login`",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals_are_one_line_and_nothing_is_sent(hub, case):
    words, why = BAD[case]
    hub.repos["model", "me/open"] = Repo(False, {})
    got = hub(*words, token="" if case == "nobody" else TOKEN)
    assert got.code == 2 and why in got.err and got.err.count("\n") == 1, got
    assert hub.repos == {("model", "me/open"): Repo(False, {})}


def test_the_missing_package_is_named(dfplan, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (["push", "maze2d-umaze", "me/it"], ["pull", "me/it", "--out", "it"]):
        got = dfplan("hub", *words)
        assert (got.code, got.err) == (
            2,
            "dfplan: huggingface_hub is not installed; run: pip install 'dfplan[hub]'\n",
        )
