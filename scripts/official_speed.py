"""Plans beside the official Diffusion Forcing code: python scripts/official.py --official PATH (pip install einops).

PATH is a checkout of github.com/buoyancy99/diffusion-forcing (475e0bc). Its own planning class and network, in its own
settings (position alone, 81 tokens, pyramid, 50 steps, no guidance), take turns with dfplan in one process: fp32, one thread.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dfplan
from dfplan.decide import generator_of
from dfplan.denoiser import Denoiser
from dfplan.nets import transformer
from dfplan.nets.normalize import Normalizer
from dfplan.nets.transformer import Cache
from dfplan.noise import NoiseSchedule
from dfplan.planner import Planner, PlannerConfig
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
Span = tuple[int, int]
STEPS, STACK, PLANNED, CONTEXT = 50, 10, 80, 9
MEAN, STD = (3.7296331, 5.3047247), (1.8070312, 2.5687592)
UNUSED = (
    "wandb", "omegaconf", "lightning.pytorch.utilities.types", "utils.logging_utils",
    "algorithms.diffusion_forcing.df_video", "algorithms.diffusion_forcing.models.unet3d",
)  # fmt: skip
"""What the official planning code imports and a plan never calls."""


def official(path: Path, causal: bool, guidance: float = 0.0) -> Any:
    """The official planner, untrained, for positions of maze2d-large; `causal` is its own switch."""

    class LightningModule(nn.Module):
        device = torch.device("cpu")

    lightning = ModuleType("lightning.pytorch")
    lightning.LightningModule = LightningModule  # type: ignore[attr-defined]
    stand_ins = {name: mock.MagicMock() for name in UNUSED}
    stand_ins |= {"lightning": mock.MagicMock(pytorch=lightning), "lightning.pytorch": lightning}
    sys.path.insert(0, str(path))
    with mock.patch.dict(sys.modules, stand_ins):
        from algorithms.diffusion_forcing.df_planning import DiffusionForcingPlanning
    sys.path.pop(0)
    diffusion = SimpleNamespace(
        timesteps=1000, sampling_timesteps=STEPS, beta_schedule="linear", schedule_fn_kwargs={}, objective="pred_x0",
        use_fused_snr=False, snr_clip=5.0, cum_snr_decay=0.98, ddim_sampling_eta=0.0, clip_noise=20.0,
        stabilization_level=CONTEXT + 1,
        architecture=SimpleNamespace(network_size=128, num_layers=12, attn_heads=4, dim_feedforward=512),
    )  # fmt: skip
    config = SimpleNamespace(
        env_id="maze2d-large-v1", action_mean=[], action_std=[], observation_mean=MEAN, observation_std=STD,
        use_reward=False, episode_len=PLANNED * STACK, frame_stack=STACK, gamma=1.0, reward_mean=0.0, reward_std=1.0,
        open_loop_horizon=50, padding_mode="same", guidance_scale=guidance, plot_start_goal=True, context_frames=1,
        chunk_size=800, external_cond_dim=0, causal=causal, uncertainty_scale=1, scheduling_matrix="pyramid",
        frame_skip=1, diffusion=diffusion, debug=False,
    )  # fmt: skip
    return DiffusionForcingPlanning(config).eval()


@dataclass(frozen=True)
class Table(NoiseSchedule):
    """The official noise at its 51 levels; 0 is clean."""

    signal: Tensor = field(default_factory=lambda: torch.ones(STEPS + 1))
    noise: Tensor = field(default_factory=lambda: torch.zeros(STEPS + 1))

    def alpha(self, level: Tensor) -> Tensor:
        """Signal at `level`."""
        return self.signal[(level * STEPS).round().long()]

    def sigma(self, level: Tensor) -> Tensor:
        """Noise at `level`."""
        return self.noise[(level * STEPS).round().long()]


def table(theirs: Any) -> Table:
    """Levels of dfplan -> the official signal and noise."""
    real = torch.linspace(-1, 999, STEPS + 1).long()[1:]
    square = theirs.diffusion_model.alphas_cumprod[real]
    signal, noise = torch.cat([torch.ones(1), square]).sqrt(), torch.cat([torch.zeros(1), 1 - square]).sqrt()
    return Table("linear", signal, noise)


class Same(nn.Module):
    """The official network's weights, computed as dfplan's transformer computes: state goes in and comes out.

    Clean tokens are shown to it as the official code shows them.

    Args:
        theirs: the official planner.
        causal: a token sees only itself and what is before it.
        spans: for each row, the tokens (first, end) that alone move: the last layer answers for these only; None: for all.
    """

    def __init__(self, theirs: Any, causal: bool, spans: Sequence[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.net, self.causal = theirs.diffusion_model.model, causal
        self.spans = None if spans is None else cycle(spans)
        real = torch.linspace(-1, 999, STEPS + 1).long()
        real[0] = CONTEXT
        self.levels = self.net.k_embed(real)
        self.places = self.net.t_embed(torch.arange(PLANNED + 1))
        self.scale = torch.ones(STEPS + 1)
        self.scale[0] = theirs.diffusion_model.alphas_cumprod[CONTEXT].sqrt()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, T, D), (B, T) -> (B, T, D)."""
        if self.spans is None:
            return self.step(x, level, None, 0)[0]
        first, end = next(self.spans)
        if end <= first:  # nothing moves
            return x
        out = self.step(x, level, None, 0, (first, end))[0]
        return torch.cat([x[:, :first], out, x[:, end:]], 1)

    def step(
        self, x: Tensor, level: Tensor, state: list[Cache] | None, keep: int, moving: Span | None = None
    ) -> tuple[Tensor, list[Cache] | None]:
        """As `Transformer.step`; with `moving` only these tokens come out."""
        before = 0 if state is None else state[0][0].shape[2]
        index = (level * STEPS).round().long()
        h = self.net.init_mlp(torch.cat([x * self.scale[index][..., None], self.levels[index]], -1))
        h = h + self.places[before : before + x.shape[1]]
        caches, layers = [], self.net.transformer.layers
        for i, layer in enumerate(layers):
            last = moving if i == len(layers) - 1 else None
            h, cache = self._layer(layer, h, None if state is None else state[i], last)
            caches.append(cache)
        return self.net.out(h), self.cut(caches, before + keep, before + x.shape[1])

    def _layer(self, layer: Any, h: Tensor, cache: Cache | None, only: Span | None) -> tuple[Tensor, Cache]:
        own = layer.self_attn
        mixed = nn.functional.linear(h, own.in_proj_weight, own.in_proj_bias)
        q, k, v = mixed.unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        if only is not None:
            q, h = q[:, :, slice(*only)], h[:, slice(*only)]
        seen = transformer.attention(q, k, v, self.causal).transpose(1, 2).flatten(2)
        h = layer.norm1(h + own.out_proj(seen))
        return layer.norm2(h + layer.linear2(torch.relu(layer.linear1(h)))), (k, v)

    def cut(self, state: list[Cache], tokens: int, of: int) -> list[Cache] | None:
        """As `Transformer.cut`."""
        return [(k[:, :, :tokens], v[:, :, :tokens]) for k, v in state] if tokens else None


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`transformer.attention` by torch's own kernel."""
    before, seen = k.shape[-2] - q.shape[-2], None
    if causal and before:
        seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(before)
    return nn.functional.scaled_dot_product_attention(q, k, v, seen, is_causal=causal and not before)


def planner(backbone: nn.Module, schedule: NoiseSchedule) -> Planner:
    """dfplan's planner round a network, with the official tokens and schedule."""
    config = dfplan.load("maze2d-large").model.config
    spec = replace(config.spec, stride=STACK, stack=STACK)
    config = replace(config, spec=spec, horizon=PLANNED + 1, goal=None)
    normalizer = Normalizer(torch.tensor([MEAN * STACK]), torch.tensor([STD * STACK]))
    model = Checkpoint(config, Denoiser(backbone, schedule).eval(), normalizer, {})
    return Planner(model, PlannerConfig(schedule="pyramid", steps=STEPS, uncertainty=1.0))


def theirs_plan(theirs: Any, starts: Array, steps: int = PLANNED) -> Tensor:
    """One call of the official plan() for all starts (B, 2) in m -> (B, steps * 10, 2), normalised."""
    with torch.no_grad():
        start = torch.from_numpy((starts - MEAN) / STD).float()
        return theirs.plan(start, start, steps * STACK)[-1].transpose(0, 1)


def ours_plan(ours: Planner, starts: Array, **asked: Any) -> Tensor:
    """One call of dfplan for all starts (B, 2) in m -> (B, steps * 10, 2), normalised."""
    history = np.pad(starts, ((0, 0), (0, 2)))[:, None]
    plans = ours.plan_batch(history, seeds=range(len(starts)), **asked)
    return torch.stack([p.tokens[0, 1:].reshape(-1, 2) for p in plans])


def apart(theirs: Any, ours: Planner, starts: Array) -> float:
    """Largest difference of the two plans from the same noise, in standard deviations of the data."""
    drawn = [torch.randn(PLANNED + 1, 2 * STACK, generator=generator_of(i)) for i in range(len(starts))]
    noise = torch.stack(drawn, 1)[1:]
    with mock.patch.object(torch, "randn", lambda *a, **k: noise.clone()):
        expected = theirs_plan(theirs, starts)
    return float((ours_plan(ours, starts) - expected).abs().max())


def with_fused(call: Callable[[], object]) -> Callable[[], object]:
    """The same with torch's attention kernel."""

    def run() -> None:
        with mock.patch.object(transformer, "attention", fused):
            call()

    return run


def turns(calls: Mapping[str, Callable[[], object]], count: int) -> None:
    """Let the calls take turns, and print the median of each and how many times faster than the first it is."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(count + 1):  # the first warms up
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            began = time.thread_time()
            calls[name]()
            spent[name] += [1e3 * (time.thread_time() - began)] if turn else []
    base = np.array(next(iter(spent.values())))
    for name, each in spent.items():
        print(f"  {name:<60} {np.median(each):7.0f} ms {np.median(base / np.array(each)):6.2f} x", flush=True)


def laid_out(ours: Planner) -> Planner:
    """The same with each weight's columns one after the other in memory, which a product of few rows reads faster."""
    for part in ours.model.denoiser.modules():
        if isinstance(part, nn.Linear):
            part.weight.data = part.weight.data.t().contiguous().t()
        if isinstance(part, nn.MultiheadAttention):
            part.in_proj_weight.data = part.in_proj_weight.data.t().contiguous().t()
    return ours


def one_plan(path: Path, starts: Array, causal: bool, count: int) -> None:
    """The same plans: official, the same weights in dfplan, dfplan's own network of that size."""
    theirs = official(path, causal)
    noise = table(theirs)
    spans = [(max(1, m - STEPS + 1), min(PLANNED, m) + 1) for m in range(STEPS + PLANNED)]

    def same(spans: Sequence[Span] | None = None) -> Planner:
        return planner(Same(copy.deepcopy(theirs), causal, spans), noise)

    def own() -> Planner:
        network = transformer.Transformer(2 * STACK, PLANNED + 1, 1, 128, 12, 4, causal)
        return planner(network, NoiseSchedule("linear"))

    ours = {"dfplan, the same weights": same(), "dfplan, its own network": own()}
    less = {"same weights, fused": same(), "same weights, fused, laid out": laid_out(same())}
    if not causal:
        less["same weights, fused, laid out, last layer for what moves"] = laid_out(same(spans))
    less["own network, fused, laid out"] = laid_out(own())
    calls: dict[str, Callable[[], object]] = {"official code": lambda: theirs_plan(theirs, starts)}
    calls |= {name: partial(ours_plan, p, starts) for name, p in ours.items()}
    calls |= {name: with_fused(partial(ours_plan, p, starts)) for name, p in less.items()}
    differ = max(apart(theirs, p, starts) for name, p in (ours | less).items() if "own" not in name)
    print(f"{'causal' if causal else 'not causal'}, starts: {len(starts)}; largest difference {differ:.1e}")
    turns(calls, count)


def other_ways(path: Path, starts: Array, count: int) -> None:
    """What the two do differently for the same purpose: the plans of a whole episode, a plan that is to reach a goal."""
    theirs, guided = official(path, False), official(path, False, guidance=2.0)
    same = planner(Same(theirs, False), table(theirs))
    ends = range(PLANNED, 0, -5)
    print(f"every plan of an episode of 800 steps, a new one every 50; starts: {len(starts)}")
    turns({
        "official code: 81 tokens, padded": lambda: [theirs_plan(theirs, starts, n) for n in ends],
        "dfplan: the tokens that are left": lambda: [ours_plan(same, starts, horizon=n + 1) for n in ends],
    }, count)  # fmt: skip
    print(f"one plan to a goal; starts: {len(starts)}")
    turns({
        "official code: guided, 2.0": lambda: theirs_plan(guided, starts),
        "dfplan: the goal is known": lambda: ours_plan(same, starts, goal=(7.0, 9.0)),
    }, count)  # fmt: skip


def main() -> None:
    """Measure and print; ms are CPU time of the one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, required=True, help="checkout of the official code")
    parser.add_argument("--starts", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    starts = np.random.default_rng(0).uniform(1, 5, (max(args.starts), 2))
    for count in args.starts:
        for causal in (False, True):
            one_plan(args.official, starts[:count], causal, args.turns)
    other_ways(args.official, starts[:1], args.turns)


if __name__ == "__main__":
    main()
