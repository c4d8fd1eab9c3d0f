"""Signals that end a process."""

import signal
import subprocess
import sys

from tests.conftest import PROJECT

EXITING = """
import atexit, os, signal
from grok.interrupts import raise_on_signals
signal.signal(signal.{name}, signal.SIG_DFL)  # a shell's background jobs ignore SIGINT
atexit.register(os.kill, os.getpid(), signal.{name})  # as it would arrive from outside
raise_on_signals()
print("exits")
"""


def test_a_signal_while_the_process_exits_ends_it_without_a_traceback():
    """As a second SIGTERM to `grok sweep serve`, while pymongo closes its connections."""
    for name in ("SIGTERM", "SIGINT"):
        command = [sys.executable, "-c", EXITING.format(name=name)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        expected = (-signal.Signals[name], "exits\n", "")
        assert (done.returncode, done.stdout, done.stderr) == expected
