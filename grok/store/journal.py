"""Journals on disk: what a run has recorded, until MongoDB has it.

A journal is an SQLite database in WAL mode with a row for each event. A row is with the operating
system before `append` returns, so it survives SIGKILL; after a power failure the last rows can be
missing, but the others are whole (`synchronous=NORMAL`). Each row has a checksum of its own, and the
number of rows is kept beside them, so a damaged or shortened journal is noticed. The process that
writes a journal holds a lock, which the system releases even if the process is killed. Whoever reads
the journal of a dead process holds a lock of another file: it must not be taken for the writer.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bson

from grok.errors import UserError
from grok.store.connection import DEFAULT_DATABASE, Store

EVENTS, REASON = "events.sqlite", "reason"  # files of a journal's folder
LOCK, READER_LOCK = "lock", "reader"  # the files that its writer and its reader lock
NEW = ".new-"  # begins the name of a folder that is not locked yet, or not of a run or sweep yet
NEW_FOR = 60.0  # seconds that a process has to lock a folder which it has made
OLD_EVENTS = "journal"  # of versions up to 0.1: BSON documents one after another, locked itself
HEADER = "head"  # kind of a journal's first event
SCHEMA = """
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=NORMAL;
    CREATE TABLE events (seq INTEGER PRIMARY KEY, content BLOB, checksum BLOB);
"""
PIECE = 1 << 20  # bytes of a file that are copied at once
SET_ASIDE = "set-aside"  # folder of journals that cannot be delivered, beside that of journals
# SQLite's primary error codes that say something about the system, not about the file's content
SYSTEM_ERRORS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
Event = dict[str, Any]


class JournalError(UserError):
    """A journal cannot be written or read; one line that says why."""


class DamagedJournal(JournalError):
    """A journal does not have the content that was written."""


class Journal:
    """One run's events and copied files, in a folder that is locked while its process lives.

    Attributes:
        folder: holds the events, the lock and the copied files.
        header: the first event: uri, kind_of_store, database, prefix, run_id, and uid, holder and
            term of the run. Empty if it cannot be read.
        damage: why the header cannot be read; None if it can.
        superseded: why the store takes no more of the run's events; None while it takes them.
        refused: events that the server did not take, a line with the reason for each.
    """

    def __init__(self, folder: Path, descriptor: int, is_old: bool = False) -> None:
        self.folder = folder
        self.descriptor = descriptor  # holds the lock
        self.is_old = is_old
        self.header: Event = {}
        self.count = 0  # of events
        self.damage: JournalError | None = None
        self.superseded: str | None = None
        self.refused: list[str] = []
        self.database: sqlite3.Connection | None = None

    @classmethod
    def create(cls, journals: Path, header: Event, reserved: "Journal | None" = None) -> "Journal":
        """A new, locked journal for the run that `header` describes, in the folder of all journals.

        Arguments:
            reserved: what `reserve` returned to the holder before the run was stored; it becomes the
                journal.

        Raises:
            JournalError: it cannot be written.
        """
        journal = reserved or cls.reserve(journals, header["holder"])
        journal._name_after(header["run_id"], header["holder"])
        try:
            os.close(_create_file(journal.folder / EVENTS))
            journal.database = _open(journal.folder / EVENTS)
            journal.database.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            journal.discard()
            raise _cannot_write(journal.folder, error) from error
        journal.header = header
        try:
            journal.append(bson.encode({"kind": HEADER, **header}))
        except JournalError:
            journal.discard()
            raise
        return journal

    @classmethod
    def lock(cls, journals: Path, document_id: int | str, holder: str) -> "Journal":
        """A new, locked folder without events: it shows other processes that the holder lives.

        Raises:
            JournalError: it cannot be written.
        """
        journal = cls.reserve(journals, holder)
        journal._name_after(document_id, holder)
        return journal

    @classmethod
    def reserve(cls, journals: Path, holder: str) -> "Journal":
        """A locked folder that is not yet of a run or sweep: one that is not stored has no number.

        Raises:
            JournalError: it cannot be written.
        """
        folder = reserved_folder(journals, holder)
        try:
            folder.mkdir(mode=0o700, parents=True)
            descriptor = _create_file(folder / LOCK)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        return cls(folder, descriptor)

    def _name_after(self, document_id: int | str, holder: str) -> None:
        folder = self.folder.with_name(folder_name(document_id, holder))
        try:
            self.folder.rename(folder)
        except OSError as error:
            self.discard()
            raise _cannot_write(folder, error) from error
        self.folder = folder

    @classmethod
    def acquire(cls, folder: Path) -> "Journal | None":
        """The journal of a process that has died, now locked; None if it lives or has no journal, or
        another process reads it."""
        descriptor = _lock_to_read(folder)
        if descriptor is None:
            return None
        journal = cls(folder, descriptor, is_old=not (folder / LOCK).exists())
        try:
            journal.header = next(journal.events(), {})
        except JournalError as error:
            journal.damage = error
        return journal

    def append(self, content: bytes) -> None:
        """Write an event, encoded as BSON, through to the operating system.

        Raises:
            JournalError: it cannot be written; the events before it are.
        """
        assert self.database is not None, "only a journal that this process has made is written"
        row = (self.count, content, _checksum(self.count, content))
        try:
            self.database.execute("INSERT INTO events VALUES (?, ?, ?)", row)
            self.count += 1
            os.pwrite(self.descriptor, self.count.to_bytes(8, "little"), 0)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_write(self.folder, error) from error

    def events(self) -> Iterator[Event]:
        """All events from the first.

        Raises:
            DamagedJournal: after the last event before the first that is not as it was written.
            JournalError: the system does not let it be read.
        """
        if not (self.is_old or (self.folder / EVENTS).exists()):
            return
        rows = self._old_rows() if self.is_old else self._rows()
        for content in rows:
            try:
                event = bson.decode(content)
            except Exception as error:  # bson raises many kinds, for bytes that are no document
                raise DamagedJournal(f"damaged: an event cannot be read ({error})") from error
            yield event

    def _rows(self) -> Iterator[bytes]:
        found = 0
        try:
            expected = int.from_bytes((self.folder / LOCK).read_bytes()[:8], "little")
            with contextlib.closing(self._open_to_read()) as database:
                for seq, content, checksum in database.execute(
                    "SELECT seq, content, checksum FROM events ORDER BY seq"
                ):
                    if seq != found or checksum != _checksum(seq, content):
                        raise DamagedJournal(f"damaged: event {found} is not as it was written")
                    found += 1
                    yield content
        except (OSError, sqlite3.Error, TypeError, OverflowError, MemoryError) as error:
            code = getattr(error, "sqlite_errorcode", 0)
            is_of_system = code & 0xFF in SYSTEM_ERRORS
            if isinstance(error, OSError) or (
                is_of_system and code != sqlite3.SQLITE_IOERR_SHORT_READ
            ):
                raise JournalError(f"cannot be read: {_reason(error)}") from error
            if found < expected or "no such table" not in str(error):
                raise DamagedJournal(f"damaged: {error}") from error
            # else its process was killed before the first event: there is nothing in it
        if found < expected:
            raise DamagedJournal(f"damaged: {expected - found} of {expected} events are missing")

    def _open_to_read(self) -> sqlite3.Connection:
        """The events of a dead process. SQLite removes its log file when it has read it; a second
        name keeps that, in case it is damaged."""
        log = self.folder / f"{EVENTS}-wal"
        with contextlib.suppress(OSError):
            os.link(log, log.with_name(f"{log.name}.kept"))
        return _open(self.folder / EVENTS)

    def _old_rows(self) -> Iterator[bytes]:
        with open(self.folder / OLD_EVENTS, "rb") as file:
            while size := file.read(4):
                length = int.from_bytes(size, "little") - 4
                left = os.fstat(file.fileno()).st_size - file.tell()
                if not 0 < length <= left:
                    raise DamagedJournal("damaged: its last event is incomplete")
                yield size + file.read(length)

    def copy_file(self, path: str) -> tuple[str, str]:
        """Copy a file into the folder; the name of the copy and its SHA-256.

        Raises:
            JournalError: it cannot be copied.
        """
        name, digest = uuid.uuid4().hex, hashlib.sha256()
        try:
            with open(path, "rb") as file, open(_create_file(self.folder / name), "wb") as copy:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    copy.write(piece)
        except OSError as error:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
            raise _cannot_write(self.folder, error) from error
        return name, digest.hexdigest()

    def check_copy(self, name: str, digest: str) -> None:
        """DamagedJournal unless a copied file is there with this SHA-256."""
        try:
            with open(self.folder / name, "rb") as file:
                is_whole = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            is_whole = False
        if not is_whole:
            raise DamagedJournal(f"damaged: the file {name} is not as it was written")

    def close(self) -> None:
        """Unlock the journal, and leave it where it is."""
        if self.database is not None:
            with contextlib.suppress(sqlite3.Error):
                self.database.close()
        os.close(self.descriptor)

    def discard(self) -> None:
        """Delete the journal: all of it has been delivered, or nobody needs it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def set_aside(self, reason: str) -> Path:
        """Move the journal out of the way of the others, with the reason; where it is now."""
        folder = self.folder.parent.with_name(SET_ASIDE) / self.folder.name
        with contextlib.suppress(OSError):  # it stays where it is, and is tried again
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            self.folder.rename(folder)
            self.folder = folder
            (folder / REASON).write_text("\n".join([reason, *self.refused]) + "\n")
        self.close()
        return self.folder

    @property
    def holder(self) -> str:
        """The holder of the lease under which it was written, which a damaged header does not say."""
        name = self.folder.name
        if self.header:
            return self.header.get("holder", name)  # of a version without leases: the folder is one
        return name.rpartition("-")[2]

    @property
    def origin(self) -> Store:
        """The store in which the run was begun, as it was reached then."""
        header = self.header
        return Store(
            header.get("kind_of_store", "uri"),
            header.get("uri", ""),
            header.get("database", DEFAULT_DATABASE),
            self.folder.parents[1],
        )

    def has_origin(self, store: Store) -> bool:
        """Whether the run was begun in the embedded MongoDB, as this one is, or at this URI."""
        origin = self.origin
        return store.kind == "embedded" if origin.kind == "embedded" else store.uri == origin.uri

    def belongs_to(self, store: Store) -> bool:
        """Whether the run was begun in this store, by its place or because the store has the run.

        One database has several URIs: that of `grok store serve` has a node and a port. So the run's
        `uid` counts, which neither another run nor an imported one has. Only a copy of the whole
        database, made by other means than an archive, has it as well; a journal then goes to the one
        that is asked first.

        Raises:
            PyMongoError: the server is away.
        """
        if self.has_origin(store):
            return True
        header = self.header
        if header.get("uid") is None or header["database"] != store.db_name:
            return False
        runs = store.database[f"{header['prefix']}runs"]
        return (
            runs.find_one({"_id": header["run_id"], "uid": header["uid"]}, {"_id": 1}) is not None
        )


def folder_name(run_id: int | str, holder: str) -> str:
    """The name of a journal's folder; a run's id may be any text."""
    return f"{quote(str(run_id), safe='')[:100]}-{holder}"


def waiting(journals: Path) -> Iterator[Journal]:
    """The journals of dead processes in a folder, each locked by this process; close each."""
    for folder in sorted(journals.iterdir()) if journals.exists() else ():
        journal = None if _is_being_made(folder) else Journal.acquire(folder)
        if journal is not None:
            yield journal


def _is_being_made(folder: Path) -> bool:
    """Whether the process that has made a folder may not have locked it yet."""
    try:
        return folder.name.startswith(NEW) and time.time() - folder.stat().st_mtime < NEW_FOR
    except FileNotFoundError:  # it has another name by now
        return True


def count_waiting(store: Store) -> int:
    """The number of journals of dead processes that this store's delivery will look at."""
    count = 0
    for journal in waiting(store.journals):
        with contextlib.closing(journal):
            count += journal.damage is not None or journal.belongs_to(store)
    return count


def of_other_stores(store: Store) -> dict[Path, str]:
    """The journals of dead processes that wait for other stores, by folder, with the store."""
    found = {}
    for journal in waiting(store.journals):
        with contextlib.closing(journal):
            if journal.header and not journal.belongs_to(store):
                found[journal.folder] = journal.origin.describe()
    return found


def set_aside(store: Store) -> dict[Path, str]:
    """The journals that could not be delivered, by folder, with the reason."""
    found = {}
    parent = store.journals.with_name(SET_ASIDE)
    for folder in sorted(parent.iterdir()) if parent.exists() else ():
        try:
            found[folder] = (folder / REASON).read_text().partition("\n")[0]
        except OSError:
            found[folder] = "no reason is given"
    return found


def reserved_folder(journals: Path, holder: str) -> Path:
    """The folder that a holder locks before its run or sweep is stored."""
    return journals / f"{NEW}{holder}"


def is_locked(folder: Path) -> bool | None:
    """Whether a living process writes this journal; None if it is not there."""
    for name in (LOCK, OLD_EVENTS):
        descriptor = None
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return False
    return None


def is_written(journals: Path, run_id: int | str) -> bool:
    """Whether a living process holds a journal of a run of this number in the folder of all journals.

    It is for runs of versions without leases.
    """
    prefix = folder_name(run_id, "").removesuffix("-")
    folders = journals.iterdir() if journals.exists() else ()
    return any(folder.name.rpartition("-")[0] == prefix and is_locked(folder) for folder in folders)


def discard(store: Store, run: dict[str, Any]) -> None:
    """Delete the journals that dead processes left of a run which is deleted, or recorded anew."""
    for journal in waiting(store.journals):
        header = journal.header
        is_of_run = header.get("run_id") == run["_id"] and header.get("uid") == run.get("uid")
        if is_of_run and ("uid" in run or journal.has_origin(store)):
            journal.discard()
        else:
            journal.close()


def _lock_to_read(folder: Path) -> int | None:
    """A descriptor that holds the reader's lock of a dead process's journal; None if that process
    lives, another one reads the journal, or it is not there."""
    if is_locked(folder) is not False:
        return None
    path = folder / READER_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and is_locked(folder) is False:  # else it has just been delivered
            return descriptor
        with contextlib.suppress(OSError):
            path.unlink()
            folder.rmdir()
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA locking_mode=EXCLUSIVE")  # then there is no shared memory to share
    database.execute("PRAGMA cell_size_check=ON")
    return database


def _create_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _checksum(seq: int, content: bytes) -> bytes:
    return hashlib.blake2b(seq.to_bytes(8, "little") + content, digest_size=16).digest()


def _cannot_write(folder: Path, error: Exception) -> JournalError:
    return JournalError(f"the journal {folder} cannot be written: {_reason(error)}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
