"""`dfplan judge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from dfplan.act import ImitationConfig
from dfplan.cli.common import CPU, FLAT, Compute, app, at_least, demonstrations, report
from dfplan.cli.settings import given, options
from dfplan.cli.train import OWN_DATA, Data
from dfplan.decide import asked
from dfplan.nets.returns import labelled
from dfplan.tools.errors import new_place

if TYPE_CHECKING:
    from dfplan.act.judge import Judgement
    from dfplan.data import Episodes
    from dfplan.train.checkpoint import Checkpoint

ACTING = options(ImitationConfig)
AS_TAUGHT = ACTING()


@app.command(name="judge")
def judge(
    run: tyro.conf.Positional[str],
    *,
    data: Annotated[Data, FLAT] = OWN_DATA,
    episodes: int = 20,
    seed: int = 0,
    out: Path = Path("judgement.png"),
    json: Path | None = None,
    compute: Annotated[Compute, FLAT] = CPU,
    policy: Annotated[Any, tyro.conf.arg(constructor=ACTING)] = AS_TAUGHT,
) -> None:
    """Judge a policy on recordings, where there is no simulator: its error beside plain rules that know the same.

    dfplan judge runs/mine (the episodes that `dfplan train --holdout 0.1` kept out)

    dfplan judge runs/mine --data more.hdf5 --episodes 50 --json judgement.json

    The recorded observations and actions are its history; what it would execute then is compared with what was done.
    Success in closed loop cannot be told from recordings.

    Args:
        run: run folder, checkpoint folder or name of a shipped model.
        data: recordings; without --data those that the run held out, or trained on where it held out none.
        episodes: at most so many are played, drawn by the seed.
        seed: of this draw and of the policy's noise.
        out: picture.
        json: write the numbers there as well.
        compute: where the network runs.
        policy: how it acts; what is left out is as the checkpoint says.
    """
    from dfplan.act.judge import judge as judged
    from dfplan.models import find
    from dfplan.show.base import picture, save
    from dfplan.show.judgement import judgement_figure
    from dfplan.train import checkpoint

    at_least(1, episodes=episodes)
    at_least(0, seed=seed)
    _check(data, picture(out), json)
    compute.use()
    model = checkpoint.load(find(run), compute.device)
    shown, held, note = _recordings(Path(run), model, data)
    held = labelled(held, model.config.returns)
    some = np.sort(np.random.default_rng(seed).permutation(len(held))[:episodes])
    config = asked(ImitationConfig, model, "policy", **given(policy))
    found = judged(model, held.select(some), config, _nearest(shown), seed)
    values: dict[str, Any] = {
        "checkpoint": run, "data": held.name, "episodes": found.episodes, "decisions": found.decisions, "chunk": found.chunk,
        **{f"error {who}": found.overall(who) for who in found.errors},
    }  # fmt: skip
    _print(found, values)
    words = [note, *found.verdict()] if note else found.verdict()
    print(*(f"- {word}" for word in words), sep="\n")
    print(save(judgement_figure(found, f"{run}: error of what would be executed"), out))
    if json is not None:
        each = {
            who: dict(zip(found.names, errors.tolist(), strict=True)) for who, errors in found.errors.items()
        }
        more = {"errors": each, "without": dict(found.without), "inside": {str(k): v for k, v in found.inside.items()},
                "where": [None if np.isnan(w) else w for w in found.where.tolist()], "verdict": words}  # fmt: skip
        report({**values, **more}, json, hide=(*values, *more))


def _check(data: Data, *places: Path | None) -> None:
    """Refuse what cannot be written, and what is not for judging, before the work."""
    for place in filter(None, places):
        new_place(place)
    if data.holdout:
        raise ValueError(
            f"got holdout={data.holdout}, which is for training: what it kept out is played; leave it out"
        )


def _print(found: Judgement, values: dict[str, Any]) -> None:
    """Errors of each action, and over all."""
    print(f"mean absolute error of {found.chunk} executed env steps, in the action's unit:")
    print("  " + "".join(f"{word:>16}" for word in ("action", *found.errors)))
    for i, (name, unit) in enumerate(zip(found.names, found.units, strict=True)):
        cells = "".join(f"{errors[i]:>16.4g}" for errors in found.errors.values())
        print(f"  {name + ' ' + unit:>16}{cells}")
    report(values, None)


def _recordings(folder: Path, model: Checkpoint, data: Data) -> tuple[Episodes | None, Episodes, str]:
    """What the run was trained on if that can be found, what it is judged by, and what must be said of that."""
    from dfplan.cli.train import trained_on

    task, before = model.config.task, trained_on(folder)
    shown = None if before is None else demonstrations(task, before.data, before.read, before.holdout)
    if data.data is not None:
        return shown, demonstrations(task, data.data, data.read), ""
    if before is None:
        raise ValueError(f"got no --data, and {folder} does not say what it was trained on (run.json)")
    if before.holdout:
        return shown, demonstrations(task, before.data, before.read, before.holdout, held=True), ""
    assert shown is not None
    return (
        shown,
        shown,
        "it was trained on these recordings, which flatters it: train with --holdout 0.1, or give --data",
    )


def _nearest(shown: Episodes | None) -> dict[str, Any]:
    """The nearest demonstration as a rule."""
    from dfplan.policies import Nearest

    if shown is None:
        return {}
    finder = Nearest(shown)

    def follow(seen: Any, done: Any, chunk: int) -> Any:
        found = finder.follow(seen, chunk)
        return np.concatenate([found, np.repeat(found[-1:], chunk - len(found), 0)])

    return {"nearest demonstration": follow}
