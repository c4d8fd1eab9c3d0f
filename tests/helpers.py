"""Functions and configurations that several tests share."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Steps of a run that a test ends by a signal: no machine makes them before it arrives.
ENDLESS = 10_000_000
# A small network and train set of `ordering`.
SMALL_ORDERING = {
    "p": 11,
    "train_count": 60,
    "test_count": 40,
    "width": 8,
    "heads": 2,
    "mlp_width": 16,
    "batch_size": 20,
}


def wait_until(check: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return as soon as the check holds; fail the test after this time."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.1)


@contextlib.contextmanager
def opened_files() -> Iterator[list[str]]:
    """The files that this process opens inside the block, by Python's audit events."""
    opened: list[str] = []
    is_over = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:  # a hook stays for ever
        if event == "open" and not is_over:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    try:
        yield opened
    finally:
        is_over = True


def mongods(home: Path) -> list[int]:
    """Process ids of the embedded servers of a GROK_HOME."""
    command = ["pgrep", "-f", f"mongod --dbpath {home}"]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return [int(pid) for pid in output.split()]
