"""Who may run a sweep of `grok sweep run`: one process at a time, by a lease in the sweep's document."""

import threading
from collections.abc import Mapping
from typing import Any

from pymongo.errors import PyMongoError

from grok.errors import UserError
from grok.store import lease
from grok.store.connection import Store
from grok.store.journal import Journal
from grok.store.lease import Lease, LeaseLost
from grok.store.maintenance import interrupt

RUNNING_SWEEP = ("state", "running")
RENEWAL_INTERVAL = 5.0  # seconds


def check_is_free(store: Store, sweep: Mapping[str, Any]) -> None:
    """UserError if a living process runs the sweep, or one of its runs; dead runs become INTERRUPTED."""
    database = store.database
    if lease.is_alive(store, database.sweeps, sweep, RUNNING_SWEEP):
        raise UserError(f"sweep {sweep['_id']} is still running")
    runs = list(database.runs.find({"meta.sweep.id": sweep["_id"], "status": "RUNNING"}))
    alive = [run["_id"] for run in runs if lease.is_alive(store, database.runs, run)]
    if alive:
        raise UserError(f"run {alive[0]} of sweep {sweep['_id']} is still running")
    for run in runs:
        interrupt(database, run)


class SweepLease:
    """The lease of a sweep while a block runs it. A thread renews it.

    Arguments:
        sweep: the stored document, as it was when its pending points were read.

    Raises:
        UserError: on entry, another process has the sweep by now.
    """

    def __init__(self, store: Store, sweep: Mapping[str, Any]) -> None:
        self.store, self.sweep = store, sweep
        self.sweeps = store.database.sweeps
        self.loss: LeaseLost | None = None
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="sweep lease", daemon=True)

    def __enter__(self) -> "SweepLease":
        self.lease = Lease.of(lease.take(self.store, self.sweeps, self.sweep, RUNNING_SWEEP))
        self.lock = Journal.lock(self.store.journals, self.sweep["_id"], self.lease.holder)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.is_over.set()
        self.thread.join()
        state = "interrupted" if kind is not None else "finished"
        try:
            self.sweeps.update_one(self.lease.fence, {"$set": {"state": state}})
        finally:
            self.lock.discard()

    def check(self) -> None:
        """UserError if another process has taken the sweep over."""
        if self.loss is not None:
            raise self.loss

    def _renew(self) -> None:
        change = {"$currentDate": {"lease.renewed": True}}
        while True:
            try:
                if not self.sweeps.update_one(self.lease.fence, change).matched_count:
                    self.lease.require(self.sweeps)
            except LeaseLost as loss:
                self.loss = loss
                return
            except PyMongoError:
                pass  # the server is away; the runs wait for it, too
            if self.is_over.wait(RENEWAL_INTERVAL):
                return
