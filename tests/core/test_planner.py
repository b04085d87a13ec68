import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny import Echo, action_spec, checkpoint, config, position_spec, state_spec, walks

import dfplan
from dfplan.denoiser import Denoiser
from dfplan.guidance import goal as goal_cost
from dfplan.nets.normalize import Normalizer
from dfplan.planner import Plan, Planner, PlannerConfig
from dfplan.train.config import ModelConfig
from dfplan.train.trainer import Trainer

PRESENT = np.array([0.3, -0.8, 0.5, -0.25])
GOAL = (1.0, 2.0)
DYNAMICS = {"keep": 0.9, "gain": 0.5, "speed": 3.0}


def planner(spec=None, calibration=None, model=None, **changes):
    c = PlannerConfig(**({"steps": 3, "candidates": 4} | changes))
    return Planner(model or checkpoint(spec, calibration, horizon=8), c)


def echo(spec=None, calibration=None, **changes):
    """A planner whose network returns its input, so that a barely noised plan comes back."""
    model = checkpoint(spec, calibration, horizon=8)
    model = dataclasses.replace(model, denoiser=Denoiser(Echo(), model.config.model.noise))
    return planner(model=model, **changes)


def positions(plan):
    return plan.candidates[..., :2]


def near(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(got, np.broadcast_to(expected, np.shape(got)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("schedule", ["full", "pyramid", "autoregressive", "trapezoid"])
@pytest.mark.parametrize("step", ["ddim", "ddpm", "dpm_solver_2m"])
def test_shapes_start_and_goal(schedule, step):
    plan = planner(schedule=schedule, step=step).plan(PRESENT, GOAL, seed=0)
    assert plan.observations.shape == (8, 4) and plan.candidates.shape == (4, 8, 4) and plan.actions is None
    assert plan.tokens.shape == (4, 8, 2)
    near(plan.times, np.arange(8) * 0.1)
    near(positions(plan)[:, 0], PRESENT[:2])
    near(positions(plan)[:, -1], GOAL)
    assert np.abs(positions(plan)[:, 1:-1] - GOAL).max() > 0.01  # the middle is free
    assert plan.feasible.shape == plan.arrivals.shape == plan.errors.shape == plan.costs.shape == (4,)
    near(plan.observations, plan.candidates[plan.chosen], 0)
    assert plan.seconds > 0 and (plan.costs == 0).all()


@pytest.mark.parametrize("name, rows", [("full", 5), ("pyramid", 5 + 4), ("autoregressive", 40)])
def test_network_calls_are_counted(name, rows):
    p = planner(schedule=name, steps=5, uncertainty=0.5)
    counts = []
    p.model.denoiser.register_forward_hook(lambda *_: counts.append(1))
    assert p.plan(PRESENT, GOAL, seed=0).network_calls == len(counts) == rows + 6


def test_candidates_differ_and_their_number_can_be_given():
    plan = planner().plan(PRESENT, GOAL, candidates=3, seed=0)
    assert len(plan.candidates) == 3
    assert np.abs(positions(plan)[0] - positions(plan)[1]).max() > 1e-3


def test_arrivals_are_dealt_out_and_held():
    plan = planner().plan(PRESENT, GOAL, arrivals=[3, 5, 7], candidates=5, seed=0)
    for k, arrival in enumerate((3, 5, 7, 3, 5)):
        near(positions(plan)[k, arrival:], GOAL)
        assert np.abs(positions(plan)[k, arrival - 1] - GOAL).max() > 1e-3
        assert plan.arrivals[k] <= arrival
    far = planner(within=1e-3).plan(PRESENT, GOAL, arrivals=[3, 5, 7], candidates=5, seed=0)
    assert far.arrivals.tolist() == [3, 5, 7, 3, 5]


def test_the_earliest_feasible_plan_is_chosen():
    for arrivals in ([7, 3, 5], [5, 7, 3], [3, 7, 7]):
        plan = planner(within=1e-3, choice="earliest").plan(
            PRESENT, GOAL, arrivals=arrivals, candidates=3, seed=0
        )
        assert plan.feasible.all()
        assert plan.arrivals[plan.chosen] == 3
        assert len(plan.best()) == 4
        near(plan.best()[-1, :2], GOAL)


def test_what_the_data_never_do_is_infeasible():
    strict = planner(calibration={"self_error": 1e-9, "step": 10.0}).plan(PRESENT, GOAL, seed=0)
    assert not strict.feasible.any() and (strict.errors > 1).all()
    assert strict.chosen == strict.errors.argmin()
    jumps = planner(calibration={"self_error": 1e9, "step": 1e-3}).plan(PRESENT, GOAL, seed=0)
    assert not jumps.feasible.any()
    loose = planner(calibration={"self_error": 1e9, "step": 1e9}).plan(PRESENT, GOAL, seed=0)
    assert loose.feasible.all()


def test_goal_of_the_position_leaves_the_velocity_free():
    spec = state_spec()
    plan = planner(spec).plan(PRESENT, GOAL, arrivals=[5], seed=0)
    assert plan.tokens.shape == (4, 16, 2)
    near(plan.candidates[:, 0], PRESENT)
    near(plan.candidates[:, 5:, :2], GOAL)
    ends = plan.candidates[:, 5:, 2:]
    assert ends.std(0).min() > 1e-3  # not one known value
    assert np.abs(ends).min() > 1e-6


def test_actions_are_free_from_the_first_step():
    plan = planner(action_spec()).plan(PRESENT, GOAL, seed=0)
    assert plan.actions.shape == (8, 2)
    near(plan.candidates[:, 0, :2], PRESENT[:2])
    actions = plan.tokens[:, 1::2]
    assert (actions.std(0) > 1e-3).all()


def test_no_goal_and_default_goal():
    free = planner().plan(PRESENT, seed=0)
    assert positions(free)[:, -1].std() > 1e-3 and (free.arrivals == 8).all()
    p = Planner(checkpoint(horizon=8, goal=GOAL), PlannerConfig(steps=3, candidates=2))
    near(positions(p.plan(PRESENT, seed=0))[:, -1], GOAL)
    near(positions(p.plan(PRESENT, (0.0, 1.0), seed=0))[:, -1], (0, 1))
    guided = p.plan(PRESENT, cost=goal_cost({"x": 0.0}), seed=0)
    assert np.abs(positions(guided)[:, -1] - GOAL).max() > 1e-3  # a cost replaces the default goal


def test_history_is_kept_and_the_plan_starts_at_the_present():
    past = np.array([[0.0, 0.0, 0, 0], [0.1, -0.2, 0, 0], PRESENT])
    p = planner()
    rows = []
    plan = p.plan(past, GOAL, seed=0, callback=lambda m, x, x0: rows.append(x))
    assert plan.observations.shape == (6, 4) and plan.times.shape == (6,) and plan.tokens.shape == (4, 8, 2)
    near(positions(plan)[:, 0], PRESENT[:2])
    near(positions(plan)[:, -1], GOAL)
    for x in (*rows, plan.tokens):
        near(p.model.normalizer.unnormalize(x)[:, :3], past[:, :2])
    assert len(planner(within=1e-3).plan(past, GOAL, seed=0).best()) == 6


def test_doubtful_history_ends_clean_but_is_not_copied():
    p, seen = planner(), []
    p.model.denoiser.register_forward_pre_hook(lambda module, args: seen.append(args[1].clone()))
    plan = p.plan(PRESENT, GOAL, history_level=0.4, seed=0)
    assert (seen[0][:, 0] == 0.4).all() and (seen[0][:, -1] == 0).all()
    assert np.abs(positions(plan)[:, 0] - PRESENT[:2]).max() > 1e-3
    near(positions(plan)[:, -1], GOAL)


@pytest.mark.parametrize("horizon", [2, 5])
def test_shorter_horizon(horizon):
    plan = planner().plan(PRESENT, GOAL, horizon=horizon, seed=0)
    assert plan.observations.shape == (horizon, 4)
    near(positions(plan)[:, 0], PRESENT[:2])
    near(positions(plan)[:, -1], GOAL)


@pytest.mark.parametrize("step", ["ddim", "ddpm"])
def test_same_seed_same_plan(step):
    p = planner(step=step)
    a, b, c = (p.plan(PRESENT, GOAL, seed=s).candidates for s in (5, 5, 6))
    assert (a == b).all() and (a != c).any()
    d = p.plan(PRESENT, GOAL, generator=torch.Generator().manual_seed(5)).candidates
    assert (a == d).all()


def test_planning_without_a_seed_varies_but_leaves_the_callers_random_numbers_repeatable():
    p, after, plans = planner(), [], []
    for _ in range(2):
        torch.manual_seed(4)
        plans += [p.plan(PRESENT, GOAL).candidates for _ in range(2)]
        after.append(torch.rand(1).item())
    assert (plans[0] != plans[1]).any()
    assert after[0] == after[1]


def test_cost_guides_and_is_reported():
    cost = goal_cost({"x": 4.0, "y": 4.0}, 3.0)
    plain, pulled = (planner(guidance=g).plan(PRESENT, cost=cost, seed=0) for g in (0.0, 30.0))
    assert pulled.costs.mean() < plain.costs.mean() - 0.05
    assert pulled.chosen == pulled.costs.argmin()
    mcg = planner(guidance=30.0, futures=3).plan(PRESENT, cost=cost, seed=0)
    assert mcg.costs.mean() < plain.costs.mean() - 0.05
    near(positions(pulled)[:, 0], PRESENT[:2])


def test_goal_and_cost_together():
    plan = planner().plan(PRESENT, GOAL, cost=goal_cost({"x": 4.0}), seed=0)
    near(positions(plan)[:, -1], GOAL)
    assert (plan.costs > 0).all()


def test_callback_gets_every_call():
    p, rows = planner(schedule="full", steps=4), []
    plan = p.plan(PRESENT, GOAL, seed=0, callback=lambda m, x, x0: rows.append((m, x, x0)))
    assert [m for m, _, _ in rows] == [0, 1, 2, 3]
    assert (rows[-1][1] == plan.tokens).all() and rows[0][2].shape == plan.tokens.shape


def ramp(p, horizon=8):
    """A plan of the straight line (0.1 n, -0.2 n), as if `p` had made it."""
    line = np.stack([0.1 * np.arange(horizon), -0.2 * np.arange(horizon)], 1)
    x = torch.from_numpy(p.spec.pack({"position": line[None, :, None]}))
    plan = p.plan(np.zeros(4), (0.7, -1.4), candidates=1, seed=0)
    return dataclasses.replace(plan, tokens=p.model.normalizer.normalize(x), chosen=0), line


@pytest.mark.parametrize("elapsed, shift", [(0.0, 0.0), (0.1, 1.0), (0.25, 2.5), (5.0, 50.0)])
def test_warm_start_shifts_the_old_plan_by_the_time_elapsed(elapsed, shift):
    p = echo(warm_level=0.01, steps=1, schedule="full")
    old, _ = ramp(p)
    at = np.minimum(np.arange(8) + shift, 7)
    expected = np.stack([0.1 * at, -0.2 * at], 1)
    plan = p.plan([*expected[0], 0, 0], expected[-1], warm=old, elapsed=elapsed, seed=0)
    near(positions(plan), expected, 0.09)


def test_of_plans_in_one_batch_different_parts_are_over():
    p = echo(warm_level=0.01, steps=1, schedule="full")
    old = p.plan(PRESENT, GOAL, seed=0)
    both = p.plan_batch(
        np.stack([PRESENT, PRESENT])[:, None], GOAL, warm=[old, old], elapsed=[0.1, 0.25], seeds=[1, 2]
    )
    for plan, elapsed, seed in zip(both, (0.1, 0.25), (1, 2), strict=True):
        alone = p.plan(PRESENT, GOAL, warm=old, elapsed=elapsed, seed=seed)
        near(plan.observations, alone.observations)
    assert np.abs(both[0].observations - both[1].observations).max() > 0.01


def test_warm_start_lines_up_presents_when_the_history_has_grown():
    """The first plan of an episode has one row of history, the next ones have more."""
    p = echo(warm_level=0.01, steps=1, schedule="full")
    old, line = ramp(p)
    past = [[-0.2, 0.4, 0, 0], [-0.1, 0.2, 0, 0], [0, 0, 0, 0]]
    plan = p.plan(past, line[5], warm=old, elapsed=0.0, seed=0)
    near(positions(plan), line[:6], 0.09)


def test_warm_start_takes_the_same_calls_from_a_lower_level():
    p, seen = planner(warm_level=0.5), []
    first = p.plan(PRESENT, GOAL, seed=0)
    p.model.denoiser.register_forward_pre_hook(lambda module, args: seen.append(args[1].max().item()))
    second = p.plan(PRESENT, GOAL, warm=first, elapsed=0.1, seed=1)
    assert max(seen[:-6]) == 0.5  # the last 6 calls measure the model's own error
    assert second.network_calls == first.network_calls
    near(positions(second)[:, 0], PRESENT[:2])


def test_velocities_and_actions_follow_the_fitted_dynamics():
    """Positions of a known push are turned back into that push."""
    spec = position_spec(stride=2)
    model = checkpoint(spec, {"dynamics": DYNAMICS}, Normalizer.fit(spec, walks()), horizon=8)
    plan = planner(model=model).plan(PRESENT, GOAL, seed=0)
    path, v = plan.observations[:, :2], plan.observations[:, 2:]
    near(v[0], PRESENT[2:])
    near(v[1:-1], (path[2:] - path[:-2]) / 0.4)
    assert plan.actions.shape == (8, 2) and np.abs(plan.actions).max() <= 1
    for n in range(7):  # two env steps of v' = keep v + gain a
        after = v[n]
        for _ in range(2):
            after = 0.9 * after + 0.5 * plan.actions[n]
        inside = np.abs(plan.actions[n]) < 1
        near(after[inside], v[n + 1][inside], 1e-6)
    assert (np.abs(plan.actions) < 1).any()


def test_dynamics_without_friction():
    model = checkpoint(position_spec(stride=2), {"dynamics": DYNAMICS | {"keep": 1.0}}, horizon=8)
    plan = planner(model=model).plan(PRESENT, GOAL, seed=0)
    expected = np.clip(np.diff(plan.observations[:, 2:], axis=0) / (2 * 0.5), -1, 1)
    near(plan.actions[:-1], expected, 1e-6)


@pytest.mark.parametrize("stack", [2, 3])
def test_stacked_plan_lists_every_frame_from_the_present_on(stack):
    """Step 0 is the present, repeated; each later step adds `stack` env steps."""
    spec = position_spec(stack=stack, stride=stack)
    plan = planner(spec).plan(PRESENT, GOAL, seed=0)
    frames = 1 + 7 * stack
    assert len(plan.observations) == frames
    near(plan.times, np.arange(frames) * 0.1)
    near(positions(plan)[:, 0], PRESENT[:2])
    near(positions(plan)[:, -stack:], GOAL)
    late = planner(spec, within=1e-3).plan(PRESENT, GOAL, seed=0)
    near(late.best()[-1, :2], GOAL)
    past = planner(spec).plan(np.stack([PRESENT, PRESENT + 1, PRESENT + 2]), GOAL, seed=0)
    near(positions(past)[:, 0], PRESENT[:2] + 2)
    assert len(past.observations) == len(past.times) == 1 + 5 * stack


def call(**arguments):
    return lambda p: p.plan(**({"history": PRESENT, "goal": GOAL, "seed": 0} | arguments))


def again(elapsed=0.0, **changes):
    """A warm start from a plan of the same planner, spoilt by `changes`."""

    def go(p):
        old = dataclasses.replace(p.plan(PRESENT, GOAL, seed=0), **changes)
        p.plan(PRESENT, GOAL, warm=old, elapsed=elapsed, seed=0)

    return go


BAD = {
    "short history": (call(history=PRESENT[:3]), r"history of shape \(3,\), expected \(4,\)"),
    "history of three axes": (call(history=np.zeros((1, 2, 4))), r"history of shape \(1, 2, 4\)"),
    "nan history": (call(history=[0, np.nan, 0, 0]), r"history\[0, 1\] is nan; check the sensor"),
    "infinite past": (call(history=[PRESENT, [0, 0, np.inf, 0]]), r"history\[1, 2\] is inf"),
    "goal of wrong size": (call(goal=(1.0, 2.0, 3.0)), "expected 2 finite numbers: x, y"),
    "goal of wrong shape": (call(goal=[[1.0, 2.0]]), "expected 2 finite numbers: x, y"),
    "nan goal": (call(goal=(1.0, np.nan)), "expected 2 finite numbers: x, y"),
    "horizon too long": (call(horizon=9), "horizon=9 with 1 steps of history, expected 2 to 8"),
    "horizon too short": (call(horizon=1), "horizon=1 with 1 steps"),
    "history as long as the horizon": (call(history=np.zeros((8, 4))), "horizon=8 with 8 steps"),
    "no candidates": (call(candidates=0), "candidates=0, expected 1 or more"),
    "no arrivals": (call(arrivals=[]), r"arrivals \[\], expected steps from 1 to 7"),
    "arrival at the present": (call(arrivals=[0]), r"arrivals \[0\], expected steps from 1 to 7"),
    "arrival after the end": (call(arrivals=[3, 8]), r"arrivals \[3, 8\]"),
    "arrival after a short end": (call(horizon=4, arrivals=[4]), r"expected steps from 1 to 3"),
    "negative history level": (call(history_level=-0.1), "history_level=-0.1"),
    "history level above 1": (call(history_level=1.5), "history_level=1.5"),
    "nan history level": (call(history_level=math.nan), "history_level=nan"),
    "negative elapsed": (again(elapsed=-0.3), "elapsed=-0.3"),
    "nan elapsed": (again(elapsed=math.nan), "elapsed=nan"),
    "plan of another model": (again(tokens=torch.zeros(4, 8, 5)), "warm"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_a_value_error_that_changes_nothing(what):
    go, message = BAD[what]
    p = planner()
    before = p.plan(PRESENT, GOAL, seed=3).candidates
    weights = {k: v.clone() for k, v in p.model.denoiser.state_dict().items()}
    state, settings = torch.get_rng_state(), p.config
    with pytest.raises(ValueError, match=message):
        go(p)
    assert torch.equal(torch.get_rng_state(), state) and p.config is settings
    assert all(torch.equal(v, weights[k]) for k, v in p.model.denoiser.state_dict().items())
    assert (p.plan(PRESENT, GOAL, seed=3).candidates == before).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schedule": "pyramide"}, "did you mean 'pyramid'"),
        ({"step": "dddim"}, "did you mean 'ddim'"),
        ({"steps": 0}, "steps=0"),
        ({"candidates": 0}, "candidates=0"),
        ({"futures": 0}, "futures=0"),
        ({"within": 0.0}, "within=0.0"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"warm_level": 0.0}, "warm_level=0.0"),
        ({"warm_level": 1.5}, "warm_level=1.5"),
        ({"stream": -1}, "stream=-1"),
        ({"stream": 10, "roadmap": 50}, "leave one of the two out"),
        ({"uncertainty": -0.5}, "uncertainty=-0.5"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"guidance": math.nan}, "guidance=nan"),
    ],
)
def test_planner_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**change)


def test_inputs_are_not_written_to():
    history, target = PRESENT.copy(), np.array(GOAL)
    plan = planner().plan(history, target, seed=0)
    plan.observations[:], plan.candidates[:] = 9, 9
    assert (history == PRESENT).all() and (target == GOAL).all()


def test_a_guide_that_diverges_fails_loudly():
    with pytest.raises(FloatingPointError, match="guidance"):
        planner().plan(PRESENT, cost=lambda channels, mask: channels["x"].sum(-1) * math.inf, seed=0)


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_a_trained_checkpoint_plans_from_its_folder(tmp_path, kind):
    model = ModelConfig(kind, width=16, layers=1, heads=2)
    trainer = Trainer(config(goal=GOAL, model=model, steps=40), walks(), tmp_path / "run")
    list(trainer.run())
    p = Planner.load(tmp_path / "run", PlannerConfig(steps=4, candidates=3))
    plan = p.plan(PRESENT, seed=0)
    assert isinstance(plan, Plan) and plan.observations.shape == (6, 4) and plan.actions.shape == (6, 2)
    near(positions(plan)[:, 0], PRESENT[:2])
    near(positions(plan)[:, -1], GOAL)
    again = Planner.load(tmp_path / "run", PlannerConfig(steps=4, candidates=3)).plan(PRESENT, seed=0)
    assert (plan.candidates == again.candidates).all() and plan.chosen == again.chosen
    assert np.isfinite(plan.errors).all() and (plan.errors > 0).all()


def test_a_plans_seed_gives_it_again(tmp_path):
    planner = dfplan.load("maze2d-umaze")
    plan = planner.plan([3.0, 1.0, 0.0, 0.0], candidates=2)
    again = planner.plan([3.0, 1.0, 0.0, 0.0], candidates=2, seed=plan.seed)
    np.testing.assert_array_equal(again.candidates, plan.candidates)
    assert planner.plan([3.0, 1.0, 0.0, 0.0], candidates=2, generator=torch.Generator()).seed is None


def test_a_batch_of_starts_is_each_start_alone():
    p = planner(step="ddpm", candidates=3)
    starts, goals = (
        np.random.default_rng(0).normal(size=(5, 2, 4)),
        np.random.default_rng(1).normal(size=(5, 2)),
    )
    together = p.plan_batch(starts, goals, seeds=range(5))
    for b, plan in enumerate(together):
        alone = p.plan(starts[b], goals[b], seed=b)
        near(plan.candidates, alone.candidates)
        assert plan.chosen == alone.chosen and plan.seed == b and (plan.arrivals == alone.arrivals).all()
        near(plan.errors, alone.errors, 1e-2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: p.plan(np.zeros((2, 1, 4))), "several starts go to plan_batch"),
        (lambda p: p.plan_batch(np.zeros((8, 4))), r"B presents are observations\[:, None\]"),
        (lambda p: p.plan_batch(np.zeros((2, 1, 4)), seeds=[1]), "got 1 seeds for 2 starts"),
        (lambda p: p.plan(np.zeros(4), returns=3.0), "no token of the model is one of returns"),
    ],
)
def test_starts_and_histories_are_not_mixed_up(call, message):
    with pytest.raises(ValueError, match=message):
        call(planner())


def test_what_would_change_nothing_is_refused():
    with pytest.raises(ValueError, match="futures=4 without a cost"):
        planner(futures=4).plan(PRESENT, GOAL)


def test_one_candidate_is_not_weighed():
    plan = planner().plan(PRESENT, GOAL, candidates=1, seed=0)
    assert np.isnan(plan.errors).all() and plan.network_calls == 3
