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


def pytest_addoption(parser):
    parser.addoption("--repeat", type=int, default=1, help="how often each kill of tests/ros is repeated")


def pytest_generate_tests(metafunc):
    if "turn" in metafunc.fixturenames:
        metafunc.parametrize("turn", range(metafunc.config.getoption("--repeat", 1)))


@pytest.fixture
def figure(record_property):
    """Call it with a name and s; the largest of each name is shown at the end."""
    return lambda name, seconds: record_property(f"figure {name}", 1e3 * seconds)


def pytest_terminal_summary(terminalreporter):
    rows: dict[str, list[float]] = {}
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    for name, value in [row for report in reports if report.when == "call" for row in report.user_properties]:
        if name.startswith("figure "):
            rows.setdefault(name[7:], []).append(value)
    for name, values in rows.items():
        terminalreporter.write_line(f"{name} after {max(values):.0f} ms at most, of {len(values)}")
