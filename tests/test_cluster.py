"""Work on a Ray cluster: a sweep on this machine, and an evaluation on two nodes of which one is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import TINY, demos, dfplan, elsewhere, shared  # noqa: F401  fixtures

from dfplan.cluster import mapped

ray = pytest.importorskip("ray", reason="needs pip install 'dfplan[cluster]'")
FEW = ("steps=2", *(word for word in TINY if not word.startswith(("save_every", "log_every", "steps="))))
SHORT = ("planner.candidates=1", "planner.steps=2", "env-args=max_episode_steps=20")
MEASURED = (
    "episodes",
    "seed",
    "return_mean",
    "success",
    "progress_mean",
    "steps_mean",
    "collided",
    "clipped",
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("gcs_server_request_timeout_seconds", "raylet_start_wait_time_s"):
        monkeypatch.setenv(f"RAY_{name}", "180")  # a busy machine is slow to begin


def test_a_sweep_is_one_table_and_goes_on_where_it_was_stopped(dfplan, demos):  # noqa: F811
    words = ["sweep", "maze2d-umaze", "--out", "sweep", "--data", demos, "--seeds", "0..1", "--episodes", 4,
             "--eval", *SHORT, "--workers", 2, "--set", *FEW, "lr=0.001,inf"]  # fmt: skip
    done = dfplan(*words)
    assert (
        done.code == 2
        and "some runs failed, see sweep/runs.json" in done.err
        and "failed: lr=inf" in done.out
    )
    rows, runs = (json.loads(Path(f"sweep/{name}.json").read_text()) for name in ("table", "runs"))
    good, bad = rows
    assert [r["setting"] for r in rows] == ["lr=0.001", "lr=inf"] and [r["seed"] for r in runs] == [
        0,
        1,
        0,
        1,
    ]
    assert (good["seeds"], good["failed"], good["episodes"]) == (2, 0, 8)
    assert (bad["seeds"], bad["failed"], bad["success"]) == (0, 2, None)
    assert good["success"] == pytest.approx(sum(r["success"] for r in runs[:2]) / 2)
    assert good["return"] == pytest.approx(sum(r["return_mean"] for r in runs[:2]) / 2)
    assert Path("sweep/sweep.png").stat().st_size > 5000
    paths = sorted(Path("sweep").glob("*/checkpoint/config.json"))
    saved = [json.loads(p.read_text())["train"] for p in paths]
    assert [(s["lr"], s["seed"]) for s in saved] == [(0.001, 0), (0.001, 1)]

    (
        Path("sweep") / "lr=0.001-seed=1" / "sweep.json"
    ).unlink()  # as if it had been stopped before it was measured
    before = {p: p.stat().st_mtime_ns for p in Path("sweep").glob("*/checkpoint/model.safetensors")}
    assert dfplan(*words).code == 2
    assert json.loads(Path("sweep/table.json").read_text()) == rows
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing was trained again
    for further in (["--first", 7], ["--set", *FEW, "lr=0.001,inf", "batch=16"]):
        other = dfplan(*words, *further)
        assert other.code == 2 and "made by another sweep; choose another --out" in other.err


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["--seeds", "4..1"], "got seeds '4..1', expected different ones, such as 0..4"),
        (["--seeds", "1,1"], "got seeds '1,1'"),
        (["--set", "lr"], "got setting 'lr', expected key=value"),
        (["--eval", "disturb"], "got --eval disturb, expected key=value"),
        (["--set", "lrr=1"], "got setting 'lrr'"),
        (["--set", "model.widht=1,2"], "did you mean 'model.width'"),
        (["--workers", "0"], "got workers=0"),
        (["--cluster", "127.0.0.1:1"], "got cluster '127.0.0.1:1', which cannot be joined"),
        (["--cluster", "nonsense"], "got cluster 'nonsense', which cannot be joined"),
    ],
)
def test_what_a_sweep_refuses(dfplan, demos, words, got):  # noqa: F811
    done = dfplan("sweep", "maze2d-umaze", "--out", "sweep", "--data", demos, *words)
    assert done.code == 2 and got in done.err and done.err.count("\n") == 1


def test_no_task_and_no_video(dfplan, demos):  # noqa: F811
    done = dfplan("sweep", "imitation", "--out", "sweep", "--data", demos)
    assert done.code == 2 and "names no task; add --task" in done.err
    done = dfplan("eval", "arm-pick", "--cluster", "local", "--video", "films")
    assert done.code == 2 and "got --video with --cluster" in done.err


def test_an_error_is_told_and_costs_nothing_else():
    made = dict(mapped(json.loads, ["1", "two", "3"], "local", 2))
    assert (made[0], made[2]) == (1, 3) and isinstance(made[1], ValueError)


@pytest.fixture
def nodes():
    """A head with one CPU and another node with one, as processes of this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    yield cluster, other
    cluster.shutdown()


def _busy(raylet: int) -> bool:
    """Whether a worker of a node runs a task: Ray then gives the process its name."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"_piece" in (entry.parent / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the node's processes in /proc")
def test_a_node_that_is_killed_costs_no_episode_and_counts_none_twice(dfplan, nodes):  # noqa: F811
    cluster, other = nodes
    words = ["eval", "arm-pick", "--episodes", "16", "--seed", "40", "--env-args", "max_episode_steps=40"]
    command = [sys.executable, "-m", "dfplan", *words, "--json", "killed.json", "--workers", "2",
               "--cluster", cluster.address]  # fmt: skip
    with subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    ) as running:
        until = time.monotonic() + 120
        while not _busy(other.all_processes["raylet"][0].process.pid):
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        cluster.remove_node(other, allow_graceful=False)
        assert running.poll() is None  # it was in the middle of it
        assert running.wait(240) == 0, running.stderr.read().decode()
    assert dfplan(*words, "--json", "alone.json").code == 0
    killed, alone = (json.loads(Path(f"{name}.json").read_text()) for name in ("killed", "alone"))
    for key in MEASURED:
        assert alone[key] is not None and killed[key] == pytest.approx(alone[key], rel=1e-6), key
