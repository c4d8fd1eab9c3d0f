"""Sacred runs side by side in one process: a thread each, which records the events of its replica."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

from sacred.run import Run
from sacred.utils import SacredInterrupt

from grok.engine.events import Event, Outcome
from grok.store.observer import check_recorded


class Ended(SacredInterrupt):
    """The run was ended from outside: it is INTERRUPTED, and keeps what it has."""

    STATUS = "INTERRUPTED"


class EventQueue:
    """The events of one replica, put by the thread that trains and read by the one that records."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        self._queue.put(event)

    def end(self) -> None:
        """End the run as INTERRUPTED after the events so far."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Event]:
        """The events up to the Outcome; Ended is raised where the run is cut short."""
        while True:
            event = self._queue.get()
            if event is None:
                raise Ended
            yield event
            if isinstance(event, Outcome):
                if event.reason == "terminated":
                    raise Ended
                return


class RunThread(threading.Thread):
    """Records one Sacred run while its replica trains in another thread."""

    def __init__(self, run: Run, events: EventQueue):
        super().__init__(name="run", daemon=True)
        self.sacred_run, self.events = run, events
        self.failure: BaseException | None = None

    @property
    def result(self) -> dict[str, Any]:
        return self.sacred_run.result or {}

    @property
    def status(self) -> str:
        return str(self.sacred_run.status)

    def run(self) -> None:
        try:
            self.sacred_run()
            check_recorded(self.sacred_run)
        except Ended:
            pass
        except BaseException as failure:
            self.failure = failure
