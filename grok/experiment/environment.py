"""What a run's numbers depend on besides its configuration."""

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

LOCK = Path(__file__).resolve().parents[2] / "requirements-lock.txt"


@cache
def environment() -> dict[str, Any]:
    """Versions, device, precision and kernel flags, and the hash of the lock file."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else None,
    }


def cpu_model() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What differs between two environments, one line for each key of the second."""
    return [
        f"{key}: {first.get(key)} then, {second.get(key)} now"
        for key in second
        if first.get(key) != second.get(key)
    ]
