import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from inspect import isfunction, signature
from pathlib import Path
from typing import NamedTuple, get_type_hints

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file

from dfplan import __version__, cli
from dfplan.decide import Sampling
from dfplan.train import Levels, ModelConfig, TrainConfig, Trainer, checkpoint
from dfplan.train.imitate import Layout
from dfplan.train.together import alone

COMMANDS = ["data", "train", "plan", "eval", "plot"]
TINY = "steps=4 save_every=1 log_every=1 warmup=1 batch=8 horizon=8 precision=fp32".split()
TINY += ["model.width=16", "model.layers=1", "model.heads=2"]
QUICK = ["--planner.candidates", "2", "--planner.steps", "2"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty folder, with caches of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("DFPLAN_DATA", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def dfplan(monkeypatch, capfd):
    """Runs the command in this process, as the shell would: words in; exit code, stdout and stderr out."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["dfplan", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def demos(shared, dfplan):
    """A small data set."""
    path = shared / "umaze.hdf5"
    if not path.exists():
        assert dfplan("data", "generate", "maze2d-umaze-v1", "--steps", 3000, "--out", path).code == 0
    return path


@pytest.fixture
def run(shared, demos, dfplan):
    """A finished run of four steps."""
    path = shared / "run"
    if not path.exists():
        assert dfplan("train", "maze2d-umaze", "--data", demos, "--out", path, "--set", *TINY).code == 0
    return path


def test_the_installed_command_says_what_it_can_do():
    script = Path(sys.executable).with_name("dfplan")
    assert script.exists(), "the package is not installed; run: pip install -e ."
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)
    done = subprocess.run(
        [sys.executable, "-m", "dfplan.cli", "plan", "maze2d-huge"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("dfplan: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_explains_every_option(dfplan, command):
    got = dfplan(command, "--help")
    assert got.code == 0
    assert f"dfplan {command} " in got.out.split("options")[0]
    assert "(required)" in got.out or "default" in got.out


def test_data_generate_and_info(dfplan, demos):
    with h5py.File(demos) as file:
        assert file["observations"].shape == (3000, 4)
    got = dfplan("data", "info", demos, "--json", "info.json")
    assert got.code == 0 and "3000" in got.out
    info = json.loads(Path("info.json").read_text())
    assert info["steps"] == 3000 and info["dt"] == 0.01 and info["episodes"] > 1
    assert {"observations", "actions", "episode_steps"} <= set(info)


def test_data_generate_repeats_itself(dfplan):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            dfplan("data", "generate", "umaze", "--steps", 1000, "--seed", seed, "--out", f"{name}.hdf5").code
            == 0
        )
    a, b, c = (h5py.File(f"{name}.hdf5")["actions"][:] for name in "abc")
    assert (a == b).all() and (a != c).any()


def test_data_get_says_how_it_came_by_the_file(dfplan, demos, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.common, "_generate", lambda name, path: path.write_bytes(demos.read_bytes()))
    first = dfplan("data", "get", "maze2d-umaze-v1", "--no-download", "--json", "got.json")
    assert first.code == 0 and "generating it instead" in first.out
    got = json.loads(Path("got.json").read_text())
    assert got["how"] == "generated" and Path(got["path"]).parent == tmp_path / "dfplan_data"
    assert "using" in dfplan("data", "get", "maze2d-umaze-v1", "--no-download").out
    published = tmp_path / "d4rl_dataset_dir" / "maze2d-large-sparse-v1.hdf5"
    published.parent.mkdir()
    published.write_bytes(demos.read_bytes())
    again = dfplan("data", "get", "maze2d-large-v1")
    assert again.code == 0 and "cached" in again.out and str(published) in again.out
    assert dfplan("data", "get", "maze2d-umaze-v1", "--no-download", "--out", "mine").code == 0
    assert list(Path("mine").glob("*.hdf5"))


def test_train_writes_a_run_that_stands_alone(run):
    assert {p.name for p in run.iterdir()} == {"checkpoint", "metrics.jsonl", "run.json", "tensorboard"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3, 4] and all(np.isfinite(r["loss"]) for r in rows)
    assert checkpoint.load(run / "checkpoint").config.model.width == 16


def test_train_refuses_to_overwrite_and_resumes_to_the_same_weights(dfplan, demos, run, monkeypatch):
    words = ["train", "maze2d-umaze", "--data", demos, "--out", "again", "--set", *TINY]
    honest = Trainer.train_step

    def interrupted(self):
        if self.step == 2:
            raise KeyboardInterrupt
        return honest(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    stopped = dfplan(*words)
    assert stopped.code == 130 and "Traceback" not in stopped.err
    monkeypatch.setattr(Trainer, "train_step", honest)
    assert json.loads(Path("again/checkpoint/training.json").read_text())["step"] == 2
    before = Path("again/checkpoint/training.safetensors").read_bytes()
    refused = dfplan(*words)
    assert refused.code == 2 and "--resume" in refused.err
    other = dfplan(*words[:-1], "model.heads=4", "--resume")
    assert other.code == 2 and "other settings" in other.err
    assert Path("again/checkpoint/training.safetensors").read_bytes() == before
    done = dfplan(*words, "--resume")
    assert done.code == 0 and "at step 4" in done.out
    ours, whole = (
        load_file(folder / "checkpoint" / "training.safetensors") for folder in (Path("again"), run)
    )
    assert ours.keys() == whole.keys() and all((ours[k] == whole[k]).all() for k in whole)


def test_a_run_goes_on_with_what_it_began_with_and_may_be_made_longer(dfplan, run, monkeypatch):
    shutil.copytree(run, "mine")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # its data are found from anywhere
    done = dfplan("train", "--out", "../mine", "--resume", "--steps", 6, "--save-every", 3)
    assert done.code == 0 and "at step 6" in done.out, done.err
    before, after = (checkpoint.settings(folder / "checkpoint") for folder in (run, Path("../mine")))
    assert after == replace(before, steps=6, save_every=3)
    for words, fix in (
        (
            ["--lr", 1],
            "'lr': (0.001, 1.0)} (saved, given); a run that goes on may change only steps, save_every",
        ),
        (["--steps", 5], "is at step 6"),
        (["--span", 2], "got span with --resume"),
        (["--set", "model.width=32"], "'model'"),
    ):
        refused = dfplan("train", "--out", "../mine", "--resume", *words)
        assert refused.code == 2 and fix in refused.err, refused.err
    refused = dfplan("train", "maze2d-large", "--out", "../mine", "--resume")
    assert refused.code == 2 and "began as 'maze2d-umaze'" in refused.err


def test_a_setting_is_the_same_as_an_option_or_after_set(dfplan, demos):
    words = ["train", "maze2d-umaze", "--data", demos, "--set", *TINY, "steps=1"]
    assert (
        dfplan(
            *words, "model.noise.kind=linear", 'act={"policy": {"chunk": 4}}', "goal=[1.5, 2]", "--out", "a"
        ).code
        == 0
    )
    more = ["--model.noise.kind", "linear", "--act", '{"policy": {"chunk": 4}}', "--goal", 1.5, 2]
    assert dfplan(*words, *more, "--out", "b").code == 0
    a, b = (checkpoint.settings(Path(name) / "checkpoint") for name in "ab")
    assert a == b and (a.goal, a.act, a.model.noise.kind) == ((1.5, 2.0), {"policy": {"chunk": 4}}, "linear")


@pytest.mark.parametrize("cls", [TrainConfig, ModelConfig, Levels, Layout])
def test_help_of_train_shows_every_setting_with_its_meaning(dfplan, cls):
    shown = " ".join(dfplan("train", "--help").out.replace("│", " ").split())
    group = {ModelConfig: "model.", Levels: "levels."}.get(cls, "")
    for field in fields(cls):
        if is_dataclass(get_type_hints(cls)[field.name]):
            continue
        option = f"--{group}{field.name.replace('_', '-')} "
        assert option in shown, option
        assert "(default: " not in shown.split(option, 1)[1][:12], f"{option} is not explained"


def test_the_second_training_in_a_folder_is_refused(dfplan, run):
    shutil.copytree(run, "mine")
    with alone(Path("mine/checkpoint")):
        got = dfplan("train", "--out", "mine", "--resume", "--steps", 9)
    assert got.code == 2 and f"mine/checkpoint is being trained by process {os.getpid()} on" in got.err
    assert (Path("mine") / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


MODULES = [
    *(cli.data, cli.eval_options, cli.evaluate, cli.hub, cli.judge, cli.lists, cli.maze, cli.plan, cli.train),
    *(cli.check, cli.deploy, cli.export, cli.home, cli.monitor, cli.record, cli.replay, cli.serve, cli.sweep),
]


def test_a_command_has_at_most_eight_arguments_of_its_own_and_a_device_where_it_loads_a_model():
    """Options that belong together are one documented, frozen group."""
    commands = [f for m in MODULES for f in vars(m).values() if isfunction(f) and f.__module__ == m.__name__]
    commands = [f for f in commands if f.__doc__ and "\n    dfplan " in f.__doc__]
    assert len(commands) == len(cli.COMMANDS)
    for command in commands:
        arguments = signature(command).parameters
        assert len(arguments) <= 8, command
        assert all(f"\n        {name}: " in command.__doc__ for name in arguments), command
        loads = command.__name__ in (
            "deploy",
            "evaluate",
            "judge",
            "maze",
            "monitor",
            "plan",
            "replay",
            "serve",
            "train",
        )
        assert ("compute" in arguments) == loads, command


def test_version_and_names_of_everything(dfplan):
    assert dfplan("--version").out == f"dfplan {__version__}\n"
    for name in cli.COMMANDS:
        assert f"• {name} " in dfplan("--help").out.replace("│", " ")
    names = json.loads(dfplan("list", "--json").out)
    kinds = "models, tasks, environments, arms, formats, schedules, step rules, costs, networks, memories, policies"
    assert list(names) == kinds.split(", ") and all(names.values())
    assert "obstacle" in names["costs"] and Sampling(cost=names["costs"][-1]).own_cost() is not None
    assert (
        "maze2d-large" in names["models"] and "npz" in names["formats"] and "transformer" in names["networks"]
    )
    shown = dfplan("list").out
    assert all(name in shown for each in names.values() for name in each)


def test_train_exports_a_model_in_half_precision(dfplan, demos):
    words = [
        "train",
        "maze2d-umaze",
        "--data",
        demos,
        "--out",
        "r",
        "--export",
        "small",
        "--set",
        *TINY,
        "steps=1",
    ]
    assert dfplan(*words).code == 0
    assert {p.name for p in Path("small").iterdir()} == {
        "config.json",
        "evidence.safetensors",
        "model.safetensors",
    }
    assert checkpoint.load("small").config.steps == 1


KEYS = {
    "task", "episodes", "seed", "return_mean", "return_se", "score", "score_se", "success", "first_reach_mean",
    "network_calls_mean", "plan_ms_p50", "plan_ms_p99", "tasks", "hardware", "ceiling", "ceiling_se",
}  # fmt: skip


def evaluate(dfplan, run, *words):
    got = dfplan(
        "eval", "maze2d-umaze", "--checkpoint", run, "--episodes", 1, "--json", "e.json", *QUICK, *words
    )
    assert got.code == 0, got.err
    return json.loads(Path("e.json").read_text())


def test_eval_reports_every_number(dfplan, run):
    got = evaluate(dfplan, run, "--seed", 3)
    assert set(got) >= KEYS
    assert (got["task"], got["episodes"], got["seed"]) == ("maze2d-umaze", 1, 3)
    assert got["plan_ms_p99"] >= got["plan_ms_p50"] > 0 and got["network_calls_mean"] > 0
    again = evaluate(dfplan, run / "checkpoint", "--seed", 3)
    same = KEYS - {"plan_ms_p50", "plan_ms_p99"}
    assert {k: got[k] for k in same} == {k: again[k] for k in same}


@pytest.mark.parametrize("name", ["starts.npz", "starts.hdf5"])
def test_eval_from_given_starts(dfplan, run, name):
    arrays = {"start_state": np.array([[1.0, 1.0, 0.0, 0.0]]), "goal_pos": np.array([[1.0, 1.2]])}
    if name.endswith("npz"):
        np.savez(name, **arrays)
    else:
        with h5py.File(name, "w") as file:
            file.update(arrays)
    got = evaluate(dfplan, run, "--starts", name)
    assert got["success"] == 1 and got["first_reach_mean"] == 0


def test_eval_with_random_goals_and_the_official_law(dfplan, run):
    got = evaluate(dfplan, run, "--goal", "random", "--tracker", "pd", "--planner.schedule", "full")
    assert set(got) >= KEYS


def test_plan_draws_both_pictures(dfplan, run):
    words = [
        "plan",
        "maze2d-umaze",
        "--checkpoint",
        run,
        "--start",
        1,
        1,
        "--goal",
        3,
        1,
        "--out",
        "pictures",
    ]
    got = dfplan(*words, "--json", "plan.json", *QUICK)
    assert got.code == 0, got.err
    assert Path("pictures/plan.png").read_bytes().startswith(b"\x89PNG")
    assert Path("pictures/denoise.gif").read_bytes().startswith(b"GIF8")
    values = json.loads(Path("plan.json").read_text())
    assert values["start"] == "[1.0, 1.0]" and values["goal"] == "[3.0, 1.0]" and "score" in values


def test_plots(dfplan, run):
    assert dfplan("plot", "curves", run).code == 0
    assert dfplan("plot", "schedules", "--out", "schedules.png").code == 0
    for path in (run / "curves.png", Path("schedules.png")):
        assert path.read_bytes().startswith(b"\x89PNG")
    (run / "curves.png").unlink()


TRAIN = ["train", "maze2d-umaze", "--out", "new", "--data", "DEMOS", "--set", *TINY]
BAD = {
    "unknown data set": (["data", "get", "maze2d-hugo-v1"], "maze2d-"),
    "no such file": (["data", "info", "none.hdf5"], "none.hdf5"),
    "not HDF5": (["data", "info", "text.hdf5"], "begins with b"),
    "no steps": (["data", "generate", "umaze", "--steps", 0], "steps >= 1"),
    "no maze": (["data", "generate", "maze2d-huge-v1"], "did you mean"),
    "cannot be had": (["data", "get", "door-human-v1", "--no-download"], "put it at"),
    "unknown configuration": (["train", "maze2d-umaz", "--out", "new"], "did you mean 'maze2d-umaze'"),
    "configuration is no JSON": (["train", "text.hdf5", "--out", "new"], "not valid JSON"),
    "configuration is a list": (["train", "list.json", "--out", "new"], "expected"),
    "configuration is a folder": (["train", "empty", "--out", "new"], "empty"),
    "setting without a value": ([*TRAIN, "model.width"], "key=value"),
    "setting out of range": ([*TRAIN, "batch=0"], "above 0"),
    "no configuration": (["train", "--out", "new"], "got no configuration"),
    "nothing to go on with": (["train", "--out", "new", "--resume"], "leave out --resume"),
    "unknown command": (["trian", "maze2d-umaze"], "did you mean 'train'"),
    "network that is not there": ([*TRAIN, "model.kind=my.nets:Mine"], "'my.nets' cannot be imported"),
    "table that is none": ([*TRAIN, "act=3"], "act: got 3, expected a table"),
    "heads do not divide the width": ([*TRAIN, "model.heads=3"], "heads"),
    "nothing to resume": ([*TRAIN, "--resume"], "leave out --resume"),
    "no such device": (["plan", "maze2d-umaze", "--checkpoint", "RUN", "--device", "tpux"], "--device cpu"),
    "no such device on an arm": (
        ["deploy", "--policy", "arm-pick", "--transport", "sim", "--device", "tpux"],
        "--device cpu",
    ),
    "no threads": (["plan", "maze2d-umaze", "--checkpoint", "RUN", "--threads", 0], "1 or more"),
    "unknown model": (["eval", "maze2d-umaze", "--checkpoint", "maze2d-lagre"], "no such folder"),
    "folder without a checkpoint": (["eval", "maze2d-umaze", "--checkpoint", "empty"], "holds no checkpoint"),
    "damaged checkpoint": (["eval", "maze2d-umaze", "--checkpoint", "damaged"], "damaged"),
    "unknown task": (["eval", "maze2d-huge", "--checkpoint", "RUN"], "did you mean"),
    "no episodes": (["eval", "maze2d-umaze", "--checkpoint", "RUN", "--episodes", 0], "1 or more"),
    "negative seed": (["eval", "maze2d-umaze", "--checkpoint", "RUN", "--seed", -1], "0 or more"),
    "no such starts": (
        ["eval", "maze2d-umaze", "--checkpoint", "RUN", "--starts", "none.npz"],
        "start_state",
    ),
    "starts of another robot": (
        ["eval", "maze2d-umaze", "--checkpoint", "RUN", "--starts", "six.npz"],
        "two finite",
    ),
    "start in a wall": (["plan", "maze2d-umaze", "--checkpoint", "RUN", "--start", 0, 0], "wall"),
    "goal outside": (["plan", "maze2d-umaze", "--checkpoint", "RUN", "--goal", 90, 90], "90"),
    "negative seed of data": (["data", "generate", "umaze", "--steps", 9, "--seed", -1], "0 or more"),
    "negative seed of a plan": (["plan", "maze2d-umaze", "--checkpoint", "RUN", "--seed", -1], "0 or more"),
    "curves of nothing": (["plot", "curves", "empty"], "metrics.jsonl"),
    "curves of an empty run": (["plot", "curves", "young"], "empty"),
    "curves cut short": (["plot", "curves", "cut"], "line 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_the_fix_and_nothing_is_written(dfplan, demos, run, case):
    Path("text.hdf5").write_text("hello")
    Path("list.json").write_text("[1, 2]")
    np.savez("six.npz", start_state=np.ones((1, 6)))
    for name, lines in (
        ("empty", None),
        ("young", ""),
        ("cut", '{"step": 1, "loss": 1, "grad_norm": 1, "lr": 1}\n{"st'),
    ):
        Path(name).mkdir()
        if lines is not None:
            (Path(name) / "metrics.jsonl").write_text(lines)
    Path("damaged").mkdir()
    for name in ("config.json", "model.safetensors"):
        whole = (run / "checkpoint" / name).read_bytes()
        (Path("damaged") / name).write_bytes(whole if name == "config.json" else whole[: len(whole) // 2])
    before = {p for p in Path().rglob("*")}
    words, fix = BAD[case]
    got = dfplan(*[{"RUN": run, "DEMOS": demos}.get(w, w) for w in words])
    said = [line for line in got.err.splitlines() if line.startswith("dfplan: ")]
    assert got.code == 2, got
    assert "Traceback" not in got.err and len(said) == 1 and got.err.endswith(said[0] + "\n"), got.err
    assert fix in said[0], said[0]
    left = {str(p) for p in set(Path().rglob("*")) - before if p.is_file() and p.suffix != ".lock"}
    assert not left, left


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["evaluate"], "eval"),
        (["train", "maze2d-umaze", "--out", "new", "--set", "model.widht=8"], "--model.width INT"),
        (["train", "maze2d-umaze", "--out", "new", "--model.widht", "8"], "--model.width INT"),
        (["train", "maze2d-umaze", "--out", "new", "--set", "steps.width=8"], "Unrecognized options"),
        (["train", "maze2d-umaze", "--out", "new", "--batch", "many"], "--batch INT"),
        (["monitor"], "Missing from dfplan monitor"),
        (["eval", "maze2d-umaze", "--episode", "3"], "--episodes"),
        (["eval", "maze2d-umaze", "--episodes", "few"], "--episodes"),
        (["data", "got", "x"], "generate"),
        (["plan", "--planner.schedule", "fast"], "pyramid"),
        (["plan", "--planner.candidates", "0"], "above 0"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(dfplan, words, fix):
    got = dfplan(*words)
    assert got.code == 2 and fix in got.err and "Traceback" not in got.err
    assert not list(Path().iterdir())


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence():
    """As in `dfplan train --help | head`: what is read is gone before all is written."""
    out, end = os.pipe()
    os.close(out)
    told = subprocess.run(
        [sys.executable, "-m", "dfplan.cli", "train", "--help"], stdout=end, stderr=subprocess.PIPE, text=True
    )
    os.close(end)
    assert told.returncode == 141 and told.stderr == ""
