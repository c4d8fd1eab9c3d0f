"""Planned runs of one sweep, trained as one program, each a Sacred run of its own."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from grok.engine.events import Event, Outcome, Start
from grok.engine.train import train
from grok.experiment.run_thread import EventQueue, RunThread
from grok.experiment.wandb_mirror import Identity
from grok.store.connection import Store
from grok.sweep.file import SweepFile
from grok.sweep.plan import Planned


class Batch:
    """Trains groups of planned runs. `runs`: those that live now, by number.

    meta: what each run's `meta` says of the sweep. identity: who it is at W&B, if it is mirrored.
    """

    def __init__(
        self,
        file: SweepFile,
        store: Store,
        meta: Callable[[Planned], dict[str, Any]],
        identity: Callable[[Planned], Identity | None] = lambda one: None,
    ):
        self.file, self.store, self.meta, self.identity = file, store, meta, identity
        self.runs: dict[int, RunThread] = {}

    def train(
        self,
        group: list[Planned],
        slots: int,
        terminate: Collection[int],
        watch: Callable[[Planned, Event], None],
        ended: Callable[[Planned], None] = lambda one: None,
    ) -> None:
        """Train a group to its end. `watch` sees every event; `ended` every run that is stored whole.

        terminate: indices in the group to end as INTERRUPTED; may grow. When anything is raised
        here or by `watch`, the live runs are ended as INTERRUPTED and joined first.
        """
        problems = [one.problem for one in group]
        states = {
            i: replace(one.resume_point.saved, replica=i)
            for i, one in enumerate(group)
            if one.resume_point and one.resume_point.saved
        }
        try:
            for event in train(problems, slots, terminate=terminate, resume=states):
                one = group[event.replica]
                if isinstance(event, Start):
                    self._start(one)
                self.runs[one.number].events.put(event)
                watch(one, event)
                if isinstance(event, Outcome):
                    self._join(
                        [p for p in group if p.number in self.runs and not self._lives(p)], ended
                    )
        except BaseException:
            for run in self.runs.values():
                run.events.end()
            raise
        finally:
            self._join([one for one in group if one.number in self.runs], ended)

    def _start(self, one: Planned) -> None:
        """Begin to record a planned run, here and not in its thread: Sacred's set-up needs one thread."""
        events = EventQueue()
        experiment = self.file.experiment
        execution = experiment.execution(one.problem, lambda problem: events, one.resume_point)
        run = experiment.prepare_run(
            execution,
            self.store,
            one.updates,
            self.file.named_configs,
            self.meta(one),
            self.identity(one),
        )
        self.runs[one.number] = thread = RunThread(run, events)
        thread.start()

    def _lives(self, one: Planned) -> bool:
        return self.runs[one.number].is_alive()

    def _join(self, group: list[Planned], ended: Callable[[Planned], None]) -> None:
        """Wait for these runs' last words; raise what went wrong in one."""
        for one in group:
            run = self.runs.pop(one.number)
            run.join()
            ended(one)
            if run.failure is not None:
                raise run.failure
