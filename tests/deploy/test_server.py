"""The policy server: the same decisions, nobody without the token, and an arm that strangers cannot disturb."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ruckig", reason="pip install 'dfplan[deploy]'")
pytest.importorskip("msgpack", reason="pip install 'dfplan[server]'")
pytest.importorskip("websockets", reason="pip install 'dfplan[server]'")

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from dfplan.act import Actor
from dfplan.cli.arm.serve import serve
from dfplan.deploy import CommittedPolicy, FakeClock, History, Monitor, build
from dfplan.deploy.loop.committed import ACT
from dfplan.deploy.remote import wire
from dfplan.deploy.remote.client import Remote, RemotePolicy
from dfplan.deploy.remote.gate import Gate, ServerLimits
from dfplan.deploy.remote.server import PolicyServer
from dfplan.deploy.remote.tls import shown
from dfplan.envs import SimArm, arm_mapping, make
from dfplan.models import find
from dfplan.policies import Imitation, ImitationConfig
from dfplan.train import checkpoint

TOKEN = b"a token that only a test may use"
HELLO = {"kind": "hello", "id": 0, "config": {}, "show": "clean", "monitor": None, "timeout": 5.0}
TASK = "arm-pick"


def until(done, seconds=60.0):
    """Wait for it; generous, for a machine that is busy with other things."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def process():
    """A server in a process of its own, as it is started from the command line."""
    command = [sys.executable, "-m", "dfplan.cli", "serve", "--policy", TASK, "--port", "0"]
    command += ["--limits.idle", "60", "--limits.robots", "8"]
    env = {**os.environ, "DFPLAN_TOKEN": TOKEN.decode()}
    made = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.search(r":(\d+);", made.stdout.readline())
    assert found, made.wait()
    made.address = f"ws://127.0.0.1:{found[1]}"
    yield made
    with contextlib.suppress(OSError):
        made.send_signal(signal.SIGCONT)
    made.kill()
    made.wait()


@pytest.fixture(scope="module")
def model():
    return checkpoint.load(find(TASK))


@pytest.fixture
def here(model):
    """A server in a thread, with limits of the test's choice; a function that starts it."""
    started = []

    def start(model=model, tls=None, **limits):
        server, port, up = (
            PolicyServer(model, TASK, TOKEN, ServerLimits(**limits), tls),
            [],
            threading.Event(),
        )
        thread = threading.Thread(
            target=server.run, args=("127.0.0.1", 0, lambda p: (port.append(p), up.set()))
        )
        thread.start()
        assert up.wait(60)
        started.append((server, thread))
        return f"ws://127.0.0.1:{port[0]}"

    yield start
    for server, thread in started:
        server.stop()
        thread.join(60)


def history(spec, steps, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(steps, spec.observation_size))
    return History(rows, ((),) * steps, rng.normal(size=(steps - 1, spec.action_size)))


def stranger(address, token=None):
    """A WebSocket connection; it knocks with the token if there is one."""
    plain = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 30)
    headers = {} if token is None else {"Authorization": wire.make_knock(token)}
    made = connect(
        address, sock=plain, compression=None, open_timeout=30, close_timeout=0.2, additional_headers=headers
    )
    return contextlib.ExitStack().enter_context(made)


class Intruder:
    """A connection by hand: what a client of ours would never send. Knows how to knock; logs in with the token if it has one."""

    def __init__(self, address, token=None, hello=HELLO):
        self.connection = stranger(address, TOKEN)
        self.challenge = self.connection.recv(30)
        if token is not None:
            self.channel, frame = wire.make_hello(token, self.challenge, msgpack.packb(hello))
            self.connection.send(frame)
            self.welcome = self.sealed()

    def sealed(self):
        return msgpack.unpackb(self.channel.open(self.connection.recv(30)))

    def tell(self, message):
        payload = message if isinstance(message, bytes) else msgpack.packb(message)
        self.connection.send(self.channel.seal(payload))
        return self.sealed()

    def ended(self):
        """The close code; 1006 where it was cut off."""
        with contextlib.suppress(OSError):
            try:
                self.connection.recv(30)
            except ConnectionClosed as error:
                return error.rcvd.code if error.rcvd else 1006
        return 0


# The same decisions


@pytest.mark.parametrize("config", [None, ImitationConfig(memory=0, chunk=12, steps=3, schedule="pyramid")])
def test_decisions_are_those_of_the_policy_itself_bit_for_bit(process, model, config):
    local = CommittedPolicy(Actor(model, config or ImitationConfig(**ACT)))
    remote = RemotePolicy(Remote(process.address, TOKEN, TASK), config)
    assert [getattr(remote, n) for n in ("stride", "steps", "ahead", "chunk", "spec")] == [
        local.stride, local.steps, local.ahead, local.chunk, local.actor.spec,
    ]  # fmt: skip
    local.reset(0)
    for seed in range(6):
        if seed in (0, 4):
            local.reset(seed)
            remote.reset(seed)
        past = history(remote.spec, 1 if seed == 3 else remote.steps, seed)
        if seed == 2:  # a sensor that is not there, named as such
            token = remote.spec.tokens[1]
            past.observations[-1, [remote.spec.channel(c).index for c in token.channels]] = np.nan
            past = History(past.observations, (*past.doubtful[:-1], (token.name,)), past.done)
        committed = history(remote.spec, 9, seed).done[: (0, 1, 4, 5, 8, 8)[seed]]
        wanted, got = local.decide(past, committed), remote.decide(past, committed)
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype and remote.seconds > 0
    remote.close()


def test_the_monitor_runs_beside_the_network(process, model):
    names = [t.name for t in model.config.spec.tokens[:-1]]
    monitor = Monitor({names[0]: {"newest": 1e-9}, names[1]: {"newest": 1e9}})
    local = Actor(model)
    remote = RemotePolicy(Remote(process.address, TOKEN), None, monitor)
    past = history(remote.spec, remote.steps)
    remote.decide(past, np.zeros((0, remote.spec.action_size)))
    assert remote.scores == monitor.scores(local, past) and remote.doubtful == (names[0],)
    remote.close()
    with pytest.raises(ValueError, match="token of the monitor 'no such"):
        RemotePolicy(Remote(process.address, TOKEN), None, Monitor({"no such": {"newest": 1.0}}))


# Nobody without the token, and nothing malformed


def sealed_nonsense(rng, spec, shape):
    """A message that a robot with the token should not have sent."""
    good = wire.request_out(1, None, history(spec, shape.steps), np.zeros((2, spec.action_size)))
    rows = dict(good["observations"])
    kind = rng.integers(22)
    if kind == 0:
        return rng.bytes(int(rng.integers(0, 2000)))
    if kind == 1:
        return msgpack.packb(good)[: int(rng.integers(1, 100))]
    if kind == 2:  # 4 G elements, 4 GiB, and 1,000 arrays in each other that say so
        return [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdc\xff\xff" * 1000][rng.integers(3)]
    if kind == 3:
        return msgpack.packb([1, "x", None, 1.5, True][rng.integers(5)])
    if kind == 4:
        return msgpack.packb({"kind": msgpack.ExtType(5, b"x" * 9), "id": 1})
    if kind == 5:
        return b"\x91" * 5000
    if kind == 6:
        del good[list(good)[rng.integers(len(good))]]
        return good
    key, bad = [
        ("kind", "exec"), ("kind", 3), ("id", "1"), ("reset", -1), ("reset", True), ("reset", 2**64 - 1), ("more", 1),
        ("doubtful", [["no such token"]] * shape.steps), ("doubtful", [[]] * 4000), ("doubtful", [3] * shape.steps),
        ("committed", wire.rows_out(np.zeros((shape.ahead, spec.action_size)))),
        ("committed", wire.rows_out(np.full((2, spec.action_size), np.nan))),
        ("done", wire.rows_out(np.full((shape.steps - 1, spec.action_size), np.inf))),
        ("done", wire.rows_out(np.zeros((shape.steps, spec.action_size)))),
        ("observations", wire.rows_out(np.full((shape.steps, spec.observation_size), np.nan))),
        ("observations", {**rows, "data": rows["data"][:-1]}), ("observations", {**rows, "dtype": "|O"}),
        ("observations", {**rows, "shape": [2**62, spec.observation_size]}),
        ("observations", {**rows, "shape": [-1, -spec.observation_size]}),
        ("observations", {**rows, "shape": [True, spec.observation_size]}),
        ("observations", {**rows, "shape": "12"}), ("observations", {**rows, "data": "text"}),
        ("observations", {"dtype": "<f8"}), ("observations", [1, 2]),
    ][rng.integers(24)]  # fmt: skip
    return {**good, key: bad}


def raw_frame(size):
    """The header of a WebSocket frame that claims `size` bytes, and a few of them."""
    return b"\x82\xff" + struct.pack("!Q", size) + b"mask" + b"x" * 100


def rejected(address, words):
    """Say this to a server and stop talking; 1006 where it answers with no more than a refusal."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 30) as plain,
        contextlib.suppress(OSError),
    ):
        plain.sendall(words)
        plain.shutdown(socket.SHUT_WR)
        while data := plain.recv(1000):
            answer += data
    return 1006 if answer.startswith((b"HTTP/1.1 401 ", b"")[not answer]) else answer


def unsealed_nonsense(rng, address, old):
    """A connection that tries to get in; its end. `old`: a hello that was once good."""
    if rng.integers(10) == 0:  # no knock, or none that opens
        knock = wire.make_knock(TOKEN)
        changed = knock[:-1] + ("0" if knock[-1] != "0" else "1")
        words = [
            b"GET / HTTP/1.1\r\n\r\n", rng.bytes(300) + b"\r\n\r\n", b"x" * 70_000, b"GET /" + b"x" * 70_000,
            *(f"GET / HTTP/1.1\r\nAuthorization: {k}\r\n\r\n".encode() for k in (changed, wire.make_knock(b"other"), "dfplan")),
        ]  # fmt: skip
        return rejected(address, words[rng.integers(len(words))])
    made = Intruder(address)
    _, hello = wire.make_hello(TOKEN, made.challenge, msgpack.packb(HELLO))
    _, guess = wire.make_hello(rng.bytes(32), made.challenge, msgpack.packb(HELLO))
    place = int(rng.integers(len(hello)))
    flipped = hello[:place] + bytes([hello[place] ^ 1]) + hello[place + 1 :]
    tries = [
        rng.bytes(int(rng.integers(0, 3000))), guess, old, flipped, hello[:place], b"\x07" + hello[1:], made.challenge,
        "text", raw_frame(2**62), raw_frame(10**7), b"\x89\x80mask" * 30_000, msgpack.packb(HELLO), b"x" * 300_000,
    ]  # fmt: skip
    data = tries[rng.integers(len(tries))]
    with contextlib.suppress(OSError, ConnectionClosed):
        if data in tries[8:11]:
            made.connection.socket.sendall(data)
        else:
            made.connection.send(data)
    return made.ended()


class Siege(threading.Thread):
    """250 messages, of those who have no token and of one who has."""

    def __init__(self, seed, address, spec, shape):
        super().__init__()
        self.rng, self.address, self.spec, self.shape = np.random.default_rng(seed), address, spec, shape
        self.refused, self.got_in = 0, []

    def run(self):
        inside = Intruder(self.address, TOKEN)
        _, old = wire.make_hello(TOKEN, inside.challenge, msgpack.packb(HELLO))
        for i in range(250):
            if i % 2:
                got = unsealed_nonsense(self.rng, self.address, old)
                refused = got in (wire.NO_TOKEN, wire.NO_VERSION, 1002, 1006, 1007, 1009)
            else:
                got = inside.tell(sealed_nonsense(self.rng, self.spec, self.shape))
                refused = got["kind"] == "error"
            self.refused += refused
            self.got_in += [] if refused else [(i, got)]


def simulate(policy, over, seconds=3.0):
    """The simulated arm on a fake clock, for so long at least and until `over()`; every answer takes 0.1 s of it."""
    env, clock = make(TASK, action="ee").unwrapped, FakeClock()
    arm = SimArm(env, clock, record=True)
    arm.reset(0)
    loop = build(policy, arm_mapping(env), arm, worker="inline", delay=0.1, clock=clock)
    loop.connect()
    while not over() or clock.now() < seconds:
        loop.tick()
        clock.sleep_until(loop._begun + loop._tick * loop.dt)
        if loop.machine.state == "READY":
            loop.arm()
    return loop, np.array([row for row, _ in arm.commands]), clock.now()


def test_a_thousand_hostile_messages_are_refused_and_the_arm_does_not_notice(process, model):
    local = CommittedPolicy(Actor(model, ImitationConfig(**ACT)))
    spec = local.actor.spec
    shape = wire.Shape(spec.observation_size, spec.action_size, local.steps, local.ahead)
    sieges = [Siege(seed, process.address, spec, shape) for seed in range(4)]

    def over():
        sieges[0].join(0.002)
        return not any(siege.is_alive() for siege in sieges)

    for siege in sieges:
        siege.start()
    try:
        loop, driven, seconds = simulate(Remote(process.address, TOKEN, timeout=30.0), over)
    finally:
        for siege in sieges:
            siege.join()
    assert sum(siege.refused for siege in sieges) == 1000, [siege.got_in[:3] for siege in sieges]
    assert process.poll() is None
    assert loop.machine.state == "RUNNING" and not loop.stats.slips and loop.stats.overruns <= 1
    alone, wanted, _ = simulate(Imitation(model, ImitationConfig(**ACT)), lambda: True, seconds)
    assert alone.machine.state == "RUNNING" and len(driven) == len(wanted) > 1000
    # every command to the arm is the one that it gets without a server and without strangers
    np.testing.assert_array_equal(driven, wanted)
    again = RemotePolicy(Remote(process.address, TOKEN))
    again.ping()
    again.close()


def test_messages_cannot_be_changed_repeated_left_out_or_sent_back():
    challenge = wire.make_challenge()
    robot, hello = wire.make_hello(TOKEN, challenge, b"hello")
    server, payload = wire.take_hello(TOKEN, challenge, hello)
    assert payload == b"hello" and TOKEN not in challenge + hello
    one, two = robot.seal(b"one"), robot.seal(b"two")
    for wrong in (two, hello[33:], server.seal(b"one"), one[:-1] + b"x", one[:31], b"", "text", None):
        with pytest.raises(wire.Refused):
            server.open(wrong)
    assert server.open(one) == b"one" and server.open(two) == b"two"
    with pytest.raises(wire.Refused):
        server.open(two)
    with pytest.raises(wire.Refused):
        wire.take_hello(TOKEN, wire.make_challenge(), hello)


def test_after_the_login_a_wrong_seal_ends_the_connection(process):
    made = Intruder(process.address, TOKEN)
    made.connection.send(b"x" * 32 + msgpack.packb({"kind": "ping", "id": 1}))
    assert made.ended() == wire.NO_TOKEN


@pytest.mark.parametrize(
    "change, message",
    [
        ({"config": {"steps": 10**9}}, "this server allows 500"), ({"config": {"stream": True}}, "stream=False"),
        ({"config": {"schedule": "pyramid", "uncertainty": float("nan")}}, "uncertainty=nan"),
        ({"config": {"schedule": "antigravity:fly"}}, "no module is imported"),
        ({"config": {"stepz": 1}}, "did you mean 'step'"), ({"config": {"steps": "5"}}, "expected int"),
        ({"config": {"chunk": 3}}, "multiple"), ({"show": "dirty"}, "one of clean, noised"), ({"timeout": -1.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"), ({"monitor": {"hand": {"newest": float("nan")}}}, "above 0"),
        ({"monitor": {"hand": {"exec": 1.0}}}, "test of the monitor"), ({"monitor": {"hand": 1}}, "no thresholds"),
        ({"kind": "decide"}, "first message"), ({"more": 1}, "fields"),
    ],
)  # fmt: skip
def test_settings_are_checked_by_the_server(process, change, message):
    made = Intruder(process.address, TOKEN, {**HELLO, **change})
    assert made.welcome["kind"] == "error" and re.search(message, made.welcome["text"])
    assert made.ended() == 1000


# What a robot is told


def test_a_robot_is_told_what_is_wrong(process, monkeypatch):
    with pytest.raises(ConnectionError, match="does not hold the same token"):
        RemotePolicy(Remote(process.address, b"another token of enough length"))
    with pytest.raises(ValueError, match=f"serves '{TASK}', expected 'arm-reach'"):
        RemotePolicy(Remote(process.address, TOKEN, "arm-reach"))
    with pytest.raises(ConnectionError, match="dfplan serve"):
        RemotePolicy(Remote("ws://127.0.0.1:1", TOKEN))
    with pytest.raises(ValueError, match="expected an address"):
        Remote("127.0.0.1:8765", TOKEN)
    env = make("arm-reach", action="ee").unwrapped
    with pytest.raises(ValueError, match="the model was trained on"):
        build(Remote(process.address, TOKEN), arm_mapping(env), SimArm(env))
    with pytest.raises(ValueError, match="use 'thread'"):
        build(Remote(process.address, TOKEN), arm_mapping(env), SimArm(env), worker="process")
    monkeypatch.setattr(wire, "spec_digest", lambda spec: "other")
    with pytest.raises(ValueError, match="not understood here"):
        RemotePolicy(Remote(process.address, TOKEN))


def test_another_policy_at_the_same_address_is_not_used(here):
    remote = RemotePolicy(Remote(here(), TOKEN))
    remote.connect()
    other = checkpoint.load(find(TASK))
    with torch.no_grad():
        next(other.denoiser.parameters()).flatten()[0] += 1e-3
    object.__setattr__(remote._remote, "address", here(other))
    with pytest.raises(ValueError, match="another one now"):
        remote.connect()
    remote.close()


def test_the_newest_common_version_is_taken_or_none(process, monkeypatch):
    monkeypatch.setattr(wire, "VERSIONS", (2, 3))
    RemotePolicy(Remote(process.address, TOKEN)).close()
    monkeypatch.setattr(wire, "VERSIONS", (3, 4))
    with pytest.raises(ValueError, match=r"speaks versions \[2\], this dfplan \[3, 4\]"):
        RemotePolicy(Remote(process.address, TOKEN))


def test_something_else_at_that_address_is_not_trusted():
    listener = socket.create_server(("127.0.0.1", 0))

    def talk():
        from websockets.sync.server import serve as plain

        with plain(
            lambda c: (c.send(wire.make_challenge()), c.recv(), c.send(b"x" * 99)), sock=listener
        ) as server:
            threading.Timer(5.0, server.shutdown).start()
            server.serve_forever()

    threading.Thread(target=talk, daemon=True).start()
    with pytest.raises(ConnectionError, match="does not hold the same token"):
        RemotePolicy(Remote(f"ws://127.0.0.1:{listener.getsockname()[1]}", TOKEN))


# Limits


def test_the_token_must_be_there_secret_and_long(monkeypatch, tmp_path):
    monkeypatch.delenv("DFPLAN_TOKEN", raising=False)
    with pytest.raises(ValueError, match="token of 0 characters"):
        serve(TASK)
    file = tmp_path / "token"
    with pytest.raises(ValueError, match="does not exist"):
        serve(TASK, token_file=file)
    file.write_text("too short\n")
    if sys.platform != "win32":
        file.chmod(0o644)
        with pytest.raises(ValueError, match="chmod 600"):
            serve(TASK, token_file=file)
    file.chmod(0o600)
    with pytest.raises(ValueError, match="token of 9 characters"):
        serve(TASK, token_file=file)
    file.write_bytes(TOKEN + b"\n")
    assert wire.read_token(file) == TOKEN and "token" not in repr(Remote("ws://a", TOKEN))


class Caller:
    """A connection that waits outside."""

    def __init__(self, gate, address):
        self.address, self.aborted = address, False
        gate.enter(self)

    def abort(self):
        self.aborted = True


def test_who_has_most_places_loses_the_oldest():
    gate = Gate(ServerLimits(waiting=4), TOKEN)
    a = [Caller(gate, "a") for _ in range(3)]
    holder = Caller(gate, "b")
    assert not any(caller.aborted for caller in [*a, holder]) and gate.count == 4
    more = [Caller(gate, "a") for _ in range(3)]
    assert all(caller.aborted for caller in a) and not any(caller.aborted for caller in [*more, holder])
    others = [Caller(gate, address) for address in "cde"]  # one each: then the oldest of all
    assert more[1].aborted and not others[2].aborted and gate.count == 4
    for caller in [*others, *others, holder]:
        gate.leave(caller)
    assert gate.count == sum(not caller.aborted for caller in more)
    with pytest.raises(ValueError, match="robots=0"):
        ServerLimits(robots=0)


def test_a_knock_opens_once_and_only_with_the_token(monkeypatch):
    gate = Gate(ServerLimits(), TOKEN)
    monkeypatch.setattr("dfplan.deploy.remote.gate._KNOCKS", 3)

    def head(knock, name="Authorization"):
        return f"GET / HTTP/1.1\r\nHost: a\r\n{name}: {knock}\r\n\r\n".encode()

    knock = wire.make_knock(TOKEN)
    assert TOKEN.decode() not in knock
    for wrong in (wire.make_knock(b"another"), knock[:-1], knock + "0", "dfplan " + "z" * 96, knock[7:], ""):
        assert not gate.opens(head(wrong))
    for place in range(7, len(knock)):
        assert not gate.opens(
            head(knock[:place] + format(int(knock[place], 16) ^ 1, "x") + knock[place + 1 :])
        )
    assert gate.opens(head(knock)) and not gate.opens(head(knock))
    assert gate.opens(head(wire.make_knock(TOKEN), "authorization"))  # a proxy may write it so
    for _ in range(5):
        gate.opens(head(wire.make_knock(TOKEN)))
    assert len(gate._used) == 3


@pytest.mark.parametrize("words", [b"", b"\x16\x03\x01garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("where", ["127.0.0.1", "127.0.1.%d"])
def test_strangers_hold_no_place_that_a_robot_needs(here, words, where):
    """More than there are places for, silent and loud, at the robot's own address and one each; none is ever shut out."""
    address = here(waiting=8)
    port, strangers = int(address.rpartition(":")[2]), []
    robot = RemotePolicy(Remote(address, TOKEN))
    try:
        for i in range(100):
            source = (where % (i + 1) if "%" in where else where, 0)
            strangers.append(socket.create_connection(("127.0.0.1", port), 30, source_address=source))
            with contextlib.suppress(OSError):
                strangers[-1].sendall(words)
            if i % 20 == 19:
                RemotePolicy(Remote(address, TOKEN)).close()
                robot.ping()
    except OSError as error:
        pytest.skip(f"this system has one loopback address only ({error})") if "%" in where else pytest.fail(
            str(error)
        )
    finally:
        for plain in strangers:
            plain.close()
        robot.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, as docs/server.md makes it, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs the command openssl")
    folder = tmp_path_factory.mktemp("tls")
    page = (Path(__file__).parents[2] / "docs/server.md").read_text()
    command = re.search(r"openssl req .*?(?=\n *```)", page, re.DOTALL)[0].replace("\\\n", " ")
    command = command.replace("DNS:workstation,IP:192.168.1.20", "DNS:localhost")
    subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_works_end_to_end_and_what_is_wrong_with_it_is_said(here, certificate, monkeypatch):
    address = here(tls=shown(*certificate)).replace("ws://127.0.0.1", "wss://localhost")
    remote = RemotePolicy(Remote(address, TOKEN, TASK, ca=certificate[0]))
    past = history(remote.spec, remote.steps)
    assert remote.decide(past, np.zeros((0, remote.spec.action_size))).shape[1] == remote.spec.action_size
    assert remote._socket.socket.version() in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(ConnectionError, match=r"not trusted \(self-signed certificate\); give its file"):
        RemotePolicy(Remote(address, TOKEN))
    with pytest.raises(
        ConnectionError, match=r"not trusted \(IP address mismatch.*that the certificate names"
    ):
        RemotePolicy(Remote(address.replace("localhost", "127.0.0.1"), TOKEN, ca=certificate[0]))
    with pytest.raises(ConnectionError, match="with --tls, its address begins with wss://"):
        RemotePolicy(Remote(address.replace("wss", "ws"), TOKEN))
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        RemotePolicy(Remote(here().replace("ws:", "wss:"), TOKEN, ca=certificate[0]))
    with pytest.raises(ConnectionError, match="does not hold the same token"):
        RemotePolicy(Remote(address, b"another token of enough length", ca=certificate[0]))
    remote.ping()
    remote.close()


def test_strangers_before_the_end_of_a_tls_handshake_wait_outside(here, certificate):
    address = here(tls=shown(*certificate), waiting=8)
    port = int(address.rpartition(":")[2])
    strangers = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(50)]
    for plain in strangers[::2]:
        with contextlib.suppress(OSError):
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    RemotePolicy(Remote(f"wss://localhost:{port}", TOKEN, ca=certificate[0])).close()
    for plain in strangers[:40]:  # ended by the server
        with contextlib.suppress(OSError):
            while plain.recv(1000):
                pass
    for plain in strangers:
        plain.close()


def test_a_certificate_that_does_not_fit_is_refused(certificate, tmp_path, caplog):
    cert, key = certificate
    shown(cert, key)
    assert not caplog.records
    for pair, message in (
        ((key, key), "two PEM files"), ((cert, tmp_path / "none"), "none: No such file"),
        ((cert, Path(__file__)), "two PEM files"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            shown(*pair)
    other = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ValueError, match=r"(?i)key.values.mismatch.*belong together"):
        shown(cert, other)
    with pytest.raises(ValueError, match="expected a PEM file"):
        RemotePolicy(Remote("wss://localhost:1", TOKEN, ca=key))
    with pytest.raises(ValueError, match="expected an address with wss://"):
        Remote("ws://localhost:1", TOKEN, ca=cert)
    if sys.platform != "win32":
        open_key = tmp_path / "open.pem"
        open_key.write_bytes(key.read_bytes())
        open_key.chmod(0o644)
        caplog.clear()
        shown(cert, open_key)
        assert "can be read by others" in caplog.text


def test_silence_and_too_many_robots_are_ended(here):
    address = here(login=0.5, idle=1.0, robots=1)
    assert Intruder(address).ended() == 1008  # never says hello
    first = Intruder(address, TOKEN)
    assert first.welcome["kind"] == "welcome"
    assert "has its 1 robots" in Intruder(address, TOKEN).welcome["text"]
    assert first.ended() == 1008  # no sign of life
    until(lambda: Intruder(address, TOKEN).welcome["kind"] == "welcome")


# Time


class Play:
    """The simulated arm and the worker's real thread; the fake clock stands still while the server computes."""

    def __init__(self, remote):
        env, self.clock = make(TASK, action="ee").unwrapped, FakeClock()
        arm = SimArm(env, self.clock)
        arm.reset(0)
        self.loop = build(remote, arm_mapping(env), arm, clock=self.clock)
        self.worker, self.machine, self.patient = self.loop.worker, self.loop.machine, True
        self.loop.connect()

    def go(self, seconds, arm=False):
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.loop.tick()
            if self.patient:
                until(lambda: self.worker._request is None or not self.worker.alive)
            self.clock.sleep_until(self.loop._begun + self.loop._tick * self.loop.dt)
            if arm and self.machine.state in ("READY", "HOLD"):
                arm = not self.loop.arm()[0]


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a signal")
def test_a_server_that_hangs_or_dies_holds_the_arm_and_nobody_but_a_person_goes_on(process):
    play = Play(Remote(process.address, TOKEN, timeout=1.0))
    play.go(3.0, arm=True)
    assert play.machine.state == "RUNNING" and play.worker.alive

    process.send_signal(signal.SIGSTOP)  # late: the rest of the chunk, then a hold
    play.patient = False
    play.go(2.0)
    assert play.machine.state == "HOLD" and "did not come in time" in play.machine.reason
    until(lambda: not play.worker.alive)  # and after its time-out taken for dead
    play.go(0.1)
    assert not play.loop.arm()[0]
    process.send_signal(signal.SIGCONT)
    play.patient = True
    until(lambda: play.worker.alive)
    play.go(2.0)
    assert play.machine.state == "HOLD" and not play.worker.busy
    play.go(2.0, arm=True)
    assert play.machine.state == "RUNNING" and play.loop.driver.motion.steps

    process.kill()
    until(lambda: not play.worker.alive)
    play.go(0.05)
    assert play.machine.state == "HOLD" and "ended" in play.machine.reason
    play.loop.run(lambda: True)
    assert not play.worker._thread.is_alive()
