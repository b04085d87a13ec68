"""Read a set of some GB from disk, look at it, train a few steps, and print how much memory that took.

python scripts/big_set.py --gigabytes 10 --format npz      # or hdf5; --folder: where there is room for it
"""

from __future__ import annotations

import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import tyro

from dfplan.data import inspect, load
from dfplan.spec import Channel, Token, TrajectorySpec
from dfplan.train.config import ModelConfig, TrainConfig
from dfplan.train.trainer import Trainer

OBS, ACT, EPISODE = 24, 8, 1000


def blocks(episodes: int, width: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(width)
    for _ in range(episodes):
        yield rng.standard_normal((EPISODE, width), np.float32)


def write(path: Path, episodes: int) -> None:
    """Random rows, an episode at a time, so that writing needs no memory either."""
    ends = np.arange(1, episodes + 1) * EPISODE
    if path.suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            for key, width in (("observations", OBS), ("actions", ACT)):
                out = file.create_dataset(key, (episodes * EPISODE, width), "<f4")
                for end, rows in zip(ends, blocks(episodes, width), strict=True):
                    out[end - EPISODE : end] = rows
            file["timeouts"] = np.arange(1, ends[-1] + 1) % EPISODE == 0
        return
    with zipfile.ZipFile(path, "w") as file:
        for key, width in (("observations", OBS), ("actions", ACT)):
            with file.open(f"{key}.npy", "w", force_zip64=True) as out:
                head = {"descr": "<f4", "fortran_order": False, "shape": (episodes * EPISODE, width)}
                np.lib.format.write_array_header_1_0(out, head)
                for rows in blocks(episodes, width):
                    out.write(rows.tobytes())
        with file.open("episode_ends.npy", "w") as out:
            np.lib.format.write_array(out, ends)


def memory() -> dict[str, int]:
    """MB of this process: its own pages, and pages of files, which the system takes back when it needs them."""
    text = Path("/proc/self/status").read_text().split("\n")
    found = dict(line.split(":\t") for line in text if line.startswith(("RssAnon", "RssFile")))
    return {key: int(value.split()[0]) // 1000 for key, value in found.items()}


def main(
    gigabytes: float = 10.0,
    format: Literal["npz", "hdf5"] = "npz",
    steps: int = 20,
    folder: Path = Path("/tmp"),
) -> None:
    """Measure."""
    peak: dict[str, int] = {}

    def watch() -> None:
        while True:
            for key, value in memory().items():
                peak[key] = max(peak.get(key, 0), value)
            time.sleep(0.02)

    def stage(name: str, since: float) -> float:
        print(f"{name}: {time.perf_counter() - since:.1f} s, now {memory()} MB, peak {peak} MB", flush=True)
        return time.perf_counter()

    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / f"big.{format}"
        begin = time.perf_counter()
        write(path, max(int(gigabytes * 1e9 / 4 / (OBS + ACT) / EPISODE), 1))
        threading.Thread(target=watch, daemon=True).start()
        begin = stage(f"written, {path.stat().st_size / 1e9:.2f} GB", begin)
        episodes = load(path, dt=0.02)
        begin = stage("read", begin)
        names = [f"o{i}" for i in range(OBS)] + [f"a{i}" for i in range(ACT)]
        spec = TrajectorySpec(
            channels=tuple(
                Channel(name, "", "observations", i) if i < OBS else Channel(name, "", "actions", i - OBS)
                for i, name in enumerate(names)
            ),
            tokens=(Token("state", tuple(names[:OBS])), Token("action", tuple(names[OBS:]))),
            dt=0.02,
            stride=1,
            observation_size=OBS,
            action_size=ACT,
        )
        model = ModelConfig(width=32, layers=1)
        config = TrainConfig(spec, horizon=16, steps=steps, batch=64, goal_token="", model=model)
        for _ in Trainer(config, episodes, Path(place) / "run").run():
            pass
        begin = stage("trained", begin)
        inspect(episodes)
        stage("inspected", begin)


if __name__ == "__main__":
    tyro.cli(main)
