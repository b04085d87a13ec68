"""Record, train, deploy with an arm that ships, without a robot."""

import io

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")

from dfplan.deploy import FakeClock, ModelArm, body, deploy, load_mapping, move, record
from dfplan.deploy.robot.virtual import start_near_home
from dfplan.policies import Imitation
from dfplan.train.imitate import imitation_config
from dfplan.train.trainer import Trainer


class Teacher:
    """The control of a recording: brings the arm from postures nearby to its home, again and again."""

    def __init__(self, mapping, arm):
        self.mapping, self.arm, self.robot, self.seed, self.next = mapping, arm, body(mapping.robot), 0, 0.0

    def __call__(self, recording):
        now = self.arm.now()
        if now < self.next:
            return ""
        if recording:
            self.go(start_near_home(self.mapping, self.seed))
            return "stop"
        self.seed += 1
        self.go(self.robot.home)
        return "start"

    def go(self, goal):
        at = self.arm.read()[0].values["position"]
        motion = move(self.robot.limits, at, goal, share=0.8, stamp=self.arm.now())
        self.arm.send(motion)
        self.next = self.arm.now() + motion.times[-1] + 0.5


def test_a_policy_recorded_and_trained_on_a_simulated_ur5e_brings_it_home(tmp_path):
    mapping, clock = load_mapping("ur5e"), FakeClock()
    arm, robot = ModelArm(mapping, clock), body(mapping.robot)
    demos = record(mapping, arm, control=Teacher(mapping, arm), episodes=12, clock=clock, tell=lambda _: None)
    assert demos.info["names"]["actions"][0] == "shoulder_pan_joint target"
    config = imitation_config(
        demos, steps=400, batch=128, warmup=10, save_every=400, precision="fp32",
        model={"kind": "perceptron", "width": 128, "layers": 1, "carrier": ""},
    )  # fmt: skip
    for _ in Trainer(config, demos, tmp_path / "checkpoint").run():
        pass
    start = start_near_home(mapping, 90001)
    arm = ModelArm(mapping, clock, start)
    report = deploy(
        Imitation.load(tmp_path), mapping, arm, arm=True, seconds=5, clock=clock, worker="inline", out=io.StringIO()
    )  # fmt: skip
    assert [c.new for c in report.changes] == ["READY", "RUNNING", "HOLD", "DISARMED"]
    before, after = (np.linalg.norm(q - robot.home) for q in (start, arm.read()[0].values["position"]))
    assert after < 0.4 * before, (before, after, report.status.refusals)
