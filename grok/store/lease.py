"""Who may write a run: one process at a time, by a lease in the run's document.

A lease has a term, a number that each new holder raises by one, and the holder's id. Whoever begins,
resumes or deletes a run takes the lease by one atomic update of its document. Every write of a run
names the holder in its filter, so the server itself refuses what a former holder sends, however late.
Heartbeats renew the lease at the server's time: the clocks of nodes do not matter, and a lease that
was taken too early costs the former holder its run but never mixes two.
"""

import os
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection

from grok.errors import UserError
from grok.store import journal
from grok.store.connection import Store
from grok.store.status import DEAD_AFTER, is_silent, silence

FIRST_TERM = 1
RUNNING_RUN = ("status", "RUNNING")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # of the running system; containers share it
MOUNTS = Path("/proc/self/ns/mnt")  # of the container, or of the system


class LeaseLost(UserError):
    """The document has another holder by now, or is no longer there."""


@dataclass(frozen=True)
class Lease:
    """The right to write one document.

    document_id: the run's id.
    term: number of the lease among all that the document had, from 1.
    holder: id of this holder.
    """

    document_id: Any
    term: int
    holder: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Lease":
        """The lease that a document holds."""
        return cls(document["_id"], document["lease"]["term"], document["lease"]["holder"])

    @property
    def fence(self) -> dict[str, Any]:
        """The filter of every write: it matches the document while this lease is valid."""
        return {"_id": self.document_id, "lease.holder": self.holder}

    def renew(self, documents: Collection) -> None:
        """Renew the lease; LeaseLost if the document has another holder by now, or is not there."""
        change = {"$currentDate": {"lease.renewed": True}}
        if not documents.update_one(self.fence, change).matched_count:
            self.require(documents)

    def require(self, documents: Collection) -> None:
        """LeaseLost if the document has another holder by now, or is not there."""
        kind = _kind(documents)
        document = documents.find_one({"_id": self.document_id}, {"lease": 1})
        if document is None:
            raise LeaseLost(f"{kind} {self.document_id} is no longer in the store")
        lease = document.get("lease") or {}
        if lease.get("holder") != self.holder:
            raise LeaseLost(
                f"{kind} {self.document_id} has been taken over by another process"
                f" on {lease.get('host')} (term {lease.get('term')})"
            )


def new_holder(store: Store) -> dict[str, Any]:
    """The entries of a lease that say who holds it: this process, once."""
    return {
        "holder": uuid.uuid4().hex,
        "host": platform.node(),
        "machine": _machine(),
        "journals": str(store.journals),
    }


def entries_of_holder(holder: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a document that a lease of this holder changes."""
    return {f"lease.{key}": entry for key, entry in holder.items()}


def take(
    store: Store,
    documents: Collection,
    seen: Mapping[str, Any],
    running: tuple[str, str] = RUNNING_RUN,
    holder: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Take the lease of a run or sweep that no living process writes, and mark it as running.

    Arguments:
        documents: its collection.
        seen: the document as it was when it was found to be free.
        running: the field that says whether it is running, and its value then.
        holder: what `new_holder` returned, if the holder has locked its journal already.

    Returns:
        the document with its new lease.

    Raises:
        UserError: it has another holder by now, or one that is alive.
    """
    field, value = running
    free: dict[str, Any] = {"_id": seen["_id"], "lease.holder": holder_of(seen)}
    if holder_is_alive_here(store, seen) is not False:
        free["$or"] = [{field: {"$ne": value}}, {"$expr": is_silent()}]
    taken = documents.find_one_and_update(
        free,
        {
            "$set": {**entries_of_holder(holder or new_holder(store)), field: value},
            "$inc": {"lease.term": 1},
            "$currentDate": {"lease.taken": True},
            "$unset": {"lease.renewed": "", "lease.is_dead": ""},
        },
        return_document=ReturnDocument.AFTER,
    )
    if taken is None:
        raise UserError(f"{_kind(documents)} {seen['_id']} has just been taken by another process")
    return taken


def is_alive(
    store: Store,
    documents: Collection,
    document: Mapping[str, Any],
    running: tuple[str, str] = RUNNING_RUN,
) -> bool:
    """Whether a run or sweep is running, and its holder lives or has renewed its lease lately.

    Arguments:
        documents: its collection.
        running: the field that says whether it is running, and its value then.
    """
    field, value = running
    if document.get(field) != value:
        return False
    alive_here = holder_is_alive_here(store, document)
    if alive_here is not None:
        return alive_here
    return silence(documents, {"_id": document["_id"]}).get(document["_id"], 0.0) <= DEAD_AFTER


def holder_is_alive_here(store: Store, document: Mapping[str, Any]) -> bool | None:
    """Whether the holder is a living process of this machine; None if that cannot be told here."""
    lease = document.get("lease")
    if lease is None:  # of a version without leases
        return journal.is_written(store.journals, document["_id"]) or None
    if lease.get("is_dead"):  # its journal has been delivered since
        return False
    if lease.get("machine") != _machine():
        return None
    name = journal.folder_name(document["_id"], lease["holder"])
    journals = Path(lease["journals"])
    is_locked = journal.is_locked(journals / name)
    if is_locked is None:  # the holder was killed before its journal had the document's number
        is_locked = journal.is_locked(journal.reserved_folder(journals, lease["holder"]))
    if is_locked is None and "renewed" in lease:
        return False  # the holder had a journal by then; it is dead and all of that is delivered
    return is_locked


def _kind(documents: Collection) -> str:
    return documents.name.rpartition("_")[2].removesuffix("s")


def holder_of(document: Mapping[str, Any]) -> str | None:
    """Who may write the document; None if nobody has taken it."""
    return (document.get("lease") or {}).get("holder")  # None matches a missing field, too


def _machine() -> str:
    """What two processes have in common that see each other's locks and files."""
    try:
        return f"{BOOT_ID.read_text().strip()} {os.readlink(MOUNTS)}"
    except OSError:
        return platform.node()
