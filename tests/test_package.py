import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import dfplan
import dfplan.deploy
import dfplan.envs.arm
from dfplan import envs, models
from dfplan.data import Episodes
from dfplan.policies import Imitation
from dfplan.train.config import TrainConfig, from_dict, read_config, read_values, to_dict
from dfplan.train.imitate import DEFAULTS, complete

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "dfplan": "dfplan",
    "envs": "dfplan/envs",
    "policies": "dfplan/policies",
    "configs": "dfplan/configs",
}
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
HEAVY = ["h5py", "matplotlib", "gymnasium", "mujoco", "tyro", "tensorboard", "minari"]
LOOK = """
import json, pathlib, sys
import dfplan, dfplan.train
heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
import dfplan.cli, dfplan.configs, dfplan.data, dfplan.show.demo, dfplan.envs, dfplan.policies, dfplan.rollout
env = dfplan.envs.make("maze2d-umaze")
env.reset(seed=0)
env.step(env.action_space.sample())
files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "dfplan"}
print(json.dumps({"files": files, "heavy": heavy, "shipped": dfplan.shipped(), "version": dfplan.__version__}))
"""


def ours(folder):
    """Files of the tree below `folder`, without what tools leave there."""
    return [p for p in folder.rglob("*") if p.is_file() and not {"__pycache__", "build"} & set(p.parts)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree."""
    there = tmp_path_factory.mktemp("wheel")
    tree = there / "tree"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in [*FOLDERS, "tests"]:
        shutil.copytree(ROOT / name, tree / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    done = subprocess.run([sys.executable, "-c", BUILD, there], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = there.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """What an interpreter outside the repository sees of the wheel alone."""
    target, cwd = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("cwd")
    zipfile.ZipFile(wheel).extractall(target)
    env = os.environ | {"PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LOOK, ",".join(HEAVY)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target, json.loads(done.stdout)


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    tree = {
        f"{inside}/{p.relative_to(ROOT / folder)}"
        for folder, inside in FOLDERS.items()
        for p in ours(ROOT / folder)
        if p.suffix != ".pyi"
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {name for name in held if ".dist-info/" not in name} == tree
    assert "dfplan/py.typed" in tree and "dfplan/configs/maze2d-large.json" in tree


def test_wheel_adds_one_name_and_one_command(wheel):
    file = zipfile.ZipFile(wheel)
    tops = {name.split("/")[0] for name in file.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dfplan"}
    info = next(top for top in tops if top.endswith(".dist-info"))
    assert "dfplan = dfplan.cli:main" in file.read(f"{info}/entry_points.txt").decode()
    assert f"Version: {dfplan.__version__}" in file.read(f"{info}/METADATA").decode()
    assert any("LICENSE" in name for name in file.namelist())


def test_wheel_works_outside_the_repository(installed):
    target, seen = installed
    elsewhere = {name: file for name, file in seen["files"].items() if not file.startswith(str(target))}
    assert not elsewhere
    assert seen["version"] == dfplan.__version__ and seen["shipped"] == dfplan.shipped()


def test_training_and_importing_need_torch_and_numpy_alone(installed):
    assert installed[1]["heavy"] == []


def test_mapping_filter_and_simulated_robots_need_no_torch():
    look = (
        "import sys, dfplan.deploy as d, dfplan.envs as e; d.load_mapping, d.SafetyFilter, d.DryRun, e.SimArm; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_public_names_are_there():
    for package in (dfplan, dfplan.envs, dfplan.envs.arm, dfplan.deploy, dfplan.policies):
        assert all(hasattr(package, name) for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'plam'"):
        dfplan.plam  # noqa: B018


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda p: p.stem)
def test_configurations_that_ship_are_valid(path):
    values = read_values(path)
    if "spec" not in values:  # it comes from the demonstrations
        groups = {
            s: [i, i + 1]
            for i, s in enumerate(s for t in values.get("tokens", {"a": ["a"]}).values() for s in t)
        }
        arrays = {"observations": np.random.rand(9, len(groups)), "actions": np.random.rand(9, 2)}
        values = complete(values, Episodes(arrays, np.array([9]), 0.1, "any", {"groups": groups}))
    config = from_dict(TrainConfig, values)
    assert config.model.build(config.spec, config.horizon)


@pytest.mark.parametrize("task", ["arm-reach", "arm-pick", "pusht"])
def test_policies_that_ship_are_small_finite_and_of_their_configuration(task):
    folder = models.find(task)
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 8e6
    policy = Imitation.load(task)
    config = policy.model.config
    assert config.task == task and all(torch.isfinite(p).all() for p in policy.model.denoiser.parameters())
    values = read_values(ROOT / "configs" / f"{task}.json")
    tokens = values.pop("tokens")
    assert [t.name for t in config.spec.tokens] == [*tokens, "action"]
    base = {"spec": to_dict(config.spec), **values}
    for table in ("model", "levels"):
        base[table] = {**DEFAULTS[table], **values.get(table, {})}
    assert from_dict(TrainConfig, {**DEFAULTS, **base}) == config, (
        "trained with other settings than configs/ now says"
    )


REMEMBERING = [name for name in models.shipped() if name in (*envs.MEMORY_IDS, "swap")]


@pytest.mark.parametrize("task", REMEMBERING)
def test_policies_that_remember_ship_small_finite_and_of_their_configuration(task):
    assert sum(p.stat().st_size for p in models.find(task).iterdir()) <= 9e6
    policy = Imitation.load(task)
    config, values = policy.model.config, read_values(ROOT / "configs" / f"{task}.json")
    assert config.task == task and all(torch.isfinite(p).all() for p in policy.model.denoiser.parameters())
    assert policy.actor.remembers and config.model.reach > 20 - 18 * ("color" in task)
    for key in ("horizon", "batch", "act"):
        assert values.get(key, getattr(config, key)) == getattr(config, key)
    for key, value in values["model"].items():
        assert getattr(config.model, key) == value
    env = envs.make(task, **({"action": "ee"} if config.spec.action_size == 10 else {}))
    observation, _ = env.reset(seed=0)
    policy.reset(0)
    for _ in range(20):
        observation, *_ = env.step(policy.act(observation))


def test_a_policy_that_ships_remembers_the_sign():
    """A corridor of 300 cells, three times as long as in any demonstration."""
    for seed in range(4):
        env, policy = envs.make("tmaze", length=300), Imitation.load("tmaze")
        observation, _ = env.reset(seed=seed)
        policy.reset(seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(policy.act(observation))
            over = terminated or truncated
        assert info["success"]


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_models_that_ship_are_small_finite_and_plan(maze):
    folder = models.find(f"maze2d-{maze}")
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 5e6
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "evidence.safetensors"}
    planner = dfplan.load(f"maze2d-{maze}", dfplan.PlannerConfig(candidates=2, steps=2))
    assert planner.model.config.task == f"maze2d-{maze}"
    assert all(torch.isfinite(p).all() for p in planner.model.denoiser.parameters())
    config = read_config(ROOT / "configs" / f"maze2d-{maze}.json", TrainConfig)
    assert config == planner.model.config, "trained with other settings than configs/ now says"
    plan = planner.plan([1.0, 1.0, 0.0, 0.0], seed=0)
    assert np.isfinite(plan.observations).all() and plan.observations.shape[1] == 4
    np.testing.assert_allclose(plan.observations[0, :2], 1.0, atol=1e-3)
