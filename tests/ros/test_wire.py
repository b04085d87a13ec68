"""A rosbridge server in a few lines: what it says of itself is logged, goals are answered, needs no ROS."""

import json
import logging
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("websockets", reason="websockets is not installed: pip install 'dfplan[ros]'")


@pytest.fixture
def server():
    from websockets.sync.server import serve

    def talk(socket):
        socket.send(json.dumps({"op": "status", "level": "warning", "msg": "no such type"}))
        for text in socket:
            message = json.loads(text)
            if message["op"] == "subscribe":
                socket.send(json.dumps({"op": "publish", "topic": message["topic"], "msg": {"data": [1.0]}}))
            elif message["op"] == "advertise_service":
                call = {"op": "call_service", "service": message["service"], "id": "7", "args": {}}
                socket.send(json.dumps(call))
            elif message["op"] == "service_response":
                socket.send(json.dumps({"op": "publish", "topic": "/answers", "msg": message}))
            elif message["op"] == "publish" and message["msg"] == {"data": "sleep"}:
                time.sleep(3)
            elif message["op"] == "send_action_goal":
                answer = {
                    "op": "action_result",
                    "action": message["action"],
                    "id": message["id"],
                    "result": True,
                }
                socket.send(json.dumps({**answer, "status": 4, "values": message["args"]}))

    with serve(talk, "127.0.0.1", 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.socket.getsockname()[1]
        made.shutdown()


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.01)


def test_goals_are_answered_and_the_server_is_heard(server, caplog):
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    bus, heard, done = RosbridgeBus("robot", port=server), [], []
    assert not bus.follow("/arm", {"points": []}, lambda *said: done.append(said))
    assert done.pop() == (False, "actions need a connected rosbridge server of ROS 2")
    bus.subscribe("/numbers", "std_msgs/msg/Float64MultiArray", lambda fields, _: heard.append(fields))
    with caplog.at_level(logging.WARNING, "dfplan.deploy"):
        bus.open()
        until(lambda: heard)
        assert bus.follow("/arm", {"points": np.arange(3.0)}, lambda *said: done.append(said))
        until(lambda: done)
    bus.close()
    assert heard == [{"data": [1.0]}] and "no such type" in caplog.text
    assert done == [(True, "{'trajectory': {'points': [0.0, 1.0, 2.0]}}")]


def test_services_are_answered_and_nothing_late_is_written(server):
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    bus, heard = RosbridgeBus("robot", port=server), []
    bus.subscribe("/answers", "std_msgs/msg/String", lambda fields, _: heard.append(fields))
    bus.serve("~/stop", lambda: (True, "stopped"))
    publish = bus.advertise("~/numbers", "std_msgs/msg/Float64MultiArray")
    assert not publish({"data": []}, np.inf) and not bus.connected()
    bus.open()
    until(lambda: {"data": [1.0]} in heard and len(heard) == 2)
    said = next(row for row in heard if "values" in row)
    assert said["service"] == "/robot/stop" and said["id"] == "7"
    assert said["values"] == {"success": True, "message": "stopped"}
    assert publish({"data": []}, time.time() + 10) and not publish({"data": []}, time.time() - 1e-3)
    bus.close()
    assert not publish({"data": []}, np.inf) and not bus.connected()


@pytest.mark.skipif(sys.platform != "linux", reason="unacknowledged bytes are counted on Linux alone")
def test_a_connection_that_stalls_is_cut_and_made_again(server):
    from dfplan.deploy.ros.rosbridge import RosbridgeBus

    bus = RosbridgeBus("robot", port=server)
    publish = bus.advertise("~/numbers", "std_msgs/msg/Float64MultiArray")
    bus.open()
    until(bus.connected)
    assert publish({"data": "sleep"}, np.inf)
    began, worst = time.monotonic(), 0.0
    while bus.connected():
        before = time.monotonic()
        assert before - began < 2.5, "not cut"
        publish({"data": "x" * 100_000}, np.inf)
        worst = max(worst, time.monotonic() - before)
        time.sleep(0.002)
    assert worst < 1
    until(lambda: bus.connection() == 2 and bus.connected())
    bus.close()
