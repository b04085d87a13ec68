"""Demonstrations in which a policy takes turns with the expert, who says all along what it would do (DAgger), after plain ones.

python scripts/takeovers.py swap swap takeovers.hdf5 --plain 300 --episodes 300
dfplan train swap --data takeovers.hdf5 --out runs/swap
"""

import argparse
from pathlib import Path

import numpy as np

from dfplan.data import Episodes, write_robomimic
from dfplan.decide import asked
from dfplan.envs.arm.experts.scripted import collect
from dfplan.policies import Imitation, ImitationConfig
from dfplan.tools.progress import progress

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("policy", help="shipped model or folder")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--plain", type=int, default=300, help="demonstrations by the expert alone, of seed 0"
    )
    parser.add_argument("--episodes", type=int, default=300, help="demonstrations in turns")
    parser.add_argument("--seed", type=int, default=1, help="of these")
    parser.add_argument("--steps", type=int, default=2, help="network calls of its decisions")
    args = parser.parse_args()
    model = Imitation.load(args.policy).model
    student = Imitation(model, asked(ImitationConfig, model, "policy", steps=args.steps))
    parts = []
    for count, seed, who in ((args.plain, 0, None), (args.episodes, args.seed, student)):
        with progress(count, "in turns" if who else "plain", "episode") as bar:
            parts.append(collect(args.task, count, seed, lambda n, bar=bar: bar.update(n - bar.n), "ee", who))
    first, second = parts
    arrays = {key: np.concatenate([p.arrays[key] for p in parts]) for key in first.arrays}
    ends = np.concatenate([first.ends, first.ends[-1] + second.ends])
    write_robomimic(Episodes(arrays, ends, first.dt, args.task, dict(first.info)), args.out, rescale=True)
    print(args.out)
