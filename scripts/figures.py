"""Draw the pictures of the docs from the shipped models: python scripts/figures.py [--out docs/pictures]."""

import argparse
from pathlib import Path

import numpy as np
import torch

import dfplan
from dfplan import schedules
from dfplan.envs import Room, get_maze, make
from dfplan.policies import receding
from dfplan.show import plot
from dfplan.show.demo import demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    walls = np.array([[tile == "#" for tile in row] for row in get_maze("large").rows])
    start, rows = [1.0, 1.0, 0.0, 0.0], {}
    for name in ("full", "pyramid", "trapezoid", "autoregressive"):
        planner = dfplan.load(
            "maze2d-large", dfplan.PlannerConfig(schedule=name, uncertainty=1.0, candidates=8)
        )
        horizon = planner.model.config.horizon
        rows[name] = (schedules.make(name, horizon, planner.config.steps, 1.0), planner.plan(start, seed=0))
    policy = receding(dfplan.load("maze2d-large"))
    env = make("maze2d-large")
    demo("maze2d-large", env, Room.of(env), policy, start[:2], None, 0, out)
    plot.save(plot.schedule_plans_figure(rows, walls, planner.goal), out / "schedule-plans.png")


if __name__ == "__main__":
    main()
