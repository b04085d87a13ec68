"""Ways around obstacles that no demonstration knew: mended where they are touched, or led another way."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dfplan.costs import Ball, keep_out, total
from dfplan.plan import Plan, PlannerConfig, Plans
from dfplan.plan.evidence import Evidence
from dfplan.plan.kept import kept
from dfplan.plan.ways import CAREFUL, divided, plan_of, spread
from dfplan.planner import Planner

from .receding import AHEAD
from .trackers import LookAhead, PointMass

Array = NDArray[np.float64]
STATES, MORE, ABOUT = 300, 40, 8
"""Of the roadmap, unless the planner's configuration says so; around each ball besides, and so many radii of the robot
about it."""
LOCAL = PlannerConfig(candidates=24, steps=6, step="ddpm", guidance=11.0)
"""How a stretch is mended; guidance in nats per squared recorded step of depth."""
TOUCH, SPARE, ASIDE = 1.2, 1.5, 2.5
"""A way is mended where it comes nearer than so many radii of the robot, aims at so many, and is filled in anew over so
many recorded steps before and after."""
ROOMS = (2.0, 1.5, TOUCH)
"""Radii of the robot that another way keeps off: the first that leaves one."""
SURE = CAREFUL
"""Doubt up to which a mended way is taken before another way is looked for."""
CLOSE = 2.0
"""Look-ahead near an obstacle, over twice the way in which the robot can stop; that is at most a radius of it."""


class Ways(Protocol):
    """Who makes ways around obstacles: `Around`, or a search on the map.

    Attributes:
        robot: radius of the robot.
        config: of which `within` is read.
        goal: where to go unless somebody says so.
    """

    robot: float
    config: Any
    goal: Any

    def plan(self, state: Array, goal: Array, balls: Array, seed: int = 0) -> Plan:
        """State (O,), goal (C,), balls (N, C + 1) -> plan."""
        ...


def clearance(path: Array, balls: Array) -> Array:
    """Least distance of a way (H, C), straight between its points, to the surface of each ball (N, C + 1): (N,)."""
    names, way = tuple("xyz"[: path.shape[1]]), torch.from_numpy(path)
    shapes = [Ball(tuple(b[:-1].tolist()), float(b[-1]), names) for b in balls]
    return np.array([float(s.along(way).amin()) for s in shapes])


def _close(gaps: ArrayLike) -> Array:
    """Doubt by the distance to balls, in radii of the robot."""
    return np.where(np.asarray(gaps) > TOUCH, 0.0, np.where(np.asarray(gaps) > 1, 1.0, 100.0))


class Around:
    """Plans that keep off balls: the model's own plan, mended where it touches one; else another way over a roadmap.

    A touched stretch is filled in anew by the model, candidates guided off the balls; of those that are free the one
    that is most like recorded steps is taken. Where none is familiar, the roadmap is asked for a way on which no leg
    touches a ball. It is for whoever follows plans of a `Planner`.

    Args:
        planner: of a model with recorded steps. Where its `config.roadmap` is above 0 the usual way is the roadmap's.
        robot: radius of the robot (unit of positions).
        states: of the roadmap, where the planner's configuration has none.

    Raises:
        ValueError: the checkpoint has no recorded steps.
    """

    def __init__(self, planner: Planner, robot: float, states: int = STATES) -> None:
        config = planner.config
        far = Planner(planner.model, replace(config, candidates=1, roadmap=config.roadmap or states))
        self.planner, self.robot, self.roadmap = planner, robot, kept(far)
        self.usual: Plans = self.roadmap if config.roadmap else planner
        self.local = Planner(planner.model, LOCAL)
        self.evidence: Evidence = self.roadmap.evidence
        self.model, self.spec, self.config, self.goal = planner.model, planner.spec, config, planner.goal
        self.place = planner.place

    def plan(self, state: Array, goal: Array, balls: Array, seed: int = 0) -> Plan:
        """One plan: state (O,), goal (C,), balls (N, C + 1). `feasible`: free of them, and familiar all along."""
        began = time.perf_counter()
        (usual,) = self.usual.plan_batch(state[None, None], goal, seeds=[seed])
        way = usual.best()[:, self.place]
        if usual.arrivals[usual.chosen] < len(usual.times):
            way = np.concatenate([way[:-1], goal[None]]) if len(way) > 1 else np.stack([way[0], goal])
        doubt, calls = self._doubt(way, balls), usual.network_calls
        changes = [partial(self._mend, way, balls, seed), partial(self._another, state, goal, balls, seed)]
        for change in changes[::-1] if self.config.roadmap else changes:  # a roadmap's ways are seldom mended
            if doubt > SURE:
                found, least, more = change()
                way, doubt, calls = *((found, least) if least < doubt else (way, doubt)), calls + more
        way = divided(way, self.evidence.step)
        speed = self.roadmap.speed
        made = plan_of(way, self.spec, self.place, speed, bool(doubt <= 1 and self._clear(way, balls)))
        return replace(made, network_calls=calls, seconds=time.perf_counter() - began, seed=seed)

    def _clear(self, path: Array, balls: Array) -> bool:
        return bool((clearance(path, balls) > self.robot).all())

    def _about(self, balls: Array, seed: int) -> Array:
        """(E, C) recorded places around the balls, where the robot has room."""
        places = self.evidence.places
        away = (np.linalg.norm(places[:, None] - balls[:, :-1], axis=-1) - balls[:, -1]).min(1)
        near = places[(away > TOUCH * self.robot) & (away < ABOUT * self.robot)]
        return spread(near, MORE * len(balls), seed) if len(near) else near

    def _doubt(self, way: Array, balls: Array) -> float:
        """How unlike recorded steps a way is, and more where it touches a ball or nearly does."""
        gap = float(clearance(way, balls).min(initial=np.inf)) / self.robot
        return (float(self.evidence.doubt(way)) if len(way) > 1 else 0.0) + float(_close(gap))

    def _another(self, state: Array, goal: Array, balls: Array, seed: int) -> tuple[Array, float, int]:
        """A way of the roadmap that keeps off the balls, its doubt, and network calls."""
        more, calls = self._about(balls, seed), 0
        for room in ROOMS:
            other = self.roadmap.plan(state, goal, partial(self._near, balls=balls, room=room), seed, more)
            calls, path = calls + other.network_calls, other.observations[:, self.place]
            if other.feasible[0] and self._clear(path, balls):
                return path, SURE, calls
        return path, np.inf, calls

    def _near(self, points: Array, balls: Array, room: float) -> NDArray[np.bool_]:
        """Whether places (N, C) are nearer to a ball than `room` radii of the robot."""
        away = np.linalg.norm(points[:, None] - balls[:, :-1], axis=-1) - balls[:, -1]
        return np.asarray((away < room * self.robot).any(1))

    def _mend(self, way: Array, balls: Array, seed: int) -> tuple[Array, float, int]:
        """The way with every stretch that touches a ball filled in anew, its worst doubt, and network calls."""
        step, calls = self.evidence.step, 0
        worst = float(self.evidence.doubt(way)) if len(way) > 1 else 0.0
        unit = 1 / step**2
        shapes = [Ball(tuple(b[:-1].tolist()), float(b[-1]), self._names()) for b in balls]
        cost = total((unit, keep_out(shapes, SPARE * self.robot)))
        for turn in range(2 * len(balls)):
            stretch = self._touched(way, balls)
            if stretch is None:
                break
            first, last, lengths = stretch
            ends = np.stack([np.stack([np.interp(s, lengths, c) for c in way.T]) for s in (first, last)])
            longest = self.model.config.horizon
            steps = int(np.clip(np.ceil((last - first) / (0.8 * step)) + 3, 6, longest))
            if self.model.config.model.kind == "perceptron":
                steps = longest  # its windows are all of a length
            state = np.zeros(self.spec.observation_size)
            state[self.place] = ends[0]
            plan = self.local.plan(state, ends[1], cost=cost, horizon=steps, seed=seed + turn)
            paths = plan.candidates[..., self.place]
            gaps = np.array([clearance(p, balls).min() for p in paths]) / self.robot
            doubts = plan.errors + _close(gaps)
            best = int(doubts.argmin())
            worst, calls = max(worst, float(doubts[best])), calls + plan.network_calls
            if worst > 100:  # there is no getting past it here
                break
            inner = (
                paths[best][: int(plan.arrivals[best]) + 1] if plan.arrivals[best] < steps else paths[best]
            )
            inner = np.concatenate([inner[:-1], ends[1:]])
            way = np.concatenate([way[lengths < first], inner, way[lengths > last]])
        return way, worst if self._clear(way, balls) else np.inf, calls

    def _names(self) -> tuple[str, ...]:
        return tuple(
            c.name for c in self.spec.channels if c.source == "observations" and c.index in self.place
        )

    def _touched(self, way: Array, balls: Array) -> tuple[float, float, Array] | None:
        """Where the first stretch that touches a ball is to be filled in, and arc lengths (H,) of the way; or None."""
        lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
        at = np.linspace(0, lengths[-1], int(lengths[-1] / (0.3 * self.robot)) + 2)
        points = np.stack([np.interp(at, lengths, column) for column in way.T], 1)
        away = np.linalg.norm(points[:, None] - balls[:, :-1], axis=-1) - balls[:, -1]
        near = away < TOUCH * self.robot
        if not near.any():
            return None
        ball = int(near[near.any(1)][0].argmax())
        hit, side = at[near[:, ball]], ASIDE * self.evidence.step
        return max(0.0, float(hit[0]) - side), min(float(lengths[-1]), float(hit[-1]) + side), lengths


class Detour:
    """A policy that follows ways around obstacles; near one it slows down, so that it stays on its way.

    Observations are positions then velocities, (2 A,), or positions alone.

    Args:
        planner: makes the ways.
        point: the robot, as fitted on the data.
        patience: env steps within one radius of the robot, away from the goal, after which a new way is looked for.
        obstacles: (N, C + 1) balls, centre and radius, unless `reset` says so.
    """

    def __init__(
        self, planner: Ways, point: PointMass, patience: int = 60, obstacles: ArrayLike | None = None
    ) -> None:
        self.planner, self.patience = planner, patience
        self._obstacles = np.zeros((0, 3)) if obstacles is None else np.asarray(obstacles, np.float64)
        brake = point.gain / point.dt
        slow = min(point.speed, float(np.sqrt(planner.robot * brake)))  # it can stop within half a radius
        self.far = point, max(1.0, AHEAD * point.speed * point.dt)
        self.near = replace(point, speed=slow), CLOSE * slow**2 / brake
        self.tracker = LookAhead(*self.far)
        self.zone = point.speed**2 / (2 * brake) + 3 * planner.robot
        if planner.goal is not None:
            self.reset()  # else an episode begins with the goal that it is told

    def reset(
        self, seed: int | None = None, goal: ArrayLike | None = None, obstacles: ArrayLike | None = None
    ) -> None:
        """Begin an episode: seed of the plans, goal (C,), obstacles (N, C + 1)."""
        self.rng = np.random.default_rng(seed)
        self.goal = np.asarray(self.planner.goal if goal is None else goal, np.float64)
        self.balls = self._obstacles if obstacles is None else np.asarray(obstacles, np.float64)
        self.plans: list[Plan] = []
        self._anchor, self._still = np.full(len(self.goal), np.inf), 0

    @property
    def seconds(self) -> list[float]:
        """Wall time of each plan since `reset`."""
        return [plan.seconds for plan in self.plans]

    @property
    def calls(self) -> int:
        """Network calls since `reset`."""
        return sum(plan.network_calls for plan in self.plans)

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Observation (O,) -> action (A,) in [-1, 1]."""
        state, size = np.asarray(observation, np.float64), len(self.goal)
        place, velocity = state[:size], state[size:] if len(state) > size else np.zeros(size)
        moved = float(np.linalg.norm(place - self._anchor)) > self.planner.robot
        self._anchor, self._still = (place, 0) if moved else (self._anchor, self._still + 1)
        there = float(np.linalg.norm(place - self.goal)) <= self.planner.config.within
        if not self.plans or (self._still > self.patience and not there):
            self._still = 0
            self.plans.append(self.planner.plan(state, self.goal, self.balls, int(self.rng.integers(2**31))))
            self.tracker.follow(self.plans[-1].best()[:, :size])
        gaps = np.linalg.norm(self.balls[:, :-1] - place, axis=1) - self.balls[:, -1]
        self.tracker.robot, self.tracker.distance = self.near if (gaps < self.zone).any() else self.far
        return self.tracker.act(place, velocity).astype(np.float32)
