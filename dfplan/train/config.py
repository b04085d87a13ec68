"""Configuration: frozen, validated, strict about names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any, TypeAlias

import torch
from torch import nn

from dfplan.denoiser import PARAMETERISATIONS, Denoiser
from dfplan.nets.carriers import CARRIERS
from dfplan.nets.memory import Memory
from dfplan.nets.mlp import Perceptron
from dfplan.nets.recurrent import Recurrent
from dfplan.nets.returns import Returns
from dfplan.nets.transformer import Transformer
from dfplan.noise import NoiseSchedule
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.tools.errors import one_of
from dfplan.tools.named import named
from dfplan.tools.serialize import from_dict, read_config, read_values, to_dict
from dfplan.train.levels import Levels
from dfplan.train.loss import WEIGHTS


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        kind: `transformer`, `recurrent`, `perceptron` (short windows of state; several times less arithmetic), or
            `module:Name` of a network of one's own, see `NETWORKS`.
        width: size of a token inside; of the whole window (perceptron).
        layers: blocks, or read-out layers (recurrent).
        heads: attention heads (transformer).
        causal: a token sees only its past (transformer; a recurrent network always is).
        parameterisation: what the output means: `x0`, `eps` or `v`.
        noise: the noise schedule.
        fine: perceptron: resolution of small values, see `nets/mlp.py`; 0 for none.
        carrier: perceptron: what carries the steps before its window: `attention` (all of them), `recurrent`,
            `compressed` (older ones coarser), see `nets/memory.py`; empty for none.
        carried: numbers of an entry of that memory.
        reach: most steps of history that training shows, found from the demonstrations where it is 0; older ones are
            read as if they were that old.
        own: settings of a network of one's own, which are kept with it.
    """

    kind: str = "transformer"
    width: int = 192
    layers: int = 4
    heads: int = 4
    causal: bool = False
    parameterisation: str = "x0"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    fine: float = 0.0
    carrier: str = ""
    carried: int = 128
    reach: int = 0
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes below 1."""
        if not callable(named("model kind", self.kind, NETWORKS)):
            raise ValueError(
                f"got model kind '{self.kind}', which cannot be called; expected a class or a function"
            )
        if self.own and self.kind in NETWORKS:
            raise ValueError(
                f"got own={dict(self.own)} with '{self.kind}', expected none but for a module:Name"
            )
        one_of("parameterisation", self.parameterisation, PARAMETERISATIONS)
        _above_zero(self, "width", "layers", "heads")
        if self.fine and (self.kind != "perceptron" or self.fine < 0):
            raise ValueError(
                f"got fine={self.fine} with kind '{self.kind}', expected 0, or above 0 with 'perceptron'"
            )
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(f"got width={self.width}, heads={self.heads}; width must be a multiple of heads")
        if not self.carrier:
            return
        one_of("carrier", self.carrier, CARRIERS)
        _above_zero(self, "carried")
        if self.kind != "perceptron" or self.carried % self.heads or self.reach < 0:
            raise ValueError(
                f"got carrier='{self.carrier}' with kind '{self.kind}', carried={self.carried}, heads={self.heads}, "
                f"reach={self.reach}; expected kind 'perceptron', carried a multiple of heads, reach 0 or more"
            )

    def build(self, spec: TrajectorySpec, horizon: int) -> Denoiser:
        """An untrained denoiser for `horizon` steps of `spec`.

        Raises:
            ValueError: a network of one's own is none, or gives back another shape than it gets.
        """
        backbone = named("model kind", self.kind, NETWORKS)(spec, horizon, self)
        if not isinstance(backbone, nn.Module):
            raise ValueError(f"'{self.kind}' made {type(backbone).__name__}, expected a torch.nn.Module")
        denoiser = Denoiser(backbone, self.noise, self.parameterisation)
        if self.kind not in NETWORKS:
            x = torch.zeros(2, horizon * spec.group_size, spec.width)
            with torch.no_grad():
                found = getattr(denoiser.eval()(x, x[..., 0]), "shape", None)
            if found != x.shape:
                raise ValueError(
                    f"'{self.kind}' gives {found} for x {tuple(x.shape)}, expected the same shape"
                )
        return denoiser.train()


Network: TypeAlias = "Callable[[TrajectorySpec, int, ModelConfig], nn.Module]"
"""Makes a backbone `(x (B, T, D), level (B, T)) -> (B, T, D)` for windows of so many steps: T = steps * group_size."""


def _transformer(spec: TrajectorySpec, horizon: int, model: ModelConfig) -> nn.Module:
    tokens, group = horizon * spec.group_size, spec.group_size
    return Transformer(spec.width, tokens, group, model.width, model.layers, model.heads, model.causal)


def _recurrent(spec: TrajectorySpec, horizon: int, model: ModelConfig) -> nn.Module:
    return Recurrent(spec.width, model.width, model.layers)


def _perceptron(spec: TrajectorySpec, horizon: int, model: ModelConfig) -> nn.Module:
    valid = torch.from_numpy(spec.valid).repeat(horizon, 1)
    memory = None
    if model.carrier:
        once = torch.from_numpy(spec.valid)
        memory = Memory(once, model.carrier, model.carried, model.heads, model.fine, model.reach)
    return Perceptron(valid, model.width, model.layers, model.fine, memory)


NETWORKS: Mapping[str, Network] = {
    "transformer": _transformer,
    "recurrent": _recurrent,
    "perceptron": _perceptron,
}
"""Networks by name; one's own is named `module:Name` and called in the same way."""


ACTS = ("policy", "planner")
"""Who may be told in a checkpoint how to act."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        spec: what a token is.
        horizon: S, steps in a window.
        task: task the model is for, such as `maze2d-large`; where a plan's goal and scores come from.
        goal: default goal in the units of the goal token, or None.
        goal_token: name of the token a goal fixes; empty for a policy, which has no goal token.
        begin: model whose weights, mean and scale the run begins with (a shipped name or a folder); empty: none.
        model: the network.
        levels: how noise levels are drawn.
        returns: how demonstrations are told apart by their rewards, see `dfplan.nets.returns`.
        weight: loss weight: `uniform`, `min_snr` or `fused_snr`.
        steps: optimiser steps.
        batch: windows per step, of all processes together.
        accumulate: parts in which each process computes its windows, one after the other: less memory, the same gradient.
        longest_of: starts drawn for each window; the one with the most steps left in its episode is kept.
        per_episode: windows drawn from each episode that is drawn (networks with a memory); fewer where `batch` is no
            multiple of it.
        turns: share of these windows that are drawn where the actions change, the others anywhere.
        through: steps of history that gradients go through; what is older is carried to them without.
        lr: peak learning rate (AdamW).
        weight_decay: AdamW weight decay.
        warmup: steps of linear warm-up; cosine to zero follows.
        clip: gradient norm at which gradients are clipped.
        ema: decay of the averaged weights, which are what is saved for use.
        precision: `fp32` or `bf16` (autocast; weights stay fp32).
        seed: of weights, windows, levels and noise.
        save_every: steps between checkpoints.
        keep_every: steps between weights that are kept for use, in kept/STEP; 0 keeps none but the last.
        log_every: steps between log lines.
        patience: saves in a row without a lower held-out loss after which the run ends, and whose lowest is what is saved for
            use, where demonstrations are held out; 0: the run goes to its end, and its last weights are used.
        act: how the model acts best: tables `policy` (chunk, memory, temperature, steps, ...) and `planner`
            (candidates, steps, schedule, ...) of settings that they start from.
    """

    spec: TrajectorySpec
    horizon: int
    task: str = ""
    goal: tuple[float, ...] | None = None
    goal_token: str = "position"
    begin: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    levels: Levels = field(default_factory=Levels)
    returns: Returns = field(default_factory=Returns)
    weight: str = "uniform"
    steps: int = 20000
    batch: int = 256
    accumulate: int = 1
    longest_of: int = 1
    per_episode: int = 16
    turns: float = 0.5
    through: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 500
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16"
    seed: int = 0
    save_every: int = 1000
    keep_every: int = 0
    log_every: int = 50
    patience: int = 0
    act: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: naming the field, what it is and what it should be.
        """
        one_of("loss weight", self.weight, WEIGHTS)
        one_of("precision", self.precision, ("fp32", "bf16"))
        _above_zero(self, "horizon", "steps", "batch", "longest_of", "per_episode", "through", "lr", "clip")
        _above_zero(self, "save_every", "log_every", "accumulate")
        for name in ("warmup", "weight_decay", "keep_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"got {name}={getattr(self, name)}, expected 0 or more")
        for use, table in self.act.items():
            one_of("key of act", use, ACTS)
            if not isinstance(table, Mapping):
                raise ValueError(f"got act.{use}={table!r}, expected a table")
        if self.patience < 0:
            raise ValueError(f"got patience={self.patience}, expected 0 or more saves")
        if not 0 <= self.turns <= 1:
            raise ValueError(f"got turns={self.turns}, expected a share from 0 to 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"got ema={self.ema}, expected a decay from 0 to below 1, such as 0.999")
        self.parts()
        if not self.goal_token and self.goal is None:
            return
        token = one_of("goal_token", self.goal_token, [t.name for t in self.spec.tokens])
        size = next(len(t.channels) for t in self.spec.tokens if t.name == token)
        if self.goal is not None and len(self.goal) != size:
            raise ValueError(f"got goal {self.goal}, expected the {size} channels of token '{token}'")

    @property
    def units(self) -> int:
        """What a batch can be parted into: its episodes where a network has a memory, else its windows."""
        return self.batch // gcd(self.batch, self.per_episode) if self.model.carrier else self.batch

    def parts(self, processes: int = 1) -> int:
        """In how many equal parts a batch is computed, `accumulate` in each process.

        Raises:
            ValueError: it cannot be parted so.
        """
        parts = processes * self.accumulate
        if self.units % parts:
            windows, named = (self.per_episode, ", per_episode") if self.model.carrier else (1, "")
            raise ValueError(
                f"got batch={self.batch} for {processes} processes with accumulate={self.accumulate}, expected a multiple of "
                f"{parts * windows} (processes, accumulate{named}); change one of these"
            )
        return parts


CHANGEABLE = ("steps", "save_every", "keep_every", "log_every", "act", "accumulate", "patience")
"""Settings that a resumed run may be given anew: they change how far it goes and what is kept, not what it learns."""


def may_resume(saved: TrainConfig, given: TrainConfig, where: str) -> None:
    """Refuse to go on with other settings than the run's.

    Raises:
        ValueError: naming each that differs, as it was saved and as it is given.
    """
    ours, theirs = to_dict(given), to_dict(saved)
    differ = {k: (theirs[k], ours[k]) for k in ours if ours[k] != theirs[k] and k not in CHANGEABLE}
    if differ:
        raise ValueError(
            f"{where} was trained with other settings: {differ} (saved, given); a run that goes on may change only "
            f"{', '.join(CHANGEABLE)}"
        )


def _above_zero(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"got {name}={getattr(config, name)}, expected a number above 0")


__all__ = [
    "NETWORKS", "Channel", "ModelConfig", "Token", "TrainConfig", "from_dict", "may_resume", "read_config", "read_values",
    "to_dict",
]  # fmt: skip
