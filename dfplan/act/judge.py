"""What a policy is worth on recordings: how far its actions are from what was done, beside rules that know the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfplan.act.actor import Actor
from dfplan.act.records import History, ImitationConfig
from dfplan.data import Episodes
from dfplan.decide import State, generator_of, noise_of
from dfplan.nets.kept import Remembered
from dfplan.tools.progress import progress
from dfplan.train.checkpoint import Checkpoint

Array = NDArray[np.float64]
Rule = Callable[[Array, Array, int], Array]
"""`(observations (t + 1, O), actions (t, A), chunk) -> (chunk, A)`: what follows, from what was recorded until now."""

INTERVALS = (0.5, 0.8, 0.95)
"""Central intervals of drawn actions whose share of recorded ones is counted."""
PARTS = 10
"""Parts of an episode whose errors are told apart."""
_DRAWS = 16


@dataclass(frozen=True)
class Judgement:
    """Errors of what would be executed at the policy's chunk, against what was recorded.

    Attributes:
        names: (A) of the actions.
        units: (A).
        spread: (A,) standard deviation of what was recorded: errors are told in these where columns are put together.
        errors: `policy` and each rule -> (A,) mean absolute error, in the action's unit.
        without: token -> error where it is left out, over the error with it.
        inside: share of a central interval of the policy's draws -> share of the recorded actions within.
        where: (PARTS,) error along the episode, in spreads; NaN where no decision fell.
        chunk: env steps of a decision.
        episodes: that were played.
        decisions: that were judged.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    spread: Array
    errors: Mapping[str, Array]
    without: Mapping[str, float]
    inside: Mapping[float, float]
    where: Array
    chunk: int
    episodes: int
    decisions: int

    def overall(self, who: str) -> float:
        """Mean error over the columns, in spreads; columns in which nothing moves are left out."""
        moves = self.spread > 1e-9
        return float((self.errors[who][moves] / self.spread[moves]).mean()) if moves.any() else 0.0

    @property
    def best_rule(self) -> str:
        """The rule with the least error."""
        return min((who for who in self.errors if who != "policy"), key=self.overall)

    def verdict(self) -> list[str]:
        """The same in words."""
        own, rule = self.overall("policy"), self.best_rule
        best = self.overall(rule)
        if own < best:
            out = [
                f"better than every plain rule: {1 - own / max(best, 1e-12):.0%} less error than '{rule}', the best of them"
            ]
        else:
            out = [
                f"NOT better than '{rule}', which needs no training ({own:.3f} against {best:.3f} spreads): train longer, "
                "or record more"
            ]
        beaten = [
            n for n, p, b in zip(self.names, self.errors["policy"], self.errors[rule], strict=True) if p > b
        ]
        if beaten and own < best:
            out.append(f"'{rule}' is nearer in {', '.join(beaten)}")
        needed = sorted(self.without.items(), key=lambda item: -item[1])
        if needed:
            told = ", ".join(f"{name} {factor:.2f} x" for name, factor in needed)
            out.append(f"error where a sensor is left out: {told}")
        out += [f"looks at nothing in {name}" for name, factor in needed if factor < 1.01]
        wide = self.inside[INTERVALS[1]]
        word = (
            "too narrow"
            if wide < INTERVALS[1] - 0.1
            else "too wide"
            if wide > INTERVALS[1] + 0.1
            else "right"
        )
        out.append(
            f"its draws are spread {word}: {wide:.0%} of what was done lies within their central {INTERVALS[1]:.0%}"
        )
        if np.isfinite(self.where).any():
            worst = int(np.nanargmax(self.where))
            out.append(
                f"worst from {worst / PARTS:.0%} to {(worst + 1) / PARTS:.0%} of an episode: {self.where[worst]:.2f} spreads"
            )
        out.append("what happens once its own actions are carried out cannot be told from recordings")
        return out


def rules(episodes: Episodes) -> dict[str, Rule]:
    """Plain rules: the mean of these recordings, hold, repeat, and constant speed."""
    mean = np.asarray(episodes.arrays["actions"], np.float64).mean(0)
    moved = _moved(episodes)

    def hold(seen: Array, done: Array, chunk: int) -> Array:
        last = done[-1] if len(done) else mean
        return np.tile(np.where(moved >= 0, seen[-1][moved], last), (chunk, 1))

    def repeat(seen: Array, done: Array, chunk: int) -> Array:
        return np.tile(done[-1], (chunk, 1)) if len(done) else hold(seen, done, chunk)

    def speed(seen: Array, done: Array, chunk: int) -> Array:
        if len(done) < 2:
            return repeat(seen, done, chunk)
        return done[-1] + np.arange(1, chunk + 1)[:, None] * (done[-1] - done[-2])

    return {
        "mean": lambda seen, done, chunk: np.tile(mean, (chunk, 1)), "hold": hold, "repeat": repeat, "constant speed": speed
    }  # fmt: skip


def judge(
    model: Checkpoint,
    episodes: Episodes,
    config: ImitationConfig,
    more: Mapping[str, Rule] | None = None,
    seed: int = 0,
) -> Judgement:
    """Play recordings through a policy: recorded observations and actions as history, a decision every chunk.

    Args:
        model: of a policy.
        episodes: recordings it was not trained on, prepared as for training.
        config: how it acts; a streaming policy is judged by its chunks.
        more: further rules by name, such as the nearest demonstration.
        seed: of the noise.

    Raises:
        ValueError: the recordings do not fit the policy, or no episode is as long as a chunk.
    """
    actor = Actor(model, replace(config, stream=False))
    drawing = Actor(model, replace(config, stream=False, temperature=1.0))
    _fits(actor, episodes)
    every = {**rules(episodes), **(more or {})}
    parts: list[dict[str, Any]] = []
    lengths = episodes.ends - episodes.starts
    with progress(int(lengths.sum()), "judge", "env step") as bar:
        for number, (first, length) in enumerate(zip(episodes.starts, lengths, strict=True)):
            span = slice(int(first), int(first + length))
            seen = np.asarray(episodes.arrays["observations"][span], np.float64)
            wanted = np.asarray(episodes.arrays["actions"][span], np.float64)
            done = np.asarray(episodes.arrays.get("executed", episodes.arrays["actions"])[span], np.float64)
            played = zip(_played(actor, seen, done, seed + number, True), _played(drawing, seen, done, seed + number, False),
                         strict=True)  # fmt: skip
            for t, (own, draws) in zip(
                range(0, int(length) - actor.chunk + 1, actor.chunk), played, strict=True
            ):
                truth = wanted[t : t + actor.chunk]
                said = {who: rule(seen[: t + 1], done[:t], actor.chunk) for who, rule in every.items()}
                row = {who: np.abs(x - truth) for who, x in {"policy": own[0], **said}.items()}
                row["without"] = np.abs(own[1:] - truth)
                row["inside"] = _inside(draws, truth)
                row["at"] = t / max(1, int(length) - actor.chunk)
                parts.append(row)
            bar.update(int(length))
    if not parts:
        raise ValueError(f"{episodes.name}: no episode is as long as a chunk of {actor.chunk} env steps")
    return _summed(actor, episodes, parts, list(every))


def _played(actor: Actor, seen: Array, done: Array, seed: int, by_sensor: bool) -> Any:
    """Decisions (B, chunk, A) along one episode: as it is and without each sensor, or so many draws as it is."""
    group, spec = actor.spec.group_size, actor.spec
    count = group if by_sensor else _DRAWS
    generators = [generator_of(seed if by_sensor else seed * _DRAWS + k) for k in range(count)]
    noise = noise_of(
        generators, 1, actor.decider.window().steps * group, spec.width, device=torch.device("cpu")
    )
    flags = np.zeros((count, 1, group - 1), bool)
    if by_sensor:
        flags[1:, 0] = np.eye(group - 1, dtype=bool)
    state: State | Remembered | None = None
    for t in range(0, len(seen) - actor.chunk + 1, actor.chunk):
        begin = max(0, t - actor.keeps)
        rows = np.broadcast_to(seen[begin : t + 1], (count, t + 1 - begin, seen.shape[1]))
        acts = np.broadcast_to(done[begin:t], (count, t - begin, done.shape[1]))
        left = np.broadcast_to(flags, (count, t + 1 - begin, group - 1))
        decision = actor.decide(History(rows, left, acts, t, left), noise=noise, goal=actor.goal, state=state)
        state = decision.state
        yield decision.actions[:, : actor.chunk]


def _inside(draws: Array, truth: Array) -> Array:
    """(intervals,) share of the truth within the central intervals of the draws (K, H, A)."""
    edges = [((1 - share) / 2, (1 + share) / 2) for share in INTERVALS]
    low, high = (np.quantile(draws, [e[side] for e in edges], 0) for side in (0, 1))
    held: Array = ((truth >= low) & (truth <= high)).mean((1, 2))
    return held


def _summed(actor: Actor, episodes: Episodes, parts: list[dict[str, Any]], who: list[str]) -> Judgement:
    spec = actor.spec
    channels = [spec.channel(name) for name in spec.tokens[-1].channels]
    spread = np.asarray(episodes.arrays["actions"], np.float64).std(0)
    scale = np.where(spread > 1e-9, spread, np.inf)
    errors = {name: np.mean([p[name] for p in parts], (0, 1)) for name in ("policy", *who)}
    own = (errors["policy"] / scale).mean()
    left = (np.mean([p["without"] for p in parts], (0, 2)) / scale).mean(-1)
    each = np.array([(p["policy"] / scale).mean() for p in parts])
    part = np.minimum((np.array([p["at"] for p in parts]) * PARTS).astype(int), PARTS - 1)
    where = np.array([each[part == k].mean() if (part == k).any() else np.nan for k in range(PARTS)])
    return Judgement(
        tuple(c.name for c in channels), tuple(c.unit for c in channels), spread, errors,
        {t.name: float(e / max(own, 1e-12)) for t, e in zip(spec.tokens[:-1], left, strict=True)},
        dict(zip(INTERVALS, np.mean([p["inside"] for p in parts], 0).tolist(), strict=True)),
        where, actor.chunk, len(episodes), len(parts),
    )  # fmt: skip


def _moved(episodes: Episodes) -> NDArray[np.int_]:
    """(A,) observation column of what an action moves, -1 where that is not known."""
    names: Any = episodes.info.get("names") or {}
    seen, done = list(names.get("observations", ())), list(names.get("actions", ()))
    told = dict(episodes.info.get("relative") or {})
    columns = [told.get(name, "") for name in done] or [""] * episodes.arrays["actions"].shape[1]
    return np.array([seen.index(c) if c in seen else -1 for c in columns])


def _fits(actor: Actor, episodes: Episodes) -> None:
    """Refuse recordings with other columns than the policy's."""
    for key, size in (("observations", actor.spec.observation_size), ("actions", actor.spec.action_size)):
        array = episodes.arrays.get(key)
        found = "none" if array is None else array.shape[1:]
        if array is None or array.shape[1:] != (size,):
            raise ValueError(
                f"{episodes.name}: got {key} of shape {found}, expected ({size},) as in training; give recordings of the "
                "same robot, read in the same way (--read)"
            )
