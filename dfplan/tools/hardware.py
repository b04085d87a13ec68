"""What a number is measured on, and what it can do."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch


def hardware() -> str:
    """Processor, threads and, where there is one, GPU."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} thread(s){gpu}, torch {torch.__version__}"


def bf16_cost(device: str) -> float:
    """How many times longer a matrix product takes in bf16 than in fp32: far above 1 on processors without it."""
    spent = []
    for kind in (torch.float32, torch.bfloat16):
        a = torch.ones(192, 192, device=device, dtype=kind)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            float((a @ a)[0, 0])
            times.append(time.perf_counter() - began)
        spent.append(min(times))
    return spent[1] / spent[0]
