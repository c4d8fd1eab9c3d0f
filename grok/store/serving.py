"""The embedded MongoDB for several machines: served over TCP, with a password.

While `grok store serve` runs, a file in the home has the address and the password. Every command
of this user that finds the file uses the server: on a cluster, those of all nodes that share the
home.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from grok.errors import UserError
from grok.interrupts import raise_on_signals
from grok.paths import make_private_folder, write_private
from grok.store import mongod
from grok.store.connection import DEFAULT_DATABASE, redacted, served_file

Process = subprocess.Popen[bytes]
USER = "grok"
ROLES = ["readWriteAnyDatabase", "dbAdminAnyDatabase"]
NO_SUCH_USER = 11  # MongoDB's error code
POLL_INTERVAL = 0.3  # seconds


def serve(server: mongod.Server, host: str, port: int, command: Sequence[str]) -> int:
    """Serve until a signal arrives, or a command has ended. A mongod that dies is started again.

    Arguments:
        server: the embedded server whose data it is; nobody can use it in another way meanwhile.
        host: the address to listen on.
        port: 0 chooses a free one.
        command: what runs meanwhile, with GROK_MONGO_URI; empty for nothing.

    Returns:
        the exit code of the command; 0 without one, or after a signal.

    Raises:
        UserError: the embedded server is in use, or mongod cannot listen or does not start.
    """
    raise_on_signals()
    with server.stopped(), contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        make_private_folder(server.data)
        password = _password(server)
        _set_password(server, password)
        port = _free_port(host, port)
        reachable = socket.gethostname() if host == "0.0.0.0" else host
        uri = f"mongodb://{USER}:{password}@{reachable}:{port}/{DEFAULT_DATABASE}?authSource=admin"
        options = ("--auth", "--port", str(port))
        child = stack.enter_context(_mongod(server, uri, *options, host=host))
        write_private(served_file(), json.dumps({"uri": uri}))
        stack.callback(served_file().unlink, missing_ok=True)
        print(f"serving {redacted(uri)}; {served_file()} has the password", flush=True)
        process = stack.enter_context(_running(command, uri)) if command else None
        while process is None or process.poll() is None:
            if child.poll() is not None:
                child = stack.enter_context(_mongod(server, uri, *options, host=host))
            time.sleep(POLL_INTERVAL)
        return process.returncode
    return 0


def _password(server: mongod.Server) -> str:
    """The password of the last time, so that clients go on after a restart, or else a new one."""
    path = server.folder / "password"
    if not path.exists():
        write_private(path, secrets.token_hex(20))
    return path.read_text()


def _set_password(server: mongod.Server, password: str) -> None:
    """Store the user in the database, while only this process can reach it."""
    uri = mongod.socket_uri(server.socket)
    user: dict[str, Any] = {"pwd": password, "roles": ROLES}
    with _mongod(server, uri):
        client: pymongo.MongoClient = pymongo.MongoClient(uri)
        with client:
            try:
                client.admin.command({"updateUser": USER, **user})
            except OperationFailure as error:
                if error.code != NO_SUCH_USER:
                    raise
                client.admin.command({"createUser": USER, **user})


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; UserError if nothing can listen there."""
    try:
        with socket.create_server((host, port)) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from error


@contextlib.contextmanager
def _mongod(
    server: mongod.Server, uri: str, *options: str, host: str | None = None
) -> Iterator[Process]:
    """A mongod on the server's data, which answers at a URI while the block runs."""
    began = time.time()
    with _ended(mongod.spawn(server.data, server.socket, server.log, *options, host=host)) as child:
        client: pymongo.MongoClient = pymongo.MongoClient(
            uri, serverSelectionTimeoutMS=mongod.PING_TIMEOUT_MS
        )
        with client:
            while not _answers(client):
                if child.poll() is not None or time.time() > began + mongod.START_TIMEOUT:
                    known = server.failure(began)
                    raise UserError(known or f"MongoDB does not start; see {server.log}")
        yield child


def _answers(client: pymongo.MongoClient) -> bool:
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _running(command: Sequence[str], uri: str) -> contextlib.AbstractContextManager[Process]:
    """A command with the store at a URI, which ends with the block."""
    try:
        return _ended(subprocess.Popen(command, env={**os.environ, "GROK_MONGO_URI": uri}))
    except OSError as error:
        raise UserError(f"cannot run {command[0]}: {error.strerror}") from error


@contextlib.contextmanager
def _ended(process: Process) -> Iterator[Process]:
    """A process that is terminated at the end of the block, and waited for."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
