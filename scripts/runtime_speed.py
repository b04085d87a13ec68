"""How long one decision takes with torch and without it, in turns, on one core: python scripts/runtime_speed.py."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dfplan import envs, runtime
from dfplan.act import Stepwise
from dfplan.policies import Imitation
from dfplan.runtime.export import export


def seconds(policy: Stepwise, observation: np.ndarray) -> Callable[[], float]:
    """Processor time of one decision from the same reading."""

    def once() -> float:
        policy.reset(0)
        began = time.process_time()
        policy.predict(observation)
        return time.process_time() - began

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arm-pick")
    parser.add_argument("--turns", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    observation, _ = envs.make(args.model, action="ee").reset(seed=0)
    with tempfile.TemporaryDirectory() as folder:
        without = runtime.load(export(args.model, Path(folder) / "out"))
        one, other = (seconds(policy, observation) for policy in (Imitation.load(args.model), without))
        times = np.array([(one(), other()) for _ in range(args.turns + 5)][5:])
    (a, b), ratios = np.median(times, 0) * 1e3, times[:, 1] / times[:, 0]
    print(
        f"{args.model}, one decision, median of {args.turns} in turns, processor time: torch {a:.2f} ms, onnxruntime {b:.2f} ms; "
        f"ratio {b / a:.2f} (middle half {np.quantile(ratios, 0.25):.2f} to {np.quantile(ratios, 0.75):.2f}); load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
