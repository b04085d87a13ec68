"""What a number is measured on, and what it can do."""

from __future__ import annotations

import platform
import re
import timeit
from pathlib import Path

import torch

SLOW = 4.0
"""Cost of bf16 from which on fp32 trains faster."""


def hardware() -> str:
    """Processor, threads and, where there is one, GPU."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} thread(s){gpu}, torch {torch.__version__}"


def bf16_cost(device: str) -> float:
    """How many times longer a matrix product takes in bf16 than in fp32: far above 1 on processors without it."""
    return _product_seconds(device, torch.bfloat16) / _product_seconds(device, torch.float32)


def _product_seconds(device: str, kind: torch.dtype) -> float:
    a = torch.ones(192, 192, device=device, dtype=kind)
    return min(timeit.repeat(lambda: float((a @ a)[0, 0]), repeat=3, number=1))
