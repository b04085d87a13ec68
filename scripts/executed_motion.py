"""What an arm carries out behind a stock trajectory controller, with random losses and stalls.

    python scripts/executed_motion.py --count 2000

The arm, the controller and the kinds of trouble are those of tests/deploy/executed.py. The worst of each kind is printed, as
shares of the limits of speed and acceleration, beside what may be.
"""

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "deploy"))
import executed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=140, help="drives, all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="of the first drive")
    args = parser.parse_args()
    logging.getLogger("dfplan.deploy").setLevel(logging.CRITICAL)  # each trouble would be told
    kinds = list(executed.LIMITS)
    rows, ends = {kind: [] for kind in kinds}, {kind: Counter() for kind in kinds}
    for i in range(args.count):
        kind = kinds[i % len(kinds)]
        found, made = executed.random_drive(kind, args.seed + i // len(kinds))
        rows[kind].append(found)
        stop = next((c for c in made.machine.changes if c.old == "RUNNING"), None)
        ends[kind]["went on" if stop is None or stop.reason == "the loop ends" else stop.new] += 1
    print("| trouble | drives | speed | acceleration | may be | how it went |\n|---|---|---|---|---|---|")
    for kind in kinds:
        found, most = np.array(rows[kind]), executed.LIMITS[kind]
        if len(found):
            worst = found.max(0)
            how = ", ".join(f"{name} {count}" for name, count in sorted(ends[kind].items()))
            print(
                f"| {kind} | {len(found)} | {worst[0]:.2f} x | {worst[1]:.2f} x | {most[0]:.2f} x, {most[1]:g} x | {how} |"
            )


if __name__ == "__main__":
    main()
