"""`dfplan deploy`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dfplan.act import ImitationConfig
from dfplan.cli.arm.link import LINK, Kind, Link
from dfplan.cli.common import CPU, FLAT, Compute, app
from dfplan.deploy.loop import committed
from dfplan.runtime import exported

if TYPE_CHECKING:
    from dfplan.deploy import Remote

ACT = ImitationConfig(**committed.ACT)


@dataclass(frozen=True)
class Brain:
    """What decides.

    Attributes:
        policy: shipped model, run folder, checkpoint folder, or folder of `dfplan export`; with --server the name that it must
            have there.
        server: address of a policy server, see docs/server.md.
        token_file: holds the secret shared with the server; the environment variable DFPLAN_TOKEN if left out.
        ca: certificate (PEM) that a server at wss:// must show, or of who signed it; those of the system if left out.
        worker: where the network runs, without --server.
        runtime: what runs it: onnx what `dfplan export` wrote, torch all others; auto: what the policy needs.
    """

    policy: str | None = None
    server: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    worker: Literal["process", "thread"] = "process"
    runtime: Literal["auto", "torch", "onnx"] = "auto"

    def find(self) -> tuple[str | Remote, str]:
        """A policy here or one on a server, and where it runs; ValueError where neither was given."""
        from dfplan.deploy import Remote, read_token

        if self.server is not None:
            token = read_token(self.token_file)
            return Remote(self.server, token, self.policy or "", ca=self.ca), "thread"
        if self.policy is None:
            raise ValueError(
                "got neither --policy nor --server; give a policy, or the address of a policy server"
            )
        if self.runtime != "auto" and (self.runtime == "onnx") != exported(self.policy):
            raise ValueError(
                f"got --runtime {self.runtime} with --policy {self.policy}; onnx runs a folder that `dfplan export "
                "MODEL --out FOLDER` wrote, and torch all other models"
            )
        return self.policy, self.worker

    def ready(self, compute: Compute) -> None:
        """Set the threads where torch runs the network here."""
        if self.server is None and self.policy is not None and exported(self.policy):
            if compute != CPU:
                raise ValueError(
                    f"got {compute} with an exported policy, which runs on one thread of the CPU"
                )
            return
        with contextlib.suppress(ModuleNotFoundError):  # without torch, who loads a policy says what to do
            compute.use()


@dataclass(frozen=True)
class Run:
    """What is run.

    Attributes:
        inside: of a dry-run: where its readings come from; the arm there is not moved. Made up if left out.
        arm: arm once when the robot is ready; otherwise someone asks for it on the robot's side.
        seconds: how long; until Ctrl-C if left out.
        record: new folder to keep the run in, for `dfplan replay`.
    """

    inside: Literal["ros2", "rosbridge"] | None = None
    arm: bool = False
    seconds: float | None = None
    record: Path | None = None


@dataclass(frozen=True)
class Watch:
    """What is distrusted, and what follows.

    Attributes:
        monitor: file of `dfplan monitor`: what it distrusts is left out of decisions.
        slow: share of the speed while the monitor distrusts anything; 0 holds the arm.
        hold_on: tokens whose distrust holds the arm.
    """

    monitor: Path | None = None
    slow: float = 1.0
    hold_on: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """For `dfplan.deploy.deploy`."""
        from dfplan.deploy import Monitor

        found = None if self.monitor is None else Monitor.from_json(self.monitor.read_text())
        return {"monitor": found, "slow": self.slow, "hold_on": self.hold_on}


BRAIN, RUN, WATCH = Brain(), Run(), Watch()


@app.command(name="deploy")
def deploy(
    transport: Kind,
    brain: Annotated[Brain, FLAT] = BRAIN,
    link: Annotated[Link, FLAT] = LINK,
    run: Annotated[Run, FLAT] = RUN,
    watch: Annotated[Watch, FLAT] = WATCH,
    act: ImitationConfig = ACT,
    compute: Annotated[Compute, FLAT] = CPU,
) -> None:
    """Drive an arm with a trained policy, behind the safety filter.

    dfplan deploy --policy arm-pick --transport sim --arm --seconds 20 (the simulated arm, in this process)

    dfplan deploy --policy runs/mine --transport sim --robot ur5e --arm --seconds 20 (an arm that is simulated from its URDF)

    dfplan deploy --policy runs/mine --transport dry-run --robot arm.yaml --seconds 20 (prints what would be sent)

    dfplan deploy --policy runs/mine --transport dry-run --inside ros2 --robot arm.yaml (the same, with the arm's own readings)

    dfplan deploy --policy runs/mine --transport ros2 --robot arm.yaml (armed by the service ~/arm)

    dfplan deploy --policy runs/mine --transport rosbridge --robot arm.yaml --host robot.local --port 9090

    dfplan deploy --policy runs/mine --transport ros2 --robot arm.yaml --record runs/monday (see `dfplan replay`)

    dfplan deploy --policy exported --transport ros2 --robot arm.yaml (without torch, see `dfplan export`)

    dfplan deploy --server ws://workstation:8765 --transport ros2 --robot arm.yaml (the network runs in `dfplan serve`)

    Args:
        transport: how the arm is reached.
        brain: what decides.
        link: which arm, and where.
        run: what is run.
        watch: what is distrusted.
        act: how the policy looks back and acts.
        compute: where the network runs, without --server.
    """
    from dfplan.deploy import DryRun
    from dfplan.deploy import deploy as drive
    from dfplan.deploy.run import summary

    brain.ready(compute)
    if run.inside is not None and transport != "dry-run":
        raise ValueError(
            f"got --inside {run.inside} with --transport {transport}; it is for --transport dry-run"
        )
    settings = watch.settings()
    policy, where = brain.find()
    mapping, arm = link.connect(run.inside or transport)
    if run.inside is not None:
        arm = DryRun(mapping, arm)
    made_up = transport == "dry-run" and run.inside is None  # such readings are like nothing
    report = drive(
        policy, mapping, arm, arm=run.arm, seconds=run.seconds, config=act, worker=where,
        device=compute.device, keep=run.record, sure=link.sure or made_up, **settings,
    )  # fmt: skip
    for line in summary(report):
        print(f"  {line}")
    if run.record is not None:
        print(f"  kept: {run.record}; look at it with: dfplan replay {run.record}")
    if hasattr(arm, "success"):
        print(f"  success {arm.success}")
