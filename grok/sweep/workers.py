"""Worker processes that train runs of a sweep side by side, with one thread each.

The process that starts them trains nothing: it gives them work and shows what they report.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from grok.engine.events import Event, Outcome, Record, Saved
from grok.engine.threads import idle_cores, single_thread, step_seconds
from grok.errors import UserError
from grok.interrupts import raise_on_signals
from grok.sweep.plan import Part
from grok.sweep.progress import SweepProgress

WORTHWHILE = 30.0  # seconds of work from which starting processes, 5 CPU seconds each, pays
RECORDING = 0.05  # CPU seconds to begin a run, to evaluate it a few times, and to store it


@dataclass(frozen=True)
class Expected:
    """A worker has more work: what it takes at most."""

    steps: int
    runs: int


@dataclass(frozen=True)
class Report:
    """An event of a replica, without its tensors, and what `SweepProgress.show` needs beside it."""

    event: Event
    train_steps: int
    device: torch.device


@dataclass(frozen=True)
class Failure:
    """The worker ends because of an error that the user can correct."""

    message: str


class RemoteProgress:
    """Takes the place of a SweepProgress in a worker process: sends what happens to the parent.

    Arguments:
        parent: The connection to the parent process.
        first_replica: Added to the replicas' numbers, which differ between workers then.
    """

    def __init__(self, parent: Connection, first_replica: int = 0):
        self.parent, self.first_replica = parent, first_replica

    def expect(self, steps: int, runs: int) -> None:
        """See `SweepProgress.expect`."""
        self.parent.send(Expected(steps, runs))

    def show(self, event: Event, train_steps: int, device: torch.device) -> None:
        """See `SweepProgress.show`."""
        event = replace(_without_tensors(event), replica=self.first_replica + event.replica)
        self.parent.send(Report(event, train_steps, device))


AnyProgress = SweepProgress | RemoteProgress


def _without_tensors(event: Event) -> Event:
    if isinstance(event, Record):
        return replace(event, arrays={}, burst_metrics=())
    if isinstance(event, Outcome):
        return replace(event, weights={})
    if isinstance(event, Saved):
        return replace(event, tensors={})
    return event


def show(report: Report | Expected, progress: SweepProgress) -> None:
    """Show what a worker's RemoteProgress has sent."""
    if isinstance(report, Expected):
        progress.expect(report.steps, report.runs)
    else:
        progress.show(report.event, report.train_steps, report.device)


@dataclass
class Worker:
    """A process and the connection to it."""

    process: BaseProcess
    connection: Connection

    def send(self, message: Any) -> None:
        """Send it a message; one that has just died says so in `Workers.messages`."""
        with suppress(OSError):
            self.connection.send(message)


class Workers:
    """Processes that each call `target(connection to this process, *arguments)`.

    A context manager: when it is left by an exception, the processes get SIGTERM and their runs end
    as INTERRUPTED. The processes ignore Ctrl-C, which reaches this one too.

    Arguments:
        target: A function of a module.
        arguments: Those of each process.
    """

    def __init__(self, target: Callable[..., None], arguments: list[tuple]):
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self.workers = []
        for each in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, target, each))
            process.start()
            theirs.close()  # so that the end of the process is the end of the connection
            self.workers.append(Worker(process, ours))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self.workers:
            if kind is not None:
                worker.process.terminate()
            worker.connection.close()
        for worker in self.workers:
            worker.process.join()

    def messages(self) -> Iterator[tuple[Worker, Any]]:
        """What the workers send, with who sent it, until all have ended.

        Raises:
            UserError: A worker has met such an error, or has died.
        """
        by_connection = {worker.connection: worker for worker in self.workers}
        while by_connection:
            for connection in wait([*by_connection]):
                assert isinstance(connection, Connection), "nothing else is waited for"
                worker = by_connection[connection]
                try:
                    message = connection.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    code = worker.process.exitcode
                    if code:
                        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                        raise UserError(f"a worker process has ended with {cause}") from None
                    del by_connection[connection]
                    continue
                if isinstance(message, Failure):
                    raise UserError(message.message)
                yield worker, message


def _run(parent: Connection, target: Callable[..., None], arguments: tuple) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_on_signals()
    try:
        target(parent, *arguments)
    except UserError as error:
        parent.send(Failure(str(error)))
    except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        pass  # told to end, or the parent has died: the runs have ended as INTERRUPTED


def choose_workers(parts: list[Part]) -> int:
    """How many processes train these parts: as many as there are idle cores, if that pays."""
    if len(parts) < 2 or any(part.device.type == "cuda" for part in parts):
        return 1
    if sum(seconds_of(part) for part in parts) < WORTHWHILE:
        return 1
    return min(len(parts), max(1, idle_cores() // single_thread()))


def seconds_of(part: Part) -> float:
    """Roughly how long one process works at the part, if none of its runs stops early."""
    steps = sum(run.problem.train_steps for run in part.runs) / part.slots
    training = steps * step_seconds(part.runs[0].problem, part.slots)
    return training + RECORDING * len(part.runs)
