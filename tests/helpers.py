"""What tests of real processes share."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as the check holds; fail the test after so many seconds."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def mongods(home: Path) -> list[int]:
    """Process ids of the embedded servers of a GROK_HOME."""
    command = ["pgrep", "-f", f"mongod --dbpath {home}"]
    return [
        int(pid) for pid in subprocess.run(command, capture_output=True, text=True).stdout.split()
    ]
