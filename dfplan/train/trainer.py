"""Training: one loop, resumable bit for bit. Needs torch and numpy alone."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfplan.data.episodes import Episodes
from dfplan.data.windows import Batch, Windows
from dfplan.nets.normalize import Normalizer
from dfplan.spec import TrajectorySpec
from dfplan.train import checkpoint
from dfplan.train.calibrate import calibrate
from dfplan.train.config import TrainConfig, to_dict
from dfplan.train.losses import denoising_loss

Log = Callable[[int, dict[str, float]], None]


class TokenWindows:
    """Windows of episodes as normalised tokens, by a copy of the normaliser."""

    def __init__(
        self, spec: TrajectorySpec, horizon: int, episodes: Episodes, normalizer: Normalizer
    ) -> None:
        self.spec, self.episodes = spec, episodes
        self.normalizer = copy.deepcopy(normalizer).cpu()
        self.sources = [spec.channel(t.channels[0]).source for t in spec.tokens]
        self.columns = [[spec.channel(c).index for c in t.channels] for t in spec.tokens]
        lags: dict[str, int] = {}
        for token, source in zip(spec.tokens, self.sources, strict=True):
            if lags.setdefault(source, token.lag) != token.lag:
                raise ValueError(
                    f"tokens from '{source}' have lags {lags[source]} and {token.lag}; give them one lag"
                )
        if "actions" in lags and "executed" in episodes.arrays:
            lags["executed"] = lags["actions"]  # where another command was carried out than the expert gave
        self.windows = Windows(episodes, spec.frames(horizon), tuple(lags), tuple(lags.values()))

    def fit_relative(self) -> Normalizer:
        """Fit relative tokens, whose values depend on the window, on 16,384 of them; a copy of the result."""
        rng, spec = np.random.default_rng(0), self.spec
        steps = len(self.windows.frames)
        got = self.windows.gather(rng.integers(0, len(self.windows), 16384))
        parts, _ = self._parts(got, rng.integers(0, steps, 16384))
        for g, token in enumerate(spec.tokens):
            if token.name in spec.relative:
                values = parts[token.name].reshape(-1, len(token.channels))
                mean, std = values.mean(0), values.std(0)
                if self.sources[g] == "observations":
                    # Relative ones are measured from 0: that is where they matter.
                    here = np.array([bool(spec.channel(c).reference) for c in token.channels])
                    mean, std = np.where(here, 0, mean), np.where(here, np.hypot(mean, std), std)
                std = np.maximum(std, 1e-6).astype(np.float32)
                n, valid = self.normalizer, spec.valid[g]
                n.mean[g, valid] = torch.from_numpy(np.tile(mean, spec.stack)).to(n.mean)
                n.scale[g, valid] = torch.from_numpy(np.tile(std, spec.stack)).to(n.scale)
        return copy.deepcopy(self.normalizer)

    def _parts(
        self, got: Batch, present: NDArray[np.integer[Any]] | int
    ) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.bool_]]]:
        """Values (B, S, F, C) of each token, relative ones as differences from step `present`, and where valid.

        Actions before the present are the ones that were executed, as they are when a policy looks back.
        """
        parts: dict[str, NDArray[np.float32]] = {}
        valid: list[NDArray[np.bool_]] = []
        for token, source, columns in zip(self.spec.tokens, self.sources, self.columns, strict=True):
            parts[token.name] = got.arrays[source][..., columns]
            if source == "actions" and "executed" in got.arrays:
                past = np.arange(parts[token.name].shape[1]) < np.reshape(present, (-1, 1))
                executed = got.arrays["executed"][..., columns]
                parts[token.name] = np.where(past[..., None, None], executed, parts[token.name])
            valid.append(np.asarray(got.valid[source].all(-1)))
            if token.name in self.spec.relative:
                seen = got.arrays["observations"]
                now = seen[np.arange(len(seen)), present, -1]
                parts[token.name] -= self.spec.origin(token.name, now)[:, None, None]
        return parts, valid

    def draw(
        self,
        rng: np.random.Generator,
        batch: int,
        longest_of: int = 1,
        present: NDArray[np.integer[Any]] | int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens x (B, T, D) normalised, inside (B, S), valid (B, T, D) where a value was recorded.

        `present` (B,) is the step that relative channels refer to.
        """
        starts = rng.integers(0, len(self.windows), size=(longest_of, batch))
        left = self.episodes.ends[np.searchsorted(self.episodes.ends, starts, side="right")] - starts
        starts = np.take_along_axis(starts, left.argmax(0)[None], 0)[0]
        got = self.windows.gather(starts)
        parts, valid = self._parts(got, present)
        x = self.normalizer.normalize(torch.from_numpy(self.spec.pack(parts)))
        mask = torch.from_numpy(np.stack(valid, 2))[..., None] & torch.from_numpy(self.spec.valid)
        mask = mask.flatten(1, 2)
        return x * mask, torch.from_numpy(got.inside), mask


class Trainer:
    """State of one run: model, average, optimiser, random states, step.

    Args:
        config: the run.
        episodes: demonstrations.
        folder: checkpoint folder; an existing one is an error unless `resume`.
        device: `cpu`, `cuda`, ...
        resume: go on from `folder`.
    """

    def __init__(
        self,
        config: TrainConfig,
        episodes: Episodes,
        folder: Path | str,
        device: str = "cpu",
        resume: bool = False,
    ) -> None:
        self.config, self.folder, self.device = config, checkpoint.recover(Path(folder)), device
        if self.folder.exists() and not resume:
            raise ValueError(
                f"{self.folder} exists; pass --resume to go on with it, or choose another folder"
            )
        if resume and not self.folder.exists():
            raise ValueError(
                f"nothing to resume: {self.folder} does not exist; leave out --resume to start it"
            )
        self.normalizer = Normalizer.fit(config.spec, episodes)
        self.windows = TokenWindows(config.spec, config.horizon, episodes, self.normalizer)
        if config.spec.relative:
            self.normalizer = self.windows.fit_relative()
        self.normalizer = self.normalizer.to(device)
        torch.manual_seed(config.seed)
        self.model = config.model.build(config.spec, config.horizon).to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.step = 0
        self.rng = np.random.default_rng(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        if resume:
            self._resume()

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine to zero."""
        c = self.config
        if self.step < c.warmup:
            return c.lr * (self.step + 1) / c.warmup
        return c.lr * 0.5 * (1 + math.cos(math.pi * (self.step - c.warmup) / max(1, c.steps - c.warmup)))

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, level, noise, scored: one batch on the device."""
        levels, group = self.config.levels, self.config.spec.group_size
        present = levels.present(self.config.batch, self.config.horizon, self.generator)
        committed = levels.commit(present, self.config.horizon, self.generator)
        x, inside, valid = self.windows.draw(
            self.rng, self.config.batch, self.config.longest_of, present.numpy()
        )
        each = 1 if levels.next_token else group  # the next token is one token of a step
        level, scored = levels.sample(inside.repeat_interleave(group // each, 1), self.generator)
        scored = scored.repeat_interleave(each, 1)
        noise = torch.randn(x.shape, generator=self.generator)
        if each > 1 and levels.independent:  # tokens of one step get levels of their own
            level = self._split(level, group)
        else:
            level = level.repeat_interleave(each, 1)
        level = levels.remember(level, present, committed, group, self.generator)
        padding = ~torch.from_numpy(self.config.spec.valid).repeat(self.config.horizon, 1)
        valid = valid | (
            padding & valid.any(-1, keepdim=True)
        )  # padding is trained to be 0: sampling feeds it back
        share = torch.from_numpy(self.config.spec.weight).repeat(self.config.horizon, 1)
        mask = (valid & scored[..., None]) * share
        return x.to(self.device), level.to(self.device), noise.to(self.device), mask.to(self.device)

    def _split(self, level: Tensor, group: int) -> Tensor:
        """(B, S) -> (B, S*G): half the steps get a fresh level for each of their tokens.

        Masked steps stay masked; a token of a known step stays known half the time, so that any part of a step can
        be given: a goal's position without its velocity, an observation without its action.
        """
        wide = level[..., None].expand(*level.shape, group)
        fresh = torch.rand(wide.shape, generator=self.generator)
        stays = (wide == 1) | ((wide == 0) & (torch.rand(wide.shape, generator=self.generator) < 0.5))
        pick = (torch.rand(*level.shape, 1, generator=self.generator) < 0.5) & ~stays
        return torch.where(pick, fresh, wide).flatten(1)

    def train_step(self) -> dict[str, Tensor | float]:
        """One optimiser step; returns loss and gradient norm as tensors (no host sync)."""
        config = self.config
        x, level, noise, scored = self.batch()
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=config.precision == "bf16"
        ):
            loss = denoising_loss(self.model, x, level, noise, scored, config.weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return {"loss": loss.detach(), "grad_norm": norm, "lr": rate}

    def run(self, log: Log | None = None) -> Iterator[int]:
        """Train to the end, saving as it goes; yields the step after each one."""
        began, first = time.perf_counter(), self.step
        while self.step < self.config.steps:
            metrics = self.train_step()
            if log and (self.step % self.config.log_every == 0 or self.step == self.config.steps):
                values = {k: float(v) for k, v in metrics.items()}
                if not math.isfinite(values["loss"]):
                    problem = f"loss is {values['loss']} at step {self.step}"
                    raise FloatingPointError(f"{problem}; lower lr ({self.config.lr}) or use fp32")
                log(self.step, {**values, "steps_per_s": (self.step - first) / (time.perf_counter() - began)})
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self.save()
            if self.config.keep_every and self.step % self.config.keep_every == 0:
                self.keep()
            yield self.step

    def _calibrate(self) -> dict[str, Any]:
        return calibrate(self.average, self.normalizer, self.windows, self.config, self.device)

    def keep(self) -> None:
        """Write what use needs into `kept/STEP` beside the checkpoint: for scores over several checkpoints."""
        checkpoint.write_folder(
            self.folder.parent / "kept" / f"{self.step:07d}",
            {"model.safetensors": checkpoint.model_tensors(self.average, self.normalizer)},
            {"config.json": checkpoint.header(self.config, self._calibrate())},
        )

    def save(self) -> None:
        """Write the checkpoint folder, ready for use and for resuming."""
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for i, slot in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{k}": v for k, v in slot.items()}
        state["generator"] = self.generator.get_state()
        checkpoint.write_folder(
            self.folder,
            {
                "model.safetensors": checkpoint.model_tensors(self.average, self.normalizer),
                "training.safetensors": state,
            },
            {
                "config.json": checkpoint.header(self.config, self._calibrate()),
                "training.json": {"step": self.step, "rng": self.rng.bit_generator.state},
            },
        )

    def _resume(self) -> None:
        saved = checkpoint.read_settings(self.folder, checkpoint.read_header(self.folder))
        if saved != self.config:
            ours, theirs = to_dict(self.config), to_dict(saved)
            differ = {k: (theirs[k], ours[k]) for k in ours if ours[k] != theirs[k]}
            raise ValueError(
                f"{self.folder} was trained with other settings: {differ} (saved, given); give the saved ones"
            )
        state = checkpoint.read_tensors(self.folder / "training.safetensors")
        meta: dict[str, Any] = checkpoint.read_json(self.folder / "training.json")
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        average = checkpoint.read_tensors(self.folder / "model.safetensors")
        self.average.load_state_dict({k[9:]: v for k, v in average.items() if k.startswith("denoiser.")})
        fitted = self.normalizer.state_dict()
        if any(not torch.equal(average[f"normalizer.{k}"], v.cpu()) for k, v in fitted.items()):
            raise ValueError(
                f"{self.folder} was trained on other data (mean and scale differ); give the same --data to resume"
            )
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".")
                slots.setdefault(int(i), {})[name] = value
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**whole, "state": slots})
        self.step = int(meta["step"])
        self.rng.bit_generator.state = meta["rng"]
        self.generator.set_state(state["generator"])
