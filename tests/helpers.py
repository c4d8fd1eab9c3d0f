"""Functions for the tests that start processes."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as the check holds; fail the test after this time."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.05)


def mongods(home: Path) -> list[int]:
    """Process ids of the embedded servers of a GROK_HOME."""
    command = ["pgrep", "-f", f"mongod --dbpath {home}"]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return [int(pid) for pid in output.split()]
