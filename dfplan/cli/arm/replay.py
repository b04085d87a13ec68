"""`dfplan replay`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import tyro

from dfplan.cli.common import CPU, FLAT, Compute, app


@app.command(name="replay")
def replay(
    run: tyro.conf.Positional[Path],
    *,
    policy: str | None = None,
    picture: Path | None = None,
    compute: Annotated[Compute, FLAT] = CPU,
) -> None:
    """Play a run that `dfplan deploy --record` has kept through filter and policy again, and say what differs.

    dfplan replay runs/monday

    dfplan replay runs/monday --policy runs/newer (what another policy would have answered)

    Args:
        run: folder of the run.
        policy: asked in the place of the run's own: shipped model, run folder or checkpoint folder.
        picture: file for joints, states and refusals; run.png in the run's folder if left out.
        compute: where the network runs.
    """
    from dfplan.deploy.picture import run_figure
    from dfplan.deploy.replaying import KeptRun, decide_of
    from dfplan.deploy.replaying import replay as play
    from dfplan.show.base import picture as drawable
    from dfplan.show.base import save

    if picture is not None:
        drawable(picture)
    compute.use()
    kept = KeptRun.load(run)
    found = play(kept, decide_of(kept, policy, compute.device))
    asked = f"{found.decisions} decisions, the farthest action {found.answers:.3g} away"
    print(
        f"  {found.ticks} ticks, the farthest setpoint {found.told:.3g} away, another state at {found.states}"
    )
    print(f"  {asked if found.decisions else 'no decision was asked for again; name a --policy'}")
    if not math.isnan(found.first):
        print(f"  first different after {found.first:.2f} s")
    print(f"  {save(run_figure(kept), picture or run / 'run.png')}")
