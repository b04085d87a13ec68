"""`dfplan deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dfplan.cli.common import ARM_TASKS, app, use_device
from dfplan.deploy.loop import committed
from dfplan.policies import ImitationConfig

if TYPE_CHECKING:
    from dfplan.deploy import Mapping, Remote, Transport

ACT = ImitationConfig(**committed.ACT)
Kind = Literal["ros2", "rosbridge", "sim", "dry-run"]


@app.command(name="deploy")
def deploy(
    transport: Kind,
    policy: str | None = None,
    server: str | None = None,
    token_file: Path | None = None,
    robot: Path | None = None,
    inside: Literal["ros2", "rosbridge"] | None = None,
    task: str = "arm-pick",
    arm: bool = False,
    seconds: float | None = None,
    seed: int = 0,
    host: str = "127.0.0.1",
    port: int = 9090,
    ros1: bool = False,
    sim_time: bool = False,
    worker: Literal["process", "thread"] = "process",
    monitor: Path | None = None,
    slow: float = 1.0,
    hold_on: tuple[str, ...] = (),
    act: ImitationConfig = ACT,
) -> None:
    """Drive an arm with a trained policy, behind the safety filter.

    dfplan deploy --policy arm-pick --transport sim --arm --seconds 20 (the simulated arm, in this process)

    dfplan deploy --policy runs/mine --transport dry-run --robot arm.yaml --seconds 20 (prints what would be sent)

    dfplan deploy --policy runs/mine --transport dry-run --inside ros2 --robot arm.yaml (the same, with the arm's own readings)

    dfplan deploy --policy runs/mine --transport ros2 --robot arm.yaml (armed by the service ~/arm)

    dfplan deploy --policy runs/mine --transport rosbridge --robot arm.yaml --host robot.local --port 9090

    dfplan deploy --server ws://workstation:8765 --transport ros2 --robot arm.yaml (the network runs in `dfplan serve`)

    Args:
        transport: how the arm is reached.
        policy: shipped model, run folder or checkpoint folder; with --server the name that it must have there.
        server: address of a policy server, see docs/server.md.
        token_file: holds the secret shared with the server; the environment variable DFPLAN_TOKEN if left out.
        robot: mapping file, see docs/deploy.md; or arm-pick or arm-reach, for the simulated arm and its ROS node.
        inside: of a dry-run: where its readings come from; the arm there is not moved. Made up if left out.
        task: the simulated arm's task (sim, and dry-run without --robot).
        arm: arm once when the robot is ready; otherwise someone asks for it on the robot's side.
        seconds: how long; until Ctrl-C if left out.
        seed: of the simulated arm's start.
        host: of the rosbridge server.
        port: of the rosbridge server.
        ros1: the server is one of ROS 1.
        sim_time: take the time from /clock.
        worker: where the network runs, without --server.
        monitor: file of `dfplan monitor`: what it distrusts is left out of decisions.
        slow: share of the speed while the monitor distrusts anything; 0 holds the arm.
        hold_on: tokens whose distrust holds the arm.
        act: how the policy looks back and acts.
    """
    from dfplan.deploy import DryRun, Monitor
    from dfplan.deploy import deploy as run
    from dfplan.deploy.loop.run import summary

    use_device("cpu", 1)
    if inside is not None and transport != "dry-run":
        raise ValueError(f"got --inside {inside} with --transport {transport}; it is for --transport dry-run")
    watch = None if monitor is None else Monitor.from_json(monitor.read_text())
    brain = _policy(policy, server, token_file)
    kind = inside or transport
    mapping, link = connect(kind, robot, task, seed, host, port, ros1, sim_time)
    if inside is not None:
        link = DryRun(mapping, link)
    where = worker if server is None else "thread"
    pace: dict[str, Any] = {"monitor": watch, "slow": slow, "hold_on": hold_on}
    report = run(brain, mapping, link, arm=arm, seconds=seconds, config=act, worker=where, **pace)
    for line in summary(report):
        print(f"  {line}")
    if transport == "sim":
        print(f"  success {getattr(link, 'success', None)}")


def _policy(policy: str | None, server: str | None, token_file: Path | None) -> str | Remote:
    """What decides: a policy here, or one on a server."""
    from dfplan.deploy import Remote, read_token

    if server is not None:
        return Remote(server, read_token(token_file), policy or "")
    if policy is None:
        raise ValueError(
            "got neither --policy nor --server; give a policy, or the address of a policy server"
        )
    return policy


def connect(
    kind: Kind, robot: Path | None, task: str, seed: int, host: str, port: int, ros1: bool, sim_time: bool
) -> tuple[Mapping, Transport]:
    """The mapping and the transport to the arm, not yet open."""
    from dfplan.deploy import DryRun, load_mapping
    from dfplan.envs import SimArm, arm_mapping

    if robot is None and kind in ("ros2", "rosbridge"):
        raise ValueError(
            f"got no --robot with --transport {kind}; give the robot's mapping file, see docs/deploy.md"
        )
    mapping = None
    if str(robot) in ARM_TASKS:
        task = str(robot)
        mapping = arm_mapping(_simulated(task))
    elif robot is not None:
        mapping = load_mapping(robot)
    if kind == "ros2":
        from dfplan.deploy.ros.ros2 import ros2_transport

        assert mapping is not None
        return mapping, ros2_transport(mapping, use_sim_time=sim_time)
    if kind == "rosbridge":
        from dfplan.deploy.ros.rosbridge import rosbridge_transport

        assert mapping is not None
        return mapping, rosbridge_transport(mapping, host=host, port=port, ros1=ros1, use_sim_time=sim_time)
    if kind == "dry-run" and mapping is not None:
        return mapping, DryRun(mapping)
    env = _simulated(task)
    arm = SimArm(env)
    arm.reset(seed)
    mapping = mapping or arm_mapping(env)
    return mapping, arm if kind == "sim" else DryRun(mapping, arm)


def _simulated(task: str) -> Any:
    """The environment of a task, for an arm that is driven without end."""
    from dfplan import envs

    return envs.make(task, action="ee", max_episode_steps=10**9).unwrapped
