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
    copy: Path | None = None,
) -> None:
    """Read a mapping file back, without a robot: what was understood, and what is doubtful.

    dfplan check robot.yaml

    dfplan check ur5e --copy . (an arm whose mapping ships: ur5e, panda, xarm6, so101; to begin your own with)

    dfplan check robot.yaml --policy runs/pick (also whether the policy was trained on such an arm)

    Args:
        robot: mapping file, see docs/deploy.md, or the name of an arm.
        policy: shipped model, run folder or checkpoint folder.
        sure: succeed in spite of doubts.
        copy: folder to copy the mapping, its URDF and its calibration into; files that are there stay.
    """
    import shutil

    from dfplan.data.files import refuse_existing
    from dfplan.deploy import load_mapping
    from dfplan.deploy.check import doubts, understood
    from dfplan.deploy.robot.mapping import mapping_file
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
    if copy is not None:
        for file in (mapping_file(robot), Path(mapping.robot.urdf), Path(mapping.robot.calibration)):
            if file.is_file():
                refuse_existing(copy / file.name)
                copy.mkdir(parents=True, exist_ok=True)
                print(f"copied: {shutil.copy(file, copy)}")
    print(f"{robot}: {'no doubts' if not found else 'taken as it is'}")
