import os
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture
def write(tmp_path):
    """Write a file of D4RL's layout: 12 rows, timeouts at rows 3 and 9; keyword None drops a key."""

    def make(file="maze2d-test.hdf5", attrs=None, **changes):
        rng = np.random.default_rng(0)
        timeouts = np.zeros(12, bool)
        timeouts[[3, 9]] = True
        arrays = {
            "observations": rng.standard_normal((12, 4)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (12, 2)).astype(np.float32),
            "rewards": rng.uniform(size=12).astype(np.float32),
            "terminals": np.zeros(12, bool),
            "timeouts": timeouts,
            "infos/goal": rng.standard_normal((12, 2)).astype(np.float32),
        } | {key.replace("__", "/"): value for key, value in changes.items()}
        path = tmp_path / file
        with h5py.File(path, "w") as out:
            for key, array in arrays.items():
                if array is not None:
                    out[key] = array
            out.attrs.update(attrs or {})
        return path, arrays

    return make


@pytest.fixture
def shared():
    """Folder of recorded data, or a skip that says what is missing."""
    root = Path(os.environ.get("DFPLAN_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no recorded data in {root}; set DFPLAN_SHARED_DATA")
    return root


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Every cache that `get` looks at, empty and inside tmp_path; no proxy for the local server."""
    for name, variable in (
        ("d4rl", "D4RL_DATASET_DIR"),
        ("own", "DFPLAN_DATA"),
        ("minari", "MINARI_DATASETS_PATH"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path
