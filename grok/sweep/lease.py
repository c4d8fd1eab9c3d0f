"""Who may run a sweep of `grok sweep run`: one process at a time, by a lease in the sweep's document."""

import threading
from collections.abc import Collection, Mapping
from typing import Any

from pymongo.errors import PyMongoError

from grok.errors import UserError
from grok.store import lease
from grok.store.connection import Store
from grok.store.journal import Journal
from grok.store.lease import Lease, LeaseLost
from grok.store.maintenance import interrupt
from grok.store.status import FINISHED

RUNNING_SWEEP = ("state", "running")
RENEWAL_INTERVAL = 5.0  # seconds


def check_is_free(store: Store, sweep: Mapping[str, Any]) -> None:
    """UserError if a living process runs the sweep, or one of its runs."""
    database = store.database
    if lease.is_alive(store, database.sweeps, sweep, RUNNING_SWEEP):
        raise UserError(f"sweep {sweep['_id']} is still running")
    for run in database.runs.find({"meta.sweep.id": sweep["_id"], "status": "RUNNING"}):
        if lease.is_alive(store, database.runs, run):
            raise UserError(f"run {run['_id']} of sweep {sweep['_id']} is still running")


class SweepLease:
    """The lease of a sweep while a block runs it. A thread renews it.

    Each run of the sweep is stored before it renews the lease, and begins only if that succeeds. So
    what a former holder begins is either refused, or in the store when the lease is taken.

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
        # The lock comes first: a process that is killed after it has the lease is known to be dead.
        holder = lease.new_holder(self.store)
        self.lock = Journal.lock(self.store.journals, self.sweep["_id"], holder["holder"])
        try:
            taken = lease.take(self.store, self.sweeps, self.sweep, RUNNING_SWEEP, holder)
        except BaseException:
            self.lock.discard()
            raise
        self.lease = Lease.of(taken)
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

    def end_unfinished_runs(self, resumed: Collection[Any]) -> None:
        """Take the leases of the sweep's unfinished runs, and mark those RUNNING as INTERRUPTED.

        A former holder of the sweep could still finish them, or have finished them in a journal, and
        their points are trained again.

        Arguments:
            resumed: ids of those that go on; who resumes one takes its lease then.
        """
        runs = self.store.database.runs
        of_sweep = {"meta.sweep.id": self.sweep["_id"]}
        ended = {**of_sweep, "_id": {"$nin": list(resumed)}, "status": {"$ne": "IMPORTING"}}
        holder = lease.entries_of_holder(lease.new_holder(self.store))
        taken = {"$set": holder, "$inc": {"lease.term": 1}}
        runs.update_many({**ended, "$nor": [FINISHED]}, taken)
        for run in runs.find({**of_sweep, "status": "RUNNING"}):
            interrupt(self.store.database, run)

    def check(self) -> None:
        """UserError if another process has taken the sweep over."""
        if self.loss is not None:
            raise self.loss

    def _renew(self) -> None:
        while True:
            try:
                self.lease.renew(self.sweeps)
            except LeaseLost as loss:
                self.loss = loss
                return
            except PyMongoError:
                pass  # the server is away; the runs wait for it, too
            if self.is_over.wait(RENEWAL_INTERVAL):
                return
