"""A run ends where what is held out no longer becomes better, and is used as it was then."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from dfplan.data import Episodes
from dfplan.train import Trainer, checkpoint
from dfplan.train.config import TrainConfig, from_dict
from dfplan.train.imitate import complete


def noise(seed: int, episodes: int = 2) -> Episodes:
    """Episodes of which nothing can be learned but by heart."""
    rng, length = np.random.default_rng(seed), 12
    ends = length * np.arange(1, episodes + 1)
    rows = {"observations": rng.normal(size=(ends[-1], 3)), "actions": rng.normal(size=(ends[-1], 2))}
    return Episodes({k: v.astype(np.float32) for k, v in rows.items()}, ends, 0.1)


def config(**changes) -> TrainConfig:
    values = dict(
        steps=400,
        batch=64,
        lr=0.01,
        warmup=1,
        ema=0.5,
        precision="fp32",
        save_every=10,
        log_every=10,
        patience=2,
    )
    values["model"] = {"kind": "perceptron", "width": 64, "layers": 2, "carrier": ""}
    return from_dict(TrainConfig, complete(values | changes, noise(0)), "a run")


def trained(folder, held=None, log=None, resume=False, **changes) -> Trainer:
    trainer = Trainer(config(**changes), noise(0), folder / "checkpoint", held=held, resume=resume)
    for _ in trainer.run(log):
        pass
    return trainer


def test_it_ends_early_and_the_best_weights_are_used(tmp_path):
    held = {}

    def log(step, values):
        held[step] = values["held_out"]

    trainer = trained(tmp_path, noise(1), log)
    best = min(held, key=held.get)
    assert trainer.step == best + 20 < 400 and trainer.patience.over
    used = checkpoint.load(tmp_path / "checkpoint")
    trainer.average.load_state_dict(used.denoiser.state_dict())
    assert trainer.held_out() == pytest.approx(held[best], abs=1e-6)


def test_without_patience_or_without_anything_held_out_it_goes_to_its_end(tmp_path):
    assert trained(tmp_path / "none", noise(1), patience=0, steps=120).step == 120
    assert trained(tmp_path / "all", None, steps=120).step == 120
    assert "lowest" not in json.loads((tmp_path / "all/checkpoint/training.json").read_text())
    with pytest.raises(ValueError, match="got patience=-1, expected 0 or more saves"):
        config(patience=-1)


def test_an_interrupted_run_ends_where_an_undisturbed_one_does(tmp_path):
    whole = trained(tmp_path / "whole", noise(1))
    cut = Trainer(config(), noise(0), tmp_path / "cut/checkpoint", held=noise(1))
    for step in cut.run(lambda *_: None):
        if step == whole.step - 10:  # one save after the best, one before the end
            break
    again = trained(tmp_path / "cut", noise(1), resume=True)
    assert again.step == whole.step
    for name in ("model", "training"):
        one, two = (load_file(tmp_path / f"{run}/checkpoint/{name}.safetensors") for run in ("whole", "cut"))
        assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)
    more = trained(tmp_path / "cut", noise(1), resume=True, patience=3)  # asked to be more patient it goes on
    assert more.step > whole.step
