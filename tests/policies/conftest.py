import numpy as np
import pytest

from dfplan import envs
from dfplan.data.episodes import Episodes
from dfplan.planner import Planner, PlannerConfig
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.config import ModelConfig, TrainConfig
from dfplan.train.trainer import Trainer


@pytest.fixture(scope="session")
def tiny_planner(tmp_path_factory):
    """A planner for `maze2d-umaze` after two training steps: right in every shape, useless as a guide."""
    data = envs.collect("umaze", 3000, progress=False)
    ends = np.union1d(np.flatnonzero(data["timeouts"]) + 1, [3000])
    arrays = {key: data[key] for key in ("observations", "actions")}
    spec = TrajectorySpec(
        (Channel("x", "m", index=0), Channel("y", "m", index=1)),
        (Token("position", ("x", "y")),),
        dt=0.01, stride=10, observation_size=4, action_size=2,
    )  # fmt: skip
    config = TrainConfig(
        spec, 8, "maze2d-umaze", (1.0, 1.0),
        model=ModelConfig(width=16, layers=1, heads=2), steps=2, batch=8, warmup=1, precision="fp32",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    for _ in Trainer(config, Episodes(arrays, ends, 0.01, "tiny"), folder).run():
        pass
    return Planner.load(folder, PlannerConfig(steps=2, candidates=2))
