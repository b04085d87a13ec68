"""LeRobot's own commands run a policy of dfplan, and it acts as it does here."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

pytest.importorskip(
    "lerobot", reason="pip install lerobot: an environment of its own is best, it pins many versions"
)
pytest.importorskip("gym_pusht", reason="pip install 'dfplan[pusht]'")

from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import AlohaEnv, PushtEnv
from lerobot.policies.factory import make_policy, make_policy_config, make_pre_post_processors
from lerobot.robots import Robot, RobotConfig
from lerobot.scripts import lerobot_record
from lerobot.utils.control_utils import predict_action
from safetensors.torch import load_file, save_file
from test_imitation import demos

from dfplan.data import load
from dfplan.decide import asked
from dfplan.envs import PushT
from dfplan.policies import Imitation, ImitationConfig
from dfplan.policies.lerobot import SCENE, STATE, export
from dfplan.train import Trainer
from dfplan.train.imitate import imitation_config

COLUMNS = {  # gym-pusht's keypoints run around each of the T's two bars
    STATE: ["agent_x", "agent_y"],
    SCENE: [f"corner{i}_{axis}" for i in (4, 3, 2, 1, 5, 8, 7, 6) for axis in "xy"],
}
ENV = PushtEnv(obs_type="environment_state_agent_pos")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export("pusht", tmp_path_factory.mktemp("lerobot") / "pusht", COLUMNS)


def loaded(folder, env=ENV, **overrides):
    config = PreTrainedConfig.from_pretrained(
        folder, cli_overrides=[f"--{k}={v}" for k, v in overrides.items()]
    )
    config.pretrained_path = folder
    return make_policy(config, env_cfg=env), *make_pre_post_processors(config, folder)


def rows(count=20):
    """What one episode shows: (count, 18) here, and LeRobot's numbers of the same."""
    env, rng = PushT(), np.random.default_rng(0)
    seen = [env.reset(seed=3)[0]]
    for _ in range(count - 1):
        seen.append(env.step(rng.uniform(100, 400, 2))[0])
    here, order = np.stack(seen), [int(name[6]) - 1 for name in COLUMNS[SCENE][::2]]
    return here, here[:, :2], here[:, 2:].reshape(-1, 8, 2)[:, order].reshape(-1, 16)


def test_actions_are_those_of_the_policy_here(folder):
    policy, before, after = loaded(folder, seed=5, act='{"chunk": 4}')
    own = Imitation.load("pusht")
    own = Imitation(own.model, asked(ImitationConfig, own.model, "policy", chunk=4))
    here, agent, scene = rows()
    for episode in (5, 6):
        policy.reset()
        own.reset(episode)
        for seen, a, s in zip(here, agent, scene, strict=True):
            got = predict_action(  # what lerobot-record calls
                {STATE: a, SCENE: s}, policy, torch.device("cpu"), before, after, use_amp=False
            )
            np.testing.assert_array_equal(got[0].numpy(), own.act(seen))
    policy.reset()
    own.reset([7, 8])
    batch = {STATE: torch.tensor(agent[:2]), SCENE: torch.tensor(scene[:2]), "task": ["", ""]}
    chunk = policy.predict_action_chunk(batch)
    np.testing.assert_array_equal(chunk.numpy(), own.predict(here[:2]))
    assert chunk.shape == (2, 4, 2)


def test_lerobot_eval_measures_what_is_measured_here(folder, tmp_path):
    """The real command: it finds the plug-in, loads the folder, and its environments give the same numbers."""
    pytest.importorskip("lerobot_policy_dfplan", reason="pip install ./examples/lerobot_policy_dfplan")
    seeds = (40, 41)
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_eval", f"--policy.path={folder}", "--policy.device=cpu",
        "--env.type=pusht", "--env.obs_type=environment_state_agent_pos", "--env.episode_length=60",
        "--eval.batch_size=2", "--eval.n_episodes=2", f"--seed={seeds[0]}", f"--policy.seed={seeds[0]}",
        f"--output_dir={tmp_path / 'out'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads((tmp_path / "out/eval_info.json").read_text())["per_task"][0]["metrics"]
    policy, envs = Imitation.load("pusht"), [PushT() for _ in seeds]
    policy.reset(seeds)
    now, rewards = np.stack([env.reset(seed=s)[0] for env, s in zip(envs, seeds, strict=True)]), []
    for _ in range(60):
        steps = [env.step(action) for env, action in zip(envs, policy.act(now), strict=True)]
        now = np.stack([step[0] for step in steps])
        rewards.append([step[1] for step in steps])
    np.testing.assert_allclose(np.max(rewards, 0), theirs["max_rewards"], rtol=1e-6)
    np.testing.assert_allclose(np.sum(rewards, 0), theirs["sum_rewards"], rtol=1e-6)


def test_what_does_not_fit_is_refused_in_words(folder, tmp_path):
    with pytest.raises(ValueError, match=r"expected each of \['agent_y'\] once"):
        export("pusht", tmp_path / "a", {**COLUMNS, STATE: ["agent_x", ""]})
    with pytest.raises(ValueError, match="did you mean 'agent_y'"):
        export("pusht", tmp_path / "a", {**COLUMNS, STATE: ["agent_x", "agenty"]})
    with pytest.raises(ValueError, match="did you mean 'chunk'"):
        export("pusht", tmp_path / "a", COLUMNS, {"chunks": 8})
    with pytest.raises(ValueError, match="a policy needs observation tokens"):
        export("maze2d-umaze", tmp_path / "a")
    with pytest.raises(ValueError, match="is not empty"):
        export("pusht", folder, COLUMNS)
    with pytest.raises(ValueError, match=r"got actions of shape \(14,\), expected \(2,\)"):
        loaded(folder, AlohaEnv())
    with pytest.raises(ValueError, match="without a checkpoint"):
        make_policy(make_policy_config("dfplan"), env_cfg=ENV)
    policy, *_ = loaded(folder)
    with pytest.raises(ValueError, match=f"expected '{SCENE}' among them"):
        policy.select_action({STATE: torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=rf"got {STATE} of shape \(1, 3\), expected \(B, 2\)"):
        policy.select_action({STATE: torch.zeros(1, 3), SCENE: torch.zeros(1, 16)})
    with pytest.raises(NotImplementedError, match="dfplan train imitation"):
        policy.forward({})


def test_weights_that_are_missing_are_no_warning(folder, tmp_path):
    policy, *_ = loaded(folder)
    policy.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["normalizer.mean"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"normalizer\.mean"):
        type(policy).from_pretrained(tmp_path)


def test_numbers_that_the_model_does_not_see_are_passed_over(tmp_path):
    columns = {STATE: ["agent_x", "", "agent_y"], SCENE: COLUMNS[SCENE]}
    policy, *_ = loaded(export("pusht", tmp_path / "wide", columns))
    plain, *_ = loaded(export("pusht", tmp_path / "plain", COLUMNS))
    _, agent, scene = (torch.tensor(part[:1]) for part in rows(1))
    wide = torch.cat([agent[:, :1], torch.full((1, 1), np.nan), agent[:, 1:]], 1)
    got = policy.select_action({STATE: wide, SCENE: scene})
    assert torch.equal(got, plain.select_action({STATE: agent, SCENE: scene}))


@RobotConfig.register_subclass("two_joints")
@dataclass
class TwoJointsConfig(RobotConfig):
    """A robot that is where it was told to be, found by LeRobot as any other."""


class TwoJoints(Robot):
    config_class, name = TwoJointsConfig, "two_joints"
    observation_features = dict.fromkeys(("x", "y", "lamp"), float)
    action_features = dict.fromkeys(("x", "y"), float)
    is_connected, is_calibrated = False, True
    sent: ClassVar[list] = []
    cameras: ClassVar[dict] = {}

    def connect(self, calibrate=True):
        self.is_connected, self.now = True, {"x": 0.0, "y": 0.0, "lamp": 1.0}

    def get_observation(self):
        return self.now

    def send_action(self, action):
        self.now = {**self.now, **action}
        self.sent.append(list(action.values()))
        return action

    def disconnect(self):
        self.is_connected = False

    def calibrate(self):
        """Nothing."""

    configure = calibrate


@pytest.mark.parametrize("checked", [False, True])
def test_lerobot_record_runs_it_on_a_robot(checked, tmp_path, monkeypatch):
    """The real command in this process; the chunk check in the folder holds what is too fast for the robot."""
    levels = {"independent": 0.3, "shared": 0.7, "history": 0.9, "memory": 3, "start_known": 0}
    config = imitation_config(
        demos(), span=2, horizon=5, steps=3, batch=8, warmup=1, levels=levels,
        model={"kind": "perceptron", "width": 32, "layers": 1, "carrier": ""}, precision="fp32",
    )  # fmt: skip
    for _ in Trainer(config, demos(), tmp_path / "run").run():
        pass
    folder = export(tmp_path / "run", tmp_path / "policy")
    if checked:
        joint = {"unit": "m", "lower": -20, "upper": 20, "velocity": 10, "acceleration": 200, "jerk": 2e5}
        robot = {"joints": [{"name": name, **joint} for name in "xy"]}
        file = folder / "policy_postprocessor.json"
        values = json.loads(file.read_text())
        values["steps"].append(
            {
                "registry_name": "dfplan_chunk_check",
                "config": {"robot": robot, "dt": 0.02, "safety": {"jump": 3}},
            }
        )
        file.write_text(json.dumps(values))
    arguments = [
        f"--policy.path={folder}", "--policy.device=cpu", "--robot.type=two_joints", f"--robot.calibration_dir={tmp_path}",
        "--dataset.repo_id=me/eval_two", f"--dataset.root={tmp_path / 'set'}", "--dataset.single_task=walk",
        "--dataset.fps=50", "--dataset.episode_time_s=1", "--dataset.reset_time_s=0", "--dataset.num_episodes=2",
        "--dataset.push_to_hub=false", "--play_sounds=false",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["lerobot-record", *arguments])
    monkeypatch.setattr(TwoJoints, "sent", [])
    lerobot_record.main()
    recorded = load(tmp_path / "set")
    np.testing.assert_allclose(recorded.arrays["actions"], TwoJoints.sent, rtol=1e-6)
    assert len(recorded.ends) == 2 and recorded.arrays["observations"].shape[1] == 3
    first, _ = np.split(np.array(TwoJoints.sent), recorded.ends[:1])
    fastest = np.abs(np.diff(first, axis=0)).max() / 0.02
    assert len(first) > 5 and (fastest <= 10.01) == checked
