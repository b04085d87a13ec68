"""An imitation policy as a policy of LeRobot (type `dfplan`), whose commands then load it from a folder.

Needs the package `lerobot`, which finds this through `lerobot_policy_dfplan`: see docs/lerobot.md.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, untyped-decorator"
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfplan.act import ImitationConfig
from dfplan.decide import asked
from dfplan.models import find
from dfplan.nets.normalize import Normalizer
from dfplan.spec import TrajectorySpec
from dfplan.tools.errors import one_of
from dfplan.train import checkpoint

from .adapters import LeRobotPolicy
from .imitation import Imitation

try:
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.pretrained import PreTrainedPolicy
    from lerobot.processor import (
        AddBatchDimensionProcessorStep,
        DeviceProcessorStep,
        PolicyProcessorPipeline,
        RenameObservationsProcessorStep,
    )
    from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
except ImportError as error:
    raise ImportError(
        "lerobot is not installed; run: pip install 'lerobot>=0.4.4,<0.5' (docs/lerobot.md)"
    ) from error

ACTION, STATE, SCENE = "action", "observation.state", "observation.environment_state"
_ORDERED = "columns"
_TRAIN = (
    "a policy of type dfplan is trained by `dfplan train imitation --data DATASET --out RUN`, then exported"
)


@PreTrainedConfig.register_subclass("dfplan")
@dataclass
class DfplanConfig(PreTrainedConfig):
    """What `config.json` of such a folder holds.

    Attributes:
        checkpoint: `config.json` of the dfplan checkpoint.
        columns: LeRobot's key -> for each of its numbers, in order, the model's name of it; empty: the model does not see it.
        act: settings of `dfplan.policies.ImitationConfig` that differ from the checkpoint's, such as `{"chunk": 8}`.
        seed: of the first robot's first episode; each further one has the next.
    """

    checkpoint: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    act: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    observation_delta_indices = action_delta_indices = reward_delta_indices = None

    def get_optimizer_preset(self) -> Any:
        """Training is dfplan's."""
        raise NotImplementedError(_TRAIN)

    def get_scheduler_preset(self) -> None:
        """None."""

    def validate_features(self) -> None:
        """Nothing to do: the policy compares them with the model."""


class DfplanPolicy(PreTrainedPolicy):
    """The policy: history, queue and normalisation are dfplan's."""

    config_class, name = DfplanConfig, "dfplan"

    def __init__(self, config: DfplanConfig, **_: Any) -> None:
        """Build it without weights.

        Raises:
            ValueError: without a checkpoint, or where columns or actions are not those of the model.
        """
        super().__init__(config)
        if not config.checkpoint:
            raise ValueError(
                "got a policy of type dfplan without a checkpoint; write its folder with dfplan.policies.lerobot.export "
                "and give that as --policy.path"
            )
        self._train = train = checkpoint.read_settings(Path("checkpoint in"), config.checkpoint)
        self.denoiser = train.model.build(train.spec, train.horizon)
        self.normalizer = Normalizer.identity(train.spec)
        self.requires_grad_(False)
        self._places = places(train.spec, config.columns)
        actions = (config.output_features or {}).get(ACTION)
        if actions is not None and tuple(actions.shape) != (train.spec.action_size,):
            raise ValueError(
                f"got actions of shape {tuple(actions.shape)}, expected ({train.spec.action_size},), which the model was "
                "trained on; choose the robot or environment that it was trained for"
            )
        self._runner: LeRobotPolicy | None = None

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        # Strict whatever is asked: else missing weights are but a warning.
        return super()._load_as_safetensor(model, model_file, map_location, True)

    def _running(self) -> LeRobotPolicy:
        """Begun at its first use: by then the weights are there, on their device."""
        if self._runner is None:
            config = self.config
            model = checkpoint.Checkpoint(
                self._train, self.denoiser.eval(), self.normalizer, config.checkpoint["calibration"]
            )
            policy = Imitation(model, asked(ImitationConfig, model, "policy", **config.act))
            self._runner = LeRobotPolicy(policy, [_ORDERED], config.seed)
        return self._runner

    def reset(self) -> None:
        """Forget the last episode."""
        self._running().reset()

    def _ordered(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """LeRobot's batch -> the model's columns (B, O)."""
        parts = []
        for key, row in self._places.items():
            if key not in batch:
                raise ValueError(f"got a batch with {sorted(batch)}, expected '{key}' among them too")
            value = batch[key]
            if not isinstance(value, Tensor) or value.ndim != 2 or value.shape[1] != len(row):
                raise ValueError(
                    f"got {key} of shape {tuple(getattr(value, 'shape', ()))}, expected (B, {len(row)}), which are "
                    f"{self.config.columns[key]}"
                )
            parts.append(value.detach().cpu().double())
        out = torch.zeros(len(parts[0]), self._train.spec.observation_size, dtype=torch.float64)
        for part, row in zip(parts, self._places.values(), strict=True):
            seen = [n for n, place in enumerate(row) if place >= 0]
            out[:, [row[n] for n in seen]] = part[:, seen]
        return {_ORDERED: out}

    def select_action(self, batch: Mapping[str, Any], **_: Any) -> Tensor:
        """Batch of observations -> the next action, (B, A)."""
        return self._running().select_action(self._ordered(batch))

    def predict_action_chunk(self, batch: Mapping[str, Any], **_: Any) -> Tensor:
        """Batch of observations -> the next actions, (B, H, A)."""
        return self._running().predict_action_chunk(self._ordered(batch))

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Training is dfplan's."""
        raise NotImplementedError(_TRAIN)

    def get_optim_params(self) -> Any:
        """Training is dfplan's."""
        raise NotImplementedError(_TRAIN)


def places(spec: TrajectorySpec, columns: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Key -> for each of its numbers the column of the observation that it is, or -1.

    Raises:
        ValueError: for an unknown name, or a column that is given twice or not at all.
    """
    own = {c.name: c.index for c in spec.channels if c.source == "observations"}
    found = {
        key: [own[one_of(f"column in '{key}'", name, own)] if name else -1 for name in names]
        for key, names in columns.items()
    }
    given = [place for row in found.values() for place in row if place >= 0]
    wrong = [name for name, place in own.items() if given.count(place) != 1]
    if wrong:
        raise ValueError(
            f"got columns {dict(columns)}, expected each of {wrong} once; see the model's channels"
        )
    return found


def make_dfplan_pre_post_processors(
    config: DfplanConfig, dataset_stats: object = None
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """LeRobot's processors: they change no number, for the policy normalises by itself."""
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
    ]
    return (
        PolicyProcessorPipeline(steps=before, name="policy_preprocessor"),
        PolicyProcessorPipeline(
            steps=[DeviceProcessorStep(device="cpu")],
            name="policy_postprocessor",
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        ),
    )


def export(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    columns: Mapping[str, Sequence[str]] | None = None,
    act: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder for `--policy.path`: LeRobot's configuration, weights and processors.

    Args:
        source: a shipped model, a run folder or a checkpoint folder.
        folder: a new one.
        columns: see `DfplanConfig`; None: `observation.state` has the observation's columns in order.
        act: see `DfplanConfig`.

    Raises:
        ValueError: for a model that is no policy, columns that are not the model's, or a folder that is not empty.
    """
    folder, model = Path(folder), checkpoint.load(find(source))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; choose another folder")
    Imitation(model, asked(ImitationConfig, model, "policy", **(act or {})))  # else it says what is missing
    spec = model.config.spec
    names = {c.index: c.name for c in spec.channels if c.source == "observations"}
    columns = columns or {STATE: [names.get(i, "") for i in range(spec.observation_size)]}
    kinds = {key: FeatureType.ENV if key == SCENE else FeatureType.STATE for key in columns}
    config = DfplanConfig(
        input_features={key: PolicyFeature(kinds[key], (len(row),)) for key, row in columns.items()},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_size,))},
        device="cpu",
        checkpoint=checkpoint.header(model.config, model.calibration),
        columns={key: list(row) for key, row in columns.items()},
        act=dict(act or {}),
    )
    policy = DfplanPolicy(config)
    policy.denoiser.load_state_dict(model.denoiser.state_dict())
    policy.normalizer.load_state_dict(model.normalizer.state_dict())
    for part in (policy, *make_dfplan_pre_post_processors(config)):
        part.save_pretrained(folder)
    # safetensors makes it private, and a shared machine has other users
    (folder / "model.safetensors").chmod(0o644)
    return folder
