"""Writing a policy as ONNX. This alone of `dfplan.runtime` needs torch, and the packages of the extra `onnx`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfplan import known
from dfplan.act import Actor, ImitationConfig
from dfplan.act.remember import emphasised
from dfplan.decide import answering, asked
from dfplan.known import Known
from dfplan.models import find
from dfplan.nets.memory import Memory
from dfplan.runtime.actor import LEAST
from dfplan.runtime.folder import GRAPH, MEMORY, SETTINGS, exported, settings
from dfplan.sampling import STEPS, descend
from dfplan.tools.errors import optional_import
from dfplan.tools.serialize import to_dict
from dfplan.train import checkpoint

OPSET = 18


class Decision(nn.Module):
    """One decision for one robot: what is known, noise and what is remembered in, actions in physical units out.

    Args:
        actor: of a policy that can be exported.
        names: what goes in, in this order.
    """

    def __init__(self, actor: Actor, names: tuple[str, ...]) -> None:
        super().__init__()
        self.denoiser, self.normalizer = actor.decider.denoiser, actor.model.normalizer
        self.config, self.spec, self.names = actor.config, actor.spec, names

    def forward(self, *given: Tensor) -> Tensor:
        """-> (1, S * stride, A)."""
        x = dict(zip(self.names, given, strict=True))
        schedule, memory = self.denoiser.schedule, self.denoiser.memory
        recall = None if memory is None else memory.shown(x["entries"], x["ages"][0])
        found = known.noised(Known(x["values"], x["mask"], x["level"]), x["noise"], schedule)
        denoise = answering(
            emphasised(self.denoiser, recall, self.config.history_guidance), x["part"], found.values
        )
        more = iter(x["more"].unbind(1) if "more" in x else ())
        start = x["temperature"][..., None] * x["noise"]
        x0 = descend(
            denoise, schedule, x["rows"][0], start, known=found, step=STEPS[self.config.step], noise=lambda: next(more)
        )  # fmt: skip
        actions = self.spec.array(self.normalizer.unnormalize(x0), "actions")
        assert actions is not None
        return actions + x["origin"][:, None]


class Step(nn.Module):
    """One more step of one robot as an entry of its memory; where a recurrent network carries it, as its next state."""

    def __init__(self, actor: Actor, memory: Memory) -> None:
        super().__init__()
        self.memory, self.schedule = memory, actor.decider.schedule

    def forward(self, x: Tensor, level: Tensor, noise: Tensor, begins: Tensor, *before: Tensor) -> Tensor:
        """x and noise (1, G, D), level (1, G), begins (1, 1), before (1, C) -> (1, C)."""
        memory, noisy = self.memory, self.schedule.add_noise(x, level, noise)
        entry = memory.entered(noisy[:, None], level[:, None], begins)[:, 0]
        if before:
            return memory.carrier.add(before, entry)[0]
        return memory.pair(memory.norm(entry)) if memory.carrier.settled else entry


def export(
    name: str | os.PathLike[str], out: str | os.PathLike[str], steps: int = 0, unguided: bool = False
) -> Path:
    """Write a policy to a new folder, for `dfplan.runtime.load`.

    Args:
        name: shipped model, run folder or checkpoint folder.
        out: new folder, or one that was exported before, which is replaced.
        steps: network calls of each token; 0: as the checkpoint says.
        unguided: leave out the cost that the checkpoint acts with.

    Raises:
        ValueError: it cannot be exported, naming why.
        ImportError: a package of the extra `onnx` is not installed.
    """
    folder, model = Path(out).expanduser(), checkpoint.load(find(name))
    config: ImitationConfig = asked(ImitationConfig, model, "policy", **({"steps": steps} if steps else {}))
    config = replace(config, guidance=0.0, cost="") if unguided else config
    if folder.exists() and not exported(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and holds no exported policy; it is left alone, choose another folder"
        )
    for module in ("onnx", "onnxscript"):
        optional_import(module, "onnx")
    _fits(str(name), config)
    actor = Actor(model, config)
    memory, levels = (
        actor.decider.denoiser.memory,
        {n: actor.rows(n) for n in range(1, actor.about.horizon + 1)},
    )
    calls = max(map(len, levels.values())) - 1
    carrier = model.config.model.carrier if memory is not None else ""
    graph: dict[str, Any] = {
        "calls": calls, "draws": calls if config.step == "ddpm" else 0, "causal": actor.about.causal,
        "carrier": carrier, "entry": 0 if memory is None else memory.carrier.size * (1 + memory.carrier.settled),
        "rows": {str(n): rows.tolist() for n, rows in levels.items()},
        "normalizer": {k: getattr(model.normalizer, k).tolist() for k in ("mean", "scale")},
    }  # fmt: skip
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        inputs = _inputs(actor, calls, graph["draws"], graph["entry"])
        _write(Decision(actor, tuple(inputs)), inputs, "actions", fresh / GRAPH)
        if memory is not None:
            _write(Step(actor, memory), _step(actor, memory), "entry", fresh / MEMORY)
        text = settings(checkpoint.header(model.config, model.calibration), to_dict(config), graph)
        (fresh / SETTINGS).write_text(text)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _fits(name: str, config: ImitationConfig) -> None:
    """Refuse what a graph cannot do, before any work."""
    reasons = {
        "guidance": (bool(config.guidance), "guidance needs gradients of the network; leave its cost out with --unguided"),
        "stream": (config.stream, "a streaming policy keeps half-noisy actions between decisions"),
        "precision": (config.precision != "fp32", "a graph is written in fp32"),
        "step": (":" in config.step, "a step rule of one's own is not there where the graph runs"),
        "schedule": (":" in config.schedule, "a schedule of one's own is not there where the graph runs"),
    }  # fmt: skip
    for key, (refused, why) in reasons.items():
        if refused:
            raise ValueError(
                f"{name} acts with {key}={getattr(config, key)!r}, which cannot be exported: {why}"
            )


def _inputs(actor: Actor, calls: int, draws: int, entry: int) -> dict[str, Tensor]:
    """Name -> an example of what goes into a decision, in order."""
    tokens, width, spec = actor.about.horizon * actor.spec.group_size, actor.spec.width, actor.spec
    found = {
        "values": torch.zeros(1, tokens, width), "mask": torch.zeros(1, tokens, dtype=torch.bool),
        "level": torch.zeros(1, tokens), "part": torch.zeros(1, tokens, width, dtype=torch.bool),
        "noise": torch.randn(1, tokens, width), "origin": torch.zeros(1, spec.action_size),
        "rows": torch.linspace(1, 0, calls + 1)[None, :, None].repeat(1, 1, tokens), "temperature": torch.ones(1, 1),
    }  # fmt: skip
    if draws:
        found["more"] = torch.randn(1, draws, tokens, width)
    if entry:
        found |= {"entries": torch.randn(1, 2 * LEAST, entry), "ages": torch.arange(2 * LEAST)[None]}
    return found


def _step(actor: Actor, memory: Memory) -> dict[str, Tensor]:
    """Name -> an example of what goes into a step, in order."""
    group, width = actor.spec.group_size, actor.spec.width
    found = {
        "x": torch.randn(1, group, width), "level": torch.zeros(1, group), "noise": torch.randn(1, group, width),
        "begins": torch.zeros(1, 1),
    }  # fmt: skip
    recurrent = actor.model.config.model.carrier == "recurrent"
    return {**found, "before": torch.zeros(1, memory.carrier.size)} if recurrent else found


def _write(module: nn.Module, inputs: Mapping[str, Tensor], output: str, path: Path) -> None:
    """Write one graph; torch's exporter is talkative, and is heard only where it fails."""
    many = torch.export.Dim("N", min=LEAST)
    axes: dict[str, Any] = {"entries": {1: many}, "ages": {1: many}}
    shapes = tuple(axes.get(name, {}) for name in inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), tuple(inputs.values()), str(path), input_names=list(inputs), output_names=[output],
                dynamic_shapes=(shapes,) if isinstance(module, Decision) else None, opset_version=OPSET, dynamo=True,
                external_data=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"torch's exporter could not write {path.name}: {error}") from error
