"""robomimic's and LeRobot's calls give the policy's own actions."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_imitation import demos, model  # noqa: F401  the fixture

from dfplan.policies import Imitation
from dfplan.policies.adapters import LeRobotPolicy, RobomimicPolicy

ROWS = demos().arrays["observations"][:9]


def direct(model, seed):  # noqa: F811
    policy = Imitation(model)
    policy.reset(seed)
    return np.stack([policy.act(o) for o in ROWS])


def test_robomimic(model):  # noqa: F811
    policy = RobomimicPolicy(Imitation(model), seed=7)  # its keys are the names of the tokens
    for seed in (7, 8):
        policy.start_episode()
        got = np.stack([policy(ob={"lamp": o[2:], "robot": o[:2], "unused": o}) for o in ROWS])
        np.testing.assert_array_equal(got, direct(model, seed))
    with pytest.raises(ValueError, match="expected 'lamp'"):
        policy(ob={"robot": ROWS[0, :2]})
    with pytest.raises(ValueError, match="was trained on 3"):
        RobomimicPolicy(Imitation(model), keys=["robot"])(ob={"robot": ROWS[0, :2]})
    with pytest.raises(ValueError, match="take none"):
        policy(ob={"robot": ROWS[0, :2], "lamp": ROWS[0, 2:]}, goal={"x": 1})


def test_robomimic_takes_it_for_one_of_its_policies(model, monkeypatch):  # noqa: F811
    """Its loops ask for that; they themselves run in tests/envs/test_simulators.py."""
    monkeypatch.delitem(sys.modules, "robomimic.algo", raising=False)
    policy, theirs = RobomimicPolicy(Imitation(model)), type("RolloutPolicy", (), {})
    assert isinstance(policy, RobomimicPolicy) and not isinstance(policy, theirs)
    monkeypatch.setitem(sys.modules, "robomimic.algo", SimpleNamespace(RolloutPolicy=theirs))
    assert isinstance(policy, RobomimicPolicy) and isinstance(policy, theirs)


def test_lerobot(model):  # noqa: F811
    policy = LeRobotPolicy(Imitation(model), seed=5)
    for seed in (5, 6):
        policy.reset()
        got = torch.cat([policy.select_action({"observation.state": torch.tensor(o[None])}) for o in ROWS])
        np.testing.assert_array_equal(got.numpy(), direct(model, seed))
    policy.reset()
    chunk = policy.predict_action_chunk({"observation.state": torch.tensor(ROWS[:2]), "task": "x"})
    assert chunk.shape == (2, 4, 2)
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        policy.select_action({"observation.state": torch.tensor(ROWS[:3])})
    with pytest.raises(ValueError, match="expected a batch"):
        policy.select_action({"observation.state": torch.tensor(ROWS[0])})


def test_lerobot_calls_in_inference_mode():
    """There a policy with a cost of its own still needs gradients."""
    own = Imitation.load("arm-reach")
    rows = np.zeros((2, own.spec.observation_size))
    own.reset([0, 1])
    expected = own.act(rows)
    with torch.inference_mode():
        action = LeRobotPolicy(own).select_action({"observation.state": torch.from_numpy(rows)})
    assert own.config.guidance and np.array_equal(action.numpy(), expected)
