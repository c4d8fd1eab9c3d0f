"""What a run's numbers depend on besides its configuration."""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grok.paths import INSTALLED, PROJECT

LOCK = PROJECT / "requirements-lock.txt"
CODE = ("experiments/*.py", "grok/*.py")  # patterns of git, whose * includes folders


@cache
def environment() -> dict[str, Any]:
    """Versions, device, precision, kernel flags and threads, and the hash of the lock file."""
    has_gpu = torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if has_gpu else None
    return {
        "grok_lab": package_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": cpu_flags(),
        "cpu_cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "interop_threads": torch.get_num_interop_threads(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "gpu_count": torch.cuda.device_count(),
        "gpu_capability": None if capability is None else ".".join(map(str, capability)),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "cublas_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else None,
    }


@cache
def commit() -> str:
    """The commit of the project's code, abbreviated; with "+" if it is changed, see `is_changed`.

    It is "unknown" outside a git repository. The installed papers have the version of the package.
    """
    if PROJECT == INSTALLED:
        return f"grok-lab {package_version()}"
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip():
        return "unknown"
    return done.stdout.strip() + ("+" if is_changed(PROJECT) else "")


def state_of(repository: Path) -> tuple[str, str, bool]:
    """Where a repository comes from, its commit, and whether its code differs, see `is_changed`.

    The address is that of its remote `origin`, or as Sacred has it without one, git:/PATH.

    Raises:
        OSError, subprocess.CalledProcessError: git is not there, or has no answer: there is no commit
            yet, or git does not trust the repository.
    """
    command = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True)
    origin = remote_of(repository) or f"git:/{repository}"
    return origin, head.stdout.strip(), is_changed(repository)


def remote_of(repository: Path) -> str:
    """The address of a repository's remote `origin`; empty without one.

    A user and a password in it are left out: runs store the address, and archives and bundles with them
    are published.
    """
    command = ["git", "-C", str(repository), "config", "remote.origin.url"]
    address = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return re.sub(r"(?<!ssh:)//[^/]*@", "//", address)


def is_changed(repository: Path) -> bool:
    """Whether tracked files differ from the commit, other than those in `docs`, or code is untracked.

    `grok replicate` writes verdicts to `docs` after each paper, which makes no later run another.
    Code is a Python file in `experiments` or `grok`: one that was never added to the repository is
    in no commit.
    """
    git = ["git", "-C", str(repository)]
    differs = [*git, "diff", "--quiet", "HEAD", "--", ".", ":(exclude)docs"]
    if subprocess.run(differs, capture_output=True).returncode == 1:
        return True
    untracked = [*git, "ls-files", "--others", "--exclude-standard", "--", *CODE]
    return bool(subprocess.run(untracked, capture_output=True).stdout)


def package_version() -> str:
    """The version of this package; "unknown" where it runs without being installed."""
    try:
        return version("grok-lab")
    except PackageNotFoundError:
        return "unknown"


def cpu_model() -> str:
    """The processor's name, where the system tells it."""
    return _cpu_entry("model name") or platform.processor()


def cpu_flags() -> str:
    """The processor's instruction sets as Linux names them, empty where it does not tell them."""
    return _cpu_entry("flags") or _cpu_entry("Features")


def machine(environment: Mapping[str, Any]) -> str:
    """The GPU of an environment, or the cores and the processor: "2 cores, AMD EPYC"."""
    if environment.get("gpu"):
        return str(environment["gpu"])
    cores = environment.get("usable_cores", 1)
    return f"{cores} core{'s' * (cores != 1)}, {environment.get('cpu') or 'unknown processor'}"


def _cpu_entry(name: str) -> str:
    """What Linux tells of the first core under a name, empty if nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith(name)), "")


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What differs between two environments, one line for each key that both have."""
    return [
        f"{key}: {first[key]} then, {second[key]} now"
        for key in second
        if key in first and first[key] != second[key]
    ]
