"""Rollouts of ten training windows: python scripts/horizon.py [maze2d-large] [--count 100] [--seed 20000].

A planner's model goes on from places in its maze without a goal, ten times as far as any window it was trained on.
"""

import argparse
import json
from pathlib import Path

import torch
from earns import STARTS, rolled

from dfplan import models


def main() -> None:
    """Roll, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="maze2d-large", help="shipped model or run folder")
    parser.add_argument("--maze", default="large")
    parser.add_argument("--count", type=int, default=100, help="rollouts")
    parser.add_argument("--seed", type=int, default=STARTS)
    parser.add_argument("--keep", type=int, default=1)
    parser.add_argument("--advance", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("horizon.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| way | steps in free space | in the last window | rollouts wholly free | jumps | pace | cells | CPU s |"
    )
    print("|---" * 8 + "|")
    found, same = {}, {"keep": args.keep, "advance": args.advance}
    for way, judged in (("first draw", False), ("drawn anew where no record is like it", True)):
        row = found[way] = rolled(models.find(args.model), args.maze, args.count, args.seed, judged, **same)
        shares = " | ".join(f"{100 * row[k]:.2f} %" for k in ("free", "free_last", "whole", "jumps"))
        print(
            f"| {way} | {shares} | {row['moved']:.2f} | {row['visited']:.0f} | {row['cpu_s']:.0f} |",
            flush=True,
        )
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
