"""The scripts behind the published numbers still run: small, and without a claim about the numbers themselves."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """As when a script is started: its folder is where imports are looked for first."""
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda p: p.stem)
def test_script_starts(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    if "argparse" not in script.read_text():  # nothing to ask it: that it can be imported is all
        runpy.run_path(str(script))
        return
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0


def test_hostile_actions_and_hand_overs_are_counted():
    import deploy_numbers as numbers

    from dfplan.policies import Imitation, ImitationConfig

    hostile = numbers.adversarial(300)
    assert hostile["actions"] == 300 and hostile["outside"] == 0 and sum(hostile["refusals"].values()) > 0
    policy = Imitation.load("arm-pick", ImitationConfig(memory=1, chunk=4, temperature=0.0))
    (row,) = numbers.handovers(policy, "arm-pick", [0], delays=(0.0,), kinds=("committed",))
    assert row["success"] == 1.0 and row["join"] > 0


def test_table_of_scores_has_a_row_for_each_method():
    import benchmark

    row = {
        "task": "maze2d-large",
        "goal": "fixed",
        "method": "dfplan",
        "score": 1.0,
        "score_se": 0.1,
        "success": 1,
    }
    lines = benchmark.table([row]).splitlines()
    assert len(lines) == 2 + 2 * (len(benchmark.PUBLISHED) + 3)
    assert any(
        line.startswith("| **dfplan** | fixed | - | - | 1.0 ± 0.1 (100.0 % reach) |") for line in lines
    )


def test_methods_of_the_memory_study_are_settings_that_train(tmp_path):
    import memory

    from dfplan.envs import collect_memory

    episodes = collect_memory("tmaze", 6)
    carriers = [
        memory.settings("tmaze", change, 0, 2, episodes).model.carrier
        for change, _ in memory.METHODS.values()
    ]
    assert carriers == ["compressed", "", "compressed", "compressed", "recurrent"]
    change, acting = memory.METHODS["next token with memory"]
    folder = memory.trained(tmp_path / "run", "tmaze", change | {"batch": 16}, 0, 2, episodes)
    assert memory.trained(folder, "tmaze", change | {"batch": 16}, 0, 2, episodes) == folder  # once is enough
    assert memory.model_policy(folder, acting, memory.envs.make("tmaze")).actor.remembers


def test_success_over_training_seeds_is_put_together():
    import memory

    name = next(iter(memory.METHODS))
    rows = {
        f"tmaze|{name}|{seed}|none": {"success": win, "episodes": 10} for seed, win in enumerate((1.0, 0.5))
    }
    rows |= {f"tmaze|{name}|length 10|none": {"success": 0.0, "episodes": 10}}
    assert f"| {name} | 75.0 [53, 89] |" in memory.table(rows, ["tmaze"]).splitlines()


def test_a_mean_of_weights_lies_between_them_and_needs_the_same_scales(tmp_path):
    import mix
    import torch

    from dfplan.models import find
    from dfplan.train import checkpoint

    model = find("arm-reach")
    tensors = checkpoint.read_tensors(model / "model.safetensors")
    texts = {"config.json": json.loads((model / "config.json").read_text())}
    moved = {k: v + 0.5 if k.startswith("denoiser.") else v for k, v in tensors.items()}
    checkpoint.write_folder(tmp_path / "moved", {"model.safetensors": moved}, texts)
    found, folder = mix.mixed([(model, 0.75), (tmp_path / "moved", 0.25)])
    for key, value in tensors.items():
        off = 0.125 if key.startswith("denoiser.") else 0.0
        torch.testing.assert_close(found[key].float(), value.float() + off, atol=2e-3, rtol=1e-3)
    assert folder == model
    with pytest.raises(ValueError, match="shares that make 1"):
        mix.mixed([(model, 0.5), (model, 0.6)])
    with pytest.raises(ValueError, match="the same network"):
        mix.mixed([(model, 0.5), (find("swap"), 0.5)])
