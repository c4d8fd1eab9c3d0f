"""Two ways to call a script of `analysis` from a test."""

import contextlib
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from click.testing import CliRunner, Result

from tests.conftest import PROJECT


def call_script(name: str, *arguments: str, cwd: Path, **environment: str) -> Result:
    """The script's command called in this process, in the folder `cwd`."""
    main = import_module(f"analysis.{name}").main
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, list(arguments), env=environment)


def run_script(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The script run as from a shell, in a process of its own. It costs seconds of imports."""
    command = [sys.executable, str(PROJECT / "analysis" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)
