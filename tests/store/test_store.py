"""The embedded MongoDB and the durable observer, in one process or a few."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import bson
import pymongo
import pytest
from click.testing import CliRunner
from pymongo.errors import ExecutionTimeout

from grok.cli import main
from grok.engine.problem import log_steps
from grok.errors import UserError
from grok.experiment.experiment import Experiment
from grok.experiment.repeat import resume
from grok.store import archive, delivery, journal, maintenance, mongod
from grok.store import connection as stores
from grok.store.observer import DurableObserver
from tests.conftest import PROJECT
from tests.helpers import mongods, wait_until
from tests.store.writers import Writer, held_delivery, node, stored

JOIN = "from grok.paths import home; from grok.store import mongod; print(mongod.Server(home()).ensure(), flush=True); input()"


def user(home: Path, code: str = JOIN) -> subprocess.Popen:
    """A process that uses the embedded server until its standard input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "GROK_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=environment, **pipes)


def test_only_this_user_can_reach_it_and_only_by_its_socket(store, grok_home):
    server = mongod.Server(grok_home)
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    (pid,) = mongods(grok_home)
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # The server opens and closes files meanwhile; a socket that listens stays.
        with contextlib.suppress(FileNotFoundError):
            sockets.add(os.readlink(descriptor))
    listening = [
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert not {f"socket:[{inode}]" for inode in listening} & sockets
    # Nor is there one in /tmp, as MongoDB has by default: one of another user would be in the way.
    table = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    accepting = [row for row in table if row[3] == "00010000" and f"socket:[{row[6]}]" in sockets]
    assert [row[7] for row in accepting] == [str(server.socket)]


def test_two_that_start_at_once_share_one_server_and_the_last_one_ends_it(home):
    users = [user(home), user(home)]
    assert users[0].stdout.readline() == users[1].stdout.readline()
    assert len(mongods(home)) == 1
    users[0].communicate("\n")
    time.sleep(1)
    assert len(mongods(home)) == 1
    users[1].communicate("\n")
    wait_until(lambda: not mongods(home))
    assert not mongod.Server(home).socket.exists()


def test_a_killed_user_blocks_nobody(home):
    first = user(home)
    first.stdout.readline()
    first.kill()
    first.wait()
    wait_until(lambda: not mongods(home))
    second = user(home)
    assert "mongod.sock" in second.stdout.readline()
    second.communicate("\n")


def test_a_killed_server_comes_back_while_it_is_used(home):
    one = user(home)
    uri = one.stdout.readline().strip()
    (pid,) = mongods(home)
    os.kill(pid, 9)
    wait_until(lambda: mongods(home) not in ([], [pid]))
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)
    assert client.admin.command("ping")["ok"] == 1
    one.communicate("\n")


def test_a_killed_keeper_leaves_no_server_behind_and_stale_files_do_no_harm(home):
    one = user(home)
    one.stdout.readline()
    subprocess.run(["pkill", "-9", "-f", f"grok.store.mongod {home}"], check=True)
    wait_until(lambda: not mongods(home))
    one.kill()
    one.wait()
    mongod.Server(home).socket.touch()
    two = user(home)
    assert "mongod.sock" in two.stdout.readline()
    assert len(mongods(home)) == 1
    two.communicate("\n")


def test_a_long_home_gets_a_short_socket(tmp_path):
    server = mongod.Server(tmp_path / ("x" * 120))
    server.prepare()
    assert len(str(server.socket)) < 100
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    server.socket.parent.rmdir()


def test_a_long_home_has_the_same_socket_whatever_the_temp_folder_is(tmp_path, monkeypatch):
    """A Slurm job often has a TMPDIR of its own, which is deleted after it: other processes would
    look for the running server in another place, and wait for it in vain."""
    sockets = set()
    for name in ("a", "b"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        sockets.add(mongod.Server(tmp_path / ("x" * 120)).socket)
    assert len(sockets) == 1


def test_a_server_that_does_not_answer_is_one_line_within_5_seconds():
    began = time.monotonic()
    with pytest.raises(
        UserError, match=r"MongoDB at mongodb://\*\*\*@127.0.0.1:1/x does not answer"
    ):
        stores.connect("mongodb://me:secret@127.0.0.1:1/x")
    assert time.monotonic() - began < 5


def test_incense_reads_runs_and_metrics(liu_toy, store):
    from incense import ExperimentLoader

    run = liu_toy.run(config_updates={"train_steps": 20, "p": 6, "seed": 1})
    loader = ExperimentLoader(mongo_uri=store.uri, db_name=store.db_name)
    found = loader.find_by_id(run._id)
    assert found.status == "COMPLETED"
    assert list(found.metrics["test_accuracy"].index)[-1] == 20
    assert found.artifacts["trajectory.npz"].content
    table = loader.find({"_id": run._id}).project(on=["config.p", "metrics.test_accuracy"])
    assert table["p"].tolist() == [6]


def test_a_run_with_a_name_does_not_break_the_numbers(liu_toy, store):
    few = {"train_steps": 2, "p": 5, "seed": 1}
    before = liu_toy.run(config_updates=few)._id
    assert (
        liu_toy.run(config_updates=few, options={"--id": f"named-{before}"})._id
        == f"named-{before}"
    )
    assert liu_toy.run(config_updates=few)._id == before + 1


LATE = ExecutionTimeout("operation would exceed time limit", 50)  # of a server that is slow


def test_what_the_server_was_too_slow_for_is_delivered_again(liu_toy, store, monkeypatch, capsys):
    """Left out, it would be lost: later values of a metric close the way for earlier ones."""
    deliver, late = delivery.Delivery.apply, set()

    def slow(self, event, *rest):
        if event["kind"] == "values" and self.lease.document_id not in late:
            late.add(self.lease.document_id)
            raise LATE
        deliver(self, event, *rest)

    monkeypatch.setattr(delivery.Delivery, "apply", slow)
    run = liu_toy.run(config_updates={"train_steps": 20, "p": 5, "seed": 1})
    assert run._id in late
    steps = [one["steps"][0] for one in store.database.metrics.find({"run_id": run._id})]
    assert steps and set(steps) == {0}
    assert store.database.runs.find_one({"_id": run._id})["status"] == "COMPLETED"
    assert capsys.readouterr().err == "" and not list(store.journals.glob(f"{run._id}-*"))


def test_a_run_that_cannot_be_begun_is_one_error(liu_toy, monkeypatch, caplog):
    def late(self):
        raise LATE

    monkeypatch.setattr(DurableObserver, "insert", late)
    with pytest.raises(UserError, match="does not answer: operation would exceed time limit"):
        liu_toy.run(config_updates={"train_steps": 20, "p": 5, "seed": 1})
    assert not [line for line in caplog.messages if "Traceback" in line]


def test_without_any_mongod_runs_go_to_files_and_say_so(home, monkeypatch, capfd):
    from grok.experiment.experiment import load

    monkeypatch.setattr(mongod, "binary", lambda: None)
    paper = load(PROJECT / "experiments" / "liu_toy.py")
    run = paper.run(config_updates={"train_steps": 5, "p": 5, "seed": 1})
    assert run.status == "COMPLETED"
    assert f"no MongoDB: this run goes to files in {home / 'files'}" in capfd.readouterr().err
    assert (home / "files" / run._id / "metrics.json").exists()


EMBEDDED = {"kind_of_store": "embedded", "uri": "mongodb://socket-of-then"}
NAMED = {"kind_of_store": "uri", "uri": "mongodb://there/x"}


@pytest.mark.parametrize(
    ("header", "kind", "uri", "belongs"),
    [
        (EMBEDDED, "embedded", "mongodb://socket-of-then", True),
        (EMBEDDED, "embedded", "mongodb://socket-of-now", True),  # the folder has moved
        (EMBEDDED, "uri", "mongodb://socket-of-then", False),
        (NAMED, "uri", "mongodb://there/x", True),
        (NAMED, "uri", "mongodb://elsewhere/x", False),
        (NAMED, "embedded", "mongodb://socket-of-now", False),
        ({}, "uri", "mongodb://there/x", False),  # killed before the header was written
    ],
)
def test_a_journal_of_a_run_without_a_uid_goes_by_the_place_of_its_store(
    tmp_path, header, kind, uri, belongs
):
    """Early versions gave runs none. Nothing else says then which database it is of."""
    written = journal.Journal.create(tmp_path, {"run_id": 1, "holder": "x", **header})
    assert written.belongs_to(stores.Store(kind, uri, home=tmp_path)) == belongs
    written.discard()


EMBEDDED_STORE = ("embedded", "mongodb://socket")
SERVED_STORE = ("uri", "mongodb://grok:secret@node1:27017/sacred?authSource=admin")
SERVED_ELSEWHERE = ("uri", "mongodb://grok:secret@node2:27018/sacred?authSource=admin")


@pytest.fixture
def reached(store, tmp_path):
    """One database, which a test sees as it is reached by a kind of store and a URI."""

    def reached(kind: str, uri: str) -> stores.Store:
        seen = node(store, tmp_path)
        seen.kind, seen.uri, seen.db_name = kind, uri, "reached"
        return seen

    with held_delivery():
        yield reached
    store.client.drop_database("reached")


@pytest.mark.parametrize(
    ("begun", "later"),
    [
        (SERVED_STORE, EMBEDDED_STORE),
        (SERVED_STORE, SERVED_ELSEWHERE),
        (EMBEDDED_STORE, SERVED_STORE),
    ],
)
def test_a_journal_is_delivered_to_its_database_by_whatever_uri_that_is_reached(
    reached, begun, later
):
    """The job of `grok store serve` ends, or starts again on another node: the journals of runs that
    ended meanwhile were neither delivered nor counted, and their points were trained again."""
    writer, here = Writer(reached(*begun)), reached(*later)
    writer.log(1.0, 2.0)
    writer.complete()
    writer.die()
    assert journal.count_waiting(here) == 1 and journal.of_other_stores(here) == {}
    assert delivery.recover(here) == 1
    assert stores.find_run(here.database, writer.run)["status"] == "COMPLETED"
    assert stored(here, writer.run) == {"loss": [1.0, 2.0]}


def test_a_resumed_run_leaves_no_journal_of_its_database_by_another_uri(reached):
    """It would be delivered later, and be set aside as that of a run that has been taken over."""
    writer, here = Writer(reached(*SERVED_STORE)), reached(*EMBEDDED_STORE)
    writer.log(1.0)
    writer.die()
    resumed = Writer(here, resumes=stores.find_run(here.database, writer.run))
    assert list(here.journals.iterdir()) == [resumed.journal.folder]


@pytest.mark.parametrize("kind", ["another run", "an imported run", "no run"])
def test_a_journal_never_goes_to_a_database_that_does_not_have_its_run(reached, tmp_path, kind):
    """Whatever has its number there is another run, or was imported and is written by nobody. The
    journal is named by every command that looks for such, without the password."""
    writer, here = Writer(reached(*SERVED_STORE)), reached(*EMBEDDED_STORE)
    writer.log(1.0)
    writer.die()
    archive.export(here.database, {}, tmp_path / "runs.zip")
    here.client.drop_database("reached")  # from now on it is another one with this name
    if kind == "another run":
        other = Writer(here)
        assert other.run == writer.run
    if kind == "an imported run":
        archive.import_(here.database, tmp_path / "runs.zip")
        assert stores.find_run(here.database, writer.run)["status"] == "RUNNING"
    lines: list[str] = []
    assert delivery.recover(here, lines.append) == 0 and journal.count_waiting(here) == 0
    place = "MongoDB at mongodb://***@node1:27017/sacred?authSource=admin"
    assert lines == [f"run 1: waits for another store, {place}"]
    assert journal.of_other_stores(here) == {writer.journal.folder: place}
    assert stored(here, writer.run) == {}
    message = f"{writer.journal.folder} is a journal that waits for another store, {place}"
    assert message in [fault.message for fault in maintenance.examine(here)]


def test_the_status_counts_the_journals_of_other_stores(store):
    header = {"database": store.db_name, "prefix": "", "run_id": 1, "term": 1, "holder": "there"}
    foreign = journal.Journal.create(store.journals, {**header, **NAMED})
    foreign.close()
    shown = CliRunner().invoke(main, ["store", "status"])
    assert '1 journals wait for other stores: "grok store doctor" names them' in shown.output
    shutil.rmtree(foreign.folder)


def test_recovery_leaves_the_journals_of_other_stores(store, tmp_path):
    here = replace(store, db_name="recovery", home=tmp_path)
    header = {"database": here.db_name, "prefix": "", "run_id": 1, "term": 1}
    foreign = journal.Journal.create(here.journals, {**header, "holder": "there", **NAMED})
    own = journal.Journal.create(here.journals, {**header, "holder": "here", **EMBEDDED})
    for written in (foreign, own):
        event = {"kind": "state", "seq": 1, "fields": {"status": "COMPLETED"}}
        written.append(bson.encode(event))
        written.close()
    run = {"_id": 1, "status": "RUNNING", "lease": {"term": 1, "holder": "here"}}
    here.database.runs.insert_one(run)
    assert journal.count_waiting(here) == 1
    assert delivery.recover(here) == 1
    assert here.database.runs.find_one({"_id": 1})["status"] == "COMPLETED"
    assert list(here.journals.iterdir()) == [foreign.folder]
    journal.discard(here, run)
    assert list(here.journals.iterdir()) == [foreign.folder]
    store.client.drop_database("recovery")


def test_a_full_disk_stops_a_run_that_says_so_and_can_be_resumed(liu_toy, store, monkeypatch):
    """Fault 3: all that was logged until then is in the store, without a gap, and FAILED."""
    append, full, written = journal.Journal.append, os.strerror(errno.ENOSPC), []

    def failing(self, content):
        written.append(bson.decode(content)["kind"])
        if written.count("values") > 1:
            raise journal.JournalError(f"the journal cannot be written: {full}")
        append(self, content)

    updates = {"train_steps": 2000, "log_points": 2000, "p": 5, "seed": 1}
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "append", failing)
        patch.setattr(Experiment, "_configured_run", beating(0.05))
        with pytest.raises(UserError, match=r"No space left on device; .*`grok resume \d+`"):
            liu_toy.run(config_updates=updates)
    run = store.database.runs.find_one({}, sort=[("start_time", -1)])
    assert run["status"] == "FAILED" and "No space left" in "".join(run["fail_trace"])
    curve = store.database.metrics.find_one({"run_id": run["_id"], "name": "train_loss"})
    assert curve["steps"] == log_steps(2000, 2000)[: len(curve["steps"])]
    assert 1 < len(curve["steps"]) < 1500
    assert resume(store, run["_id"])[0].status == "COMPLETED"
    curve = store.database.metrics.find_one({"run_id": run["_id"], "name": "train_loss"})
    assert curve["steps"] == log_steps(2000, 2000)


def beating(seconds: float):
    """In place of Experiment._configured_run: runs with heartbeats after so many seconds."""
    original = Experiment._configured_run

    def configured(self, *args, **kwargs):
        run = original(self, *args, **kwargs)
        run.beat_interval = seconds
        return run

    return configured


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://bob:secret@127.0.0.1:1/db",
        "mongodb://bob:sec/ret@127.0.0.1:1/db",
        "mongodb://bob:sec@ret@127.0.0.1:1/db",
        "mongodb://bob:sec:ret@127.0.0.1:1/db",
        "MONGODB+SRV://bob:secret@127.0.0.1:1/db",
        "bob:secret@127.0.0.1:1",
        "mongodb://bob:secret@127.0.0.1:port/db",
    ],
)
def test_no_part_of_a_password_is_printed(uri):
    """Errors go to the logs of batch jobs. A password with a character that has to be written another
    way is the usual reason for such an error."""
    with pytest.raises(UserError) as raised:
        stores.connect(uri)
    assert "sec" not in str(raised.value) and "ret" not in str(raised.value)
    assert "***@127.0.0.1" in str(raised.value)
    with pytest.raises(UserError) as raised:
        stores.parse_argument("bob:secret@127.0.0.1:1:x y")
    assert "secret" not in str(raised.value)
