"""Checkpoint folders: safetensors and JSON, written atomically, never unpickled.

A folder holds `config.json` (training configuration, format version, calibration), `model.safetensors` (the averaged
weights and the normaliser: all that use needs), of a planner `evidence.safetensors` (recorded steps by which its plans can
be judged, see `dfplan.plan.evidence`; may be absent) and, while training can go on, `training.safetensors` (raw weights,
optimiser, random states) with `training.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfplan.denoiser import Denoiser
from dfplan.nets.normalize import Normalizer
from dfplan.train.config import TrainConfig, from_dict, to_dict

FORMAT = 1
EVIDENCE = "evidence.safetensors"
_SCALE, _HEADER = "scale of ", 20_000
"""Before the name of a matrix in 8 bits: what its rows are to be multiplied by. Bytes kept for what is not weights."""
T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """A model ready for use.

    Attributes:
        config: how it was trained.
        denoiser: averaged weights, fp32, eval mode.
        normalizer: fitted on the training data.
        calibration: numbers measured on the training data that planning and tracking use.
        evidence: recorded steps, see `dfplan.train.pairs`; empty where there are none.
    """

    config: TrainConfig
    denoiser: Denoiser
    normalizer: Normalizer
    calibration: Mapping[str, Any]
    evidence: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def act(self) -> Mapping[str, Any]:
        """How the model acts best: settings that a policy or a planner starts from; empty where nothing was said."""
        return self.config.act


def write_folder(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, Any]) -> None:
    """Write a folder so that a reader sees either the old one whole or the new one whole.

    Args:
        folder: where; an older one is replaced.
        tensors: file name -> tensors by name.
        texts: file name -> what is stored as JSON.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (
        folder.exists()
        and not (folder / "config.json").exists()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise ValueError(f"{folder} exists and is no checkpoint; it is left alone, choose another folder")
    fresh, old = folder.with_name(f".{folder.name}.new"), _former(folder)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        for name, state in tensors.items():
            save_file({k: v.detach().contiguous().cpu() for k, v in state.items()}, str(fresh / name))
            (fresh / name).chmod(0o644)  # safetensors makes it private, and a shared machine has other users
        for name, value in texts.items():
            (fresh / name).write_text(json.dumps(value, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _former(folder: Path) -> Path:
    """Where a write puts the old folder, between its two renames."""
    return folder.with_name(f".{folder.name}.old")


def recover(folder: Path) -> None:
    """Put back the folder that a write was replacing when it was killed: only for who writes it."""
    if not folder.exists() and _former(folder).exists():
        os.replace(_former(folder), folder)


def _now(folder: Path) -> tuple[Path, tuple[int, int] | None]:
    """Where the checkpoint is at this moment, and what tells it from the one that replaces it."""
    here = _former(folder) if not folder.exists() and _former(folder).exists() else folder
    try:
        found = here.stat()
    except OSError:
        return here, None
    return here, (found.st_ino, found.st_mtime_ns)


def whole(folder: Path | str, read: Callable[[Path], T]) -> T:
    """What `read` finds in a checkpoint folder, of one write: again if the folder is replaced meanwhile.

    Nothing is changed: while a write swaps the folders, or after it was killed there, the former one is read.

    Raises:
        ValueError: what `read` raises of a folder that stays as it is; or it is replaced for seconds on end.
    """
    folder = Path(folder)
    for _ in range(200):
        before, found, refused = _now(folder), None, None
        try:
            found = read(before[0])
        except ValueError as error:
            refused = error
        if _now(folder) == before:
            if refused is not None:
                raise refused
            return found  # type: ignore[return-value]  # `read` returned it
        time.sleep(0.02)
    raise ValueError(f"{folder} is replaced faster than it can be read; raise the run's save_every")


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint."""
    return whole(folder, lambda here: (here / "config.json").exists())


def settings(folder: Path | str) -> TrainConfig:
    """How the run in a checkpoint folder was configured.

    Raises:
        ValueError: it is not a checkpoint, or damaged.
    """
    return whole(folder, lambda here: read_settings(here, read_header(here)))


def read_json(path: Path) -> Any:
    """Read one JSON file of a checkpoint.

    Raises:
        ValueError: when it is absent or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{path.parent} is not a checkpoint: {path.name} is missing; give a folder written by training"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable JSON ({error}); the checkpoint is damaged, take an earlier one"
        ) from error


def read_header(folder: Path) -> dict[str, Any]:
    """Read and check `config.json`.

    Raises:
        ValueError: when it is of another format or a part is missing.
    """
    meta = read_json(folder / "config.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else meta
        raise ValueError(
            f"{folder}: checkpoint format {found}, this version reads {FORMAT}; install the dfplan that wrote it"
        )
    for key in ("train", "calibration"):
        if not isinstance(meta.get(key), dict):
            raise ValueError(
                f"{folder}/config.json: '{key}' is missing; the checkpoint is damaged, take an earlier one"
            )
    return meta


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file of a checkpoint.

    Raises:
        ValueError: when it is absent or damaged.
    """
    try:
        return load_file(str(path))
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); the checkpoint is damaged, take an earlier one"
        ) from error


def model_tensors(denoiser: Denoiser, normalizer: Normalizer) -> dict[str, Tensor]:
    """Everything use needs, by name."""
    return {
        **{f"denoiser.{k}": v for k, v in denoiser.state_dict().items()},
        **{f"normalizer.{k}": v for k, v in normalizer.state_dict().items()},
    }


def header(config: TrainConfig, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` holds; how the model acts stands apart, because it is found after training."""
    settings = to_dict(config)
    act = settings.pop("act")
    return {"format": FORMAT, "act": act, "train": settings, "calibration": dict(calibration)}


def read_settings(folder: Path, meta: Mapping[str, Any]) -> TrainConfig:
    """The run's configuration from what `read_header` gave.

    Raises:
        ValueError: naming the file and the key that does not fit.
    """
    act: Any = meta.get("act", {})
    train = meta["train"]
    model, policy = train.get("model"), train.get("goal_token") == ""
    older = policy and isinstance(model, dict) and "carrier" not in model
    if older and isinstance(act, dict) and isinstance(policy := act.get("policy", {}), dict):
        act = {
            **act,
            "policy": {"memory": 2, **policy},
        }  # from before memory was a setting: 2 steps were meant
    return from_dict(TrainConfig, {"act": act, **meta["train"]}, f"{folder}/config.json")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    evidence = read_tensors(folder / EVIDENCE) if (folder / EVIDENCE).exists() else {}
    return read_header(folder), read_tensors(folder / "model.safetensors"), evidence


def _build(
    folder: Path, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], evidence: Mapping[str, Tensor]
) -> Checkpoint:
    config = read_settings(folder, meta)
    denoiser, normalizer = config.model.build(config.spec, config.horizon), Normalizer.identity(config.spec)
    for prefix, module in (("denoiser.", denoiser), ("normalizer.", normalizer)):
        state = {
            k[len(prefix) :]: v.float() * tensors.get(_SCALE + k, 1.0)
            for k, v in tensors.items()
            if k.startswith(prefix)
        }
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{folder}: weights do not fit config.json: {error}") from error
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise ValueError(
            f"{folder}: {bad[0]} holds NaN or infinity; the run diverged, lower the learning rate"
        )
    if evidence and set(evidence) - {"rewards"} != {"pairs", "step", "limit"}:
        raise ValueError(f"{folder}/{EVIDENCE} holds {sorted(evidence)}, expected pairs, step and limit")
    ready = denoiser.eval().requires_grad_(False)
    return Checkpoint(config, ready, normalizer, meta["calibration"], evidence)


def load(folder: Path | str, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint folder for use; nothing in it is unpickled.

    A network that it names as `module:Name` is imported from this Python's own path.

    Raises:
        ValueError: when it is not a checkpoint, damaged, or of a format this version does not read.
    """
    found = _build(Path(folder), *whole(folder, _read))
    found.denoiser.to(device)
    found.normalizer.to(device)
    return found


def export(source: Path | str, target: Path | str, most: float = 8e6) -> None:
    """Copy what use needs, weights in half precision: the form in which models are shipped.

    Where that is more than `most` bytes, the largest matrices are rounded to 8 bits, with a scale for each row.
    """
    meta, tensors, evidence = whole(source, _read)
    _build(Path(source), meta, tensors, evidence)
    weights = {k for k, v in tensors.items() if k.startswith("denoiser.") and v.is_floating_point()}
    half = {k: v.half() if k in weights else v for k, v in tensors.items()}  # what is in 8 bits stays
    for key in sorted(weights, key=lambda k: -half[k].numel()):
        if sum(v.nbytes for v in half.values()) <= most - _HEADER or half[key].ndim != 2:
            break
        rows = tensors[key].float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        half[key], half[_SCALE + key] = (rows / scale).round().to(torch.int8), scale
    also = {EVIDENCE: evidence} if evidence else {}
    write_folder(Path(target), {"model.safetensors": half, **also}, {"config.json": meta})
