"""A store of a campaign's own, its commands, and what its runs must have recorded."""

import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gridfs
import psutil
from pymongo.database import Database

from grok.store import connection
from grok.store.mongod import Server
from grok.store.status import DEAD_AFTER
from tools.faults.commands import Command, NotRecovered

CONFIG = {
    "p": 5,
    "decoder_width": 20,
    "train_steps": 1000,
    "log_points": 100,
    "checkpoint_every": 100,
    "seed": 0,
}
RUN = ["experiments/liu_toy.py", "with", *(f"{key}={value}" for key, value in CONFIG.items())]
Records = Counter[tuple[Any, ...]]


@dataclass(frozen=True)
class Outcome:
    """How a trial has ended.

    lost: recorded values and files that are missing, or differ from those of an uninterrupted run.
    doubled: those that are there once more than they were recorded.
    line: what has happened.
    """

    lost: int
    doubled: int
    line: str

    @property
    def survived(self) -> bool:
        """Whether nothing is lost and nothing is doubled."""
        return not self.lost and not self.doubled


class Skipped(Exception):
    """A kind of fault that cannot be tried on this machine; the reason."""


class Kind(Protocol):
    """A kind of fault: it is prepared once and tried many times."""

    def __init__(self, laboratory: "Laboratory") -> None: ...

    def trial(self, rng: random.Random) -> Outcome:
        """One trial; NotRecovered if what was disturbed does not come to its end."""
        ...


class Laboratory:
    """A GROK_HOME, its embedded server and uninterrupted runs to compare with.

    Arguments:
        home: the folder; a short path, in which the server's socket has room.

    Attributes:
        stack: what it holds is closed when the kind of fault has been tried.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {"GROK_HOME": str(home), "GROK_MONGO_URI": "", "OMP_NUM_THREADS": "1"}
        os.environ.update(self.environment)
        self.store = connection.connect()
        self.stack = ExitStack()
        self.logs = home / "logs"
        self.logs.mkdir()
        self.count = 0
        self.seconds = 0.0
        self.expected: Records = Counter()

    def close(self) -> None:
        """End the server and its keeper."""
        self.store.client.close()
        mongod = psutil.Process(self.mongod())
        processes = [psutil.Process(mongod.ppid()), mongod]
        for process in processes:
            process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=60)
        if alive:
            raise NotRecovered("the server does not end")

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> Command:
        """A process that executes a command."""
        self.count += 1
        return Command(
            [*words], {**self.environment, **(environment or {})}, self.logs / str(self.count)
        )

    def execute(self, *words: str, environment: Mapping[str, str] | None = None) -> Command:
        """A command that has ended; NotRecovered if its exit code is not 0."""
        command = self.start(*words, environment=environment)
        command.succeed()
        return command

    def measure(self) -> None:
        """Make the run that all others have to equal; how long it takes, and what it records."""
        self.execute(*RUN)  # later ones find what it has compiled
        began = time.monotonic()
        before = self.last_run()
        self.execute(*RUN)
        self.seconds = time.monotonic() - began
        (number,) = self.runs_after(before)
        self.expected = records(self.store.database, number)

    def kill_run(self, rng: random.Random) -> tuple[int, float]:
        """Kill a run at a random moment; the last run before it, and the moment.

        A run that has ended before that is no trial.
        """
        while True:
            before, moment = self.last_run(), rng.uniform(0, self.seconds)
            if self.start(*RUN).kill_after(moment):
                return before, moment

    def killed_run(self, rng: random.Random) -> int:
        """The id of a run that was killed at a random moment after it was stored."""
        while True:
            before, moment = self.last_run(), rng.uniform(0, self.seconds)
            self.start(*RUN).kill_once(partial(self.runs_after, before), moment)
            if self.status(self.last_run()) != "COMPLETED":
                return self.last_run()

    def recover_or_not(
        self, rng: random.Random, environment: Mapping[str, str] | None = None
    ) -> None:
        """Deliver what a killed process has left, or leave that to the next one."""
        if rng.random() < 0.5:
            self.execute("grok", "store", "recover", environment=environment)

    def last_run(self) -> int:
        """The largest id of a run, 0 without one."""
        return connection.next_number(self.store.database.runs) - 1

    def runs_after(self, number: int) -> list[int]:
        """Ids of the runs that have been begun after another one."""
        return sorted(self.store.database.runs.distinct("_id", {"_id": {"$gt": number}}))

    def finish(self, before: int, environment: Mapping[str, str] | None = None) -> int:
        """Bring the last run to its end, and return its id; the one before it is `before`.

        A run that was killed before it was stored is begun again.
        """
        if not self.runs_after(before):
            self.execute(*RUN, environment=environment)
        found = self.runs_after(before)
        if len(found) != 1:
            raise NotRecovered(f"runs {found} in place of one")
        self.resume(found[0], environment)
        return found[0]

    def resume(self, number: int, environment: Mapping[str, str] | None = None) -> None:
        """Resume a run, if it is not complete.

        One that was killed before it had a journal counts as alive for a minute.
        """
        deadline = time.monotonic() + DEAD_AFTER + 10
        while self.status(number) != "COMPLETED":
            resumed = self.start("grok", "resume", str(number), environment=environment)
            if resumed.wait():
                if "is still running" not in resumed.output or time.monotonic() > deadline:
                    raise NotRecovered(f"{resumed}: {resumed.last_line}")
                time.sleep(1)

    def status(self, number: int) -> str:
        """The stored status of a run."""
        return connection.find_run(self.store.database, number)["status"]

    def check(self, number: int, line: str) -> Outcome:
        """What a run that has come to its end has recorded, compared with the uninterrupted run."""
        if self.status(number) != "COMPLETED":
            raise NotRecovered(f"run {number} is {self.status(number)}")
        return compare(self.expected, records(self.store.database, number), line)

    def mongod(self) -> int:
        """Process id of the server, which is started where it does not run."""
        server = Server(self.home)
        server.ensure()
        process = server.process()
        if process is None:
            raise NotRecovered("a server answers, and none has the data")
        return process

    def mongods(self) -> list[int]:
        """Process ids of all servers of this home."""
        words = ["--dbpath", str(Server(self.home).data)]
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or [])[1:3] == words
        ]


def wait_until(check: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Return as soon as the check holds; NotRecovered after this time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise NotRecovered(f"{what} after {seconds:.0f} s")
        time.sleep(0.02)


def records(database: Database, number: int | str) -> Records:
    """All that a run has recorded: its values with metric and step, its files with their content."""
    found: Records = Counter()
    for metric in database.metrics.find({"run_id": number}):
        found.update(
            ("value", metric["name"], step, value)
            for step, value in zip(metric["steps"], metric["values"], strict=True)
        )
    files = gridfs.GridFS(database)
    for entry in connection.find_run(database, number)["artifacts"]:
        content = files.get(entry["file_id"]).read()
        found["file", entry["name"], hashlib.sha256(content).hexdigest()] += 1
    return found


def compare(expected: Records, found: Records, line: str) -> Outcome:
    """The outcome of a trial whose runs have recorded `found` in place of `expected`."""
    return Outcome((expected - found).total(), (found - expected).total(), line)
