"""The judge against the truth: its error of each kept checkpoint of a run beside that checkpoint's success in closed loop.

    dfplan train arm-pick --out runs/pick --keep-every 500
    dfplan data generate arm-pick --episodes 20 --seed 500 --out held.hdf5
    python scripts/judged.py runs/pick arm-pick held.hdf5 --episodes 50 --out judged.png

What is judged was not trained on. The rank correlation (Spearman's) is that of success and the negative error.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import spearmanr

from dfplan.show.base import BLUE, new_figure, plain, save
from dfplan.tools.progress import progress


def asked(folder: Path, *command: str) -> dict:
    """What a command of dfplan writes as JSON."""
    target = folder / "answer.json"
    done = subprocess.run(
        [Path(sys.executable).with_name("dfplan"), *command, "--json", str(target)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return json.loads(target.read_text())


def measured(args: argparse.Namespace, checkpoint: Path) -> dict:
    """Error of a checkpoint on recordings, its success and progress in closed loop."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        judged = asked(folder, "judge", str(checkpoint), "--data", args.data, "--out", str(folder / "j.png"))
        found = asked(
            folder, "eval", args.task, "--checkpoint", str(checkpoint), "--episodes", str(args.episodes),
            "--seed", str(args.seed))  # fmt: skip
    rules = {k: v for k, v in judged.items() if k.startswith("error ") and k != "error policy"}
    return {
        "step": int(checkpoint.name),
        "error": judged["error policy"],
        "best_rule": min(rules.values()),
        "success": found["success"],
        "progress": found["progress_mean"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("task")
    parser.add_argument("data", help="recordings that the run was not trained on")
    parser.add_argument("--episodes", type=int, default=50, help="of the closed loop, for each checkpoint")
    parser.add_argument("--seed", type=int, default=20_000, help="of the first of these")
    parser.add_argument("--out", type=Path, default=Path("judged.png"))
    args = parser.parse_args()
    kept = sorted((args.run / "kept").iterdir())
    rows = []
    with progress(len(kept), "judge and drive", "checkpoint") as bar:
        for checkpoint in kept:
            rows.append(measured(args, checkpoint))
            bar.update(1)
    error, success, along = (np.array([r[k] for r in rows]) for k in ("error", "success", "progress"))
    for r in rows:
        print("  ".join(f"{k} {v:.4g}" for k, v in r.items()))
    print(
        f"rank correlation with success {spearmanr(-error, success)[0]:.2f}, with progress {spearmanr(-error, along)[0]:.2f}"
    )
    figure = new_figure(4.0, 3.0)
    axes = figure.subplots()
    axes.plot(error, success, "o", color=BLUE)
    axes.axvline(rows[0]["best_rule"], color="0.6", lw=0.8, label="best plain rule")
    axes.set(
        xlabel="error on recordings, stds of the actions",
        ylabel=f"success of {args.episodes} episodes",
        title=f"{args.task}: each dot a checkpoint",
        ylim=(-0.03, 1.03),
    )
    plain(axes)
    axes.legend(fontsize=7, frameon=False)
    print(save(figure, args.out))
