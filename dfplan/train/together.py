"""Who trains: one run for each folder, of one process or of several that share every batch."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfplan.tools.errors import optional_import

_PATIENCE = timedelta(days=365)
"""How long a process waits for the others, of which one may be measuring or writing. One that ends is noticed at once."""


class Together:
    """The processes that train one model: this one alone.

    Args:
        device: `cpu`, `cuda`, ...: where this process computes.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
    """

    rank, world = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the one that shows, logs and writes."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""

    def wait(self) -> None:
        """Go on when all are here."""

    def same(self, numbers: Tensor) -> None:
        """Refuse numbers (N,) that are not those of the other processes.

        Raises:
            ValueError: they differ.
        """

    def end(self) -> None:
        """Let the others go: the last call."""


class Several(Together):
    """Processes that a launcher such as torchrun started, through accelerate.

    Args:
        device: the kind, of which each process gets one of its own.

    Raises:
        ValueError: a device with a number, fewer devices than processes, or no launcher that accelerate knows.
        ImportError: accelerate is not installed.
    """

    def __init__(self, device: str) -> None:
        self.world = int(os.environ["WORLD_SIZE"])
        self._accelerate: Any = optional_import("accelerate", "distributed")
        here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if ":" in device:
            raise ValueError(
                f"got device '{device}' for {self.world} processes, expected '{device.partition(':')[0]}': each takes one "
                "of its own; choose which by CUDA_VISIBLE_DEVICES"
            )
        if device == "cuda" and (count := torch.cuda.device_count()) < here:
            raise ValueError(
                f"got {here} processes and {count} GPUs, expected a GPU for each; pass --nproc-per-node {count}"
            )
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else accelerate sets threads
        self._state = self._accelerate.PartialState(cpu=device == "cpu", timeout=_PATIENCE)
        self.rank = self._state.process_index
        super().__init__(str(self._state.device))
        if self._state.num_processes != self.world or torch.device(self.device).type != device:
            raise ValueError(
                f"got WORLD_SIZE={self.world} and device '{device}', but accelerate finds {self._state.num_processes} "
                f"on '{self.device}'; start with torchrun, on cpu or cuda"
            )

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        flat = self._sum(torch.cat([t.flatten() for t in tensors]))
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def wait(self) -> None:
        """Go on when all are here."""
        self._sum(torch.zeros(1, device=self.device)).item()

    def same(self, numbers: Tensor) -> None:
        """Refuse numbers (N,) that are not those of the other processes."""
        numbers = numbers.double().to(self.device)
        mean = self._sum(numbers) / self.world
        if not torch.allclose(mean, numbers, rtol=1e-6, atol=1e-6):
            raise ValueError(
                f"process {self.rank} of {self.world} got other weights, steps or data than the others, expected the same; give "
                "all the same configuration, --data and --out"
            )

    def end(self) -> None:
        """Let the others go."""
        self._state.destroy_process_group()

    def _sum(self, tensor: Tensor) -> Tensor:
        try:
            total: Tensor = self._accelerate.utils.reduce(tensor, "sum")
        except RuntimeError as error:
            raise ConnectionError(
                f"process {self.rank} of {self.world} lost another ({str(error).splitlines()[0]}); see what that one says, "
                "and start all again with --resume"
            ) from error
        return total


def together(device: str) -> Together:
    """This process alone, or with the others that its launcher started (WORLD_SIZE above 1).

    Raises:
        ValueError: see `Several`.
        ImportError: see `Several`.
    """
    return Several(device) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else Together(device)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who writes `folder`; the claim ends with its process, however that ends.

    Raises:
        ValueError: somebody else has it; says who.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise ValueError(
                    f"{folder} is being trained by {who}; wait for it or stop it, or choose another folder"
                ) from None
            if not _names(lock, file.fileno()):
                continue  # whoever had it has just removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _names(path: Path, file: int) -> bool:
    """Whether `path` is still the name of the open file."""
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
