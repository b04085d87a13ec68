"""One arm has one master: who else commands it is named, and a stop reaches every controller."""

from __future__ import annotations

import json
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from robots import Robot, loop, play

from dfplan.deploy.loop.machine import DISARMED, FAULT, HOLD, READY, RUNNING, Machine
from dfplan.deploy.robot.tables import Command
from dfplan.deploy.robot.transport import JointTrajectory, Shared
from dfplan.deploy.ros import messages as ros
from dfplan.deploy.ros.masters import Masters
from dfplan.deploy.ros.transport import RosTransport
from dfplan.tools.clock import FakeClock

ARM = Command("/arm/joint_trajectory", ("a", "b"), "trajectory", "/arm/follow")
KINDS = (ARM, Command("/servo", ("a", "b"), "position"), Command("/twist", ("a", "b"), "twist"))


class Graph:
    """Buses that hear each other at once, themselves included, as on ROS; messages travel as JSON, as through a bridge."""

    def __init__(self):
        self.heard, self.declared = defaultdict(list), defaultdict(list)
        self.time, self.connections = 0.0, 1

    def bus(self, node):
        def advertise(topic, message, **_):
            self.declared[topic].append(f"/{node}")

            def publish(fields, expires):
                plain = json.loads(json.dumps(fields, default=np.ndarray.tolist))
                for heard in list(self.heard[topic]):
                    heard(plain, self.time)
                return True

            return publish

        def subscribe(topic, message, heard, rate=0.0, several=False):
            self.heard[topic].append(heard)

        return SimpleNamespace(
            advertise=advertise, subscribe=subscribe, writers=lambda topic: self.declared[topic],
            connection=lambda: self.connections,
        )  # fmt: skip

    def controller(self, node, commands=(ARM,)):
        """Masters of a controller, its publishers, and what it was told to halt for."""
        bus, halts = self.bus(node), []
        masters = Masters(bus, node, commands, 1.5, lambda: self.time)
        out = [masters.ours(c, bus.advertise(c.topic, ros.COMMANDS[c.kind])) for c in commands]
        masters.listen(halts.append)
        masters.others()
        self.time += 1.5  # nobody was heard meanwhile
        return masters, out, halts


def fields(kind, stamp, value=0.5):
    row = np.array([value, value])
    if kind == "trajectory":
        times, zero = np.array([0.1]), np.zeros((1, 2))
        return ros.trajectory_fields(JointTrajectory(("a", "b"), times, row[None], zero, stamp, stamp + 1))
    return (
        ros.array_fields(row)
        if kind == "position"
        else ros.twist_fields(np.ones(3), np.ones(3), stamp, "base")
    )


@pytest.mark.parametrize("command", KINDS, ids=lambda c: c.kind)
def test_own_commands_are_known_and_others_are_named_for_a_second(command):
    graph = Graph()
    masters, (publish,), _ = graph.controller("dfplan", (command,))
    for n in range(600):
        graph.time += 0.01
        assert publish(fields(command.kind, 1.7e9 + graph.time, 0.001 * n), 9e9)
        assert masters.others() == ""
    stranger = graph.bus("dfplan").advertise(command.topic, "")  # of our own name: only what it writes tells
    stranger(fields(command.kind, 1.7e9 + 99, 7.0), 9e9)
    assert command.topic in masters.others() and "somebody else" in masters.others()
    graph.time += 1.1
    assert masters.others() == ""


def test_whoever_declares_to_write_is_named_until_it_is_gone():
    graph = Graph()
    masters, _, _ = graph.controller("dfplan")
    assert masters.others() == ""
    graph.declared[ARM.topic].append("/ns/moveit_servo")
    graph.time += 0.3
    assert "'/ns/moveit_servo'" in masters.others() and ARM.topic in masters.others()
    graph.declared[ARM.topic].pop()
    graph.time += 0.3
    assert masters.others() == ""


def test_two_controllers_of_one_name_see_each_other_while_both_live():
    graph = Graph()
    (one, _, _), (two, _, _) = graph.controller("dfplan"), graph.controller("dfplan")
    for _ in range(20):
        graph.time += 0.1
        said = one.others(), two.others()
    assert all("another controller of dfplan, node 'dfplan'" in text for text in said)
    graph.time += 3.1  # the other one was killed: its declaration stays, its words do not
    assert one.others() == ""


def test_goals_that_are_not_ours_count_until_they_are_over():
    graph = Graph()
    masters, _, _ = graph.controller("dfplan")

    def status(*codes):
        for heard in graph.heard["/arm/follow/_action/status"]:
            heard({"status_list": [{"status": code} for code in codes]}, 0.0)

    status(4, 2)
    graph.time = 100.0
    assert "a goal of '/arm/follow'" in masters.others()
    status(4, 4)
    assert masters.others() == ""
    done = masters.goal(lambda *said: None)
    status(2)
    assert masters.others() == ""
    done(True, "")
    status(2)
    assert "goal" in masters.others()


def test_nobody_is_taken_to_be_there_only_after_listening_on_this_connection():
    graph = Graph()
    masters, _, _ = graph.controller("dfplan")
    assert masters.others() == ""
    graph.connections += 1
    assert "listening" in masters.others()
    graph.time += 1.4
    assert "listening" in masters.others()
    graph.time += 0.2
    assert masters.others() == ""


def test_a_stop_of_one_halts_every_other_and_not_itself():
    graph = Graph()
    (one, _, halts), (_, _, others) = graph.controller("first"), graph.controller("second")
    one.say()
    assert halts == others == []
    heard = graph.heard.pop(f"{ARM.topic}/dfplan")
    one.say(stop=True)  # which nobody hears
    graph.heard[f"{ARM.topic}/dfplan"] = heard
    for _ in range(3):
        one.say()
    assert halts == [] and others == ["another controller, node 'first', was asked to stop"]
    third = graph.controller("third")[2]  # who comes later is not stopped for it
    one.say()
    assert third == []
    one.say(stop=True)
    assert len(third) == 1 and len(others) == 2


def test_a_halt_stops_and_acknowledges_no_fault():
    machine = Machine(FakeClock(), settle=0.0)
    machine.update("")
    assert machine.state == READY
    machine.halt("somebody stopped")
    assert machine.state == DISARMED
    machine.update("")
    assert machine.arm()[0] and machine.state == RUNNING
    machine.halt("somebody stopped")
    assert machine.state == HOLD and machine.reason == "somebody stopped"
    machine.fault("a joint is blocked")
    machine.halt("somebody stopped")
    assert machine.state == FAULT and machine.reason == "a joint is blocked"


def test_a_transport_on_ros_says_who_else_commands():
    assert isinstance(RosTransport, type) and issubclass(RosTransport, Shared)


class SharedArm(Robot):
    """An arm that somebody else may command."""

    other = ""

    def others(self):
        return self.other


def test_an_arm_with_another_master_is_not_armed_and_a_running_one_is_held_and_both_say_whose_it_is():
    clock = FakeClock()
    made, robot, _ = loop(robot=SharedArm(clock), clock=clock)
    robot.other = "node '/servo' writes to '/arm/joint_trajectory' too"
    play(made, 0.5, arm=False)
    granted, why = made.arm()
    assert not granted and robot.other in why and not robot.sent
    robot.other = ""
    play(made, 0.5, arm=False)
    assert made.arm()[0]
    play(made, 0.5, arm=False)
    assert made.machine.state == RUNNING
    robot.other = "another controller of dfplan, node 'second', is at this arm"
    play(made, 0.5, arm=False)
    assert made.machine.state == HOLD and made.machine.reason == robot.other
    last = robot.sent[-1][1]
    assert np.abs(last.velocities[-1]).max() == 0
    assert not made.arm()[0]
