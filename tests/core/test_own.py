"""Schedules, step rules and costs of one's own: named by their module, and kept with the checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import checkpoint, config, walks

from dfplan import guidance
from dfplan.decide import Sampling
from dfplan.planner import Planner, PlannerConfig
from dfplan.sampling import ddim
from dfplan.schedules import full
from dfplan.train import Trainer
from dfplan.train import checkpoint as checkpoints

HERE = __name__
START = [0.5, -0.5, 0.0, 0.0]


def together(tokens, steps, uncertainty):
    return full(tokens, steps)


def halfway(row):
    return ddim(replace(row, x0=row.x0 / 2))


def keep_off():
    """Makes the cost; called without arguments."""
    return guidance.obstacle({"x": 0.0, "y": 0.0}, 2.0)


NOT_A_FUNCTION = 3


def plan(settings, **asked):
    return Planner(checkpoint(), PlannerConfig(steps=3, **settings)).plan(START, seed=0, **asked).observations


def test_a_schedule_of_ones_own_plans_as_it_says():
    own, known = plan({"schedule": f"{HERE}:together"}), plan({"schedule": "full"})
    np.testing.assert_array_equal(own, known)


def test_a_step_rule_of_ones_own_is_used():
    assert not np.allclose(plan({"step": f"{HERE}:halfway"}), plan({"step": "ddim"}))


def test_a_cost_of_ones_own_guides_where_none_is_given():
    own = plan({"cost": f"{HERE}:keep_off", "guidance": 2.0}, goal=(1.0, 1.0))
    np.testing.assert_array_equal(own, plan({"guidance": 2.0}, goal=(1.0, 1.0), cost=keep_off()))
    assert not np.allclose(own, plan({"guidance": 2.0}, goal=(1.0, 1.0)))


def test_they_come_back_with_the_checkpoint(tmp_path):
    act = {"planner": {"schedule": f"{HERE}:together", "cost": f"{HERE}:keep_off", "steps": 2}}
    list(Trainer(config(act=act), walks(), tmp_path / "run").run())
    planner = Planner(checkpoints.load(tmp_path / "run"))
    assert (planner.config.schedule, planner.config.steps) == (f"{HERE}:together", 2)
    assert planner.config.own_cost() is not None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": f"{HERE}:togther"}, "did you mean 'together'"),
        ({"schedule": "ful"}, "did you mean 'full'"),
        ({"step": "dimm"}, "did you mean 'ddim'"),
        ({"cost": "keep_off"}, "expected one of goal"),
        ({"cost": f"{HERE}:NOT_A_FUNCTION"}, "expected a function that makes a cost"),
        ({"cost": "no_such_module:cost"}, "cannot be imported"),
    ],
)
def test_what_is_not_there_is_refused_when_it_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
