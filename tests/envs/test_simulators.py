"""robosuite through the one runner, its experts, and robomimic's own loop around a policy of ours."""

import sys
import warnings
from unittest.mock import MagicMock

import h5py
import numpy as np
import pytest
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan import envs
from dfplan.data import load
from dfplan.policies import Imitation
from dfplan.policies.adapters import RobomimicPolicy

TINY = "steps=2 save_every=1 log_every=1 warmup=1 batch=8 precision=fp32 model.width=16".split()
LOW_DIM = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


@pytest.fixture(scope="module")
def robosuite():
    return pytest.importorskip("robosuite", reason="robosuite is not installed: pip install 'dfplan[robots]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("robosuite")


@pytest.fixture
def demos(robosuite, place, dfplan):  # noqa: F811
    path = place / "lift.hdf5"
    if not path.exists():
        made = dfplan("data", "generate", "robosuite:Lift", "--episodes", 2, "--seed", 3, "--out", path)
        assert made.code == 0, made.err
    return path


@pytest.fixture
def run(place, demos, dfplan):  # noqa: F811
    folder = place / "run"
    if not folder.exists():
        done = dfplan("train", "imitation", "--data", demos, "--out", folder, "--set", *TINY)
        assert done.code == 0, done.err
    return folder


def test_without_robosuite_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[robots\]'"):
        envs.make("robosuite:Lift")


def test_the_environment_is_seeded_and_sees_what_robomimic_sees(robosuite):
    with envs.make("robosuite:Lift", max_episode_steps=2) as env:
        first, info = env.reset(seed=5)
        assert {key: first[key].shape[0] for key in LOW_DIM} == LOW_DIM
        assert env.observation_space.contains(first) and info == {"success": False}
        other, _ = env.reset(seed=6)
        again, _ = env.reset(seed=5)
        assert np.abs(first["object"] - other["object"]).max() > 1e-3
        for key, row in first.items():
            np.testing.assert_array_equal(row, again[key])
        ends = [env.step(env.action_space.sample())[3] for _ in range(2)]
    assert ends == [False, True] and env.action_space.shape == (7,)
    with envs.make("robosuite:Can") as env:
        assert env.unwrapped.task == "PickPlaceCan" and env.observation_space["object"].shape == (14,)


def test_an_unknown_task_has_the_nearest_name(robosuite):
    with pytest.raises(ValueError, match="did you mean 'Lift'"):
        envs.make("robosuite:Lifd")
    with pytest.raises(ValueError, match="with an expert 'Door'"):
        envs.collect_simulated("robosuite:Door", 1)


@pytest.mark.parametrize(
    "package, task",
    [
        ("robosuite", "robosuite:Lift"),
        ("robosuite", "robosuite:Can"),
        ("metaworld", "metaworld:pick-place-v3"),
        ("gymnasium_robotics", "FetchReach-v4"),
        ("gymnasium_robotics", "FetchPickAndPlace-v4"),
    ],
)
def test_the_expert_does_it_and_the_same_seed_does_the_same(package, task):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'dfplan[robots]'")
    one, two = (envs.collect_simulated(task, 1, seed=4) for _ in range(2))
    for key, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[key])
    assert one.arrays["dones"][-5:].all()
    assert np.abs(one.arrays["actions"]).max() <= 1


def test_a_seed_gives_meta_worlds_task_in_a_new_environment_too():
    pytest.importorskip("metaworld", reason="metaworld is not installed: pip install 'dfplan[robots]'")
    seen = []
    for seed in (3, 4, 3):
        with envs.make("metaworld:reach-v3", max_episode_steps=1) as env:
            seen.append(env.reset(seed=seed)[0])
            assert env.step(env.action_space.sample())[3]
    np.testing.assert_array_equal(seen[0], seen[2])
    assert np.abs(seen[0] - seen[1]).max() > 0.01
    with pytest.raises(ValueError, match="did you mean 'reach-v3'"):
        envs.make("metaworld:reach-v2")


def test_a_demonstration_can_be_played_again(robosuite, demos):
    """From its first state and model, what was executed lifts the cube again, along nearly the same way.

    The controller's posture of rest is of the reset before, so it is not quite the same.
    """
    with h5py.File(demos) as file, envs.make("robosuite:Lift", terminate_on_success=False) as env:
        demo = file["data/demo_0"]
        suite = env.unwrapped.suite
        suite.reset()
        suite.reset_from_xml_string(suite.edit_model_xml(demo.attrs["model_file"]))
        suite.sim.reset()
        suite.sim.set_state_from_flattened(demo["states"][0])
        suite.sim.forward()
        for executed, cube in zip(demo["executed"][:-1], demo["obs/object"][1:], strict=True):
            seen, _, _, _, info = env.unwrapped.step(executed)
            np.testing.assert_allclose(seen["object"][:3], cube[:3], atol=0.01)
        assert info["success"]


def test_generated_demonstrations_train_and_are_evaluated_by_one_command_each(demos, run, dfplan, tmp_path):  # noqa: F811
    data = load(demos)
    assert data.dt == 0.05 and list(data.info["groups"]) == list(LOW_DIM)
    words = ["eval", "robosuite:Lift", "--checkpoint", run, "--episodes", 2, "--json", tmp_path / "lift.json"]
    got = dfplan(*words, "--env-args", "max_episode_steps=6")
    assert got.code == 0 and "success" in got.out, got.err


@pytest.fixture
def robomimic(monkeypatch):
    """robomimic's own loop. What it imports for pictures and for the MuJoCo of 2021 is not needed here, nor always there."""
    pytest.importorskip("robomimic", reason="robomimic is not installed: pip install 'dfplan[robots]'")
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.models",
                 "mujoco_py", "mujoco_py.builder", "egl_probe"):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, MagicMock())
    sys.modules["mujoco_py"].builder.MujocoException = RuntimeError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("robomimic.utils.train_utils")


def test_robomimics_own_loop_runs_a_policy(robosuite, demos, run, robomimic):
    from robomimic.utils import env_utils, file_utils, obs_utils

    policy = RobomimicPolicy(Imitation.load(run))
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(LOW_DIM), "rgb": []}})
    env = env_utils.create_env_from_metadata(file_utils.get_env_metadata_from_dataset(str(demos)))
    logs, _ = robomimic.rollout_with_stats(policy, {"Lift": env}, horizon=6, num_episodes=2)
    assert logs["Lift"]["Horizon"] == 6 and policy.seed == 2
