"""Runs of a sweep that train as one program, each stored as a Sacred run of its own."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from grok.engine.events import Event, Outcome, Start
from grok.engine.train import train
from grok.experiment.run_thread import EventQueue, RunThread
from grok.experiment.wandb_mirror import Identity
from grok.store.connection import Store
from grok.sweep.file import SweepFile
from grok.sweep.plan import PlannedRun


class Batch:
    """Trains groups of planned runs.

    Arguments:
        file: The sweep.
        store: Where the runs are stored.
        meta: The entries about the sweep in a run's stored `meta`.
        admit: Called when a run is in the store, before it begins; raises LeaseLost if it must not,
            as its sweep or its point is another process's by now.
        identity: The W&B run that mirrors a run, or None.

    Attributes:
        runs: The runs that train now, by number.
    """

    def __init__(
        self,
        file: SweepFile,
        store: Store,
        meta: Callable[[PlannedRun], dict[str, Any]],
        admit: Callable[[PlannedRun], object],
        identity: Callable[[PlannedRun], Identity | None] = lambda run: None,
    ):
        self.file, self.store, self.meta, self.admit = file, store, meta, admit
        self.identity = identity
        self.runs: dict[int, RunThread] = {}

    def train(
        self,
        group: list[PlannedRun],
        slots: int,
        terminate: Collection[int],
        on_event: Callable[[PlannedRun, Event], None],
        on_end: Callable[[PlannedRun], None] = lambda run: None,
        threads: int | None = None,
        steps: float | None = None,
    ) -> None:
        """Train a group to its end.

        When anything is raised here or by `on_event`, the live runs first end as INTERRUPTED.

        Arguments:
            group: Runs that can train as one program.
            slots: How many of them train at once.
            terminate: Indices in the group of runs to end as INTERRUPTED; it may grow.
            on_event: Called with every event of every run.
            on_end: Called with every run that is completely stored.
            threads: Threads of the CPU; None to choose.
            steps: How many steps programs of this signature make in all; None for the group's.
        """
        problems = [run.problem for run in group]
        states = {
            i: replace(run.resume_point.saved, replica=i)
            for i, run in enumerate(group)
            if run.resume_point and run.resume_point.saved
        }
        try:
            for event in train(
                problems,
                slots,
                terminate=terminate,
                resume=states,
                threads=threads,
                steps=steps,
            ):
                run = group[event.replica]
                if isinstance(event, Start):
                    self._start(run)
                self._raise_failure(run)
                self.runs[run.number].events.put(event)
                on_event(run, event)
                if isinstance(event, Outcome):
                    started = [run for run in group if run.number in self.runs]
                    self._join([run for run in started if not self._is_alive(run)], on_end)
        except BaseException:
            for thread in self.runs.values():
                thread.events.end()
            raise
        finally:
            self._join([run for run in group if run.number in self.runs], on_end)

    def _start(self, run: PlannedRun) -> None:
        """Start to record a run. Sacred's set-up needs one thread for all runs: this one."""
        events = EventQueue()
        experiment = self.file.experiment
        execution = experiment.execution(run.problem, lambda problem: events, run.resume_point)
        sacred_run = experiment.prepare_run(
            execution,
            self.store,
            run.updates,
            self.file.named_configs,
            self.meta(run),
            self.identity(run),
            admit=lambda: self.admit(run),
        )
        self.runs[run.number] = thread = RunThread(sacred_run, events)
        thread.start()

    def _raise_failure(self, run: PlannedRun) -> None:
        """Raise the exception of a run that has failed while its replica trains."""
        failure = self.runs[run.number].failure
        if failure is not None:
            raise failure

    def _is_alive(self, run: PlannedRun) -> bool:
        return self.runs[run.number].is_alive()

    def _join(self, group: list[PlannedRun], on_end: Callable[[PlannedRun], None]) -> None:
        """Wait until these runs are stored; raise the exception of the first that failed."""
        failures = []
        for run in group:
            thread = self.runs.pop(run.number)
            thread.join()
            on_end(run)
            if thread.failure is not None:
                failures.append(thread.failure)
        if failures:
            raise failures[0]
