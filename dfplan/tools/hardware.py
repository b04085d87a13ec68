"""What a number was measured on."""

from __future__ import annotations

import platform
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
