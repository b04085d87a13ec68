"""W&B beside TensorBoard: the real command, with a package `wandb` that writes down what it is told."""

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_cli import TINY, demos, dfplan, elsewhere, shared  # noqa: F401  fixtures

FAKE = """
import json, os

class Error(Exception):
    pass

class Run:
    def __getattr__(self, name):
        return lambda *args, **more: told(name, *args, **more)

def told(name, /, *args, **more):
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps([name, args, more]) + chr(10))

def init(**more):
    if more["project"] == "nobody":
        raise Error("no API key")
    told("init", **more)
    return Run()
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What wandb was told so far: name, arguments, keywords."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    yield lambda: [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    sys.modules.pop("wandb", None)


def scalars(folder):
    """(name, step) -> value as TensorBoard has it."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        (tag, e.step): pytest.approx(e.value, rel=1e-6)
        for tag in events.Tags()["scalars"]
        for e in events.Scalars(tag)
    }


def logged(rows):
    values = [args[0] for name, args, _ in rows if name == "log"]
    return {(key, row["step"]): value for row in values for key, value in row.items() if key != "step"}


def test_wandb_gets_what_tensorboard_gets_and_one_run_for_a_folder(dfplan, demos, told):  # noqa: F811
    words = ["train", "maze2d-umaze", "--data", demos, "--out", "runs/mine", "--set", *TINY, "steps=2"]
    done = dfplan(*words, "--wandb", "team/arms")
    assert done.code == 0, done.err
    (begun, *rows), folder = told(), Path("runs/mine")
    saved = json.loads((folder / "checkpoint/config.json").read_text())["train"]
    about = begun[2]
    assert begun[0] == "init" and (about["entity"], about["project"]) == ("team", "arms")
    assert about["name"] == "mine" and about["config"]["steps"] == saved["steps"] == 2
    assert {k: v for k, v in about["config"].items() if k != "act"} == saved
    assert rows[0] == ["define_metric", ["*"], {"step_metric": "step"}]
    assert rows[-1] == ["finish", [], {"exit_code": 0}]
    assert logged(rows) == scalars(folder / "tensorboard") and ("loss", 2) in logged(rows)

    again = dfplan("train", "--out", folder, "--resume", "--steps", 4)
    assert again.code == 0, again.err
    second = told()[1 + len(rows) :]
    assert [name for name, *_ in second].count("init") == 1
    assert second[0][2]["id"] == about["id"] and second[0][2]["resume"] == "allow"
    assert {step for _, step in logged(second)} == {3, 4}
    assert logged(rows + second) == scalars(folder / "tensorboard")

    other = dfplan("train", "--out", folder, "--resume", "--steps", 5, "--wandb", "arms")
    assert other.code == 2 and "logs to 'team/arms'" in other.err


def test_a_run_that_began_without_it_may_go_on_with_it(dfplan, demos, told):  # noqa: F811
    words = ["train", "maze2d-umaze", "--data", demos, "--out", "run", "--set", *TINY, "steps=1"]
    assert dfplan(*words).code == 0 and not Path("run/wandb.json").exists()
    assert dfplan("train", "--out", "run", "--resume", "--steps", 2, "--wandb", "arms").code == 0
    assert told()[0][2]["entity"] is None and {step for _, step in logged(told())} == {2}


def test_a_training_that_fails_ends_its_run_as_failed(dfplan, demos, told):  # noqa: F811
    words = ["train", "maze2d-umaze", "--data", demos, "--out", "run", "--set", *TINY, "lr=1e30"]
    failed = dfplan(*words, "--wandb", "arms")
    assert failed.code == 2 and "lower lr" in failed.err
    assert told()[-1] == ["finish", [], {"exit_code": 1}]


def test_what_cannot_be_logged_is_refused_before_training(dfplan, demos, told, monkeypatch):  # noqa: F811
    words = ["train", "maze2d-umaze", "--data", demos, "--out", "run", "--set", *TINY]
    refused = dfplan(*words, "--wandb", "nobody")
    assert refused.code == 2 and "(no API key); run `wandb login`" in refused.err.splitlines()[-1]
    assert not Path("run/checkpoint").exists() and not Path("run/metrics.jsonl").exists()
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused = dfplan(*words, "--wandb", "arms")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert refused.err == "dfplan: wandb is not installed; run: pip install 'dfplan[wandb]'\n"
