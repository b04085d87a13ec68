"""The commands of imitation, as a user types them: generate, inspect, convert, train, resume, evaluate."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan.data import Episodes, load, write_npz
from dfplan.tools.film import Frame
from dfplan.train.imitate import imitation_spec, suits

TINY = [
    "steps=4",
    "save_every=1",
    "keep_every=2",
    "log_every=1",
    "warmup=1",
    "batch=8",
    "precision=fp32",
    "model.width=16",
]
SHORT = ["--env-args", "max_episode_steps=40"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("imitation")


@pytest.fixture
def demos(place, dfplan):  # noqa: F811
    path = place / "pick.hdf5"
    if not path.exists():
        made = dfplan("data", "generate", "arm-pick", "--episodes", 3, "--seed", 1, "--out", path)
        assert made.code == 0, made.err
    return path


@pytest.fixture
def run(place, demos, dfplan):  # noqa: F811
    folder = place / "run"
    if not folder.exists():
        done = dfplan("train", "arm-pick", "--data", demos, "--out", folder, "--set", *TINY)
        assert done.code == 0, done.err
    return folder


def test_generated_demonstrations_are_reproducible_and_say_what_they_are(demos, dfplan, tmp_path):  # noqa: F811
    again = tmp_path / "again.hdf5"
    assert dfplan("data", "generate", "arm-pick", "--episodes", 3, "--seed", 1, "--out", again).code == 0
    one, two = load(demos), load(again)
    assert len(one) == 3 and one.info["env_args"]["env_name"] == "dfplan/ArmPick-v1"
    for key in one.arrays:
        np.testing.assert_array_equal(one.arrays[key], two.arrays[key])


def test_inspect_prints_writes_and_draws(demos, dfplan, tmp_path):  # noqa: F811
    got = dfplan("data", "inspect", demos, "--out", tmp_path / "look.png", "--json", tmp_path / "look.json")
    assert got.code == 0 and "robomimic" in got.out and "20 Hz" in got.out and "spot_z" in got.out
    assert json.loads((tmp_path / "look.json").read_text())["format"] == "robomimic"
    assert (tmp_path / "look.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["there.npz", "there.zarr", "there.zarr.zip", "folder"])
def test_convert_there_and_back_is_exact(demos, dfplan, tmp_path, name):  # noqa: F811
    assert dfplan("data", "convert", demos, tmp_path / name).code == 0
    back = dfplan("data", "convert", tmp_path / name, tmp_path / "back.hdf5", "--read", "rescale=true")
    assert back.code == 0, back.err
    one, two = load(demos), load(tmp_path / "back.hdf5")
    for key in one.arrays:
        np.testing.assert_array_equal(one.arrays[key], two.arrays[key])
    assert one.ends.tolist() == two.ends.tolist() and one.info["relative"] == two.info["relative"]


def test_training_goes_on_where_it_stopped(place, demos, run, dfplan):  # noqa: F811
    words = ["train", "arm-pick", "--data", demos, "--out", place / "halves", "--set", *TINY]
    whole = load_file(run / "checkpoint" / "model.safetensors")
    assert dfplan(*words, "steps=4").code == 0
    half = load_file(place / "halves" / "checkpoint" / "model.safetensors")
    assert all((whole[k] == half[k]).all() for k in whole)
    assert sorted(p.name for p in (run / "kept").iterdir()) == ["0000002", "0000004"]
    refused = dfplan(*words)
    assert refused.code == 2 and "--resume" in refused.err


def test_training_begins_with_a_model_that_is_there(place, demos, run, dfplan):  # noqa: F811
    words = ["train", "--begin", run, "--data", demos, "--out", place / "more", "--steps", "2"]
    assert dfplan(*words).code == 0
    kept = [
        json.loads((r / "checkpoint" / "config.json").read_text())["train"] for r in (run, place / "more")
    ]
    assert kept[0]["spec"] == kept[1]["spec"] and kept[1]["begin"] == str(run)
    assert dfplan("train", "--out", place / "more", "--resume", "--steps", "3").code == 0
    for more, said in ((["arm-pick"], "and --begin"), (["--begin", "arm-pik"], "did you mean 'arm-pick'")):
        refused = dfplan(
            "train", *more, *words[1:] if "--begin" not in more else words[3:], "--out", place / "x"
        )
        assert refused.code == 2 and said in refused.err


def test_a_model_goes_on_with_demonstrations_of_the_same_columns_alone(demos):
    shown = load(demos)
    spec = imitation_spec(shown)
    suits(spec, shown)
    fewer = Episodes({**shown.arrays, "actions": shown.arrays["actions"][:, :-1]}, shown.ends, shown.dt)
    names = {k: list(v) for k, v in shown.info["names"].items()}
    names["observations"][:2] = names["observations"][1::-1]
    turned = replace(shown, info={**shown.info, "names": names})
    for other, said in (
        (fewer, "9 columns"),
        (turned, "in column 0"),
        (replace(shown, dt=0.1), "steps of 0.1 s"),
    ):
        with pytest.raises(ValueError, match=said):
            suits(spec, other)


def test_evaluation_reports_checkpoints_best_and_mean_apart(run, dfplan, tmp_path):  # noqa: F811
    words = [
        "eval",
        "arm-pick",
        "--checkpoint",
        run,
        "--episodes",
        2,
        "--last",
        2,
        "--policy.steps",
        1,
        *SHORT,
    ]
    got = dfplan(*words, "--json", tmp_path / "e.json")
    assert got.code == 0, got.err
    values = json.loads((tmp_path / "e.json").read_text())
    assert [r["checkpoint"] for r in values["checkpoints"]] == ["0000002", "0000004"]
    each = [r["progress_mean"] for r in values["checkpoints"]]
    assert values["progress_mean_best"] == max(each)
    assert values["progress_mean_mean_of_last_2"] == pytest.approx(np.mean(each))
    row = values["checkpoints"][0]
    assert row["episodes"] == 2 and row["success_ci"][0] <= row["success"] <= row["success_ci"][1]


def test_only_the_first_six_episodes_are_filmed_whoever_runs_them(dfplan, tmp_path, monkeypatch):  # noqa: F811
    def played(job, seeds, workers, cluster):
        def outcome(seed):
            picture = np.full((4, 4, 3), seed, np.uint8)
            frames = [Frame(picture, 0)] if seed in job.film else []
            return SimpleNamespace(seed=seed, frames=frames)

        return {"success": 1.0}, [outcome(s) for s in seeds]

    monkeypatch.setattr("dfplan.rollout.evaluate", played)
    words = ["eval", "arm-reach", "--episodes", 9, "--seed", 5, "--workers", 3]
    assert dfplan(*words, "--video", tmp_path / "films").code == 0
    films = sorted(p.name for p in (tmp_path / "films").iterdir())
    assert films == sorted(f"arm-reach-{seed}.gif" for seed in range(5, 11))
    assert dfplan(*words).code == 0


def test_policies_are_run_with_as_many_threads_as_asked(run, dfplan):  # noqa: F811
    words = ["eval", "arm-pick", "--checkpoint", run, "--episodes", 1, "--policy.steps", 1, *SHORT]
    try:
        assert dfplan(*words, "--threads", 2).code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "words, message",
    [
        (["eval", "pusht", "--disturb", "push"], "got --disturb, which is for Maze2D, the arm"),
        (["eval", "arm-pick", "--threads", 0], "threads=0"),
        (["eval", "arm-pick", "--tracker", "pd"], "got --tracker, which is for planning models"),
        (["eval", "maze2d-umaze", "--disturb", "freeze"], "expected one of push, move, wind, door"),
        (["eval", "arm-pick", "--last", 3, "--checkpoint", "nowhere"], "kept 0 checkpoints, asked for 3"),
        (["eval", "maze2d-umaze", "--checkpoint", "RUN"], "as the model was trained"),
        (["train", "pusht", "--out", "x"], "pass --data"),
        (["train", "imitation", "--out", "x"], "no data given"),
        (["train", "imitation", "--out", "x", "--data", "DEMOS", "--read", "obs=objct"], "object"),
        (["train", "imitation", "--out", "x", "--data", "DEMOS", "--read", "mask"], "expected key=value"),
        (["train", "imitation", "--out", "x", "--data", "DEMOS", "--set", "tokens=[]"], "tokens"),
        (["data", "convert", "DEMOS"], "give one to convert"),
        (["data", "convert", "DEMOS", "x.xyz"], "format"),
        (["data", "generate", "arm-pick", "--steps", 10], "whose length is given in --episodes"),
        (["data", "generate", "maze2d-umaze-v1", "--episodes", 10], "whose length is given in --steps"),
        (["data", "inspect", "nothing.hdf5"], "no such file"),
        (["deploy", "--policy", "arm-pick", "--transport", "ros2"], "give the robot's mapping file"),
        (["deploy", "--policy", "maze2d-umaze", "--transport", "sim", "--seconds", 1], "tokens"),
    ],
)
def test_refusals_are_one_line_with_the_fix(words, message, demos, run, dfplan):  # noqa: F811
    words = [{"DEMOS": demos, "RUN": run}.get(w, w) for w in words]
    got = dfplan(*words)
    assert got.code == 2, got.out
    assert message in got.err and len(got.err.strip().splitlines()) == 1 and "Traceback" not in got.err


def test_deploy_drives_the_simulated_arm(dfplan):  # noqa: F811
    got = dfplan(
        "deploy", "--policy", "arm-pick", "--transport", "sim", "--arm", "--seconds", 2, "--worker", "thread"
    )
    assert got.code == 0, got.err
    assert "READY" in got.out and "armed" in got.out and "success" in got.out


def test_a_dry_run_of_the_example_arm_prints_what_would_be_sent(dfplan):  # noqa: F811
    words = "deploy --policy arm-pick --robot arm-pick --seconds 1.5 --worker thread --arm".split()
    got = dfplan(*words, "--transport", "dry-run")
    assert got.code == 0 and "joint_trajectory" in got.out and "q7" in got.out, got.err
    got = dfplan(*words, "--transport", "sim", "--inside", "ros2")
    assert got.code == 2 and "--transport dry-run" in got.err


def test_a_monitor_is_calibrated_by_one_command_and_used_by_another(demos, run, dfplan, tmp_path):  # noqa: F811
    whole, short, limits = load(demos), tmp_path / "short.npz", tmp_path / "monitor.json"
    arrays = {key: rows[:390] for key, rows in whole.arrays.items()}
    info = {key: whole.info[key] for key in ("names", "units", "groups", "relative")}
    write_npz(Episodes(arrays, np.arange(13, 391, 13), whole.dt, "short", info), short)
    made = dfplan("monitor", "--policy", run, "--data", short, "--out", limits)
    assert made.code == 0 and "--monitor" in made.out, made.err
    words = ["deploy", "--policy", run, "--transport", "sim", "--seconds", 0.5, "--worker", "thread"]
    assert dfplan(*words, "--monitor", limits, "--hold-on", "hand").code == 0
    limits.write_text(limits.read_text().replace('"spot"', '"spat"'))
    got = dfplan(*words, "--monitor", limits)
    assert got.code == 2 and "spot" in got.err and "Traceback" not in got.err


def test_a_run_may_be_told_how_long_it_may_take(demos, dfplan):  # noqa: F811
    words = ["train", "arm-pick", "--data", demos, "--set", *TINY, "steps=1000000", "save_every=1000"]
    done = dfplan(*words, "--out", "timed", "--minutes", 0.02)
    assert done.code == 0, done.err
    saved = json.loads(Path("timed/checkpoint/config.json").read_text())["train"]
    assert 1 <= saved["steps"] < 10_000 and saved["warmup"] == 1  # as many as fit, and no more
    assert f"{saved['steps']} steps of 8 windows" in done.out and f"at step {saved['steps']};" in done.out
    few = dfplan("train", "arm-pick", "--data", demos, "--set", *TINY, "--out", "few", "--minutes", 60)
    assert few.code == 0 and "at step 4;" in few.out  # no more than it was asked for
