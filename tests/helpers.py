"""Functions and configurations that several tests share."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from grok.claims.model import Finding, Run, Runs, evaluate

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


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> None:
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


def claim_run(
    named_config: str,
    result: Mapping[str, Any] | None = None,
    series: Mapping[str, tuple[list[int], list[float]]] | None = None,
    **config: Any,
) -> Run:
    """A finished run of a named config, made by hand, as claims see it."""
    return Run({"seed": 0, **config}, result or {}, series or {}, frozenset({named_config}))


def finding(paper: ModuleType, claim: str, *runs: Run) -> Finding:
    """The outcome of one claim of a paper on some runs; it must have been evaluated."""
    (chosen,) = (each for each in paper.claim if each.id == claim)
    outcome = evaluate(chosen, Runs(runs))
    assert outcome.why is None, outcome.why
    return outcome
