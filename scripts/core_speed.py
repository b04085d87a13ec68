"""How much a batch of starts and a causal network's cache save: python scripts/core_speed.py. Ratios of one run, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

import dfplan
from dfplan.act import Actor, History, ImitationConfig
from dfplan.data import Episodes
from dfplan.decide import Decider, Sampling, generator_of, noise_of
from dfplan.imitate import imitation_config
from dfplan.nets.normalize import Normalizer
from dfplan.sampling import sample
from dfplan.train.checkpoint import Checkpoint


def medians(*calls: Callable[[], object], turns: int = 15) -> list[float]:
    """Median ms of each call; they take turns, so that a busy machine is busy for all."""
    spent = np.zeros((turns, len(calls)))
    for row in spent:
        for i, call in enumerate(calls):
            began = time.perf_counter()
            call()
            row[i] = 1e3 * (time.perf_counter() - began)
    return list(np.median(spent, 0))


def causal(horizon: int) -> Checkpoint:
    """An untrained causal transformer of the maze models' size over `horizon` tokens of state, and as many of action."""
    rows = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    data = Episodes({"observations": rows, "actions": rows[:, :2]}, np.array([400]), 0.1)
    network = {"kind": "transformer", "causal": True}
    config = imitation_config(data, span=1, horizon=horizon, model=network, levels={"memory": 0})
    return Checkpoint(
        config, config.model.build(config.spec, horizon).eval(), Normalizer.fit(config.spec, data), {}
    )


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    planner = dfplan.load("maze2d-large")
    starts = np.random.default_rng(0).uniform(1, 5, (32, 1, 4)) * [1, 1, 0, 0]

    def one_by_one() -> None:
        for i, start in enumerate(starts):
            planner.plan(start, seed=i)

    one, many = medians(one_by_one, lambda: planner.plan_batch(starts, seeds=range(32)), turns=7)
    print(
        f"large maze, 1 candidate: {one / 32:.1f} ms a plan, {many / 32:.1f} ms in a batch of 32: {one / many:.2f} x"
    )
    model = causal(170)
    actor = Actor(model, ImitationConfig(memory=0, chunk=1, steps=5))
    noise = noise_of([generator_of(0)], 1, 340, model.config.spec.width, device=torch.device("cpu"))
    rng = np.random.default_rng(0)
    seen, done = rng.normal(size=(1, 151, 6)), rng.normal(size=(1, 150, 2))

    def history(steps: int) -> History:
        return History(seen[:, :steps], np.zeros((1, steps, 1), bool), done[:, : steps - 1])

    def next_of(steps: int) -> Callable[[], object]:
        state = actor.decide(history(steps - 1), noise=noise).state
        return lambda: actor.decide(history(steps), noise=noise, state=state)

    short, long, fresh = medians(next_of(10), next_of(150), lambda: actor.decide(history(150), noise=noise))
    print(f"causal, a decision at 20 and 300 tokens of history: {short:.1f}, {long:.1f} ms: {long / short:.2f} x; "
          f"without the state {fresh:.1f} ms")  # fmt: skip
    model, config = causal(40), Sampling("pyramid", 50, 1.0)
    decider, matrix = Decider(model), config.matrix(40).repeat(2)
    known, x = decider.window().nothing(1), torch.randn(1, 80, model.config.spec.width)
    known = known.to(x.device)
    with torch.no_grad():
        plain, cached = medians(
            lambda: sample(model.denoiser, decider.schedule, matrix, x, known=known),
            lambda: decider.run(known, matrix, x, config), turns=5,
        )  # fmt: skip
    print(f"causal, pyramid over 80 tokens, 50 steps: {plain:.0f} ms, nothing finished computed {cached:.0f} ms: "
          f"{plain / cached:.2f} x")  # fmt: skip


if __name__ == "__main__":
    main()
