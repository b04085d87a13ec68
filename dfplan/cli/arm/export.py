"""`dfplan export`: a policy for computers without torch."""

from __future__ import annotations

from pathlib import Path

import tyro

from dfplan.cli.common import app


@app.command(name="export")
def export(model: tyro.conf.Positional[str], *, out: Path, steps: int = 0, unguided: bool = False) -> None:
    """Write one decision of an imitation policy as ONNX, for computers without torch.

    dfplan export arm-pick --out exported (then: dfplan deploy --policy exported ..., or dfplan.runtime.load)

    dfplan export runs/mine --out exported --steps 2 (fewer network calls for each token)

    dfplan export arm-reach --out exported --unguided (without the cost that it acts with, which needs gradients)

    Args:
        model: shipped model, run folder or checkpoint folder.
        out: folder to write.
        steps: network calls of each token; as the checkpoint says if left out.
        unguided: leave out the cost that the checkpoint acts with.
    """
    if steps < 0:
        raise ValueError(f"got steps={steps}, expected 1 or more network calls")
    from dfplan.runtime.export import export as write

    folder = write(model, out, steps, unguided)
    for file in sorted(folder.iterdir()):
        print(f"  {file}  {file.stat().st_size / 1e6:.1f} MB")
    print(f"use it with: dfplan deploy --policy {folder}, or dfplan.runtime.load; see docs/runtime.md")
