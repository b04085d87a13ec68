"""A run that is kept, and played again: nothing differs unless something was changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from robots import Robot, Sines, loop

from dfplan import envs
from dfplan.cli import main
from dfplan.deploy import deploy
from dfplan.deploy.recording.run_log import RunLog
from dfplan.deploy.replaying import KeptRun, decide_of, replay
from dfplan.deploy.run import run
from dfplan.tools.clock import FakeClock


def kept(folder, seconds=3.0, delay=0.08, robot=None, events=(), **changes):
    """A run of the tests' robot, kept; `events`: (time, function of the robot and the loop)."""
    clock = FakeClock()
    robot = robot or Robot(clock)
    robot.clock = clock
    made, robot, decide = loop(delay, robot=robot, clock=clock, **changes)
    RunLog(folder, made)
    left = list(events)

    def happen():
        while left and clock.now() >= left[0][0]:
            left.pop(0)[1](robot, made)
        return False

    report = run(made, True, seconds, happen)
    return report, robot, decide


def test_nothing_differs_where_nothing_was_changed(tmp_path):
    report, robot, decide = kept(tmp_path / "run")
    again = KeptRun.load(tmp_path / "run")
    found = replay(again, Sines())
    assert (found.answers, found.told, found.states) == (0, 0, 0) and np.isnan(found.first)
    assert found.decisions == len(again.answers()) > 5 and found.ticks > 300
    assert len(decide.requests) - found.decisions in (0, 1)  # the run may end before the last is answered
    assert again.tables["tick/sent"][-1] == report.status.sent == len(robot.sent)
    states = [
        t for t, k in zip(again.tables["event/text"], again.tables["event/kind"], strict=True) if k == "state"
    ]
    assert states == [f"{c.new}: {c.reason}" for c in report.changes]
    joints = again.tables["read:0/position"]
    assert again.tables["group/names"][0].split("\n") == ["a", "b", "gripper"]
    assert len(joints) == len(again.tables["tick/now"]) and np.ptp(joints[:, 0]) > 0.2


def test_another_policy_and_other_limits_are_seen(tmp_path):
    kept(tmp_path / "run")
    again = KeptRun.load(tmp_path / "run")

    class Other(Sines):
        def action(self, step):
            return super().action(step) + (0.01 if step > 20 else 0)

    found = replay(again, Other())
    assert found.answers == pytest.approx(0.01) and found.told == 0 and 0.5 < found.first < 1.5
    file = tmp_path / "run" / "mapping.yaml"
    file.write_text(file.read_text().replace("velocity: 1.5", "velocity: 0.1"))
    found = replay(KeptRun.load(tmp_path / "run"), Sines())
    assert found.answers == 0 and found.told > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_run_with_losses_stops_and_a_silent_robot_is_played_again_exactly(tmp_path, seed):
    rng = np.random.default_rng(seed)

    class Losing(Robot):
        def send(self, trajectory):
            return bool(rng.random() > 0.3) and super().send(trajectory)

    def reconnect(robot, made):
        robot.up, robot.number = True, robot.number + 1

    events = [
        (1.0, lambda robot, made: made.machine.stop()), (1.6, lambda robot, made: made.arm()),
        (2.1, lambda robot, made: setattr(robot, "alive", False)), (2.5, lambda robot, made: setattr(robot, "alive", True)),
        (3.1, lambda robot, made: setattr(robot, "up", False)), (3.3, reconnect), (4.2, lambda robot, made: made.arm()),
        (4.6, lambda robot, made: made.clock.advance(0.07)),
    ]  # fmt: skip
    report, _, _ = kept(tmp_path / "run", 6.0, robot=Losing(None), events=events)
    assert report.dropped > 10 and len(report.changes) > 6
    found = replay(KeptRun.load(tmp_path / "run"), Sines())
    assert (found.answers, found.told, found.states) == (0, 0, 0) and found.ticks > 500


def test_what_was_refused_is_kept(tmp_path):
    class Leaping(Sines):
        def action(self, step):
            return super().action(step) + (5.0 if step == 20 else 0)

    report, _, _ = kept(tmp_path / "run", decide=Leaping())
    t = KeptRun.load(tmp_path / "run").tables
    counts = {}
    for kind, text, count in zip(t["event/kind"], t["event/text"], t["event/count"], strict=True):
        if kind == "refused":
            counts[str(text)] = counts.get(str(text), 0) + count
    assert counts == dict(report.status.refusals) and counts["jump"] > 0


def test_a_long_run_is_written_in_parts_while_it_goes_on_and_a_crash_leaves_them(tmp_path):
    made, _, _ = loop()
    log = RunLog(tmp_path / "run", made)
    made.connect()
    for _ in range(2500):
        made.tick()
        made.clock.advance(made.dt)
    assert max(map(len, log._rows.values())) <= 1500  # memory is bounded
    log.close()  # as `atexit` does
    log.close()
    assert sorted(p.name for p in (tmp_path / "run").glob("part*")) == [f"part-{i:05d}.npz" for i in range(3)]
    (tmp_path / "run" / "part-00001.npz").rename(tmp_path / "away")
    with pytest.raises(ValueError, match=r"part-00001.npz is missing"):
        KeptRun.load(tmp_path / "run")
    (tmp_path / "away").rename(tmp_path / "run" / "part-00001.npz")
    (tmp_path / "run" / "part-00002.npz").unlink()  # what a process that is killed had not written
    found = replay(KeptRun.load(tmp_path / "run"), Sines())
    assert found.ticks == 2000 and found.states == 0


CRASH = """
from pathlib import Path
from robots import loop
from dfplan.deploy import RunLog
made, _, _ = loop()
RunLog(Path("run"), made)
made.connect()
for _ in range(300):
    made.tick()
    made.clock.advance(made.dt)
raise RuntimeError("crash")
"""


def test_a_program_that_crashes_leaves_what_happened_before(tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", CRASH], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 1 and "RuntimeError: crash" in done.stderr
    assert replay(KeptRun.load(tmp_path / "run")).ticks == 300


def test_what_cannot_be_kept_or_played_is_refused(tmp_path):
    made, _, _ = loop()
    (tmp_path / "old").mkdir()
    with pytest.raises(FileExistsError, match="not overwritten"):
        RunLog(tmp_path / "old", made)
    with pytest.raises(ValueError, match="holds no run"):
        KeptRun.load(tmp_path / "old")
    RunLog(tmp_path / "new", made).close()
    assert json.loads((tmp_path / "new" / "about.json").read_text())["pace"]["chunk"] == 4


def test_a_shipped_policy_answers_the_same_again_and_the_command_draws_it(tmp_path, monkeypatch, capsys):
    env, clock, folder = envs.make("arm-reach", action="ee").unwrapped, FakeClock(), tmp_path / "run"
    arm = envs.SimArm(env, clock)
    deploy(
        "arm-reach", envs.arm_mapping(env), arm, arm=True, seconds=2.5, clock=clock, worker="inline",
        delay=0.05, keep=folder,
    )  # fmt: skip
    monkeypatch.setattr("sys.argv", ["dfplan", "replay", str(folder)])
    main()
    said = capsys.readouterr().out
    assert "the farthest setpoint 0 away, another state at 0" in said and "first different" not in said
    assert "decisions, the farthest action 0 away" in said and (folder / "run.png").stat().st_size > 20_000


def test_a_run_in_real_time_is_kept_by_the_command(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    words = "deploy --policy arm-reach --transport sim --task arm-reach --arm --seconds 2 --worker thread"
    monkeypatch.setattr("sys.argv", ["dfplan", *words.split(), "--record", str(folder)])
    main()
    run = KeptRun.load(folder)
    found = replay(run, decide_of(run))
    assert run.asked.policy == "arm-reach" and found.ticks > 20 and found.answers < 1e-4
    assert f"dfplan replay {folder}" in capsys.readouterr().out
