"""Plans and drives around unseen obstacles, beside a plan that knows nothing of them, the gradient alone, and search on the map.

    python scripts/obstacles.py --problems 100 --seed 20000 --json obstacles.json

Problem i has seed + i: start, goal and one ball on the usual way of maze2d-large, `beside` it (a gap or another way is left)
or `across` it (another way is left). The search is given the map and the ball: a fair ceiling. Seconds are CPU time.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import dfplan
from dfplan import costs, envs, rollout
from dfplan.envs.obstacles import KINDS, Obstacles, touched
from dfplan.plan.ways import divided, plan_of
from dfplan.planner import Planner, PlannerConfig
from dfplan.policies import Around, Detour, PointMass
from dfplan.policies.around import LOCAL, SPARE

METHODS = ("unguided", "gradient alone", "around", "search on the map")


class MapSearch:
    """The shortest way on the map with the obstacles in it, lines as long as they are free, for a robot with some room."""

    def __init__(self, room, planner):
        self.room, self.robot, self.config, self.goal = room, room.robot, planner.config, planner.goal
        self.spec, self.place = planner.spec, planner.place

    def plan(self, state, goal, balls, seed=0):
        """As `Around.plan`."""
        tries = ((s, self.room.way(state[:2], goal, balls, s)) for s in (1.8, 1.5, 1.2, 1.0, 0.0))
        spare, way = next((t for t in tries if t[1] is not None), (0.0, np.stack([state[:2], goal])))
        kept, at = [0], 0
        while at < len(way) - 1:
            reach = range(min(len(way) - 1, at + 80), at, -1)
            at = next((i for i in reach if self._open(way[[at, i]], balls, spare)), at + 1)
            kept.append(at)
        return plan_of(divided(way[kept], 0.5), self.spec, self.place, 5.0, True)

    def _open(self, line, balls, spare):
        points = divided(line, 0.02)
        clear = np.array([self.room.clearance[self.room.node(p, 20)] for p in points])
        away = np.linalg.norm(points[:, None] - balls[:, :2], axis=-1) - balls[:, 2]
        return min(clear.min(), away.min()) > spare * self.robot


def through_wall(room, path):
    """Whether the middle of the robot is in a wall anywhere on the way, straight between its points."""
    return any(room.walls[room.node(p)] for p in divided(path, 0.02))


def judged(room, path, goal, balls):
    """Free of the balls, at the goal (within 0.5 m), through no wall."""
    free, there = not touched(path, balls, room.robot).any(), np.linalg.norm(path[-1] - goal) <= 0.5
    return {"free": free, "goal": there, "no_wall": not through_wall(room, path)}


class Timed:
    """Makes the ways of another, and keeps the first with the seconds it took."""

    def __init__(self, ways):
        self.ways, self.robot, self.config, self.goal = ways, ways.robot, ways.config, ways.goal
        self.first = None

    def plan(self, *question):
        """As `Around.plan`."""
        began = time.process_time()
        made = self.ways.plan(*question)
        self.first = self.first or (made, time.process_time() - began)
        return made


def drive(make, ways, point, seed):
    """The first plan, its seconds, and how the drive went."""
    timed = Timed(ways)
    (episode,) = rollout.run(make, Detour(timed, point), [seed])
    drive = {"drive_free": not episode.collided, "drive_goal": bool(episode.success)}
    return *timed.first, drive | {"reach": episode.first_reach}


def alone(plan):
    """A plan, its seconds, and nothing driven."""
    began = time.process_time()
    return plan(), time.process_time() - began, {}


def problems(kind, count, seed, planner, around, chosen):
    """Rows: one for each problem and method."""
    make = lambda: Obstacles(envs.make("maze2d-large", goal="random"), 1, kind)  # noqa: E731
    env, point = make(), PointMass.fitted(planner)
    guided = Planner(planner.model, replace(LOCAL, candidates=8))
    for i in range(seed, seed + count):
        state, info = env.reset(seed=i)
        goal, balls = info["goal"], info["obstacles"]
        ball = costs.keep_out([costs.Ball(tuple(b[:2]), b[2]) for b in balls], SPARE * around.robot)
        cost = costs.total((1 / around.evidence.step**2, ball))
        draw = int(np.random.default_rng(i).integers(2**31))  # as the policy of the drive draws its first
        methods = {
            "unguided": lambda s=state, g=goal, d=draw: alone(lambda: planner.plan(s, g, seed=d)),
            "gradient alone": lambda s=state, g=goal, c=cost, d=draw: alone(
                lambda: guided.plan(s, g, cost=c, seed=d)
            ),
            "around": lambda i=i: drive(make, around, point, i),
            "search on the map": lambda i=i: drive(make, MapSearch(env.room, planner), point, i),
        }
        for method in chosen:
            plan, seconds, driven = methods[method]()
            row = {"kind": kind, "seed": i, "method": method, "seconds": seconds}
            yield row | judged(env.room, plan.best()[:, :2], goal, balls) | driven


def mean(rows, *names):
    return 100 * float(np.mean([all(r[n] for n in names) for r in rows]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    planner = dfplan.load("maze2d-large", PlannerConfig())
    began = time.process_time()
    around = Around(planner, 0.1)
    print(f"roadmap of {len(around.roadmap.net.states)} states: {time.process_time() - began:.0f} s")
    rows = []
    for kind in args.kinds:
        rows += problems(kind, args.problems, args.seed, planner, around, args.methods)
        print(
            f"\n| {kind} | free | at the goal | through no wall | all three | s a plan, mean / most | driven: free, at the goal |"
        )
        print("|---|---|---|---|---|---|---|")
        for method in dict.fromkeys(r["method"] for r in rows):
            mine = [r for r in rows if r["method"] == method and r["kind"] == kind]
            rates = [
                mean(mine, *n) for n in (("free",), ("goal",), ("no_wall",), ("free", "goal", "no_wall"))
            ]
            driven = f"{mean(mine, 'drive_free', 'drive_goal'):.0f} %" if "reach" in mine[0] else "-"
            seconds = [r["seconds"] for r in mine]
            shown = " | ".join(f"{r:.0f} %" for r in rates)
            print(
                f"| {method} | {shown} | {np.mean(seconds):.2f} / {max(seconds):.2f} | {driven} |", flush=True
            )
        if args.json:
            args.json.write_text(
                json.dumps(
                    [{k: v.item() if isinstance(v, np.generic) else v for k, v in r.items()} for r in rows]
                )
            )


if __name__ == "__main__":
    main()
