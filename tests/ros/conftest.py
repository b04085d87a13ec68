"""A ROS graph of its own for each test run: loopback only, a free domain, no shared memory."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

import pytest

PROFILE = Path(__file__).with_name("loopback.xml")


def _free_domain() -> str:
    """A domain whose discovery ports nobody uses (RTPS: 7400 + 250 * domain, and 10 for the first participant)."""
    for domain in range(20 + os.getpid() % 80, 101):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.bind(("127.0.0.1", 7400 + 250 * domain + 10))
            except OSError:
                continue
            return str(domain)
    raise AssertionError("no free ROS_DOMAIN_ID from 20 to 100")


os.environ.setdefault("ROS_DOMAIN_ID", _free_domain())
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
# The profile keeps everything on the loopback. LOCALHOST would add transports of its own: shared memory, any interface.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"


@pytest.fixture(scope="session", autouse=True)
def _logs(tmp_path_factory):
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros"))


@pytest.fixture(scope="session")
def rclpy():
    if importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed; `make test-ros` builds an environment with it")
    return pytest.importorskip("rclpy", exc_type=ImportError)
