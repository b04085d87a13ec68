"""Ways through places: lengths, points along them, and corners cut as far as the evidence goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dfplan.plan.answer import Plan

if TYPE_CHECKING:
    from dfplan.plan.evidence import Evidence
    from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]
CAREFUL = 0.7
"""Share of the limit up to which a straight line is taken for familiar: it shall not graze walls."""
Forbidden = Callable[[Array], NDArray[np.bool_]]
"""`(N, C) places -> (N,) bool`: where a way may not go."""


def travel(path: Array) -> float:
    """Time of a way (S, C) at speed 1 along each axis: the largest of the axes, step by step."""
    return float(np.abs(np.diff(path, axis=0)).max(1).sum())


def plan_of(path: Array, spec: TrajectorySpec, place: list[int], speed: float, feasible: bool) -> Plan:
    """A way (N, C) as a plan: `place` are its columns of the observation, `speed` that along each axis."""
    observations = np.zeros((len(path), spec.observation_size))
    observations[:, place] = path
    times = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(path, axis=0)).max(1))]) / speed
    return Plan(
        observations, None, times, observations[None], 0, np.array([feasible]), np.array([len(path) - 1]),
        np.zeros(1), np.zeros(1), 0, 0.0, torch.zeros(1, 0, spec.width),
    )  # fmt: skip


def dense(path: Array, spacing: float) -> Array:
    """(S, C) -> (N, C): the same way in even steps of at most `spacing`, its ends included."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0, lengths[-1], max(2, int(np.ceil(lengths[-1] / spacing)) + 1))
    return np.stack([np.interp(at, lengths, column) for column in path.T], 1)


def divided(path: Array, spacing: float) -> Array:
    """(S, C) -> (N, C): the same way with all its corners, in steps of at most `spacing`."""
    parts = [dense(path[i : i + 2], spacing)[:-1] for i in range(len(path) - 1)]
    return np.concatenate([*parts, path[-1:]])


def cut(path: Array, evidence: Evidence, forbidden: Forbidden | None = None, ahead: int = 12) -> Array:
    """The quickest way over points of `path` by straight lines that are familiar and nowhere forbidden.

    Points stand 1.5 recorded steps apart; neighbours are always joined, so there is a way. Where something is forbidden
    the corners of `path` are points too, so that no neighbours are joined through what it goes round.

    Args:
        path: (S, C).
        evidence: what is familiar.
        forbidden: where it may not go.
        ahead: points that one line may pass over.

    Returns:
        (N, C) with the same ends.
    """
    points = (dense if forbidden is None else divided)(path, 1.5 * evidence.step)
    count = len(points)
    first, last = np.triu_indices(count, 2)
    first, last = first[last - first <= ahead], last[last - first <= ahead]
    good = clear(points[first], points[last], evidence, forbidden)
    first = np.concatenate([np.arange(count - 1), first[good]])
    last = np.concatenate([np.arange(1, count), last[good]])
    times = np.abs(points[last] - points[first]).max(1)
    best, before = np.full(count, np.inf), np.zeros(count, np.int64)
    best[0] = 0.0
    for i in np.argsort(last, kind="stable"):
        if best[first[i]] + times[i] < best[last[i]]:
            best[last[i]], before[last[i]] = best[first[i]] + times[i], first[i]
    chosen = [count - 1]
    while chosen[-1]:
        chosen.append(int(before[chosen[-1]]))
    return points[chosen[::-1]]


def clear(
    begins: Array, ends: Array, evidence: Evidence, forbidden: Forbidden | None = None
) -> NDArray[np.bool_]:
    """(B, C) and (B, C) -> (B,): whether the line between them is familiar with some room, and nowhere forbidden."""
    if not len(begins):
        return np.zeros(0, np.bool_)
    steps = np.maximum(1, np.ceil(np.linalg.norm(ends - begins, axis=1) / evidence.step)).astype(np.int64)
    lines, at = _along(steps)
    pairs = np.stack([_on(begins, ends, lines, share / steps[lines]) for share in (at, at + 1)], 1)
    likely = (
        evidence.distance(pairs)[:, 0] <= CAREFUL * evidence.limit
    )  # first: lines are asked for more places
    likely |= (steps == 1)[lines]  # slower than what was recorded: places alone tell
    good = np.logical_and.reduceat(likely, np.cumsum(steps) - steps)
    likely = good[lines]
    likely[likely] = evidence.strange(pairs[likely]) <= CAREFUL
    good = np.logical_and.reduceat(likely, np.cumsum(steps) - steps)
    if forbidden is not None:
        lines, at = _along(8 * steps)
        points = _on(begins, ends, lines, (at + 0.5) / (8 * steps[lines]))
        good[lines[forbidden(points)]] = False
    return np.asarray(good)


def _along(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(B,) counts -> the number of each entry's line, and its place on it from 0."""
    lines = np.repeat(np.arange(len(counts)), counts)
    return lines, np.arange(len(lines)) - np.repeat(np.cumsum(counts) - counts, counts)


def _on(begins: Array, ends: Array, lines: NDArray[np.int64], share: Array) -> Array:
    return begins[lines] + (ends - begins)[lines] * share[:, None]


def spread(places: Array, count: int, seed: int) -> Array:
    """`count` of the places (N, C), spread evenly: k-means over those that stand apart, then the nearest place of each.

    Farthest points first (Gonzalez 1985), which alone would prefer the edges; two rounds of means draw them inward.
    """
    rng = np.random.default_rng(seed)
    some = places[rng.permutation(len(places))[:20_000]]
    chosen = np.empty((min(count, len(some)), places.shape[1]))
    away, at = np.full(len(some), np.inf), 0
    for i in range(len(chosen)):
        chosen[i] = some[at]
        away = np.minimum(away, np.square(some - chosen[i]).sum(1))
        at = int(away.argmax())
    for _ in range(2):
        near = cKDTree(chosen).query(some)[1]
        total = np.stack([np.bincount(near, column, len(chosen)) for column in some.T], 1)
        chosen = total / np.maximum(np.bincount(near, minlength=len(chosen)), 1)[:, None]
    return some[np.unique(cKDTree(some).query(chosen)[1])]
