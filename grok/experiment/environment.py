"""What a run's numbers depend on besides its configuration."""

import hashlib
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grok.paths import PROJECT

LOCK = PROJECT / "requirements-lock.txt"


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


@cache
def commit() -> str:
    """The commit of the project's code, abbreviated; with "+" if tracked files are changed.

    It is "unknown" outside a git repository.
    """
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--exclude=*", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


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
