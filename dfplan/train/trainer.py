"""Training: one loop, resumable bit for bit. Needs torch and numpy alone."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfplan.data.episodes import Episodes
from dfplan.denoiser import Denoiser
from dfplan.nets.memory import Recall
from dfplan.nets.normalize import Normalizer
from dfplan.train import checkpoint, pairs
from dfplan.train.batches import Batch, Batches, Past, Streams, part
from dfplan.train.calibrate import calibrate
from dfplan.train.config import TrainConfig, may_resume
from dfplan.train.imitate import take_weights
from dfplan.train.loss import Patience, denoising_loss
from dfplan.train.together import Together, alone
from dfplan.train.tokens import TokenWindows

Log = Callable[[int, dict[str, float]], None]


class Trainer:
    """State of one run: model, average, optimiser, random states, step.

    Args:
        config: the run. A run that is resumed may be given other `steps`, `save_every`, `keep_every`, `log_every`,
            `act` and `accumulate`.
        episodes: demonstrations.
        folder: checkpoint folder; an existing one is an error unless `resume`.
        device: `cpu`, `cuda`, ...; with `others` theirs.
        resume: go on from `folder`.
        held: demonstrations that are not trained on, whose loss is logged at every save; None: there are none.
        begin: the model that `config.begin` names; None: weights are drawn, mean and scale are those of `episodes`.
        others: the processes that train this model, see `dfplan.train.together`; None: this one alone. The first writes.

    Raises:
        ValueError: the folder is there, is not there or is damaged; somebody else trains in it; other settings or
            data than the run's, or than another process; a batch that cannot be parted evenly.
    """

    def __init__(
        self,
        config: TrainConfig,
        episodes: Episodes,
        folder: Path | str,
        device: str = "cpu",
        resume: bool = False,
        held: Episodes | None = None,
        begin: checkpoint.Checkpoint | None = None,
        others: Together | None = None,
    ) -> None:
        self.config, self.folder, self.others = config, Path(folder), others or Together(device)
        self.device = device = self.others.device
        self._parts = config.parts(self.others.world)
        if self.folder.parent.exists() and self.others.first:
            with alone(self.folder):
                checkpoint.recover(self.folder)
        self.others.wait()
        begin = self._begun(resume, begin)
        self.normalizer = begin.normalizer if begin else Normalizer.fit(config.spec, episodes)
        self.windows = TokenWindows(config.spec, config.horizon, episodes, self.normalizer)
        if config.spec.relative and begin is None:
            self.normalizer = self.windows.fit_relative()
        self._held = (
            None if held is None else TokenWindows(config.spec, config.horizon, held, self.normalizer)
        )
        self.normalizer = self.normalizer.to(device)
        torch.manual_seed(config.seed)
        self.model = config.model.build(config.spec, config.horizon).to(device)
        if begin is not None:
            take_weights(self.model, begin.denoiser, config.begin)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.patience = Patience(0 if held is None else config.patience, self.average)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99)
        )
        self.step = 0
        self.batches = Batches(config, self.windows, device)
        if resume:
            self._resume()
        numbers = map(torch.tensor, (self.step, episodes.steps))
        begins = [*self.model.parameters(), *self.normalizer.buffers(), *numbers]
        self.others.same(torch.stack([t.detach().cpu().double().abs().sum() for t in begins]))

    def _begun(self, resume: bool, begin: checkpoint.Checkpoint | None) -> checkpoint.Checkpoint | None:
        """What the run begins or began with; refuses a folder or settings that do not fit."""
        config, there = self.config, self.folder.exists()
        if there and not resume:
            raise ValueError(
                f"{self.folder} exists; pass --resume to go on with it, or choose another folder"
            )
        if resume and not there:
            raise ValueError(
                f"nothing to resume: {self.folder} does not exist; leave out --resume to start it"
            )
        if resume:
            may_resume(checkpoint.settings(self.folder), config, str(self.folder))
            begin = checkpoint.load(self.folder) if config.begin else None
        if bool(config.begin) != (begin is not None):
            raise ValueError(
                f"got begin='{config.begin}' and {'a' if begin else 'no'} model to begin with; give both or none"
            )
        return begin

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine to zero."""
        c = self.config
        if self.step < c.warmup:
            return c.lr * (self.step + 1) / c.warmup
        return c.lr * 0.5 * (1 + math.cos(math.pi * (self.step - c.warmup) / max(1, c.steps - c.warmup)))

    def train_step(self) -> dict[str, Tensor | float]:
        """One optimiser step; returns loss and gradient norm as tensors (no host sync)."""
        config = self.config
        batch, rate = self.batches.draw(), self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradient(batch)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():  # else every step is remembered in a graph that nobody asks for
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return {"loss": loss, "grad_norm": norm, "lr": rate}

    def _gradient(self, batch: Batch) -> Tensor:
        """Loss () of a batch; its gradient is added to the weights', over the parts of all processes."""
        losses = []
        for index in range(self.config.accumulate):
            own, share = part(batch, self.others.rank * self.config.accumulate + index, self._parts)
            loss = share * self._loss(self.model, own)
            loss.backward()
            losses.append(loss.detach())
        total = torch.stack(losses).sum()
        self.others.add_up([total, *(p.grad for p in self.model.parameters() if p.grad is not None)])
        return total

    @torch.no_grad()
    def held_out(self) -> float:
        """Loss of the averaged weights on what is not trained on: the same windows, levels and noise whenever it is asked."""
        assert self._held is not None
        return float(self._loss(self.average, Batches(self.config, self._held, self.device).only()))

    def _loss(self, model: Denoiser, batch: Batch) -> Tensor:
        x, level, noise, scored, past = batch
        with torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            return denoising_loss(
                model, x, level, noise, scored, self.config.weight, self._recall(model, past)
            )

    def _recall(self, model: Denoiser, past: Past | None) -> Recall | None:
        """What the windows of a batch can read of the steps before them."""
        memory = model.memory
        if past is None or memory is None:
            return None
        noisy = model.schedule.add_noise(past.x, past.level, past.noise)
        known = max(0, past.x.shape[1] - self.config.through)
        return memory.windows(noisy, past.level, past.ends, known, past.blocks)

    def run(self, log: Log | None = None) -> Iterator[int]:
        """Train to the end, the first process saving as it goes; yields the step after each one.

        Raises:
            ValueError: somebody else trains in the folder; says who.
            FloatingPointError: the loss is not finite any more.
            ConnectionError: another process has ended.
        """
        began, first = time.perf_counter(), self.step
        with alone(self.folder) if self.others.first else nullcontext():
            while self.step < self.config.steps and not self.patience.over:
                metrics = self.train_step()
                if self.others.first:
                    self._write(metrics, (self.step - first) / (time.perf_counter() - began), log)
                if self._saves and self._held is not None:
                    worse = torch.tensor([float(self.patience.worse * self.others.first)], device=self.device)
                    self.others.add_up([worse])
                    self.patience.worse = int(worse)
                yield self.step
        self.others.wait()

    def _write(self, metrics: dict[str, Tensor | float], pace: float, log: Log | None) -> None:
        """Log and save what is due after this step; `pace` in steps per second."""
        config, step, saved, more = self.config, self.step, self._saves, {}
        if saved and self._held is not None:
            more = {"held_out": self.held_out()}
            self.patience.weigh(more["held_out"])
        if log and (step % config.log_every == 0 or saved):
            values = {k: float(v) for k, v in metrics.items()}
            if not math.isfinite(values["loss"]):
                problem = f"loss is {values['loss']} at step {step}"
                raise FloatingPointError(f"{problem}; lower lr ({config.lr}) or use fp32")
            log(step, {**values, "steps_per_s": pace, **more})
        if saved:
            self.save()
        if config.keep_every and step % config.keep_every == 0:
            self.keep()

    @property
    def _saves(self) -> bool:
        """Whether the checkpoint is written after this step."""
        return self.step % self.config.save_every == 0 or self.step == self.config.steps

    def _calibrate(self, model: Denoiser) -> dict[str, Any]:
        return calibrate(model, self.normalizer, self.windows, self.config, self.device)

    @cached_property
    def _evidence(self) -> dict[str, dict[str, Tensor]]:
        """File of the recorded steps, for planners."""
        if not self.config.goal_token or self.config.spec.relative:
            return {}
        return {checkpoint.EVIDENCE: pairs.collect(self.config, self.windows.episodes)}

    def keep(self) -> None:
        """Write what use needs into `kept/STEP` beside the checkpoint: for scores over several checkpoints."""
        checkpoint.write_folder(
            self.folder.parent / "kept" / f"{self.step:07d}",
            {
                "model.safetensors": checkpoint.model_tensors(self.average, self.normalizer),
                **self._evidence,
            },
            {"config.json": checkpoint.header(self.config, self._calibrate(self.average))},
        )

    def save(self) -> None:
        """Write the checkpoint folder, ready for use and for resuming."""
        streams, (average, numbers) = self.batches.streams, self.patience.state()
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for i, slot in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{k}": v for k, v in slot.items()}
        checkpoint.write_folder(
            self.folder,
            {
                "model.safetensors": checkpoint.model_tensors(self.patience.best, self.normalizer),
                "training.safetensors": {**state, **average, "generator": streams.generator},
                **self._evidence,
            },
            {
                "config.json": checkpoint.header(self.config, self._calibrate(self.patience.best)),
                "training.json": {"step": self.step, "rng": dict(streams.rng), **numbers},
            },
        )

    def _resume(self) -> None:
        state = checkpoint.read_tensors(self.folder / "training.safetensors")
        meta: dict[str, Any] = checkpoint.read_json(self.folder / "training.json")
        self.step = int(meta["step"])
        if self.step > self.config.steps:
            raise ValueError(
                f"got steps={self.config.steps}, but {self.folder} is at step {self.step}; give more, or none"
            )
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        average = checkpoint.read_tensors(self.folder / "model.safetensors")
        best = {k[9:]: v for k, v in average.items() if k.startswith("denoiser.")}
        self.patience.restore(best, state, meta)
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
        self.batches.restore(Streams(meta["rng"], state["generator"]))
