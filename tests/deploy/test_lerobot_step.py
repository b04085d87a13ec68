"""The chunk check in LeRobot's processors: what does not pass is not executed, for any policy."""

import json

import pytest
import torch

pytest.importorskip(
    "lerobot", reason="pip install lerobot: an environment of its own is best, it pins many versions"
)
pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")

from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import make_policy_config, make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

from dfplan.deploy.lerobot import ChunkCheckStep

JOINT = {"unit": "deg", "lower": -90, "upper": 90, "velocity": 90, "acceleration": 3600, "jerk": 360000}
ROBOT = {"joints": [{"name": "pan", **JOINT}, {"name": "lift", **JOINT}]}
STATE = "observation.state"


def step(**changes):
    return ChunkCheckStep(**{"robot": ROBOT, "dt": 0.1, **changes})


def pipeline(*steps):
    return PolicyProcessorPipeline(
        steps=list(steps), to_transition=policy_action_to_transition, to_output=transition_to_policy_action
    )


def test_single_actions_over_time():
    check = step()
    act, still = pipeline(check), torch.zeros(2, 2)
    assert torch.equal(act(still), still)
    good = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    assert torch.equal(act(good), good) and all(check.verdicts)
    wild = torch.tensor([[5.0, 0.0], [0.0, 30.0]])  # 270 deg/s, of 90
    out = act(wild)
    assert torch.equal(out, torch.tensor([[5.0, 0.0], [0.0, 3.0]])) and out.dtype == wild.dtype
    verdict = check.verdicts[1]
    assert (verdict.reason, verdict.step, verdict.joint) == ("velocity", 0, "lift")
    assert verdict.value == pytest.approx(270) and verdict.limit == pytest.approx(90)
    assert torch.equal(act(wild)[1], torch.tensor([0.0, 3.0]))  # it stays held while that is what is wanted
    back = torch.tensor([[6.0, 0.0], [0.0, 4.0]])
    assert torch.equal(act(back), back) and check.counts == {"velocity": 2}
    with pytest.raises(ValueError, match=r"got 3 robots after 2; call reset\(\)"):
        act(torch.zeros(3, 2))
    act.reset()
    assert torch.equal(act(torch.full((3, 2), 50.0)), torch.full((3, 2), 50.0))  # nothing is known of before


def test_chunks():
    check = step(steps=2)
    act = pipeline(check)
    ramp = torch.arange(4.0)[None, :, None].expand(2, 4, 2)
    assert torch.equal(act(ramp), ramp)
    later = ramp + 2  # two of the four were executed
    broken = later.clone()
    broken[1, 3, 0] = 40
    out = act(broken)
    assert torch.equal(out[0], later[0]) and torch.equal(out[1], torch.full((4, 2), 1.0))
    assert (check.verdicts[1].step, check.verdicts[1].joint) == (3, "pan")
    with pytest.raises(ValueError, match=r"got actions of shape \(2,\)"):
        act(torch.zeros(2))


def test_the_first_action_is_compared_with_where_the_joints_are():
    check = step(safety={"jump": 0.2})
    act, look = pipeline(check), PolicyProcessorPipeline(steps=[check])
    look({STATE: torch.tensor([[30.0, 0.0]]), "task": [""]})
    assert act(torch.tensor([[0.0, 0.0]])).tolist() == [[30.0, 0.0]]  # it holds where it is
    assert check.verdicts[0].reason == "jump" and check.verdicts[0].limit == pytest.approx(11.46, abs=0.01)
    assert act(torch.tensor([[31.0, 0.0]])).tolist() == [[31.0, 0.0]]
    act.reset()
    with pytest.raises(ValueError, match="nothing is known to hold"):
        act(torch.tensor([[91.0, 0.0]]))


def test_any_policy_of_lerobot_takes_it_from_its_folder(tmp_path):
    """ACT's own processors, the step last; the file on disk is what lerobot-eval reads."""
    config = make_policy_config(
        "act",
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (2,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (3,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        device="cpu",
    )
    stats = {"action": {"mean": torch.tensor([10.0, 0.0]), "std": torch.tensor([2.0, 2.0])}}
    before, after = make_pre_post_processors(config, dataset_stats=stats)
    after.steps.append(step())
    before.save_pretrained(tmp_path)
    after.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "policy_postprocessor.json").read_text())["steps"][-1]
    assert kept["registry_name"] == "dfplan_chunk_check" and kept["config"]["robot"] == ROBOT
    _, again = make_pre_post_processors(config, tmp_path)
    assert again(torch.tensor([[0.5, 0.0]])).tolist() == [[11.0, 0.0]]  # judged in the robot's units
    assert again(torch.tensor([[9.0, 0.0]])).tolist() == [[11.0, 0.0]]


def test_robots_of_a_mapping():
    pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")
    arm = ChunkCheckStep("so101")  # its limits, workspace and dt, in rad
    act, home = pipeline(arm), torch.tensor([[0.0, -0.8, 0.8, 0.6, 0.0, 0.5]])
    assert torch.equal(act(home), home)
    assert torch.equal(act(home + 0.5), home) and arm.verdicts[0].joint == "shoulder_pan"
    with pytest.raises(ValueError, match="got no dt"):
        ChunkCheckStep(ROBOT)
    with pytest.raises(ValueError, match="did you mean 'so101'"):
        ChunkCheckStep("so100")
    with pytest.raises(ValueError, match="has no jerk"):
        ChunkCheckStep({"joints": [{k: v for k, v in {"name": "pan", **JOINT}.items() if k != "jerk"}]}, 0.1)
