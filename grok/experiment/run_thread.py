"""Sacred runs side by side in one process: a thread each, fed with the events of its replica."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

from sacred.utils import SacredInterrupt

from grok.engine.events import Event, Outcome
from grok.engine.problem import Problem
from grok.experiment.experiment import Paper
from grok.experiment.resume import Past
from grok.experiment.wandb_mirror import Identity


class Ended(SacredInterrupt):
    """The run was ended from outside: it is INTERRUPTED, and keeps what it has."""

    STATUS = "INTERRUPTED"


class LiveRun(threading.Thread):
    """One Sacred run that lives while its replica trains in another thread.

    Give it events with `take`; the last is an Outcome, or call `cut`. `result` is there after join.
    """

    def __init__(
        self,
        paper: Paper,
        problem: Problem,
        updates: dict[str, Any],
        named_configs: tuple[str, ...],
        meta: dict[str, Any],
        wandb: Identity | None = None,
        past: Past | None = None,
    ):
        super().__init__(name="run", daemon=True)
        self.mail: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        twin = paper.fresh(problem, lambda _: self._events(), wandb, past)
        # made here, not in the thread: Sacred's set-up is not meant for several threads
        self.sacred_run = twin._create_run("main", updates, named_configs, {}, meta)
        self.failure: BaseException | None = None

    def take(self, event: Event) -> None:
        self.mail.put(event)

    def cut(self) -> None:
        """End the run as INTERRUPTED."""
        self.mail.put(None)

    @property
    def result(self) -> dict[str, Any]:
        return self.sacred_run.result or {}

    @property
    def status(self) -> str:
        return self.sacred_run.status

    def run(self) -> None:
        try:
            self.sacred_run()
        except Ended:
            pass
        except BaseException as failure:
            self.failure = failure

    def _events(self) -> Iterator[Event]:
        while True:
            event = self.mail.get()
            if event is None:
                raise Ended
            yield event
            if isinstance(event, Outcome):
                if event.reason == "terminated":
                    raise Ended
                return
