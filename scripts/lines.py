"""A roadmap without a network: what plans in mazes reach where a leg is a straight line or nothing.

    python scripts/lines.py pointmaze-giant-stitch --episodes 250
    python scripts/lines.py maze2d-large --random --obstacles 1 [--across] --episodes 100
    python scripts/lines.py maze2d-large-dense --checkpoint runs/dense --episodes 100

Of a checkpoint only the recorded steps (evidence.safetensors) and what was fitted of the robot are used. With rewards the goal
is the recorded place of the greatest one. With obstacles nothing is mended: another way is looked for, as `Around` does.
"""

import argparse
from dataclasses import replace

import numpy as np

import dfplan
from dfplan import envs, rollout
from dfplan.plan.rewards import recorded
from dfplan.plan.roadmap import Roadmap
from dfplan.plan.ways import plan_of
from dfplan.policies import Around, Detour, PointMass, receding
from dfplan.policies.around import STATES


class Lines:
    """Fills legs in by straight lines."""

    def __init__(self, planner):
        self.model, self.spec, self.goal, self.place = (
            planner.model,
            planner.spec,
            planner.goal,
            planner.place,
        )
        self.config = replace(planner.config, roadmap=planner.config.roadmap or STATES)

    def plan_batch(self, history, goals, candidates=1, seeds=None):
        """As `Planner.plan_batch`."""
        begins = history[:, -1][:, self.place]
        return [
            plan_of(np.stack(ends), self.spec, self.place, 1.0, True)
            for ends in zip(begins, goals, strict=True)
        ]


class Detours(Around):
    """Ways around balls over a roadmap of lines."""

    def __init__(self, planner, robot):
        super().__init__(planner, robot)
        self.roadmap = self.usual = Roadmap(Lines(self.roadmap.planner))
        self.config = self.roadmap.config

    def _mend(self, way, balls, seed):
        return way, np.inf, 0


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--checkpoint", help="the task's shipped model if left out")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20000)
    parser.add_argument("--random", action="store_true", help="random goals (Maze2D)")
    parser.add_argument("--obstacles", type=int, default=0)
    parser.add_argument("--across", action="store_true")
    args = parser.parse_args()
    planner = dfplan.load(args.checkpoint or args.task)

    def make():
        env = envs.make(args.task, **({"goal": "random"} if args.random else {}))
        kind = "across" if args.across else "beside"
        return envs.Obstacles(env, args.obstacles, kind) if args.obstacles else env

    if args.obstacles:
        policy = Detour(Detours(planner, make().room.robot), PointMass.fitted(planner))
    else:
        goal, reads = None, planner.model.evidence
        if "rewards" in reads:
            places = reads["pairs"].numpy()[:, : len(planner.place)].astype(float)
            goal = places[recorded(planner.model, places).argmax()]
        follows = receding(Roadmap(Lines(planner)), goal=goal)
        policy = Blind(follows) if goal is not None else follows
    outcomes = rollout.run(make, policy, range(args.seed, args.seed + args.episodes))
    print(f"{sum(o.success for o in outcomes)} of {args.episodes} arrived, ", end="")
    print(f"{np.mean([o.first_reach for o in outcomes if o.success]):.1f} env steps")
    if args.obstacles:
        free = [bool(o.success and not o.collided) for o in outcomes]
        print(f"{sum(not o.collided for o in outcomes)} touched none, {sum(free)} both")
    if outcomes[0].score is not None:
        scores = np.array([100 * o.score for o in outcomes])
        print(f"score {scores.mean():.1f} +- {scores.std(ddof=1) / len(scores) ** 0.5:.1f}")


class Blind:
    """Follows plans and is told no goal by the environment."""

    batched = True

    def __init__(self, follows):
        self.follows = follows

    def reset(self, seed=None):
        """Begin an episode."""
        self.follows.reset(seed)

    def act(self, observation):
        """As `Receding.act`."""
        return self.follows.act(observation)


if __name__ == "__main__":
    main()
