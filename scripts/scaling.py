"""Training steps per second of one process against several, which take turns: torchrun --nproc-per-node 2 scripts/scaling.py."""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import torch

from dfplan.data import Episodes
from dfplan.imitate import imitation_config
from dfplan.train.together import Together, together
from dfplan.train.trainer import Trainer


def demonstrations(steps: int) -> Episodes:
    """Eight episodes of an arm's size."""
    rows = np.random.default_rng(0).normal(size=(8 * steps, 24)).cumsum(0).astype(np.float32)
    ends = np.arange(steps, 8 * steps + 1, steps)
    return Episodes({"observations": rows, "actions": rows[:, :7]}, ends, 0.05, "scaling")


def pace(trainer: Trainer, steps: int) -> float:
    """Seconds of one of some steps."""
    began = time.perf_counter()
    for _ in range(steps):
        loss = trainer.train_step()["loss"]
    float(loss)  # a GPU has finished when its last number is here
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Measure and print, in the first process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1024, help="windows of a step, however many processes")
    parser.add_argument("--width", type=int, default=416)
    parser.add_argument("--length", type=int, default=200, help="env steps of an episode")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    others, data = together(args.device), demonstrations(args.length)
    config = imitation_config(
        data, batch=args.batch, steps=10**6, precision="fp32" if args.device == "cpu" else "bf16",
        model={"width": args.width},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        both = Trainer(config, data, f"{folder}/both", others=others)
        one = Trainer(config, data, f"{folder}/one", others=Together(others.device))
        spent = np.zeros((args.turns + 1, 2))
        for row in spent:
            if others.first:
                row[0] = pace(one, args.steps)
            others.wait()
            row[1] = pace(both, args.steps)
        others.wait()
    if others.first:
        alone, shared = np.median(spent[1:], 0)  # the first turn warms up
        print(f"{1 / alone:.2f} steps/s in one process, {1 / shared:.2f} in {others.world}: {alone / shared:.2f} x "
              f"(median of {args.turns} turns of {args.steps} steps, batch {args.batch}, {args.device})")  # fmt: skip
    others.end()


if __name__ == "__main__":
    main()
