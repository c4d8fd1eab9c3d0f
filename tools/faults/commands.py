"""Commands of the project in processes of their own, which can be stopped and killed as any other.

Python's fork server has imported torch and the experiment once, so a process takes no seconds and no
CPU time to start.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from grok.cli import main
from grok.paths import PROJECT

PRELOADED = [__name__, "grok.experiment.repeat", "grok.sweep.agent", "grok.sweep.commands"]
PRELOADED += ["grok.sweep.serving", "experiments.liu_toy"]
TIMEOUT = 120.0  # seconds after which a process that does not end counts as hanging
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


class NotRecovered(Exception):
    """A trial did not end as it must; the reason."""


class Command:
    """A process that executes a command.

    Arguments:
        words: of the command, the first of which is "grok" or a program.
        environment: variables that differ from those of this process.
        log: the file that gets its output.
    """

    def __init__(self, words: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.words, self.log = words, log
        self.process = context.Process(target=_execute, args=(words, dict(environment), log))
        self.process.start()

    @property
    def pid(self) -> int:
        """Id of the process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.exitcode is not None

    def kill_after(self, seconds: float) -> bool:
        """Kill the process some time from now; False if it has ended before."""
        self.process.join(seconds)
        if self.has_ended:
            return False
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    def kill_once(self, has_begun: Callable[[], object], seconds: float) -> None:
        """Kill the process some time after what it does has begun."""
        deadline = time.monotonic() + TIMEOUT
        while not (has_begun() or self.has_ended or time.monotonic() > deadline):
            time.sleep(0.02)
        self.kill_after(seconds)

    def wait(self) -> int:
        """The exit code; NotRecovered if the process does not end."""
        self.process.join(TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise NotRecovered(f"{self} did not end in {TIMEOUT:.0f} s: {self.last_line}")
        return self.process.exitcode

    def succeed(self) -> None:
        """Wait for the end; NotRecovered if the exit code is not 0."""
        code = self.wait()
        if code:
            raise NotRecovered(f"{self} ended with {code}: {self.last_line}")

    @property
    def output(self) -> str:
        """What the process has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def last_line(self) -> str:
        """The last line that the process has printed."""
        return self.output.rstrip().rpartition("\n")[2]

    def __str__(self) -> str:
        return " ".join(self.words)


def _execute(words: list[str], environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = words
    program, *arguments = words
    if program == "grok":
        main(arguments, prog_name="grok")
    else:
        runpy.run_path(str(PROJECT / program), run_name="__main__")
