"""`grok store serve`: the embedded MongoDB over TCP, with a password."""

import os
import signal
import stat
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from grok.cli import main
from grok.store import connection as stores
from tests.helpers import mongods, wait_until

SERVE = [sys.executable, "-m", "grok.cli", "store", "serve", "--port", "0"]


def test_a_served_store_needs_its_password_and_outlives_a_killed_mongod(home):
    """Other users of a cluster reach the port. Without the password they may read nothing; the
    user's own commands need no variable, and a server that has gone is never replaced unseen by an
    empty one."""
    serving = subprocess.Popen(SERVE, stdout=subprocess.PIPE, text=True)
    assert serving.stdout.readline().startswith("serving mongodb://***@127.0.0.1:")
    for path in (home / "mongodb.json", home / "mongo" / "password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parts = urlsplit(stores.served_uri())
    with MongoClient(parts.hostname, parts.port) as stranger, pytest.raises(OperationFailure):
        stranger.sacred.runs.find_one()
    store = stores.connect()
    assert store.kind == "uri" and parts.password not in store.describe()
    store.database.runs.insert_one({"_id": 1, "status": "COMPLETED"})
    [mongod] = mongods(home)
    os.kill(mongod, signal.SIGKILL)
    wait_until(lambda: mongods(home) not in ([], [mongod]))
    assert stores.connect().database.runs.count_documents({}) == 1
    serving.kill()
    serving.wait()
    wait_until(lambda: not mongods(home))
    refused = CliRunner().invoke(main, ["store", "status"])
    assert refused.exit_code == 2 and "serve it again, or delete" in refused.output
    ls = subprocess.run([*SERVE, sys.executable, "-c", "import os; exit(os.getppid() > 1)"])
    assert ls.returncode == 1  # that of the command
    assert not (home / "mongodb.json").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [(["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"), (["no-command"], "cannot run")],
)
def test_what_cannot_be_served_is_one_line(home, options, error):
    """A job that cannot serve must end, and say why, before any agent waits for it."""
    done = subprocess.run([*SERVE, *options], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {error}")
    assert not (home / "mongodb.json").exists()
