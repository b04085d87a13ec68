"""A value-based baseline from a well-kept library (d3rlpy) on the same files, starts and scores: TD3+BC or IQL.

    pip install d3rlpy
    python scripts/value_baseline.py hopper hopper-medium-v2.hdf5 --steps 100000 --json td3bc.json
    python scripts/value_baseline.py hopper hopper-medium-v2.hdf5 --method iql

The library's own settings, which are those of the papers (TD3+BC arXiv 2106.06860, IQL arXiv 2110.06169), observations
standardised; the last step is what is evaluated.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from dfplan import envs, rollout
from dfplan.data import load

METHODS = {"td3bc": "TD3PlusBCConfig", "iql": "IQLConfig"}


class Greedy:
    """Acts as the library's policy says, without exploration."""

    batched = True

    def __init__(self, algorithm):
        self.algorithm = algorithm

    def act(self, observation):
        """(B, O) -> (B, A)."""
        return self.algorithm.predict(np.asarray(observation, np.float32))


def transitions(path):
    """A file in D4RL's layout as the library's set."""
    import d3rlpy

    episodes = load(path)
    arrays = episodes.arrays
    ends = np.zeros(len(arrays["rewards"]))
    ends[episodes.ends - 1] = 1
    terminals = np.asarray(arrays["terminals"], float).reshape(-1)
    return d3rlpy.dataset.MDPDataset(
        np.asarray(arrays["observations"], np.float32),
        np.asarray(arrays["actions"], np.float32),
        np.asarray(arrays["rewards"], np.float32).reshape(-1),
        terminals,
        ends * (1 - terminals),
    )


def main():
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("data")
    parser.add_argument("--method", choices=sorted(METHODS), default="td3bc")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--training-seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        import d3rlpy
    except ImportError as error:
        raise SystemExit(f"{error}; pip install d3rlpy") from None
    torch.set_num_threads(1)
    d3rlpy.seed(args.training_seed)
    scaler = d3rlpy.preprocessing.StandardObservationScaler()
    algorithm = getattr(d3rlpy.algos, METHODS[args.method])(observation_scaler=scaler).create()
    algorithm.fit(
        transitions(args.data),
        args.steps,
        min(args.steps, 10_000),
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    seeds = range(args.seed, args.seed + args.episodes)
    outcomes = rollout.run(lambda: envs.make(args.task), Greedy(algorithm), seeds)
    scores = np.array([100 * o.score for o in outcomes])
    found = {
        "method": args.method,
        "data": args.data,
        "steps": args.steps,
        "episodes": args.episodes,
        "score": float(scores.mean()),
        "score_se": float(scores.std(ddof=1) / len(scores) ** 0.5),
    }
    print(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
