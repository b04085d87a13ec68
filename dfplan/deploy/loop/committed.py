"""Deciding while moving: the actions that will be executed meanwhile are known, so they enter at level 0.

What follows them is then drawn given them, and continues them in position and velocity, however long the network takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfplan import act
from dfplan.act import Acting
from dfplan.tools.errors import one_of

Array = NDArray[np.float64]

ACT: dict[str, Any] = {"recent": 1, "temperature": 0.0}
"""How a policy acts on an arm unless told otherwise. Chunks that are decided one after the other must be of one mind:
drawn ones differ, and each would put right what the last one meant. The committed actions carry the motion on; shown the
past as well, an arm that stands still tends to go on doing so."""

SHOWN = ("clean", "noised")
"""`clean`: committed actions enter at level 0, as the model should have seen in training.
`noised`: they are noised to the level of the step that they are in, at every network call, and their noise is the one
the loop began with: for a model that never saw clean actions beside unknown observations."""


@dataclass(frozen=True)
class History:
    """What one robot saw and did up to the present.

    Attributes:
        observations: (N, O) one per env step, the present last; in the units of the demonstrations.
        doubtful: (N) names of the tokens not to be trusted at each of them.
        done: (N - 1, A) the action executed after each observation but the last.
        since: env steps from the start of the run to the present, where older observations were left away; None:
            there are none.
    """

    observations: Array
    doubtful: tuple[tuple[str, ...], ...]
    done: Array
    since: int | None = None

    def of(self, actor: Acting) -> act.History:
        """The same as an `Actor` takes it, for a batch of one.

        Raises:
            ValueError: on a name that the actor does not know, NaN in a trusted reading, or shapes that do not fit.
        """
        seen, flags = np.asarray(self.observations, np.float64), actor.flags(self.doubtful)
        size = actor.spec.observation_size
        if seen.shape != (len(flags), size):
            raise ValueError(f"got observations of shape {seen.shape}, expected ({len(flags)}, {size})")
        trusted = actor.trusted(flags)
        if not np.isfinite(seen[trusted]).all():
            raise ValueError(
                "got an observation with NaN or infinity; check the sensors, or name the token in `doubtful`"
            )
        done = np.asarray(self.done, np.float64).reshape(-1, actor.spec.action_size)
        rows = act.carried(seen, trusted) if actor.config.doubt else np.where(np.isfinite(seen), seen, 0.0)
        begun = self.since is None or self.since < len(seen)
        unknown = np.logical_and.accumulate(flags) & begun
        return act.History(rows[None], flags[None], done[None], self.since, unknown[None])


class CommittedPolicy:
    """An `Actor` with committed actions, the noise of an episode, and the network's state.

    Attributes:
        actor: what decides.
        stride: env steps in one token.
        steps: env steps of history to keep: as many as the model can look back on, for the monitor.
        ahead: env steps from the present to the end of the model's window.
        chunk: env steps that are executed of each decision; where the policy leaves it open, one token: joins are smooth,
            and the newer the readings the better.
    """

    def __init__(self, actor: Acting, show: str = "clean") -> None:
        """Wrap an actor.

        Args:
            actor: not streaming.
            show: one of `SHOWN`.

        Raises:
            ValueError: for a streaming policy, which keeps half-noisy actions between decisions instead.
        """
        self.show = one_of("way to show committed actions", show, SHOWN)
        if actor.config.stream:
            raise ValueError("got a streaming policy; committed actions need stream=False")
        self.actor, self.stride, self.ahead = actor, actor.stride, actor.ahead
        self.steps = 1 + max((actor.longest - 1) * self.stride, actor.keeps)
        self.chunk = min(actor.config.chunk or self.stride, self.ahead)
        self.reset()

    def reset(self, seed: int | None = 0) -> None:
        """Begin anew; the same seed draws the same noise."""
        self._generator = self.actor.generator(seed)
        self._state: Any = None
        self._elapsed = 0

    def decide(self, history: History, committed: Array) -> Array:
        """The actions that follow the committed ones.

        Args:
            history: up to the present, at least one observation; what is older than the policy's memory is not used.
            committed: (C, A) actions of the env steps from the present on.

        Returns:
            (M, A) the actions of env steps C, C + 1, ... after the present; clean ones only.

        Raises:
            ValueError: for so many committed actions that there is nothing left to decide.
            FloatingPointError: where the network gives a NaN.
        """
        spec, given = self.actor.spec, history.of(self.actor)
        if given.elapsed < self._elapsed:  # the run has begun anew
            self._state = None
        self._elapsed = given.elapsed
        noise = self.actor.noise([self._generator])
        rows = np.asarray(committed, np.float64).reshape(-1, spec.action_size)[None]
        decision = self.actor.decide(
            given, rows, noise=noise, clean=self.show == "clean",
            goal=self.actor.goal, state=self._state,
        )  # fmt: skip
        self._state = decision.state
        return decision.actions[0]
