"""A weighted mean of the weights of runs that began with one another (model soups, arXiv 2203.05482), as a model to ship.

python scripts/mix.py dfplan/models/swap runs/swap-again 0.7 runs/swap-wide 0.3
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from dfplan.models import find
from dfplan.train import checkpoint


def mixed(parts: list[tuple[Path, float]]) -> tuple[dict[str, torch.Tensor], Path]:
    """Tensors of the mean, and the folder whose settings and scales they go with: the first."""
    if abs(sum(weight for _, weight in parts) - 1) > 1e-6:
        raise ValueError(f"got weights {[w for _, w in parts]}, expected shares that make 1")
    models = [checkpoint.load(folder) for folder, _ in parts]
    tensors = [checkpoint.model_tensors(m.denoiser, m.normalizer) for m in models]
    out = dict(tensors[0])
    for key, first in out.items():
        rows = [t.get(key) for t in tensors]
        if any(r is None or r.shape != first.shape for r in rows):
            raise ValueError(f"got runs that differ in '{key}', expected the same network and tokens in each")
        if not key.startswith("denoiser."):
            if not all(torch.equal(r, first) for r in rows):
                raise ValueError(
                    f"got runs that differ in '{key}'; train one on from the other (dfplan train --begin)"
                )
        elif first.is_floating_point():
            out[key] = sum(weight * r.float() for r, (_, weight) in zip(rows, parts, strict=True))
    return out, parts[0][0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="RUN SHARE")
    args = parser.parse_args()
    parts = [(find(r), float(s)) for r, s in zip(args.parts[::2], args.parts[1::2], strict=True)]
    tensors, folder = mixed(parts)
    with tempfile.TemporaryDirectory() as made:
        texts = {"config.json": json.loads((folder / "config.json").read_text())}
        checkpoint.write_folder(Path(made) / "mean", {"model.safetensors": tensors}, texts)
        checkpoint.export(Path(made) / "mean", args.out)
    print(args.out)
