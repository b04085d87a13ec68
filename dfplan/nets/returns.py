"""What should come out of what is done: demonstrations of mixed quality, told apart by their rewards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dfplan.data.episodes import Episodes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Returns:
    """How demonstrations with rewards are told apart.

    Attributes:
        best: share of the episodes that is kept, those of the highest return.
        discount: of the reward of each further env step. Above 0, every step is labelled with how good its action was:
            the share of all actions that were less of an improvement on what followed elsewhere from like states. That
            label is a token of its own, and a policy acts as well as it is asked to.
        trace: how far what really followed is believed before it is told from the states that were reached (lambda of
            TD(lambda)): 1 to the end of the episode.
    """

    best: float = 1.0
    discount: float = 0.0
    trace: float = 0.95

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.best <= 1:
            raise ValueError(
                f"got returns.best={self.best}, expected a share above 0, at most 1 (all episodes)"
            )
        if not 0 <= self.discount < 1:
            raise ValueError(
                f"got returns.discount={self.discount}, expected 0 (no labels) to below 1, such as 0.99"
            )
        if not 0 <= self.trace <= 1:
            raise ValueError(f"got returns.trace={self.trace}, expected 0 to 1")


def labelled(episodes: Episodes, returns: Returns, seed: int = 0) -> Episodes:
    """The episodes that are kept, with an array `returns` (N,) in [0, 1] where there is a discount.

    The label is the rank of the advantage A = G - V among all steps that are kept: G (N,) is the lambda-return, V the
    mean of G at like observations, learned from them (advantage-weighted regression, arXiv 1910.00177, takes the same
    difference as a weight; here it is a known token, as returns are in arXiv 2211.15657).

    Args:
        episodes: with `rewards` (N,), each of the action in its row, and `terminals` (N,) where an episode may end
            otherwise than by time.
        returns: see `Returns`.
        seed: of the network that learns V.

    Raises:
        ValueError: the episodes have no rewards.
    """
    if returns.best == 1 and not returns.discount:
        return episodes
    if "rewards" not in episodes.arrays:
        raise ValueError(
            f"{episodes.name}: no array 'rewards' (it has {sorted(episodes.arrays)}), by which episodes could be told "
            "apart; leave out returns.best and returns.discount"
        )
    if returns.best < 1:
        rewards = np.asarray(episodes.arrays["rewards"], np.float64)
        total = np.add.reduceat(rewards, episodes.starts)
        count = max(1, round(returns.best * len(episodes)))
        episodes = episodes.select(np.sort(np.argsort(-total, kind="stable")[:count]))
    if not returns.discount:
        return episodes
    better = advantage(episodes, returns, seed)
    rank = np.empty(len(better), np.float32)
    rank[np.argsort(better, kind="stable")] = np.linspace(0, 1, len(better), dtype=np.float32)
    return replace(episodes, arrays={**episodes.arrays, "returns": rank})


ROUNDS, FIT_STEPS, FIT_BATCH, WIDTH = 4, 500, 256, 256
"""Rounds of TD(lambda), optimiser steps of each, transitions in one, and size of the network that learns V."""


def advantage(episodes: Episodes, returns: Returns, seed: int = 0) -> Array:
    """(N,) how much more followed from each step than follows from like observations, in units of reward."""
    observations = np.asarray(episodes.arrays["observations"], np.float64)
    x = torch.from_numpy((observations - observations.mean(0)) / (observations.std(0) + 1e-6)).float()
    rewards = np.asarray(episodes.arrays["rewards"], np.float64).reshape(-1)
    scale = 1 / (1 - returns.discount)
    value = np.full(len(x), rewards.mean() * scale)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    spread = rewards.std() * scale**0.5 + 1e-9
    for _ in range(ROUNDS):
        target = torch.from_numpy(
            (followed(episodes, value, returns) - rewards.mean() * scale) / spread
        ).float()
        for _ in range(FIT_STEPS):
            at = torch.randint(len(x), (FIT_BATCH,), generator=generator)
            loss = (net(x[at])[:, 0] - target[at]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found = torch.cat([net(part)[:, 0] for part in x.split(1 << 14)]).double().numpy()
        value = found * spread + rewards.mean() * scale
    return followed(episodes, value, returns) - value


def followed(episodes: Episodes, value: Array, returns: Returns) -> Array:
    """Lambda-returns (N,) of each step: G_t = r_t + discount ((1 - trace) V_t+1 + trace G_t+1).

    After a terminal step nothing follows; after the last step before a cut by time, what the state is worth.
    """
    rewards = np.asarray(episodes.arrays["rewards"], np.float64).reshape(-1)
    over: NDArray[Any] = np.asarray(episodes.arrays.get("terminals", np.zeros(len(rewards), bool))).reshape(
        -1
    )
    last = set((episodes.ends - 1).tolist())
    out, worth, ahead = np.empty(len(rewards)), value.tolist(), 0.0
    gone = over.astype(bool).tolist()
    for t in range(len(rewards) - 1, -1, -1):
        if t in last:
            ahead = 0.0 if gone[t] else worth[t]
        else:
            ahead = (1 - returns.trace) * worth[t + 1] + returns.trace * ahead
        ahead = float(rewards[t]) + returns.discount * ahead
        out[t] = ahead
    return out
