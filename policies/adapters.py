"""The policy behind the methods that users of robomimic and LeRobot call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .imitation import Imitation


def _join(observation: Mapping[str, Any], keys: Sequence[str], size: int) -> NDArray[np.float64]:
    """Named readings (..., d) -> (..., O) in the order of `keys`."""
    missing = [k for k in keys if k not in observation]
    if missing:
        raise ValueError(
            f"got an observation with {sorted(observation)}, expected '{missing[0]}' among them too"
        )
    parts = [np.asarray(observation[k], np.float64) for k in keys]
    joined = np.concatenate(parts, -1)
    if joined.shape[-1] != size:
        widths = {k: p.shape[-1] for k, p in zip(keys, parts, strict=True)}
        raise ValueError(
            f"got {widths}, {joined.shape[-1]} numbers; the model was trained on {size}: give its keys, in order"
        )
    return joined


class RobomimicPolicy:
    """What robomimic's rollouts call: `start_episode()`, then `policy(ob=...)` each step.

    Where robomimic is imported it is one of its `RolloutPolicy`, which its `run_rollout` and `rollout_with_stats` insist on.

    Args:
        policy: the policy; its demonstrations came from a robomimic file.
        keys: observation keys in the order of the demonstrations' columns; None: the names of the model's tokens.
        seed: of the first episode; each further one has the next.
    """

    def __init__(self, policy: Imitation, keys: Sequence[str] | None = None, seed: int = 0) -> None:
        self.policy, self.seed = policy, seed
        self.keys = [t.name for t in policy.spec.tokens[:-1]] if keys is None else list(keys)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        """What `isinstance` sees; robomimic itself is never imported for it."""
        return getattr(sys.modules.get("robomimic.algo"), "RolloutPolicy", RobomimicPolicy)

    def start_episode(self) -> None:
        """Forget the last episode."""
        self.policy.reset(self.seed)
        self.seed += 1

    def __call__(
        self, ob: Mapping[str, ArrayLike], goal: object = None, batched_ob: bool = False
    ) -> NDArray[np.float32]:
        """Observation by key, (d,) each -> action (A,); with `batched_ob` both have a leading axis of robots."""
        if goal is not None:
            raise ValueError("got a goal; these policies take none, put it among the observations")
        now = _join(ob, self.keys, self.policy.spec.observation_size)
        if now.ndim != 1 + batched_ob:
            raise ValueError(
                f"got readings of shape {now.shape} with batched_ob={batched_ob}; give one step, unstacked"
            )
        if batched_ob and len(self.policy.generators) != len(now):
            self.policy.reset(range(self.seed, self.seed + len(now)))
        return self.policy.act(now)


class LeRobotPolicy:
    """What LeRobot's rollouts call: `reset()`, `select_action(batch)`, `predict_action_chunk(batch)`.

    Args:
        policy: the policy.
        keys: observation keys in the order of the demonstrations' columns.
        seed: of the first episode; each further one has the next.
    """

    def __init__(
        self, policy: Imitation, keys: Sequence[str] = ("observation.state",), seed: int = 0
    ) -> None:
        self.policy, self.keys, self.seed, self._batch = policy, list(keys), seed, 0

    def reset(self) -> None:
        """Forget the last episode."""
        self._batch = 0

    def _begin(self, batch: Mapping[str, Tensor]) -> NDArray[np.float64]:
        named = {k: v.detach().cpu().numpy() for k, v in batch.items() if isinstance(v, Tensor)}
        now = _join(named, self.keys, self.policy.spec.observation_size)
        if now.ndim != 2:
            raise ValueError(f"got readings of shape {now.shape}, expected a batch (B, {now.shape[-1]})")
        if len(now) != self._batch:
            if self._batch:
                raise ValueError(f"got a batch of {len(now)} after one of {self._batch}; call reset() first")
            self._batch = len(now)
            self.policy.reset(range(self.seed, self.seed + len(now)))
            self.seed += len(now)
        return now

    @torch.inference_mode(False)  # in which LeRobot calls, and no cost has a gradient
    @torch.no_grad()
    def select_action(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Batch of observations -> the next action, (B, A)."""
        return torch.from_numpy(self.policy.act(self._begin(batch)))

    @torch.inference_mode(False)
    @torch.no_grad()
    def predict_action_chunk(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Batch of observations -> the next actions, (B, H, A)."""
        return torch.from_numpy(self.policy.predict(self._begin(batch)))
