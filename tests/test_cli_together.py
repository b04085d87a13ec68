"""`torchrun -m dfplan train`: the real command in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan.data import Episodes, write_npz

ROOT = Path(__file__).parents[1]
TINY = "--steps 4 --save-every 2 --keep-every 4 --log-every 1 --warmup 1 --batch 64 --precision fp32".split()
TINY += ["--model.width", "16", "--accumulate", "2", "--holdout", "0.2"]


@pytest.fixture
def demos(tmp_path):
    rows = np.random.default_rng(0).normal(size=(400, 4)).cumsum(0).astype(np.float32)
    path = tmp_path / "demos.npz"
    write_npz(Episodes({"observations": rows, "actions": rows[:, :2]}, np.arange(40, 401, 40), 0.1), path)
    return path


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_torchrun_trains_what_one_process_trains(dfplan, demos):  # noqa: F811
    pytest.importorskip("accelerate", reason="pip install 'dfplan[distributed]'")
    words = ["train", "imitation", "--data", str(demos), *TINY]
    assert dfplan(*words, "--out", "one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "dfplan", *words, "--out", "two", "--export", "small"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1 and done.stdout.startswith("2 processes, each with 32 of the 64 ")
    one, two = Path("one"), Path("two")
    assert [row["step"] for row in lines(two)] == [1, 2, 3, 4]
    for a, b in zip(lines(one), lines(two), strict=True):
        assert a.keys() == b.keys() and ("held_out" in b) == (b["step"] % 2 == 0)
        for key in a.keys() - {"steps_per_s"}:
            assert b[key] == pytest.approx(a[key], abs=1e-5), key
    files = [{p.relative_to(r) for p in r.rglob("*.*") if "tfevents" not in p.name} for r in (one, two)]
    assert files[0] == files[1] and len(list(two.glob("tensorboard/*"))) == 1  # one of the two wrote
    weights = [load_file(run / "kept/0000004/model.safetensors") for run in (one, two)]
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, rtol=0, atol=1e-4, err_msg=key)
    assert (Path("small") / "config.json").exists()
    again = dfplan("train", "--out", "two", "--resume", "--steps", 5, "--accumulate", 1)
    assert again.code == 0 and lines(two)[-1]["step"] == 5


def test_accelerate_is_asked_for_where_there_are_several_processes_and_only_there(dfplan, demos, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "accelerate", None)
    words = ["train", "imitation", "--data", demos, *TINY, "--steps", 1]
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = dfplan(*words, "--out", "two")
    assert refused.code == 2 and not Path("two").exists()
    assert refused.err == "dfplan: accelerate is not installed; run: pip install 'dfplan[distributed]'\n"
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert dfplan(*words, "--out", "one").code == 0
