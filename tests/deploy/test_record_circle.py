"""Record, train, deploy: the scripted teleoperator, replayed actions, a trained policy, the command."""

import io
import os
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan.cli.arm.record import _Keys
from dfplan.data import load
from dfplan.deploy import DryRun, FakeClock, Loop, body, deploy, record
from dfplan.deploy.loop.driver import Driver
from dfplan.deploy.loop.inference import Answer
from dfplan.deploy.loop.workers import DelayedWorker
from dfplan.deploy.robot.observe import tokens_of
from dfplan.envs import ScriptedTeleoperator, SimArm, arm_mapping
from dfplan.envs.arm import ArmPickEnv, ArmReachEnv
from dfplan.policies import Imitation
from dfplan.train.imitate import imitation_config
from dfplan.train.trainer import Trainer


def scripted(make, episodes, action, out=None, keep=None):
    env = make(action=action)
    clock = FakeClock()
    arm = SimArm(env, clock, record=True)
    m = arm_mapping(env)
    driver = ScriptedTeleoperator(arm, m, seed=1)

    def control(recording):
        asked = driver(recording)
        if asked == "stop" and keep is not None:
            keep.append(np.stack([row for row, _ in arm.commands]))
        return asked

    made = record(
        m,
        arm,
        out,
        control=control,
        commands=driver.commands,
        episodes=episodes,
        clock=clock,
        tell=lambda _: None,
    )
    return made, m, driver


def test_the_recorded_action_is_the_target_that_the_arm_was_driven_to_one_step_later():
    targets = []
    made, _, _ = scripted(ArmPickEnv, 2, "joint", keep=targets)
    for begin, end, rows in zip(made.starts, made.ends, targets, strict=True):
        actions = made.arrays["actions"][begin:end]
        np.testing.assert_allclose(actions, rows[19::20][: len(actions)], atol=1e-5)


class Replay:
    """Decides what was recorded."""

    stride, steps, ahead, chunk = 4, 3, 16, 8

    def __init__(self, actions):
        self.actions = np.concatenate([actions, np.repeat(actions[-1:], 40, 0)]).astype(np.float64)

    def __call__(self, request):
        first = request.step + len(request.committed)
        rows = self.actions[first : request.step + self.ahead]
        return Answer(first, rows, rows, 0.0, run=request.run)


def test_recorded_actions_do_the_task_again_when_they_are_deployed():
    made, m, driver = scripted(ArmReachEnv, 1, "joint")
    arm, clock = driver.arm, driver.arm.clock
    arm.reset(int(np.random.SeedSequence([1, driver.attempts - 1]).generate_state(2)[0]))
    decide = Replay(made.arrays["actions"])
    worker = DelayedWorker(decide, clock, 0.0)
    drive = Driver(worker, decide, 0.05, {s.name: () for s in m.policy.observation}, 8)
    loop = Loop(m, body(m.robot), arm, worker, drive, clock)
    loop.connect()
    end = clock.now() + 15.0

    def over():
        if loop.machine.state == "READY":
            loop.arm()
        return clock.now() > end or arm.success

    loop.run(over)
    assert arm.success, loop.status()


@pytest.mark.parametrize("name", ["demos.hdf5", "demos"])
def test_a_policy_trained_on_the_recording_deploys_with_the_same_mapping(tmp_path, name):
    made, m, _ = scripted(ArmReachEnv, 2, "ee", tmp_path / name)
    data = load(tmp_path / name)
    settings = {
        "steps": 3,
        "batch": 8,
        "warmup": 1,
        "save_every": 3,
        "precision": "fp32",
        "model": {"width": 16},
    }
    for _ in Trainer(imitation_config(data, **settings), data, tmp_path / "run" / "checkpoint").run():
        pass
    policy = Imitation.load(tmp_path / "run")
    assert policy.spec.observation_size == made.arrays["observations"].shape[1]
    tokens = tokens_of(m, policy.spec)
    assert tokens["ee"] == ("ee",) and policy.spec.action_size == 10
    clock, out = FakeClock(), io.StringIO()
    robot = DryRun(m, SimArm(ArmReachEnv(action="ee"), clock), clock, out)
    report = deploy(policy, m, robot, arm=True, seconds=1.5, clock=clock, worker="inline", out=io.StringIO())
    assert [c.new for c in report.changes][:2] == ["READY", "RUNNING"], report.changes
    sensors = list(m.policy.observation)
    other = replace(m, policy=replace(m.policy, observation=(sensors[3], *sensors[:3], *sensors[4:])))
    with pytest.raises(ValueError, match="column 0 of the observation is 'ee_x' in the mapping"):
        tokens_of(other, policy.spec)


# --- the command


def test_the_command_goes_round_the_circle(dfplan, tmp_path):  # noqa: F811
    words = ["record", "--transport", "sim", "--task", "arm-reach", "--out", "demos.hdf5"]
    got = dfplan(*words, "--episodes", 1)
    assert got.code == 0 and "commanded q1" in got.out and "done: demos.hdf5, 1 episodes" in got.out, got.err
    assert load("demos.hdf5").info["relative"]["target_x"] == "ee_x"
    again = dfplan(*words, "--episodes", 1, "--resume", "--seed", 1, "--relative", "obstacle_z_low=ee_z")
    assert again.code == 0 and len(load("demos.hdf5")) == 2, again.err
    tiny = [
        "steps=2",
        "save_every=1",
        "log_every=1",
        "warmup=1",
        "batch=8",
        "precision=fp32",
        "model.width=16",
    ]
    done = dfplan("train", "imitation", "--data", "demos.hdf5", "--out", "run", "--set", *tiny)
    assert done.code == 0, done.err
    words = ["--transport", "sim", "--task", "arm-reach", "--arm", "--seconds", 2, "--worker", "thread"]
    ran = dfplan("deploy", "--policy", "run", *words)
    assert ran.code == 0 and "armed" in ran.out, ran.err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--transport", "sim"], "got no --episodes"),
        (["--transport", "sim", "--episodes", 0], "episodes=0"),
        (["--transport", "sim", "--episodes", 1, "--seconds", 0], "seconds=0"),
        (["--transport", "ros2"], "got no --robot"),
        (["--from-bag", "day"], "got no --robot"),
        ([], "give one of them"),
        (["--transport", "sim", "--from-bag", "day"], "give one of them"),
        (["--transport", "sim", "--episodes", 1, "--relative", "target_xx=ee"], "did you mean 'ee_"),
        (["--from-bag", "day", "--robot", "arm.yaml"], "arm.yaml is no file"),
    ],
)
def test_refusals_of_the_command_are_one_line(dfplan, words, message):  # noqa: F811
    got = dfplan("record", "--out", "demos.hdf5", *words)
    assert got.code == 2 and message in got.err and len(got.err.strip().splitlines()) == 1, got.err


def test_enter_begins_and_ends_and_other_keys_are_explained(monkeypatch, capsys):
    reader, writer = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(reader))
    keys, running, seen = _Keys(), False, []
    with os.fdopen(writer, "w") as typed:
        for line in ("", "", "x", "", "d", "q"):
            typed.write(line + "\n")
            typed.flush()
            deadline = time.monotonic() + 20
            while keys._lines.empty() and time.monotonic() < deadline:
                time.sleep(0.005)
            seen.append(keys(running))
            running = {"start": True, "stop": False, "discard": False}.get(seen[-1], running)
    assert seen == ["start", "stop", "", "start", "discard", "quit"] and keys(False) in ("", "quit")
    assert capsys.readouterr().out.count("begin an episode") == 2
