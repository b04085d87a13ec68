"""`dfplan eval` on any environment: Gymnasium's, other packages', one's own; models, strangers' policies, the search."""

import importlib.util
import json
import pickle
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan import envs, rollout
from dfplan.data import Episodes, write_npz
from dfplan.tools.spaces import Flat, entries

TINY = "steps=2 batch=4 warmup=1 log_every=1 save_every=1 precision=fp32 model.width=8 horizon=3".split()
OTHERS = [
    ("gymnasium_robotics", "FetchReach-v4", {}),
    ("gymnasium_robotics", "AdroitHandDoor-v1", {}),
    ("metaworld", "Meta-World/MT1", {"env_name": "reach-v3"}),
    ("ogbench", "pointmaze-medium-v0", {}),
]


def demonstrations(path, env, keys=(), episodes=2, steps=24):
    """Random actions and what was seen; a token for each of `keys`."""
    sizes = [entries(env.observation_space)[k] for k in keys]
    rows, acts, env = [], [], Flat(env, keys) if keys else env
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(steps):
            action = env.action_space.sample()
            rows.append(observation)
            acts.append(action)
            observation, *_ = env.step(action)
    arrays = {"observations": np.asarray(rows, np.float32), "actions": np.asarray(acts, np.float32)}
    ends = np.cumsum(sizes).tolist()
    info = {"groups": {k: [e - s, e] for k, s, e in zip(keys, sizes, ends, strict=True)}} if keys else {}
    write_npz(Episodes(arrays, np.arange(steps, steps * episodes + 1, steps), 0.05, "random", info), path)


def trained(dfplan, env, name, keys=()):  # noqa: F811
    demonstrations("demos.npz", env, keys)
    made = dfplan("train", "imitation", "--data", "demos.npz", "--out", name, "--set", *TINY)
    assert made.code == 0, made.err
    return name


def measured(dfplan, *words):  # noqa: F811
    got = dfplan("eval", *words, "--episodes", 2, "--seed", 3, "--json", "e.json")
    assert got.code == 0, got.err
    with open("e.json") as file:
        return json.load(file)


class Here:
    """Stands for the worker processes, which take seconds to start: what they get and give is pickled all the same."""

    def __init__(self, workers, context):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, parts):
        assert len(parts) == self.workers
        return [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(part))) for part in parts]


@pytest.fixture
def workers_here(monkeypatch):
    monkeypatch.setattr(rollout, "ProcessPoolExecutor", Here)


@pytest.mark.parametrize("name", ["Pendulum-v1", "Hopper-v5"])
def test_gymnasium(dfplan, name, request):  # noqa: F811
    if name == "Pendulum-v1":  # Hopper's are real
        request.getfixturevalue("workers_here")
    words = ["--env", name, "--checkpoint", trained(dfplan, gym.make(name), "run"), "--policy.steps", 1]
    values = measured(dfplan, *words)
    assert values["episodes"] == 2 and np.isfinite(values["return_mean"]) and values["network_calls_mean"] > 0
    assert values["success"] is None and values["progress_mean"] is None
    if name == "Hopper-v5":
        share = (values["return_mean"] + 20.272305) / (3234.3 + 20.272305)
        assert values["score"] == pytest.approx(100 * share)
    else:
        assert values["score"] is None and values["steps_mean"] == 200
    again = measured(dfplan, *words, "--workers", 2)
    assert values["return_mean"] == pytest.approx(again["return_mean"], rel=1e-5)


@pytest.mark.parametrize("package, name, options", OTHERS)
def test_environments_of_other_packages(dfplan, package, name, options):  # noqa: F811
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install 'dfplan[robots,ogbench]'")
    env = envs.make(name, **options)
    keys = ("observation", "desired_goal") if isinstance(env.observation_space, gym.spaces.Dict) else ()
    run = trained(dfplan, env, "run", keys)
    words = ["--env", name, "--checkpoint", run, "--policy.steps", 1]
    args = [f"{k}={v}" for k, v in options.items()] + (
        ["max_episode_steps=40"] if package != "metaworld" else []
    )
    values = measured(dfplan, *words, "--env-args", *args)
    assert values["success"] in (0.0, 0.5, 1.0) and values["success_ci"][0] <= values["success"]
    assert values["score"] is None


def test_own_environment_by_module_and_a_strangers_policy(dfplan, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    values = measured(dfplan, "--env", "mine:Dial", "--policy", "mine:Always")
    assert values["success"] == 1 and values["first_reach_mean"] == 4 and values["steps_mean"] == 4
    assert values["plan_ms_p50"] > 0 and values["network_calls_mean"] == 0
    assert measured(dfplan, "--env", "mine:Dial", "--policy", "random")["success"] == 0
    env = envs.make("mine:Dial")
    values = measured(dfplan, "--env", "mine:Dial", "--checkpoint", trained(dfplan, env, "run", ("a/z", "b")))
    assert values["success"] == 0
    refused = dfplan("eval", "--env", "mine:Dial", "--checkpoint", "run", "--keys", "a/y")
    assert refused.code == 2 and "expected 3 numbers" in refused.err and "'a/z': 2" in refused.err


def test_demonstrations_alone_act_on_dictionary_observations(dfplan, tmp_path, monkeypatch):  # noqa: F811
    """As a model does: by the entries that the demonstrations' columns are called, or those of --keys."""
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    rows = np.column_stack([np.ones((8, 2)), np.tile(np.arange(4.0), 2)])
    demos = Episodes({"observations": rows, "actions": np.ones((8, 1))}, np.array([4, 8]), 0.1, "dial")
    write_npz(demos, tmp_path / "dial.npz")
    words = ["--env", "mine:Dial", "--data", tmp_path / "dial.npz", "--policy", "nearest"]
    assert measured(dfplan, *words, "--keys", "a/z", "b")["success"] == 1
    assert "--keys" in dfplan("eval", *words).err
    write_npz(replace(demos, info={"groups": {"a/z": [0, 2], "b": [2, 3]}}), tmp_path / "named.npz")
    words[3] = tmp_path / "named.npz"
    assert measured(dfplan, *words)["success"] == 1


OWN = """
import gymnasium as gym
import numpy as np

class Dial(gym.Env):
    def __init__(self):
        box = gym.spaces.Box(-9, 9, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(b=gym.spaces.Box(-9, 9, (1,), np.float32), a=gym.spaces.Dict(
            z=box, y=gym.spaces.Discrete(3)))
        self.action_space = gym.spaces.Box(0, 1, (1,), np.float32)

    def seen(self):
        return {"b": np.array([self.turned], np.float32), "a": {"z": np.ones(2, np.float32), "y": 1}}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.turned, self.steps = 0.0, 0
        return self.seen(), {}

    def step(self, action):
        self.turned, self.steps = self.turned + float(action[0]), self.steps + 1
        done = self.turned >= 4
        return self.seen(), 0.0, done, self.steps == 4, {"success": done}

class Always:
    def __init__(self, env):
        self.action = env.action_space.high

    def act(self, observation):
        return self.action
"""


def test_the_search_is_a_policy_and_stands_beside_a_planners_score(dfplan):  # noqa: F811
    ceiling = measured(dfplan, "maze2d-umaze", "--policy", "search")
    assert ceiling["success"] == 1 and "ceiling" not in ceiling
    words = ["--planner.steps", 2, "--planner.candidates", 1]
    values = measured(dfplan, "maze2d-umaze", *words)
    assert (values["ceiling"], values["ceiling_se"]) == (ceiling["score"], ceiling["score_se"])
    got = dfplan("eval", "maze2d-umaze", "--episodes", 1, *words)
    assert "ceiling" in got.out and "progress" not in got.out


def test_mazes_are_filmed_and_shared_out_too(dfplan, tmp_path, workers_here):  # noqa: F811
    words = [
        "maze2d-umaze",
        "--planner.steps",
        1,
        "--planner.candidates",
        1,
        "--env-args",
        "max_episode_steps=9",
    ]
    values = measured(dfplan, *words, "--workers", 2, "--video", tmp_path / "films")
    assert values["steps_mean"] == 9 and len([*(tmp_path / "films").glob("*.gif")]) == 2


@pytest.mark.skipif(
    importlib.util.find_spec("ogbench") is None, reason="needs OGBench: pip install 'dfplan[ogbench]'"
)
def test_obstacles_in_a_point_maze_are_counted_and_filmed(dfplan, tmp_path):  # noqa: F811
    short = ("--obstacles", 3, "--env-args", "max_episode_steps=30", "--video", tmp_path / "films")
    values = measured(dfplan, "pointmaze-giant-stitch", *short)
    assert values["collision_free"] == 1 - values["collided"] and values["steps_mean"] == 30
    assert values["success_collision_free"] == values["success"] == 0 and set(values["tasks"]) == {"4", "5"}
    assert len([*(tmp_path / "films").glob("*.gif")]) == 2


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "dfplan eval maze2d-large"),
        (["maze2d-umaze", "--env", "Hopper-v5"], "expected one"),
        (["--env", "Hopper-v5"], "give the run folder"),
        (["--env", "Hoper-v5", "--policy", "random"], "did you mean 'Hopper-v5'"),
        (["--env", "Hopper-v5", "--policy", "rondom"], "did you mean 'random'"),
        (["--env", "Pendulum-v1", "--env-args", "gg=3", "--policy", "random"], "'gg'"),
        (["--env", "CartPole-v1", "--checkpoint", "arm-pick"], "Discrete(2)"),
        (["--env", "Hopper-v5", "--checkpoint", "maze2d-large"], "as the model was trained"),
        (["--env", "Hopper-v5", "--goal", "random", "--checkpoint", "maze2d-large"], "which is for mazes"),
        (["--env", "Hopper-v5", "--checkpoint", "maze2d-large", "--policy", "search"], "which is for planning"),
        (["--env", "Hopper-v5", "--obstacles", 1, "--policy", "random"], "got HopperEnv, which is no maze"),
        (["arm-pick", "--planner.steps", 3], "which is for planning models"),
        (["maze2d-umaze", "--policy.chunk", 3], "which is for imitation models"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_runs(dfplan, words, message):  # noqa: F811
    got = dfplan("eval", *words)
    assert got.code == 2 and message in got.err and len(got.err.strip().splitlines()) == 1, got.err


@pytest.mark.skipif(
    importlib.util.find_spec("ogbench") is None, reason="needs OGBench: pip install 'dfplan[ogbench]'"
)
def test_a_plan_in_a_point_maze_goes_around_an_obstacle_and_is_drawn(dfplan, tmp_path):  # noqa: F811
    words = (
        "--start",
        0,
        0,
        "--goal",
        0,
        16,
        "--obstacle",
        0,
        4.9,
        1.0,
        "--out",
        tmp_path,
        "--json",
        "p.json",
    )
    got = dfplan("plan", "pointmaze-giant-stitch", *words)
    assert got.code == 0, got.err
    with open("p.json") as file:
        assert "collision_free" in json.load(file)
    assert (tmp_path / "plan.png").stat().st_size > 10_000
