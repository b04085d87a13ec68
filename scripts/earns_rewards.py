"""What Diffusion Forcing earns where rewards are planned for: python scripts/earns_rewards.py [--seeds 3] [--out runs/earns].

The part of `earns.py` on rewards: U-maze with D4RL's dense reward, the goal never told. The same network, with tokens of
position, reward and return, trained in the four ways; plans of one window, unguided, guided by the gradient of the modelled
rewards, and asked for a return, each with the schedule that goes with the method. Scores are D4RL's.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from earns import METHODS, MODEL, SCHEDULES, STARTS, Kept, over_seeds, own_schedule, trained

from dfplan import envs, policies, rollout
from dfplan.cli.common import demonstrations
from dfplan.cli.settings import merged
from dfplan.cli.train import config_path
from dfplan.nets.returns import labelled
from dfplan.planner import Planner, PlannerConfig
from dfplan.tools.serialize import from_dict, read_values
from dfplan.train.config import TrainConfig

TASK = "maze2d-umaze-dense"
WAYS: Mapping[str, Mapping[str, Any]] = {
    "unguided": {},
    "guided, scale 1": {"cost": "returns('reward')", "guidance": 1.0},
    "asked for a return of 1": {"returns": 1.0},
}
"""Scale and return are those that docs/rewards.md found on other starts for the model that is trained as configured."""


def settings(levels: Mapping[str, float], seed: int, steps: int) -> TrainConfig:
    """The task's configuration with the page's perceptron, other levels and fewer steps."""
    change = {"levels": levels, "seed": seed, "steps": steps, "model": MODEL, "batch": 128, "warmup": 100}
    return from_dict(
        TrainConfig,
        merged(read_values(config_path(TASK)), change | {"precision": "fp32"}, TrainConfig),
        TASK,
    )


def scored(planner: Planner, episodes: int) -> dict[str, Any]:
    """Score and arrivals of following its plans."""
    outcomes = rollout.run(
        partial(envs.make, TASK), policies.gathering(planner), range(STARTS, STARTS + episodes)
    )
    found = rollout.summary(TASK, outcomes)
    return {k: found[k] for k in ("score", "return_mean", "success", "network_calls_mean")}


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--data", help="file; the task's own data if left out")
    parser.add_argument("--out", type=Path, default=Path("runs/earns"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = Kept(args.out / "rewards.json")
    for seed in range(args.seeds):
        for method, levels in METHODS.items():
            config = settings(levels, seed, args.steps)
            name = method.split(" (")[0].replace(" ", "-")
            shown = partial(labelled, demonstrations(TASK, args.data, (), 0.0), config.returns)
            folder = trained(args.out / f"rewards-{name}-{seed}", config, shown)
            for way, how in WAYS.items():
                schedule = SCHEDULES[own_schedule(method)]
                asked = {"steps": 4, **schedule, "gather": 300, "roadmap": 0, **how}
                measure = partial(scored, Planner.load(folder, PlannerConfig(**asked)), args.episodes)
                kept.measured(f"rewards, {way}|{own_schedule(method)}", method, seed, measure)
    print("| way | " + " | ".join(METHODS) + " |\n" + "|---" * (len(METHODS) + 1) + "|")
    for way in WAYS:
        row = [over_seeds(kept.rows, f"rewards, {way}|{own_schedule(m)}", m, "score") for m in METHODS]
        print(f"| {way} | " + " | ".join(f"{a:.1f} ± {b:.1f}" for a, b, _ in row) + " |")


if __name__ == "__main__":
    main()
