import json
from dataclasses import FrozenInstanceError

import pytest
import torch
from tiny import XY, action_spec, config, position_spec, walks

from dfplan.noise import NoiseSchedule
from dfplan.planner import PlannerConfig
from dfplan.spec import TrajectorySpec
from dfplan.tools.errors import one_of, optional_import
from dfplan.train import Levels, Trainer, checkpoint
from dfplan.train.config import ModelConfig, TrainConfig, from_dict, read_config, to_dict

RICH = config(
    action_spec(stride=2, stack=3),
    goal=(1.5, -2.0),
    task="maze2d-large",
    model=ModelConfig("recurrent", 8, 2, 1, True, "v", NoiseSchedule("sigmoid")),
    levels=Levels(0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    weight="fused_snr",
)


@pytest.mark.parametrize("c", [config(), RICH, RICH.spec, RICH.model, RICH.levels, PlannerConfig(steps=3)])
def test_round_trip_through_json(c):
    values = json.loads(json.dumps(to_dict(c)))
    assert from_dict(type(c), values) == c
    assert all(v is not None or k in ("goal", "returns") for k, v in values.items())


def test_defaults_need_only_spec_and_horizon():
    spec = position_spec()
    assert from_dict(TrainConfig, {"spec": to_dict(spec), "horizon": 5}) == TrainConfig(spec, 5)


def changed(**changes):
    values = to_dict(config())
    for path, value in changes.items():
        at = values
        *parents, last = path.split("__")
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at[name]
        at[last] = value
    return values


@pytest.mark.parametrize(
    "change, message",
    [
        ({"horizont": 3}, r"key in TrainConfig 'horizont'.*did you mean 'horizon'"),
        ({"model__widht": 3}, r"key in TrainConfig.model 'widht'.*did you mean 'width'"),
        ({"model__noise__kin": "cosine"}, r"TrainConfig.model.noise 'kin'.*did you mean 'kind'"),
        ({"spec__channels__0__unitt": "m"}, r"TrainConfig.spec.channels\[0\] 'unitt'.*did you mean 'unit'"),
        ({"spec___where": {}}, "key in TrainConfig.spec '_where'"),
        ({"steps": "many"}, r"TrainConfig.steps: got 'many' \(str\), expected int"),
        ({"steps": 2.5}, r"TrainConfig.steps: got 2.5 \(float\), expected int"),
        ({"steps": True}, r"TrainConfig.steps: got True \(bool\), expected int"),
        ({"lr": False}, r"TrainConfig.lr: got False \(bool\), expected float"),
        ({"lr": None}, r"TrainConfig.lr: got None"),
        ({"model__causal": 1}, r"TrainConfig.model.causal: got 1 \(int\), expected bool"),
        ({"model": 5}, r"TrainConfig.model: got 5, expected a table of \['kind'"),
        ({"goal": 3.0}, r"TrainConfig.goal: got 3.0, expected a list"),
        ({"goal": ["a", "b"]}, r"TrainConfig.goal\[0\]: got 'a'"),
        (
            {"spec__tokens__0__channels": "xy"},
            r"TrainConfig.spec.tokens\[0\].channels: got 'xy', expected a list",
        ),
        ({"model__noise": "cosine"}, r"TrainConfig.model.noise: got 'cosine', expected a table"),
    ],
)
def test_wrong_keys_and_types(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(TrainConfig, changed(**change))


def test_missing_key_lists_what_is_expected():
    with pytest.raises(ValueError, match=r"horizon.*expected keys \['spec', 'horizon'"):
        from_dict(TrainConfig, {"spec": to_dict(position_spec())})


def test_whole_numbers_are_floats_where_floats_are_wanted():
    c = from_dict(TrainConfig, changed(clip=2, goal=[1, 2]))
    assert (c.clip, c.goal) == (2.0, (1.0, 2.0)) and isinstance(c.clip, float)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": "min-snr"}, "did you mean 'min_snr'"),
        ({"precision": "bf17"}, "did you mean 'bf16'"),
        ({"horizon": 0}, "horizon=0, expected a number above 0"),
        ({"steps": 0}, "steps=0"),
        ({"batch": -1}, "batch=-1"),
        ({"longest_of": 0}, "longest_of=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"save_every": 0}, "save_every=0"),
        ({"log_every": 0}, "log_every=0"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"ema": -0.1}, "ema=-0.1"),
        ({"act": {"polcy": {}}}, "key of act 'polcy'.*did you mean 'policy'"),
        ({"act": {"policy": 8}}, "act.policy=8, expected a table"),
        ({"goal_token": "positio"}, "did you mean 'position'"),
        ({"goal": (1.0,)}, r"goal \(1.0,\), expected the 2 channels of token 'position'"),
    ],
)
def test_train_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        config(**change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "transformr"}, "did you mean 'transformer'"),
        ({"parameterisation": "x"}, "expected one of x0, eps, v"),
        ({"width": 0}, "width=0"),
        ({"layers": 0}, "layers=0"),
        ({"heads": -2}, "heads=-2"),
        ({"fine": 20.0}, "above 0 with .perceptron."),
    ],
)
def test_model_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match=r"width=10, heads=4"):
        ModelConfig(width=10, heads=4).build(position_spec(), 4)


def test_configuration_is_frozen():
    with pytest.raises(FrozenInstanceError):
        config().steps = 3


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_build_makes_what_was_asked(kind):
    spec = action_spec(stack=2)
    denoiser = ModelConfig(kind, width=8, layers=1, heads=2, parameterisation="eps").build(spec, 3)
    assert denoiser.parameterisation == "eps"
    assert denoiser(torch.randn(2, 6, spec.width), torch.rand(2, 6)).shape == (2, 6, 4)


class Own(torch.nn.Module):
    """A network of one's own: keeps to the contract unless told otherwise."""

    def __init__(self, spec, horizon, model):
        super().__init__()
        self.layer = torch.nn.Linear(spec.width + 1, spec.width + int(model.own.get("wider", 0)))

    def forward(self, x, level):
        return self.layer(torch.cat([x, level[..., None]], -1))


def not_a_network(spec, horizon, model):
    return spec


OWN = f"{Own.__module__}:Own"


def test_a_network_of_ones_own_is_trained_and_comes_back_with_the_checkpoint(tmp_path):
    trainer = Trainer(config(model=ModelConfig(OWN, own={"wider": 0})), walks(), tmp_path / "run")
    assert list(trainer.run())[-1] == 12
    loaded = checkpoint.load(tmp_path / "run")
    assert isinstance(loaded.denoiser.backbone, Own) and loaded.config.model.own == {"wider": 0}
    x = torch.randn(2, 6, 2)
    torch.testing.assert_close(loaded.denoiser(x, x[..., 0]), trainer.average(x, x[..., 0]), rtol=0, atol=0)
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace(OWN, "module_that_is_elsewhere:Own"))
    with pytest.raises(ValueError, match=r"config\.json.*'module_that_is_elsewhere' cannot be imported"):
        checkpoint.load(tmp_path / "run")


@pytest.mark.parametrize(
    "model, message",
    [
        ({"kind": OWN + "s"}, "did you mean 'Own'"),
        ({"kind": f"{Own.__module__}:OWN"}, "cannot be called"),
        ({"kind": "nowhere_at_all:Own"}, "cannot be imported"),
        ({"own": {"depth": 3}}, "own=.*with 'transformer', expected none"),
    ],
)
def test_a_network_that_is_not_there_is_refused_before_anything_is_built(model, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**model)


def test_a_network_that_breaks_the_contract_is_refused():
    with pytest.raises(ValueError, match=r"gives torch.Size\(\[2, 4, 5\]\) for x \(2, 4, 2\)"):
        ModelConfig(OWN, own={"wider": 3}).build(position_spec(), 4)
    with pytest.raises(ValueError, match="made TrajectorySpec, expected a torch"):
        ModelConfig(f"{Own.__module__}:not_a_network").build(position_spec(), 4)


def test_read_config(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(to_dict(RICH)))
    assert read_config(path, TrainConfig) == RICH


@pytest.mark.parametrize(
    "text", ['{"horizon": 3,}', "", "{", '"horizon"', "3", "null", "[]", "[1]", '{"horizon": 3}']
)
def test_unreadable_config_names_the_file(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json"):
        read_config(path, TrainConfig)


@pytest.mark.parametrize(
    "change",
    [{"model__widht": 3}, {"steps": "many"}, {"ema": 2.0}, {"model__kind": "lstm"}, {"spec__stride": 0}],
)
def test_ill_fitting_config_names_the_file(tmp_path, change):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(changed(**change)))
    with pytest.raises(ValueError, match=r"run\.json"):
        read_config(path, TrainConfig)


def test_one_of_and_optional_import():
    assert one_of("fruit", "pear", ["apple", "pear"]) == "pear"
    with pytest.raises(ValueError, match=r"^got fruit 'zzz', expected one of apple, pear$"):
        one_of("fruit", "zzz", ["apple", "pear"])
    with pytest.raises(ImportError, match=r"pip install 'dfplan\[robots\]'"):
        optional_import("no_such_module_here", "robots")
    assert optional_import("json", "robots") is json


def test_channels_are_shared_between_spec_and_config_names():
    assert isinstance(from_dict(TrajectorySpec, to_dict(position_spec())).channels, tuple)
    assert from_dict(TrajectorySpec, to_dict(position_spec())).channels == XY
