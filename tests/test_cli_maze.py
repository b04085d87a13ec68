"""`dfplan maze`: one's own maze, from a text file to a measured planner, in one command that can be stopped."""

import json
import shlex
from pathlib import Path

import h5py
import pytest
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan import cli, envs
from dfplan.tools.serialize import read_values
from dfplan.train import Trainer, checkpoint

MAZE = "#####\n#S..#\n#.#.#\n#..G#\n#####\n"
FEW = ("--data-steps", 3000, "--episodes", 1, "--seed", 4)
LAST = ["plan.json", "eval.json"]


def made(folder):
    return {p: p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def commands(said):
    return [shlex.split(line.split(": ", 1)[1]) for line in said.splitlines() if " of 4, " in line]


@pytest.fixture
def maze():
    Path("my.txt").write_text(MAZE)
    return "my.txt"


@pytest.fixture
def tiny(monkeypatch):
    """The mazes' configurations with a network of no size, saved at every step."""
    small = {"model": {"width": 16, "layers": 1, "heads": 2}, "batch": 8, "warmup": 1, "save_every": 1}

    def config(name, real=cli.train.config_path):
        Path(f"../{name}.json").write_text(json.dumps(read_values(real(name)) | small))
        return Path(f"../{name}.json")

    monkeypatch.setattr(cli.train, "config_path", config)
    monkeypatch.setattr(cli.maze, "config_path", config)


def test_one_command_makes_what_four_make_and_a_second_run_runs_nothing(dfplan, maze):  # noqa: F811
    got = dfplan("maze", maze, "--out", "runs/mine", "--steps", 1, *FEW)
    assert got.code == 0, got.err
    data, train, plan, measure = commands(got.out)
    assert [words[1] for words in (data, train, plan, measure)] == ["data", "train", "plan", "eval"]
    with h5py.File("runs/mine/data.hdf5") as file:
        assert file.attrs["maze"] == "#####\n#OOO#\n#O#O#\n#OOG#\n#####" and file.attrs["seed"] == 4
        assert len(file["actions"]) == 3000
    config = checkpoint.settings(Path("runs/mine/checkpoint"))
    assert (config.task, config.goal, config.steps, config.seed) == ("runs/mine/maze.txt", (3.0, 3.0), 1, 4)
    assert "maze2d-umaze" in train  # whose longest way has 6 cells, as this one has 4
    assert (config.horizon, config.spec.stride) == (24, 10)
    drawn = json.loads(Path("runs/mine/plan.json").read_text())
    assert (drawn["start"], drawn["goal"]) == ("[1.0, 1.0]", "[3.0, 3.0]")
    assert Path("runs/mine/plan.png").read_bytes().startswith(b"\x89PNG")
    assert Path("runs/mine/denoise.gif").read_bytes().startswith(b"GIF8")
    numbers = json.loads(Path("runs/mine/eval.json").read_text())
    assert (numbers["task"], numbers["episodes"], numbers["seed"]) == ("runs/mine/maze.txt", 1, 4)
    before = made("runs/mine")
    again = dfplan("maze", maze, "--out", "runs/mine")
    assert again.code == 0 and commands(again.out) == commands(got.out) and made("runs/mine") == before
    assert again.out.count("there already, not run") == 4
    other = dfplan("maze", maze, "--out", "runs/mine", "--seed", 5)
    assert other.code == 2 and "got seed=5, but runs/mine began with 4; leave it out" in other.err
    Path("my.txt").write_text(MAZE.replace("S", "."))
    other = dfplan("maze", maze, "--out", "runs/mine")
    assert other.code == 2 and "is of the maze in runs/mine/maze.txt" in other.err
    assert made("runs/mine") == before
    words = ["runs/mine/maze.txt", "--checkpoint", "runs/mine", "--planner.candidates", 2]
    assert dfplan("plan", *words, "--start", 2, 1, "--goal", 1, 3, "--out", "later").code == 0
    assert dfplan("eval", *words, "--goal", "random", "--episodes", 1, "--disturb", "push").code == 0


def test_a_printed_command_does_the_same_alone(dfplan, maze, tiny):  # noqa: F811
    got = dfplan("maze", maze, "--out", "mine", "--steps", 2, *FEW)
    assert got.code == 0, got.err
    before = made("mine")
    for path in ("data.hdf5", "checkpoint", "plan.json", "eval.json"):
        Path("mine", path).rename(path)
    for words in commands(got.out):
        assert dfplan(*words[1:]).code == 0
    for name in ("checkpoint/training.safetensors", "plan.png", "denoise.gif"):
        assert Path("mine", name).read_bytes() == before[Path("mine", name)]


def test_what_was_stopped_goes_on(dfplan, maze, tiny, monkeypatch):  # noqa: F811
    honest, words = Trainer.train_step, ["maze", maze, "--out", "mine", "--steps", 3, *FEW]

    def interrupted(self):
        if self.step == 1:
            raise KeyboardInterrupt
        return honest(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert dfplan(*words).code == 130
    data = Path("mine/data.hdf5").read_bytes()
    monkeypatch.setattr(Trainer, "train_step", honest)
    done = dfplan("maze", maze, "--out", "mine")
    assert done.code == 0, done.err
    assert commands(done.out)[1][:5] == ["dfplan", "train", "--out", "mine", "--resume"]
    assert done.out.count("not run") == 1 and Path("mine/data.hdf5").read_bytes() == data
    assert checkpoint.read_json(Path("mine/checkpoint/training.json"))["step"] == 3
    before = made("mine")
    for name in LAST:
        Path("mine", name).unlink()
        assert dfplan("maze", maze, "--out", "mine").out.count("not run") == 3
        assert Path("mine", name).exists()
    assert made("mine/checkpoint") == {p: b for p, b in before.items() if "checkpoint" in p.parts}


def test_without_marks_the_plan_takes_the_longest_way_and_goals_are_random(dfplan, tiny):  # noqa: F811
    """A way of 22 cells: the large maze's configuration, with a window that is as much longer."""
    rows = ["#######"]
    for turn in ("#####.#", "#.#####", "#####.#", "#######"):
        rows += ["#.....#", turn]
    Path("snake.txt").write_text("\n".join(rows))
    got = dfplan("maze", "snake.txt", "--out", "mine", "--steps", 1, *FEW)
    assert got.code == 0, got.err
    _, train, plan, measure = commands(got.out)
    ends = [plan[plan.index(mark) + 1 :][:2] for mark in ("--start", "--goal")]
    assert sorted(ends) == [["1", "1"], ["7", "1"]]
    assert measure[measure.index("--goal") + 1] == "random" and "maze2d-large" in train
    config = checkpoint.settings(Path("mine/checkpoint"))
    assert config.horizon == 38 and config.spec.stride * config.horizon * config.spec.dt > 6.56


def test_where_a_maze_is_read_from_a_file():
    Path("room.txt").write_text("  #####\r\n  #S.G#\r\n  #####\r\n\r\n", newline="")
    room, start = envs.read_maze("room.txt")
    assert room.rows == ("#####", "#OOG#", "#####") and (room.name, start) == ("room.txt", (1, 1))
    assert envs.get_maze("room.txt") == room
    env = envs.make("room.txt")
    assert env.unwrapped.goal.tolist() == [1, 3] and env.spec.max_episode_steps == 800
    Path("known.txt").write_text(envs.MAZES["umaze"].text.replace("O", "."))
    assert envs.read_maze("known.txt") == (envs.MAZES["umaze"], None)


BAD = {
    "ragged": ("#####\n#..#\n#####", "row 1 '#OO#' has 4 cells, row 0 has 5"),
    "open": ("#####\n#...#\n#.###", "the border is open"),
    "two rooms": ("#####\n#.#.#\n#####", "got 1 of 2 free cells out of reach of (1, 1), such as (1, 3)"),
    "one cell": ("###\n#.#\n###", "got 1 free cell, expected 2 or more"),
    "no cell": ("###\n###", "got no free cell"),
    "strange": ("#####\n#.x.#\n#####", "got ['x'] in row 1 '#.x.#', expected '#', '.', 'O', 'G', 'S'"),
    "two starts": ("#####\n#S.S#\n#####", "got 2 starts 'S', expected at most one"),
    "two goals": ("#####\n#G.G#\n#####", "got 2 goal cells 'G', expected at most one"),
    "empty": ("\n\n", "got no rows"),
    "no text": (b"\x89PNG\xff\xfe", "which is no text"),
    "too far": (f"{'#' * 30}\n#{'.' * 28}#\n{'#' * 30}", "got a way of 27 cells from"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_and_leaves_nothing(dfplan, case):  # noqa: F811
    text, said = BAD[case]
    Path("bad.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    got = dfplan("maze", "bad.txt", "--out", "mine")
    assert got.code == 2 and said in got.err and got.err.count("\n") == 1, got.err
    assert got.out == "" and [p.name for p in Path().iterdir()] == ["bad.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.txt", "--out", "mine"], "got maze file 'none.txt', which is no file"),
        (["my.txt", "--out", "theirs"], "got --out theirs, which `dfplan maze` did not begin"),
        (["my.txt", "--out", "my.txt"], "but 'my.txt' is a file, expected a folder"),
        (["my.txt", "--out", "mine", "--steps", 0], "got steps=0, expected 1 or more"),
        (["my.txt", "--out", "mine", "--seed", -1], "got seed=-1, expected 0 or more"),
        (
            ["my.txt", "--out", "mine", "--precision", "fp8"],
            "got precision 'fp8', expected one of bf16, fp32",
        ),
        (["my.txt", "--out", "mine", "--device", "tpux"], "use --device cpu"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(dfplan, maze, words, said):  # noqa: F811
    Path("theirs").mkdir()
    Path("theirs/work").write_text("of somebody")
    got = dfplan("maze", *words)
    assert got.code == 2 and said in got.err and "Traceback" not in got.err, got.err
    assert sorted(map(str, Path().rglob("*"))) == ["my.txt", "theirs", "theirs/work"]
