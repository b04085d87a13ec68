import hashlib
import socket
import time

import pytest
from samples import hdf5_body

from dfplan.data.download import fetch


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set.hdf5"


def leftovers(target):
    return sorted(p.name for p in target.parent.glob("set.hdf5*"))


def test_a_whole_file(server, target):
    fetch(server.url, target, sha256=hashlib.sha256(server.body).hexdigest().upper())
    assert target.read_bytes() == server.body and leftovers(target) == ["set.hdf5"]


def test_cut_connections_resume_where_they_stopped(server, target):
    server.cuts = [300_000, 400_000]
    fetch(server.url, target, waits=(0.0,))
    assert target.read_bytes() == server.body
    assert server.requests == [None, "bytes=300000-", "bytes=700000-"]


def test_a_later_call_resumes(server, target):
    server.cuts = [300_000, 0]
    with pytest.raises(OSError, match=f"ended after 300000 of {len(server.body)} bytes"):
        fetch(server.url, target, waits=())
    assert not target.exists() and leftovers(target) == ["set.hdf5.part", "set.hdf5.part.tag"]
    fetch(server.url, target)
    assert target.read_bytes() == server.body and server.requests[-1] == "bytes=300000-"
    assert leftovers(target) == ["set.hdf5"]


def test_a_file_that_changed_meanwhile_is_fetched_whole(server, target):
    server.cuts = [300_000, 0]
    with pytest.raises(OSError):
        fetch(server.url, target, waits=())
    server.body, server.etag = hdf5_body(1), '"two"'
    fetch(server.url, target)
    assert target.read_bytes() == server.body


@pytest.mark.parametrize("case", ["no range", "no tag"])
def test_servers_that_cannot_resume(server, target, case):
    server.ranges, server.etag = (False, '"one"') if case == "no range" else (True, None)
    server.cuts = [300_000]
    fetch(server.url, target, waits=(0.0,))
    assert target.read_bytes() == server.body


def test_a_server_that_always_cuts_is_given_up(server, target):
    server.ranges, server.cuts = False, [1000] * 50
    with pytest.raises(OSError, match="ended after 1000"):
        fetch(server.url, target, waits=(0.0, 0.0))
    assert len(server.requests) <= 4


def test_a_part_that_is_already_whole_or_longer_starts_again(server, target):
    target.with_name("set.hdf5.part").write_bytes(server.body + b"more")
    target.with_name("set.hdf5.part.tag").write_text('"one"')
    fetch(server.url, target)
    assert target.read_bytes() == server.body


def test_a_wrong_checksum_is_deleted_and_refused(server, target):
    with pytest.raises(ValueError, match=r"got SHA-256 .*expected 00ff; the download was deleted"):
        fetch(server.url, target, sha256="00FF")
    assert leftovers(target) == []


def test_a_page_instead_of_the_file(server, target):
    server.body = b"<html>please log in</html>"
    with pytest.raises(OSError, match="not HDF5"):
        fetch(server.url, target)
    assert leftovers(target) == []


def test_half_a_file_of_unknown_length_is_refused(server, target):
    server.lengthless, server.cuts = True, [500_000]
    with pytest.raises(OSError, match="not whole"):
        fetch(server.url, target)
    assert leftovers(target) == [] and len(server.requests) == 1


def test_parts_of_two_versions_are_never_joined(server, target):
    server.blind, server.cuts = True, [300_000, 0]
    with pytest.raises(OSError):
        fetch(server.url, target, waits=())
    server.body, server.etag = hdf5_body(1), '"two"'
    with pytest.raises(OSError, match="another version"):
        fetch(server.url, target, waits=())
    fetch(server.url, target)
    assert target.read_bytes() == server.body and server.requests[-1] is None


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("status", [404, 416, 503])
def test_a_server_that_refuses(server, target, status, part):
    if part and status == 416:  # it may be longer than the file: asked once more, for all of it
        target.with_name("set.hdf5.part").write_bytes(b"more")
        target.with_name("set.hdf5.part.tag").write_text('"one"')
    server.status = status
    with pytest.raises(OSError, match=str(status)):
        fetch(server.url, target)
    assert len(server.requests) == 1 + (part and status == 416)


def test_no_network_is_told_at_once(caches, target):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        began = time.perf_counter()
        with pytest.raises(OSError, match="refused"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x.hdf5", target)
    assert time.perf_counter() - began < 2


def test_a_silent_server_times_out(caches, target):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.perf_counter()
        with pytest.raises(OSError, match="timed out"):
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/x.hdf5", target, timeout=0.3)
    assert time.perf_counter() - began < 2
