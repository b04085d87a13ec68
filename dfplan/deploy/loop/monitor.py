"""Does the model know what it sees? Its own reconstruction error on the observed history, for each sensor.

A sensor's tokens are noised again and reconstructed from all that else is known. What the demonstrations never showed
comes back wrong. Two plain tests of each column stand beside it: a jump between two readings, and readings in a row
that are the same. The tests are called `newest` (the present token is reconstructed), `all` (all of the sensor's),
`jump COLUMN` and `still COLUMN`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfplan.deploy.loop.committed import History
from dfplan.tools.errors import one_of
from dfplan.tools.progress import progress

if TYPE_CHECKING:
    from dfplan.act import Acting, Actor
    from dfplan.data.episodes import Episodes
    from dfplan.spec import TrajectorySpec

Array = NDArray[np.float64]

_LEVELS, _DRAWS = (0.3, 0.4, 0.5), 4  # low ones let a wrong reading through, high ones forget the right one
_REPEATS = 1.5
_SLACK = {"newest": 2.0, "all": 2.0, "jump": 1.5}


@dataclass(frozen=True)
class Monitor:
    """Thresholds measured on demonstrations that were held out.

    Attributes:
        thresholds: token -> test -> the value that is too much.
        false_alarms: share of episodes with an alarm that was asked for.
        episodes: that it was calibrated on.
    """

    thresholds: Mapping[str, Mapping[str, float]]
    false_alarms: float = 0.01
    episodes: int = 0

    def check(self, spec: TrajectorySpec) -> None:
        """Raise where these are not thresholds for such tokens.

        Raises:
            ValueError: naming the token or test.
        """
        for token, tests in self.thresholds.items():
            one_of("token of the monitor", token, [t.name for t in spec.tokens[:-1]])
            if not isinstance(tests, dict) or not tests:
                raise ValueError(f"got no thresholds for token '{token}' of the monitor")
            columns = next(t.channels for t in spec.tokens if t.name == token)
            known = ["newest", "all", *(f"{test} {c}" for test in ("jump", "still") for c in columns)]
            for test, limit in tests.items():
                one_of("test of the monitor", test, known)
                if type(limit) is not float or not 0 < limit < np.inf:
                    raise ValueError(f"got threshold {limit!r} for '{token}', expected a number above 0")

    def scores(self, actor: Acting, history: History) -> dict[str, float]:
        """Token -> its worst test, 1 at the threshold."""
        found = statistics(actor, history)
        return {
            token: max(found[token][t] / limit for t, limit in tests.items())
            for token, tests in self.thresholds.items()
        }

    def doubtful(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        """Tokens above their threshold."""
        return tuple(token for token, score in scores.items() if not score <= 1)

    def to_json(self) -> str:
        """As text, to be kept beside the checkpoint."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Monitor:
        """From the text of `to_json`.

        Raises:
            ValueError: if it is something else.
        """
        try:
            values = json.loads(text)
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"not a monitor's file ({error}); make one with `dfplan monitor`") from error


def statistics(actor: Acting, history: History) -> dict[str, dict[str, float]]:
    """Token -> test -> value, for one history. A doubtful token is left out of the others' reconstruction.

    The monitor looks back as far as the model can, whatever the policy acts on.
    """
    spec = actor.spec
    begin = max(0, len(history.observations) - (actor.longest - 1) * spec.stride - 1)
    kept = History(history.observations[begin:], history.doubtful[begin:], history.done[begin:])
    errors = _errors(actor, kept)
    rows, out = kept.of(actor).observations[0], {}
    for g, token in enumerate(spec.tokens[:-1]):
        own = rows[:, [spec.channel(c).index for c in token.channels]]
        moved = np.abs(np.diff(own, axis=0))
        still = np.cumprod(~(moved[::-1] > 0), 0).sum(0)  # readings in a row, from the newest on
        out[token.name] = {"newest": float(errors[g, 0]), "all": float(errors[g, 1])}
        for i, column in enumerate(token.channels):
            out[token.name][f"jump {column}"] = float(moved[:, i].max(initial=0.0))
            out[token.name][f"still {column}"] = float(still[i])
    return out


def _errors(actor: Acting, history: History) -> Array:
    """(G - 1, 2) squared error of each sensor's tokens: the newest alone noised, and all of them.

    It is the mean reconstruction that is compared: the spread of single ones would hide small errors.
    """
    import torch  # a robot whose policy runs elsewhere, or was exported, need not have it

    from dfplan.act import Actor

    assert isinstance(actor, Actor)
    decider, group = actor.decider, actor.spec.group_size
    known = actor.known(history.of(actor), actor.longest).to(torch.device("cpu"))
    past = min(actor.longest, 1 + (len(history.observations) - 1) // actor.stride)
    total = known.values.shape[1]
    kinds, draws = group - 1, len(_LEVELS) * _DRAWS
    rows = kinds * 2 * draws
    level = torch.where(known.mask, 0.0, 1.0).expand(rows, -1).clone()
    level = level.view(kinds, 2, len(_LEVELS), _DRAWS, total)
    tested = torch.zeros(kinds, 2, total, dtype=torch.bool)
    for g in range(kinds):
        tested[g, 0, (past - 1) * group + g] = True
        tested[g, 1, g : past * group : group] = True
    noised = torch.tensor(_LEVELS)[:, None, None] * tested[:, :, None, None]
    level = torch.maximum(level, noised)
    flat = level.view(rows, total)
    generator = torch.Generator().manual_seed(0)  # the same noise each time: what differs is what was seen
    noise = torch.randn(rows, total, actor.spec.width, generator=generator)
    values = known.values.expand(rows, -1, -1)
    x = decider.schedule.add_noise(values, flat, noise).to(decider.device)
    with torch.no_grad():
        x0 = decider.denoiser(x, flat.to(decider.device)).cpu().view(kinds, 2, draws, total, -1).mean(2)
    valid = torch.from_numpy(actor.spec.valid).repeat(total // group, 1)
    error = ((x0 - known.values).square() * valid).sum(-1) / valid.sum(-1)
    count = tested.sum(-1)
    return np.asarray(((error * tested).sum(-1) / count).double().numpy(), np.float64)


def histories(actor: Actor, episodes: Episodes, every: int) -> Iterable[tuple[int, History]]:
    """Every `every` steps of each episode: its number and what had been seen by then, from a full memory on."""
    steps = (actor.longest - 1) * actor.spec.stride + 1
    observations = np.asarray(episodes.arrays["observations"], np.float64)
    actions = np.asarray(episodes.arrays["actions"], np.float64)
    for number, (begin, end) in enumerate(zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True)):
        for now in range(begin + steps, end + 1, every):
            seen = slice(now - steps, now)
            yield number, History(observations[seen], ((),) * steps, actions[now - steps : now - 1])


def calibrate(actor: Actor, episodes: Episodes, false_alarms: float = 0.01, every: int = 0) -> Monitor:
    """Thresholds such that a share of at most `false_alarms` of such episodes has any alarm.

    Args:
        actor: to be monitored.
        episodes: demonstrations that it was not trained on, or better undisturbed episodes of its own; 30 at least.
        false_alarms: share of episodes, above 0.
        every: env steps between two looks; 0: one token.

    Raises:
        ValueError: for too few episodes, or a share that is not above 0 and below 1.
    """
    if len(episodes) < 30 or not 0 < false_alarms < 1:
        raise ValueError(
            f"got {len(episodes)} episodes and false_alarms={false_alarms}, expected 30 held-out demonstrations or more, "
            "and a share between 0 and 1"
        )
    worst: dict[tuple[str, str], dict[int, float]] = {}
    with progress(len(episodes), "calibrating", "episode") as bar:
        for number, history in histories(actor, episodes, every or actor.spec.stride):
            bar.update(number - bar.n)
            for token, tests in statistics(actor, history).items():
                for test, value in tests.items():
                    row = worst.setdefault((token, test), {})
                    row[number] = max(row.get(number, 0.0), value)
    longest = (actor.longest - 1) * actor.spec.stride
    thresholds: dict[str, dict[str, float]] = {}
    for (token, test), row in worst.items():
        # Any of so many tests may give the alarm: each gets its part of the share.
        limit = float(np.quantile(list(row.values()), 1 - false_alarms / len(worst)))
        still = test.startswith("still")
        limit = limit + _REPEATS if still else max(_SLACK[test.split()[0]] * limit, 1e-4)
        if not still or limit < longest:  # what may stand still cannot be told from a frozen reading
            thresholds.setdefault(token, {})[test] = limit
    return Monitor(thresholds, false_alarms, len(episodes))
