"""The demo's two pictures show one plan, whatever the tokens are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dfplan
from dfplan.data import Episodes
from dfplan.envs import Room, make
from dfplan.policies import receding
from dfplan.show import plot
from dfplan.show.demo import demo
from dfplan.train.config import TrainConfig, read_config
from dfplan.train.trainer import Trainer

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture
def seen(monkeypatch):
    """What is given to the two pictures."""
    got = {}
    still, moving = plot.plan_figure, plot.denoise_gif
    monkeypatch.setattr(
        plot, "plan_figure", lambda plan, *a, **k: got.update(plan=plan) or still(plan, *a, **k)
    )
    monkeypatch.setattr(
        plot,
        "denoise_gif",
        lambda path, frames, *a, **k: got.update(frames=frames) or moving(path, frames, *a, **k),
    )
    return got


def acted(planner, out):
    env = make("maze2d-umaze")
    return demo("maze2d-umaze", env, Room.of(env), receding(planner), (3, 1), None, 0, out)


def test_the_animation_ends_in_the_plan_of_the_picture(seen, tmp_path):
    acted(dfplan.load("maze2d-umaze"), tmp_path)
    np.testing.assert_allclose(seen["frames"][-1], seen["plan"].candidates[..., :2], atol=1e-5)


@pytest.mark.parametrize("name", ["maze2d-large-actions", "maze2d-large-stacked"])
def test_several_tokens_and_stacks_are_drawn(name, seen, tmp_path):
    rng = np.random.default_rng(0)
    walk = {
        "observations": rng.normal(size=(400, 4)).astype("f4"),
        "actions": rng.normal(size=(400, 2)).astype("f4"),
    }
    config = read_config(CONFIGS / f"{name}.json", TrainConfig)
    small = replace(config.model, width=16, layers=1)
    config = replace(config, steps=1, batch=4, horizon=6, model=small)
    list(Trainer(config, Episodes(walk, np.arange(100, 401, 100), 0.01), tmp_path / "run").run())
    planner = dfplan.load(tmp_path / "run", dfplan.PlannerConfig(candidates=2, steps=2))
    acted(planner, tmp_path)
    assert np.shape(seen["frames"]) == (2, 2, 6, 2)
    assert (tmp_path / "denoise.gif").stat().st_size > 0


def test_obstacles_are_drawn_and_kept_off(tmp_path):
    """`dfplan plan --obstacle`: a picture of the way around, and no animation of a single plan that it is not."""
    from dfplan.policies import Around, Detour, PointMass

    brain = dfplan.load("maze2d-large")
    ball = (2.55, 4.8, 0.2)
    policy = Detour(Around(brain, 0.1, states=5), PointMass.fitted(brain), obstacles=[ball])
    env = make("maze2d-large", max_episode_steps=150)
    found = demo("maze2d-large", env, Room.of(env), policy, (2.8, 2.8), (2.8, 5.8), 0, tmp_path, [ball])
    assert found["pictures"] == str(tmp_path / "plan.png") and not (tmp_path / "denoise.gif").exists()
    assert (tmp_path / "plan.png").stat().st_size > 10_000 and "1 of 1" in found["plan"]
    assert found["collision_free"] is True
    straight = demo("maze2d-large", make("maze2d-large", max_episode_steps=150), Room.of(env), receding(brain),
                    (2.8, 2.8), (2.8, 5.8), 0, tmp_path, [(2.8, 4.3, 0.2)])  # fmt: skip
    assert straight["collision_free"] is False
