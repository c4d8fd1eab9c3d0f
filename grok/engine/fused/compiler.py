"""Compile a C++ source once, and load it from a cache on disk ever after."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = (
    *("-x", "c++", "-std=c++17", "-shared", "-fPIC", "-pthread", "-Wno-psabi"),
    *("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
COMPILERS = ("c++", "g++", "clang++")  # where the environment variable CXX names none


class CompilerError(Exception):
    """One line on why there is no compiled program."""


def load(code: str) -> ctypes.CDLL:
    """The compiled program of a source.

    Raises:
        CompilerError: there is no compiler, it cannot be started or fails, or the program cannot be
            kept or loaded.
    """
    compiler = find_compiler()
    facts = "\n".join([code, *FLAGS, version(compiler), platform.machine(), cpu_flags()])
    name = hashlib.sha256(facts.encode()).hexdigest()[:32]
    try:
        path = folder() / f"{name}.so"
        if not path.exists():
            _compile(compiler, code, path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(f"cannot make or load the program: {error}") from None


def folder() -> Path:
    """Where compiled programs are kept, beside those of Inductor; for this user alone."""
    default = Path(tempfile.gettempdir()) / f"torchinductor_{os.environ.get('USER', os.getuid())}"
    path = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default)) / "grok_fused"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise CompilerError(f"{path} belongs to another user")
    return path


def find_compiler() -> str:
    """The C++ compiler of CXX, or the first of COMPILERS; CompilerError without one."""
    for name in [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise CompilerError("no C++ compiler was found")


@cache
def version(compiler: str) -> str:
    """What the compiler says of itself, and when it was changed."""
    stat = Path(compiler).resolve().stat()
    return f"{Path(compiler).resolve()} {stat.st_size} {stat.st_mtime_ns}"


@cache
def cpu_flags() -> str:
    """The instruction sets of this CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, code: str, path: Path) -> None:
    """Write the program to a file of another name first, so that the path has all of it or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    command = [compiler, *FLAGS, "-", "-o", str(partial)]
    try:
        result = subprocess.run(command, input=code, text=True, capture_output=True)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if "error" in line]
            raise CompilerError(f"{compiler} failed: {next(iter(lines), result.returncode)}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
