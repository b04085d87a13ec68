"""Demonstrations in which a policy takes turns with the expert, who says all along what it would do (DAgger), after others.

python scripts/takeovers.py swap swap takeovers.hdf5 --plain 300 --episodes 300
dfplan train --begin swap --data takeovers.hdf5 --out runs/swap --lr 0.001 --steps 3500
python scripts/takeovers.py swap runs/swap more.hdf5 --onto takeovers.hdf5 others.hdf5 --seed 2
"""

import argparse
from pathlib import Path

import numpy as np

from dfplan.data import Episodes, load, write_robomimic
from dfplan.envs.arm.experts.scripted import collect
from dfplan.policies import Imitation
from dfplan.tools.progress import progress


def shown(task, count, seed, who=None):
    """So many demonstrations, by the expert alone or in turns with a student."""
    with progress(count, "in turns" if who else "plain", "episode") as bar:
        return collect(task, count, seed, lambda n: bar.update(n - bar.n), "ee", who)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("policy", help="shipped model or folder")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--plain", type=int, default=300, help="demonstrations by the expert alone, of seed 0"
    )
    parser.add_argument(
        "--onto", nargs="+", help="files of demonstrations that come first instead: a further round"
    )
    parser.add_argument("--episodes", type=int, default=300, help="demonstrations in turns; 0 joins files")
    parser.add_argument("--seed", type=int, default=1, help="of these")
    args = parser.parse_args()
    student = Imitation.load(args.policy)
    parts = [load(path) for path in args.onto or ()] or [shown(args.task, args.plain, 0)]
    if args.episodes:
        parts.append(shown(args.task, args.episodes, args.seed, student))
    arrays = {key: np.concatenate([part.arrays[key] for part in parts]) for key in parts[-1].arrays}
    before = np.cumsum([0, *(part.ends[-1] for part in parts)])
    ends = np.concatenate([done + part.ends for done, part in zip(before[:-1], parts, strict=True)])
    info = {key: value for key, value in parts[-1].info.items() if key != "episodes"}
    write_robomimic(Episodes(arrays, ends, parts[-1].dt, args.task, info), args.out, rescale=True)
    print(args.out)
