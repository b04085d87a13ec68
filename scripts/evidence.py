"""Add recorded steps to a checkpoint that was trained before they were kept, so that its plans can be judged by them.

python scripts/evidence.py dfplan/models/maze2d-large maze2d-large.hdf5
"""

from pathlib import Path

import tyro

from dfplan.data import load
from dfplan.train import pairs


def main(folder: tyro.conf.Positional[Path], data: tyro.conf.Positional[Path], count: int = 100_000) -> None:
    """Write evidence.safetensors.

    Args:
        folder: of the checkpoint.
        data: what it was trained on, or some of it.
        count: most steps kept.
    """
    print(pairs.add(folder, load(data), count))


if __name__ == "__main__":
    tyro.cli(main)
