"""What should come out of what is done: demonstrations of mixed quality, told apart by their rewards."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        best: share of the env steps that is kept, those of the episodes of the highest return.
        discount: of the reward of each further env step. Above 0, every step is labelled: 1 where what followed its
            action was good beside what follows elsewhere from like states, else 0. The label is a token of its own, and
            a policy acts as it is asked to.
        good: share of the steps that are kept that counts as good.
        to_go: of the reward of each further env step. Above 0, every step is labelled with its return to go, as the mean
            reward of what follows; the label is a token of its own, and a plan can be asked for it.
    """

    best: float = 1.0
    discount: float = 0.0
    good: float = 0.2
    to_go: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("best", "good"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"got returns.{name}={getattr(self, name)}, expected a share above 0, at most 1 (all)"
                )
        for name in ("discount", "to_go"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"got returns.{name}={getattr(self, name)}, expected 0 (no labels) to below 1, such as 0.99"
                )
        if self.discount and self.to_go:
            raise ValueError(
                f"got returns.discount={self.discount} and returns.to_go={self.to_go}, which make one label; leave one out"
            )


def labelled(episodes: Episodes, returns: Returns, seed: int = 0) -> Episodes:
    """The episodes that are kept, with an array `returns` (N,): labels 0 and 1 where there is a discount, or returns to go.

    The label tells whether the advantage A = G - V of a step is among the highest of those that are kept: G (N,) is the
    discounted return, V the mean of G at like observations of all episodes, learned from them (advantage-weighted
    regression, arXiv 1910.00177, makes a weight of the same difference; here it is a known token, as the return is in
    arXiv 2211.15657).

    Args:
        episodes: with `rewards` (N,), each of the action in its row, and `terminals` (N,) where an episode may end
            otherwise than by time.
        returns: see `Returns`.
        seed: of the network that learns V.

    Raises:
        ValueError: the episodes have no rewards.
    """
    if returns.best == 1 and not (returns.discount or returns.to_go):
        return episodes
    if "rewards" not in episodes.arrays:
        raise ValueError(
            f"{episodes.name}: no array 'rewards' (it has {sorted(episodes.arrays)}), by which episodes could be told "
            "apart; leave out returns.best, returns.discount and returns.to_go"
        )
    if returns.to_go:
        mean = to_go(episodes, returns.to_go).astype(np.float32)
        episodes = replace(episodes, arrays={**episodes.arrays, "returns": mean})
    if returns.discount:
        better = advantage(episodes, returns.discount, seed).astype(np.float32)
        episodes = replace(episodes, arrays={**episodes.arrays, "returns": better})
    if returns.best < 1:
        episodes = best(episodes, returns.best)
    if returns.discount:
        better = np.asarray(episodes.arrays["returns"])
        label = (better >= np.quantile(better, 1 - returns.good)).astype(np.float32)
        episodes = replace(episodes, arrays={**episodes.arrays, "returns": label})
    return episodes


def best(episodes: Episodes, share: float) -> Episodes:
    """The episodes of the highest return, as many as hold that share of the env steps, in their order; at least one."""
    total = np.add.reduceat(np.asarray(episodes.arrays["rewards"], np.float64).reshape(-1), episodes.starts)
    order = np.argsort(-total, kind="stable")
    held = np.cumsum((episodes.ends - episodes.starts)[order])
    return episodes.select(np.sort(order[: max(1, int((held <= share * held[-1]).sum()))]))


def to_go(episodes: Episodes, discount: float) -> Array:
    """(N,) mean reward of what follows each step: (1 - discount) * sum of discount^k r_t+k, from the step's own on.

    Where time cut an episode its last reward goes on for ever, as windows hold its last observation.
    """
    rewards = np.asarray(episodes.arrays["rewards"], np.float64).reshape(-1)
    return (1 - discount) * followed(episodes, rewards / (1 - discount), discount)


ROUNDS, FIT_STEPS, FIT_BATCH, WIDTH = 2, 700, 256, 256
"""Rounds of learning V, each with what the last one says of episodes cut by time; optimiser steps of a round, env steps in
one of these, size of the network."""


def advantage(episodes: Episodes, discount: float, seed: int = 0) -> Array:
    """(N,) how much more followed from each step than follows from like observations, in units of reward."""
    observations = np.asarray(episodes.arrays["observations"], np.float64)
    x = torch.from_numpy((observations - observations.mean(0)) / (observations.std(0) + 1e-6)).float()
    rewards = np.asarray(episodes.arrays["rewards"], np.float64)
    value = np.full(len(x), rewards.mean() / (1 - discount))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(ROUNDS):
        found = followed(episodes, value, discount)
        mean, spread = found.mean(), found.std() + 1e-9
        target = torch.from_numpy((found - mean) / spread).float()
        for _ in range(FIT_STEPS):
            at = torch.randint(len(x), (FIT_BATCH,), generator=generator)
            loss = (net(x[at])[:, 0] - target[at]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            out = torch.cat([net(part)[:, 0] for part in x.split(1 << 14)])
        value = out.double().numpy() * spread + mean
    return followed(episodes, value, discount) - value


def followed(episodes: Episodes, value: Array, discount: float) -> Array:
    """Discounted returns (N,) of each step: G_t = r_t + discount G_t+1.

    After a terminal step nothing follows; after the last step before a cut by time, what the state is worth.
    """
    rewards = np.asarray(episodes.arrays["rewards"], np.float64).reshape(-1).tolist()
    over = np.asarray(episodes.arrays.get("terminals", np.zeros(len(rewards)))).reshape(-1).astype(bool)
    out: Array = np.where(over, 0.0, value)  # what follows a step, where it is the last one
    for begin, end in zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True):
        ahead = float(out[end - 1])
        for t in range(end - 1, begin - 1, -1):
            out[t] = ahead = rewards[t] + discount * ahead
    return out
