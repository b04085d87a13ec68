"""The real policy: committed actions, the monitor, and the whole way through `deploy`."""

import io

import numpy as np
import pytest
import torch

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from robots import Robot, mapping

from dfplan.act import Actor
from dfplan.data import Episodes
from dfplan.deploy import CommittedPolicy, DryRun, FakeClock, History, Monitor, calibrate, deploy
from dfplan.deploy.robot.observe import tokens_of
from dfplan.policies import Imitation, ImitationConfig
from dfplan.train import checkpoint
from dfplan.train.imitate import imitation_config
from dfplan.train.trainer import Trainer


def demos(count=4, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(40) * 0.05
    rows, actions = [], []
    for _ in range(count):
        phase, lamp = rng.uniform(0, 6), rng.uniform(-1, 1)
        x = np.stack([0.3 * np.sin(t + phase), 0.3 * np.cos(t + phase), np.full(40, lamp)], 1)
        rows.append(x)
        actions.append(np.concatenate([x[1:, :2], x[-1:, :2]]))
    info = {
        "names": {"observations": ["a", "b", "on"], "actions": ["target a", "target b"]},
        "groups": {"arm": [0, 2], "lamp": [2, 3]}, "relative": {"target a": "a"},
    }  # fmt: skip
    arrays = {
        "observations": np.concatenate(rows).astype(np.float32),
        "actions": np.concatenate(actions).astype(np.float32),
    }
    return Episodes(arrays, np.arange(1, count + 1) * 40, 0.05, "waves", info)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = imitation_config(
        demos(), span=2, horizon=6, steps=60, batch=64, warmup=1, save_every=60, precision="fp32",
        model={"kind": "perceptron", "width": 48, "layers": 1, "carrier": ""}, levels={"memory": 3},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    for _ in Trainer(config, demos(), folder).run():
        pass
    return checkpoint.load(folder)


def history(now=12, steps=5):
    data = demos()
    rows = np.asarray(data.arrays["observations"][:40], np.float64)
    actions = np.asarray(data.arrays["actions"][:40], np.float64)
    return History(rows[now - steps + 1 : now + 1], ((),) * steps, actions[now - steps + 1 : now]), actions[
        now:
    ]


def test_without_committed_actions_it_is_the_policy(model):
    past, _ = history()
    plain = Imitation(model, ImitationConfig(memory=3, steps=3))
    plain.reset(0)
    steps = list(zip(past.observations, [None, *past.done], strict=True))
    for row, done in steps[:-1]:
        plain.act(row, executed=done)
    plain.generators = [torch.Generator().manual_seed(0)]
    wanted = plain.predict(steps[-1][0], executed=steps[-1][1])
    made = CommittedPolicy(Actor(model, ImitationConfig(memory=3, steps=3)))
    made.reset(0)
    got = made.decide(past, np.zeros((0, 2)))
    np.testing.assert_allclose(got[: len(wanted)], wanted, atol=1e-6)
    assert made.steps == 5 and made.ahead == 8 and len(got) == 8
    assert plain.actor.chunk == 4 and made.chunk == 2  # open: two tokens; on an arm one


@pytest.mark.parametrize("show", ["clean", "noised"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_is_committed_is_known_to_the_network_and_has_influence(model, count, show):
    past, actions = history()
    made = CommittedPolicy(Actor(model, ImitationConfig(memory=3)), show)
    made.reset(0)
    one = made.decide(past, actions[:count])
    made.reset(0)
    other = made.decide(past, actions[:count] + 0.2)
    assert len(one) == 8 - count and np.abs(one - other).max() > 1e-4


def test_too_many_committed_actions_and_streaming_are_refused(model):
    past, actions = history()
    with pytest.raises(ValueError, match="longer horizon"):
        CommittedPolicy(Actor(model, ImitationConfig(memory=3))).decide(past, actions[:8])
    with pytest.raises(ValueError, match="stream=False"):
        CommittedPolicy(Actor(model, ImitationConfig(stream=True)))


def test_policy_and_mapping_must_fit_together(model):
    spec = model.config.spec
    assert tokens_of(mapping(), spec) == {"arm": ("arm",), "lamp": ("lamp",)}
    with pytest.raises(ValueError, match=r"trained at 0\.05"):
        tokens_of(mapping(policy={"dt": 0.1}), spec)
    swapped = mapping().policy.observation
    from dataclasses import replace

    m = mapping()
    bad = replace(m, policy=replace(m.policy, observation=(swapped[1], swapped[0], swapped[2])))
    with pytest.raises(ValueError, match="column 0 of the observation is 'b'"):
        tokens_of(bad, spec)


def test_the_monitor_knows_a_jump_and_keeps_quiet_on_demonstrations(model, tmp_path):
    policy = Actor(model)
    monitor = calibrate(policy, demos(30, seed=1), every=4)
    monitor = Monitor.from_json(monitor.to_json())
    past, _ = history()
    assert monitor.doubtful(monitor.scores(policy, past)) == ()
    rows = past.observations.copy()
    rows[-1, 2] += 3.0
    assert "lamp" in monitor.doubtful(monitor.scores(policy, History(rows, past.doubtful, past.done)))
    present = Actor(model, ImitationConfig(memory=1))  # what it looks at is not what the policy acts on
    assert monitor.scores(present, past) == monitor.scores(policy, past)
    assert CommittedPolicy(present).steps == CommittedPolicy(policy).steps > 1
    with pytest.raises(ValueError, match="30 held-out"):
        calibrate(policy, demos(3))
    with pytest.raises(ValueError, match="not a monitor"):
        Monitor.from_json("{}")


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_deploy_runs_arms_and_reports(model, delay):
    clock, out = FakeClock(), io.StringIO()
    robot = Robot(clock)
    report = deploy(
        Imitation(model),
        mapping(),
        robot,
        arm=True,
        seconds=3.0,
        out=out,
        worker="inline",
        delay=delay,
        clock=clock,
    )
    assert [c.new for c in report.changes][:2] == ["READY", "RUNNING"] and report.status.state == "DISARMED"
    assert report.status.sent > 80 and report.slips == 0 and "RUNNING  100 Hz" in out.getvalue()
    assert not robot.up


def test_deploy_dry_run_in_real_time_with_a_thread(model):
    out = io.StringIO()
    report = deploy(Imitation(model), mapping(), DryRun(mapping(), out=out, every=0.1), arm=True, seconds=0.6)
    assert "RUNNING: armed" in out.getvalue() and "points to" in out.getvalue()
    assert report.status.inference[0] > 0


def test_a_process_needs_a_name_and_unknown_settings_are_refused(model):
    robot = Robot(FakeClock())
    with pytest.raises(ValueError, match="loads the policy itself"):
        deploy(Imitation(model), mapping(), robot, worker="process")
    with pytest.raises(ValueError, match="did you mean 'thread'"):
        deploy(Imitation(model), mapping(), robot, worker="tread")
