"""Print the table of scores and speeds: python scripts/benchmark.py [--episodes 300] [--json out.json] [--picture scores.png]."""

import argparse
import json
from pathlib import Path

import torch

from dfplan.show import benchmark, plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300, help="per maze; 0 measures speed alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="bars of the fixed-goal scores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [
        row
        for maze in ("umaze", "medium", "large")
        for row in benchmark.scores(maze, args.episodes, args.seed)
    ]
    speeds = benchmark.speeds()
    if rows:
        print(benchmark.table(rows))
    print("\n".join(f"{name:<62} {value:>12,.2f} {unit}" for name, value, unit in speeds))
    if args.picture and rows:
        plot.save(plot.bars_figure(benchmark.bars(rows), ours="dfplan"), args.picture)
    if args.json:
        args.json.write_text(json.dumps({"scores": rows, "speeds": speeds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
