"""Bad input to commands that read files of others: one line that says what was got and what to do, and nothing written."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import dfplan, elsewhere, shared  # noqa: F401  fixtures

from dfplan.data import Episodes, write_npz
from dfplan.deploy.robot.mapping import mapping_file

TINY = "steps=2 batch=4 warmup=1 log_every=1 save_every=1 precision=fp32 model.width=8 horizon=3".split()


def episodes(columns=4, actions=2, steps=24, count=3, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(steps * count, columns)),
        "actions": rng.normal(size=(steps * count, actions)),
    }
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()} | changes
    return Episodes(arrays, np.arange(steps, steps * count + 1, steps), 0.05, "random")


@pytest.fixture
def run(shared, dfplan):  # noqa: F811
    """A finished run on `demos.npz`, which lies beside it."""
    if not (shared / "run").exists():
        write_npz(episodes(), shared / "demos.npz")
        words = [
            "train",
            "imitation",
            "--data",
            shared / "demos.npz",
            "--out",
            shared / "run",
            "--set",
            *TINY,
        ]
        assert dfplan(*words).code == 0
    return shared / "run"


@pytest.fixture
def room(run):
    """A folder of good and bad files."""
    shutil.copytree(run, "run")
    shutil.copy(run.parent / "demos.npz", "demos.npz")
    shutil.copytree(run, "lost")
    Path("lost/run.json").write_text(json.dumps({"config": "imitation", "data": "gone.npz"}))
    shutil.copytree(run, "mute")
    Path("mute/run.json").unlink()
    shutil.copytree(run, "odd")
    Path("odd/run.json").write_text("[1, 2]")
    shutil.copytree(run, "cut")
    whole = Path("cut/checkpoint/model.safetensors").read_bytes()
    Path("cut/checkpoint/model.safetensors").write_bytes(whole[: len(whole) // 2])
    write_npz(episodes(columns=5), "wide.npz")
    write_npz(episodes(actions=3), "three.npz")
    write_npz(episodes(count=1), "single.npz")
    whole = Path("demos.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("text.npz").write_text("hello")
    Path("text.hdf5").write_text("hello")
    Path("empty").mkdir()
    Path("empty.npz").write_bytes(b"")
    np.savez("lame.npz", observations=np.ones((9, 2)))
    np.savez(
        "nan.npz", observations=np.full((9, 2), np.nan), actions=np.ones((9, 2)), episode_ends=[9], dt=0.1
    )
    Path("broken.yaml").write_text("robot: [1, 2\n")
    Path("list.yaml").write_text("- 1\n- 2\n")
    Path("bare.yaml").write_text("{}\n")
    sound = mapping_file("ur5e").read_text()
    Path("typo.yaml").write_text(sound.replace("robot:", "robbot:", 1))
    Path("taken").mkdir()
    Path("taken/ur5e.yaml").write_text("mine")
    tick = {"tick/now": np.arange(3.0)}
    for name, parts, about in (
        ("gap", (0, 2), "{}"), ("silent", (0,), "{}"), ("untold", (0,), None), ("mad", (0,), "{"), ("torn", (0,), "{}"),
        ("thin", (0,), "{}"),
    ):  # fmt: skip
        Path(name).mkdir()
        for part in parts:
            np.savez(Path(name, f"part-{part:05d}.npz"), **({} if name == "silent" else tick))
        if about is not None:
            Path(name, "about.json").write_text(about)
    Path("torn/part-00000.npz").write_bytes(Path("torn/part-00000.npz").read_bytes()[:50])
    Path("my.txt").write_text("####\n#..#\n####\n")
    Path("bent.txt").write_text("####\n#..#\n#####\n")
    Path("closed.txt").write_text("#####\n#.#.#\n#####\n")
    Path("open.txt").write_text("####\n#...\n####\n")


JUDGE, MAZE = ["judge", "run"], ["maze", "my.txt", "--out", "new"]
TRAIN = ["train", "imitation", "--data", "demos.npz", "--out", "new", "--set", *TINY]
BEGIN = ["train", "--data", "demos.npz", "--out", "new", "--begin"]
CONVERT, INSPECT, REPLAY = (
    ["data", "convert", "demos.npz"],
    ["data", "inspect", "demos.npz"],
    ["replay", "gap"],
)
NO_MODEL, NOT_DATA, DAMAGED = (
    "got model (no such folder either) '",
    "expected D4RL, Minari, robomimic",
    "take an earlier one",
)
OTHER, NO_ROBOSUITE = (
    "give recordings of the same robot",
    "robosuite is not installed; run: pip install 'dfplan[robots]'",
)
BAD = [  # words, what the line has of what was got, and of what to do
    (["judge", "nowhere"], NO_MODEL + "nowhere'", "expected one of arm-pick"),
    (["judge", "arm-pikc"], NO_MODEL + "arm-pikc'", "did you mean 'arm-pick'?"),
    (["judge", "empty"], "empty holds no checkpoint", "give a folder written by `dfplan train`"),
    (["judge", "cut"], "cut/checkpoint/model.safetensors: cannot be read", DAMAGED),
    (["judge", "lost"], "gone.npz: no such file", "check the path"),
    (["judge", "mute"], "mute does not say what it was trained on", "--data"),
    (["judge", "odd"], "odd/run.json: got [1, 2]", "expected a table of settings"),
    (["judge", "maze2d-umaze"], "maze2d-umaze does not say what it was trained on", "--data"),
    ([*JUDGE, "--data", "nowhere.npz"], "nowhere.npz: no such file", "check the path"),
    ([*JUDGE, "--data", "wide.npz"], "got observations of shape (5,), expected (4,)", OTHER),
    ([*JUDGE, "--data", "three.npz"], "got actions of shape (3,), expected (2,)", OTHER),
    ([*JUDGE, "--data", "cut.npz"], "cut.npz: a zip that is cut short", "fetch it again"),
    ([*JUDGE, "--data", "text.npz"], "text.npz: begins with b'hello'", NOT_DATA),
    ([*JUDGE, "--data", "empty"], "empty: a folder that holds []", NOT_DATA),
    ([*JUDGE, "--data", "nan.npz"], "'observations' row 0 is [nan nan]", "repair that row"),
    ([*JUDGE, "--data", "lame.npz"], "no 'episode_ends'", "add the exclusive end of each episode"),
    ([*JUDGE, "--data", "maze2d-umaz-v1"], "'maze2d-umaz-v1'", "mean maze2d-umaze-v1 or maze2d-eval-umaze-v1 or"),
    ([*JUDGE, "--data", "demos.npz", "--read", "speed=3"], "'speed'", "expected one of obs, action"),
    ([*JUDGE, "--data", "demos.npz", "--read", "speed"], "got option 'speed'", "expected key=value"),
    ([*JUDGE, "--data", "demos.npz", "--read", "episodes=90"], "got episodes [90]", "from 0 to 2"),
    ([*JUDGE, "--episodes", 0], "got episodes=0", "expected 1 or more"),
    ([*JUDGE, "--seed", -1], "got seed=-1", "expected 0 or more"),
    ([*JUDGE, "--out", "judged.doc"], "got 'judged.doc'", "ends in one of .png"),
    ([*JUDGE, "--out", "demos.npz/new.png"], "'demos.npz' is a file", "choose another place"),
    ([*JUDGE, "--json", "demos.npz/new.json"], "'demos.npz' is a file", "choose another place"),
    ([*JUDGE, "--device", "tpux"], "got device 'tpux'", "use --device cpu"),
    ([*JUDGE, "--threads", 0], "got threads=0", "expected 1 or more"),
    ([*JUDGE, "--holdout", 2], "got holdout=2.0", "from 0 to below 1"),
    ([*JUDGE, "--holdout", 0.5], "got holdout=0.5, which is for training", "leave it out"),
    ([*JUDGE, "--policy.chunk", 900], "got chunk=900", "expected a multiple of the model's 4"),
    ([*JUDGE, "--policy.temperature", -1], "got temperature=-1.0", "expected 0 (the mean) to 1"),
    ([*TRAIN, "--minutes", -1], "got minutes=-1.0", "expected a time above 0"),
    ([*TRAIN, "--minutes", "nan"], "got minutes=nan", "expected a time above 0"),
    (["train", "--out", "run", "--resume", "--minutes", 1], "got --minutes with --resume", "give --steps instead"),
    ([*TRAIN, "--holdout", 1], "got holdout=1.0", "from 0 to below 1"),
    ([*TRAIN, "--holdout", -0.1], "got holdout=-0.1", "from 0 to below 1"),
    ([*TRAIN, "--holdout", "nan"], "got holdout=nan", "from 0 to below 1"),
    ([*TRAIN, "--holdout", 0.5, "--data", "single.npz"], "got a share of 0.5 of 1 episodes", "of two or more"),
    (["train", "--out", "run", "--resume", "--holdout", 0.3], "got holdout=0.3 with --resume", "leave it out"),
    ([*BEGIN, "nowhere"], NO_MODEL + "nowhere'", "expected one of arm-pick"),
    ([*BEGIN, "empty"], "empty holds no checkpoint", "give a folder written by `dfplan train`"),
    ([*BEGIN, "cut"], "cut/checkpoint/model.safetensors: cannot be read", DAMAGED),
    ([*BEGIN, "run", "--data", "wide.npz"], "5 columns of 'observations', expected the 4", "or train from nothing"),
    ([*BEGIN, "run", "--data", "three.npz"], "3 columns of 'actions', expected the 2", "or train from nothing"),
    ([*BEGIN, "run", "--data", "nan.npz"], "row 0 is [nan nan]", "repair that row"),
    ([*BEGIN, "run", "--model.width", 64], "another model than 'run' (size mismatch", "leave out --model"),
    ([*BEGIN, "run", "--span", 2], "'span'", "expected one of spec, horizon"),
    ([*BEGIN, "run", "--lr", 0], "got lr=0.0", "expected a number above 0"),
    ([*BEGIN, "run", "--resume"], "nothing to resume: new holds no run", "leave out --resume"),
    ([*BEGIN, "run", "--out", "run"], "run holds a run", "pass --resume to go on with it"),
    ([*TRAIN, "--begin", "run"], "got imitation and --begin run", "give its name"),
    (["train", "--begin", "run", "--out", "new"], "no data given", "pass --data"),
    (["check", "nowhere.yaml"], "nowhere.yaml is no file", "begin with a copy of one that ships"),
    (["check", "ur5"], "got robot 'ur5'", "did you mean 'ur5e'?"),
    (["check", "empty"], "empty is no file", "begin with a copy of one that ships"),
    (["check", "broken.yaml"], "broken.yaml: not valid YAML", "expected ',' or ']'"),
    (["check", "list.yaml"], "list.yaml: got '[1, 2]'", "expected a table with robot"),
    (["check", "bare.yaml"], "missing 4 required", "expected keys ['robot'"),
    (["check", "typo.yaml"], "'robbot'", "did you mean 'robot'?"),
    (["check", "cut.npz"], "cut.npz: no text", "expected a mapping in YAML; begin with"),
    (["check", "ur5e", "--policy", "nowhere"], NO_MODEL + "nowhere'", "expected one of arm-pick"),
    (["check", "ur5e", "--policy", "cut"], "cannot be read", DAMAGED),
    (["check", "ur5e", "--policy", "run"], "trained on 4", "take the model of this robot"),
    (["check", "ur5e", "--copy", "taken"], "taken/ur5e.yaml: is there already", "choose another name"),
    (["check", "ur5e", "--copy", "demos.npz"], "got 'demos.npz'", "choose another place"),
    (["replay", "nowhere"], "nowhere holds no run", "give a folder of `dfplan deploy --record`"),
    (["replay", "empty"], "empty holds no run", "give a folder of `dfplan deploy --record`"),
    (REPLAY, "gap: part-00001.npz is missing", "delete the parts after it"),
    ([*REPLAY, "--device", "tpux"], "got device 'tpux'", "use --device cpu"),
    ([*REPLAY, "--picture", "new.doc"], "got 'new.doc'", "ends in one of .png"),
    (["replay", "silent"], "the run ended before its first tick", "nothing to replay"),
    (["replay", "untold"], "got 'untold/about.json': No such file", "check the path"),
    (["replay", "mad"], "mad/about.json: not valid JSON", "expected a table of settings"),
    (["replay", "torn"], "torn/part-00000.npz: cut short or damaged", "delete it and the parts after it"),
    (["replay", "thin"], "thin/about.json: got no asked", "give a folder of `dfplan deploy --record`"),
    (["eval", "robosuite:Lift"], "robosuite", NO_ROBOSUITE),
    (["eval", "robosuite:Lift", "--checkpoint", "run"], "robosuite", NO_ROBOSUITE),
    (["eval", "robosuite:Lift", "--env", "Hopper-v5"], "got task robosuite:Lift and --env Hopper-v5", "expected one"),
    (["eval", "robosuite:Lift", "--obstacles", -1], "got obstacles=-1", "expected 0 or more"),
    (["eval", "robosuite:Lift", "--across"], "got --across without --obstacles", "add --obstacles 1"),
    (["eval", "robosuite:Lift", "--env-args", "camera"], "got option 'camera'", "expected key=value"),
    (["eval", "robosuite:Lift", "--json", "demos.npz/e.json"], "'demos.npz' is a file", "choose another place"),
    (["eval", "robosuite:Lift", "--video", "demos.npz"], "'demos.npz' is a file", "choose another place"),
    (["eval", "robosuite:Lift", "--video-format", "mp4"], "without --video", "add --video FOLDER"),
    (["eval", "robosuit:Lift"], "got environment 'robosuit:Lift'", "expected module:Name"),
    (["eval", "--checkpoint", "run"], "got task None and --env None", "dfplan eval maze2d-large"),
    (["eval", "my.txt"], "no model ships for 'my.txt'", "give the run folder"),
    (["eval", "nowhere.txt", "--checkpoint", "run"], "'nowhere.txt', which is no file", "give a text file"),
    (CONVERT, "got target None", "give one to convert"),
    ([*CONVERT, "new.xyz"], "new.xyz: the ending tells no format", "expected one of .hdf5"),
    ([*CONVERT, "new.hdf5", "--format", "lerobto"], "got format 'lerobto'", "did you mean 'lerobot'?"),
    ([*CONVERT, "new.hdf5", "--read", "mask=train"], "got option 'mask'", "did you mean 'task'?"),
    ([*CONVERT, "empty"], "empty: is there already", "choose another name"),
    ([*CONVERT, "demos.npz"], "demos.npz: is there already", "choose another name"),
    ([*CONVERT, "text.npz/new.npz"], "got 'text.npz", "choose another place"),
    (["data", "convert", "nowhere.npz", "new.hdf5"], "nowhere.npz: no such file", "check the path"),
    (["data", "convert", "cut.npz", "new.hdf5"], "cut.npz: a zip that is cut short", "fetch it again"),
    (["data", "convert", "text.hdf5", "new.npz"], "text.hdf5: begins with b'hello'", NOT_DATA),
    (["data", "convert", "empty.npz", "new.hdf5"], "empty.npz: is empty", NOT_DATA),
    (["data", "convert", "nan.npz", "new.npz"], "row 0 is [nan nan]", "repair that row"),
    (["data", "inspect", "nowhere.npz"], "nowhere.npz: no such file", "check the path"),
    (["data", "inspect", "maze2d-umaz-v1"], "'maze2d-umaz-v1'", "did you mean maze2d-umaze-v1"),
    (["data", "inspect", "cut.npz", "--out", "new.png"], "cut.npz could not be read", "see the problems above"),
    ([*INSPECT, "new"], "got target new with 'inspect'", "give one to convert"),
    ([*INSPECT, "--out", "new.doc"], "got 'new.doc'", "ends in one of .png"),
    ([*INSPECT, "--out", "demos.npz/new.png"], "'demos.npz' is a file", "choose another place"),
    ([*INSPECT, "--json", "demos.npz/new.json"], "'demos.npz' is a file", "choose another place"),
    ([*INSPECT, "--read", "read_as=nowhere:Mine"], "'nowhere' cannot be imported", "expected module:Name"),
    (["data", "generate", "my.txt", "--out", "new.hdf5"], "maze 'my.txt' has no usual data size", "give steps="),
    (["data", "generate", "closed.txt", "--steps", 99], "got 1 of 2 free cells out of reach", "open a wall"),
    (["data", "generate", "robosuite:Lift", "--out", "new.hdf5"], "robosuite", NO_ROBOSUITE),
    (["maze", "nowhere.txt", "--out", "new"], "'nowhere.txt', which is no file", "give a text file"),
    (["maze", "bent.txt", "--out", "new"], "row 2 '#####' has 5 cells", "all rows need the same length"),
    (["maze", "closed.txt", "--out", "new"], "got 1 of 2 free cells out of reach", "open a wall"),
    (["maze", "open.txt", "--out", "new"], "the border is open", "need '#' only"),
    (["maze", "empty", "--out", "new"], "'empty', which is no file", "give a text file"),
    (["maze", "cut.npz", "--out", "new"], "'cut.npz', which is no text", "give rows of '#' and '.'"),
    (["maze", "my.txt", "--out", "taken"], "got --out taken", "choose another"),
    (["maze", "my.txt", "--out", "demos.npz/new"], "'demos.npz' is a file", "choose another place"),
    ([*MAZE, "--steps", 0], "got steps=0", "expected 1 or more"),
    ([*MAZE, "--data-steps", 0], "got data_steps=0", "expected 1 or more"),
    ([*MAZE, "--episodes", 0], "got episodes=0", "expected 1 or more"),
    ([*MAZE, "--seed", -1], "got seed=-1", "expected 0 or more"),
    ([*MAZE, "--precision", "int4"], "got precision 'int4'", "expected one of bf16, fp32"),
    ([*MAZE, "--threads", 0], "got threads=0", "expected 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "got", "fix"),
    BAD,
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_of_what_was_got_and_what_to_do(dfplan, room, monkeypatch, words, got, fix):  # noqa: F811
    monkeypatch.setitem(sys.modules, "robosuite", None)  # as where it is not installed
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    done = dfplan(*words)
    assert done.code in (1, 2) and "Traceback" not in done.out + done.err
    assert done.err.startswith("dfplan: ") and done.err.count("\n") == 1 and "\r" not in done.err, done.err
    assert got in done.err and fix in done.err, done.err
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


def test_there_are_many_and_each_is_another():
    assert len({tuple(map(str, words)) for words, _, _ in BAD}) == len(BAD) > 100
