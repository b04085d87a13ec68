"""`dfplan check`."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from dfplan.cli.common import app


@app.command(name="check")
def check(
    robot: tyro.conf.Positional[Path],
    *,
    policy: str | None = None,
    sure: bool = False,
) -> None:
    """Read a mapping file back, without a robot: what was understood, and what is doubtful.

    dfplan check robot.yaml

    dfplan check robot.yaml --policy runs/pick (also whether the policy was trained on such an arm)

    Args:
        robot: mapping file, see docs/deploy.md.
        policy: shipped model, run folder or checkpoint folder.
        sure: succeed in spite of doubts.
    """
    from dfplan.deploy import load_mapping
    from dfplan.deploy.check import doubts, understood
    from dfplan.models import find
    from dfplan.train import checkpoint

    mapping = load_mapping(robot)
    for line in understood(mapping):
        print(line)
    found = doubts(mapping, None if policy is None else checkpoint.load(find(policy)))
    for line in found:
        print(f"doubtful: {line}", file=sys.stderr)
    if found and not sure:
        raise SystemExit(1)
    print(f"{robot}: {'no doubts' if not found else 'taken as it is'}")
