"""A rosbridge server in a few lines: what it says of itself is logged, goals are answered, needs no ROS."""

import json
import logging
import threading
import time

import numpy as np
import pytest

pytest.importorskip("roslibpy", reason="roslibpy is not installed: pip install 'dfplan[ros]'")
pytest.importorskip("websockets", reason="websockets is not installed: pip install 'dfplan[server]'")


@pytest.fixture
def server():
    from websockets.sync.server import serve

    def talk(socket):
        socket.send(json.dumps({"op": "status", "level": "warning", "msg": "no such type"}))
        for text in socket:
            message = json.loads(text)
            if message["op"] == "subscribe":
                socket.send(json.dumps({"op": "publish", "topic": message["topic"], "msg": {"data": [1.0]}}))
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
