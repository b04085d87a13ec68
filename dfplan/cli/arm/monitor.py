"""`dfplan monitor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from dfplan.cli.common import CPU, FLAT, Compute, app, demonstrations


@app.command(name="monitor")
def monitor(
    policy: str,
    data: str,
    out: Path,
    read: tuple[str, ...] = (),
    false_alarms: float = 0.01,
    compute: Annotated[Compute, FLAT] = CPU,
) -> None:
    """Measure what is normal for a policy's sensors, for `dfplan deploy --monitor`.

    dfplan monitor --policy runs/mine --data demos.hdf5 --read mask=valid --out monitor.json

    Args:
        policy: shipped model, run folder or checkpoint folder.
        data: demonstrations that it was not trained on, 30 at least; 300 for one false alarm in 100 episodes.
        out: file to write.
        read: options of the data's reader, such as obs=object,robot0_eef_pos mask=valid.
        false_alarms: share of such episodes that may have an alarm.
        compute: where the network runs.
    """
    from dfplan.act import Actor
    from dfplan.deploy import calibrate

    compute.use()
    loaded = Actor.load(policy, device=compute.device)
    episodes = demonstrations(loaded.model.config.task, data, read)
    made = calibrate(loaded, episodes, false_alarms)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(made.to_json() + "\n")
    print(f"{out}: from {made.episodes} episodes; use it with dfplan deploy --monitor {out}")
