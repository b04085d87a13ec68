"""Streaming plans beside plans from noise: python scripts/streaming.py [--maze large] [--episodes 100] [--seed 20000].

The same model, goals, disturbances and tracker; random goals. Prints a table for each disturbance, and writes the numbers.
"""

import argparse
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfplan import envs, models, policies, rollout
from dfplan.planner import PlannerConfig

EVERY = 10
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plans from noise, when one fails": ({}, {}),
    "plans from noise, every 10 env steps": ({}, {"every": EVERY}),
    "the same, one call each": ({"steps": 1}, {"every": EVERY}),
    "streaming": ({"stream": EVERY}, {}),
}
"""Name -> settings of the planner, and of the policy."""
KINDS = ("none", "push", "move", "wind", "door")


def jerk(observations: Any, events: Any, until: int, dt: float) -> float:
    """RMS jerk (m/s^3) of the driven way up to an env step, without the env steps around what happened."""
    third = np.diff(observations[: until + 1, :2], 3, axis=0) / dt**3
    far = np.ones(len(third), bool)
    for event in events:
        far[max(0, event - 4) : event + 1] = False
    return float(np.sqrt(np.square(third[far]).sum(1).mean())) if far.any() else float("nan")


def measured(maze: str, kind: str, way: str, seeds: range) -> dict[str, Any]:
    """One way under one disturbance."""
    planning, following = WAYS[way]
    planner = models.load(f"maze2d-{maze}", PlannerConfig(**planning))
    policy, made = policies.receding(planner, **following), []

    def make() -> Any:
        extra = {} if kind == "none" else {"disturb": kind}
        made.append(envs.make(f"maze2d-{maze}", goal="random", **extra))
        return made[-1]

    began = time.process_time()
    outcomes = rollout.run(make, policy, seeds)
    spent = time.process_time() - began
    reactions, recoveries, jerks = [], [], []
    for outcome, env, decided in zip(outcomes, made, policy.made, strict=True):
        events = getattr(env, "events", [])
        times = np.array(decided)
        reactions += [int(t[0] - e) for e in events if len(t := times[times >= e])]
        if outcome.success and events and outcome.first_reach is not None:
            recoveries.append(outcome.first_reach - events[-1])
        jerks.append(jerk(outcome.observations, events, outcome.first_reach or outcome.steps, 0.01))
    numbers, plans = rollout.summary(maze, outcomes), sum(len(d) for d in policy.made)
    kept = ("success", "success_ci", "score", "score_se", "network_calls_mean", "first_reach_mean")
    events = sum(len(getattr(env, "events", [])) for env in made)
    return {k: numbers[k] for k in kept} | {
        "episodes": len(outcomes), "decisions": plans / len(outcomes),
        "calls_per_decision": numbers["network_calls_mean"] * len(outcomes) / max(1, plans), "events": events,
        "answered": len(reactions), "reaction": float(np.mean(reactions)) if reactions else None,
        "reaction_most": max(reactions, default=None), "back": float(np.mean(recoveries)) if recoveries else None,
        "jerk": float(np.nanmean(jerks)), "cpu_s": spent,
        "lost": [o.seed for o in outcomes if not o.success],
    }  # fmt: skip


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of one disturbance."""
    head = "| way | at the goal | score | decisions | calls, each decision's | reaction, mean / most | back after | jerk |"
    out = [head, "|---" * 8 + "|"]
    for way, row in rows.items():
        low, high = row["success_ci"]
        reaction = "-" if row["reaction"] is None else f"{row['reaction']:.1f} / {row['reaction_most']}"
        back = "-" if row["back"] is None else f"{row['back']:.0f}"
        out.append(
            f"| {way} | {100 * row['success']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) | {row['score']:.1f} ± "
            f"{row['score_se']:.1f} | {row['decisions']:.1f} | {row['network_calls_mean']:.1f}, "
            f"{row['calls_per_decision']:.2f} | {reaction} | {back} | {row['jerk']:.0f} |"
        )
    return "\n".join(out)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maze", choices=("umaze", "medium", "large"), default="large")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20000)
    parser.add_argument("--out", type=Path, default=Path("streaming.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds, found = range(args.seed, args.seed + args.episodes), {}
    for kind in args.kinds:
        run = partial(measured, args.maze, kind, seeds=seeds)
        found[kind] = {way: run(way=way) for way in args.ways}
        print(f"\n{args.maze}, {kind}\n\n{table(found[kind])}", flush=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
