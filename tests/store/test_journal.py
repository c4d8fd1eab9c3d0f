"""A journal gives back what was written, up to the first thing that is not as it was written."""

import errno
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import bson
import pytest

from grok.store import delivery, journal, lease
from grok.store.connection import Store, find_run
from grok.store.journal import DamagedJournal, Journal, JournalError
from grok.store.observer import DurableObserver
from tests.store.writers import Writer, held_delivery, node, stored

HEADER = {"run_id": 7, "holder": "abc", "uri": "mongodb://there/x"}
EVENTS = [{"kind": "state", "seq": i, "fields": {"x": "y" * 37 * i}} for i in range(1, 60)]
EXPECTED = [{"kind": "head", **HEADER}, *EVENTS]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The folder of a journal as SIGKILL leaves it."""
    journals = tmp_path_factory.mktemp("journals")
    written = Journal.create(journals, HEADER)
    for event in EVENTS:
        written.append(bson.encode(event))
    folder = tmp_path_factory.mktemp("killed") / written.folder.name
    shutil.copytree(written.folder, folder)
    written.discard()
    return folder


@pytest.fixture(scope="module")
def closed(killed, tmp_path_factory) -> Path:
    """The folder of a journal whose log SQLite has moved into the database."""
    folder = tmp_path_factory.mktemp("closed") / killed.name
    shutil.copytree(killed, folder)
    assert [*Journal.acquire(folder).events()] == EXPECTED
    assert not (folder / "events.sqlite-wal").exists()
    return folder


def read(folder: Path) -> tuple[list[dict], str | None]:
    """The events of a dead process's journal, and what ends them before the last."""
    found = Journal.acquire(folder)
    events = []
    try:
        for event in found.events():
            events.append(event)
    except DamagedJournal as error:
        return events, str(error)
    finally:
        found.close()
    return events, None


def flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    )


def holed(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes(len(content[place : place + 300])) + content[place + 300 :]


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped bit": flipped,
    "hole": holed,
    "zero tail": lambda content, rng: (
        content[: (n := rng.randrange(len(content)))] + bytes(len(content) - n)
    ),
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "empty": lambda content, rng: b"",
    "garbage": lambda content, rng: rng.randbytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_what_was_before_it_is_read(killed, closed, tmp_path, damage):
    """40 times each: the events are a beginning of those written, all of them or with a reason."""
    rng = random.Random(damage)
    for trial in range(40):
        source = rng.choice([killed, closed])
        folder = tmp_path / str(trial) / source.name
        shutil.copytree(source, folder)
        path = rng.choice([each for each in folder.glob("events.sqlite*") if each.stat().st_size])
        path.write_bytes(DAMAGE[damage](path.read_bytes(), rng))
        events, reason = read(folder)
        assert events == EXPECTED[: len(events)]
        assert (reason is None) == (len(events) == len(EXPECTED)), (trial, path, reason)


def test_a_living_process_keeps_its_journal(tmp_path):
    written = Journal.create(tmp_path, HEADER)
    assert Journal.acquire(written.folder) is None
    assert journal.is_locked(written.folder) is True
    written.close()
    assert journal.is_locked(written.folder) is False
    assert [one.header["run_id"] for one in journal.waiting(tmp_path)] == [7]


def test_who_reads_a_journal_is_not_taken_for_its_writer(here):
    """A resumption was refused as the run was "still running" while its journal was delivered."""
    writer = Writer(here)
    writer.die()
    found = Journal.acquire(writer.journal.folder)
    run = find_run(here.database, writer.run)
    assert found is not None and not lease.is_alive(here, here.database.runs, run)
    assert Journal.acquire(writer.journal.folder) is None  # another process delivers it
    found.close()
    assert delivery.recover(here) == 1


@pytest.mark.parametrize("run_id", ["../../outside", "a/b", "*", "\0", "x" * 300])
def test_no_id_of_a_run_leads_out_of_the_folder(tmp_path, run_id):
    written = Journal.create(tmp_path / "spool", {**HEADER, "run_id": run_id})
    assert written.folder.parent == tmp_path / "spool"
    assert journal.is_written(tmp_path / "spool", run_id)
    written.discard()
    assert [*(tmp_path / "spool").iterdir()] == []


def test_only_the_user_can_read_it(tmp_path):
    written = Journal.create(tmp_path / "spool", HEADER)
    modes = {path.stat().st_mode & 0o777 for path in written.folder.iterdir()}
    assert modes == {0o600} and written.folder.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_an_error_and_what_was_written_before_is_whole(tmp_path):
    """A real limit of the system: no file may become larger than 100,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = Journal.create(tmp_path, HEADER)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(JournalError, match="cannot be written"):
            for event in EVENTS * 3:
                written.append(bson.encode(event))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    count = written.count
    assert 10 < count < 180
    killed = tmp_path / "killed" / written.folder.name
    shutil.copytree(written.folder, killed)
    written.discard()
    events, reason = read(killed)
    assert events == ([{"kind": "head", **HEADER}, *(EVENTS * 3)])[:count] and reason is None


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Iterator[Store]:
    here = replace(node(store, tmp_path), db_name="journals")
    with held_delivery():
        yield here
    store.client.drop_database("journals")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_holds_up_no_other(here, damage):
    """Fault 2: every journal beside it is delivered; it is set aside, and nothing is deleted.

    Its run counts as dead at once, so that it can be resumed.
    """
    first, second = Writer(here), Writer(here)
    for writer in (first, second):
        for value in range(20):
            writer.log(float(value))
        writer.die()
    path = first.journal.folder / "events.sqlite"
    content = path.read_bytes()
    rng = random.Random(1)
    for _ in range(30):  # once may hit unused space
        content = DAMAGE[damage](content, rng) if content else content
    path.write_bytes(content)
    lines: list[str] = []
    delivery.recover(here, lines.append)
    whole = [float(value) for value in range(20)]
    assert stored(here, second.run) == {"loss": whole}
    values = stored(here, first.run).get("loss", [])
    assert values == whole[: len(values)]
    assert not lease.is_alive(here, here.database.runs, find_run(here.database, first.run))
    assert journal.count_waiting(here) == 0
    ((folder, reason),) = journal.set_aside(here).items()
    assert folder.name == first.journal.folder.name and "damaged" in reason
    assert [line for line in lines if "set aside" in line] and len(lines) == 2


def test_a_journal_that_cannot_be_read_now_stays(here, monkeypatch):
    """No permission is no damage: it is delivered later."""
    writer = Writer(here)
    writer.log(1.0)
    writer.die()
    with monkeypatch.context() as patch:
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        patch.setattr(journal, "_open", lambda path: (_ for _ in ()).throw(error))
        lines: list[str] = []
        assert delivery.recover(here, lines.append) == 0
        assert lines == ["run 1: cannot be read: Input/output error"]
    assert delivery.recover(here) == 1
    assert stored(here, writer.run) == {"loss": [1.0]}


def test_after_a_failed_append_nothing_more_is_appended(here, monkeypatch):
    """Fault 3: the values go to the server alone, and the run is to be stopped."""
    writer = Writer(here)
    writer.log(1.0)
    before = writer.journal.count
    with monkeypatch.context() as patch:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(error))
        writer.log(2.0)
    writer.log(3.0)
    assert writer.journal.count == before + 1  # the event whose count could not be written
    with pytest.raises(JournalError, match=r"run 1: .*No space left on device.*grok resume 1"):
        writer.observer.check()
    writer.deliver()
    assert stored(here, writer.run) == {"loss": [1.0, 2.0, 3.0]}


def test_a_run_whose_journal_cannot_be_begun_is_not_stored(here):
    """It could record nothing, and would be neither finished nor known to be dead."""
    here.journals.parent.mkdir(exist_ok=True)
    here.journals.write_text("a file in its place")
    with pytest.raises(JournalError, match="cannot be written"):
        Writer(here)
    assert here.database.runs.find_one() is None


def test_a_run_whose_events_cannot_be_written_has_failed(here, monkeypatch):
    """The disk may be full when the run is in the store and only its lock is on the disk."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(journal, "_open", lambda path: (_ for _ in ()).throw(error))
    with pytest.raises(JournalError, match="cannot be written"):
        Writer(here)
    (run,) = here.database.runs.find()
    assert run["status"] == "FAILED" and "cannot be written" in run["fail_trace"][0]
    assert list(here.journals.iterdir()) == []


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_is_known_to_be_dead_from_the_moment_it_is_stored(here, monkeypatch, resumed):
    """A process may be killed before it has a journal; its run could not be resumed for a minute."""
    seen = None
    if resumed:
        first = Writer(here)
        first.die()
        delivery.recover(here)
        seen = find_run(here.database, first.run)
    begun: list[DurableObserver] = []

    def interrupted(observer: DurableObserver) -> None:
        begun.append(observer)
        raise KeyboardInterrupt

    monkeypatch.setattr(DurableObserver, "_be_admitted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Writer(here, seen)
    run = find_run(here.database, 1)
    assert run["status"] == "RUNNING" and lease.is_alive(here, here.database.runs, run)
    begun[0].reserved.close()  # as a killed process's locks are
    assert not lease.is_alive(here, here.database.runs, run)


@pytest.mark.parametrize("is_named", [False, True])
def test_what_a_process_leaves_that_was_killed_at_its_start_is_removed(here, monkeypatch, is_named):
    """Its folder would stay for ever, and without a word in the store its run would count as alive."""
    begun: list[DurableObserver] = []

    def interrupted(observer: DurableObserver) -> None:
        begun.append(observer)
        raise KeyboardInterrupt

    monkeypatch.setattr(DurableObserver, "_be_admitted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Writer(here)
    (reserved,) = (observer.reserved for observer in begun)
    if is_named:
        reserved._name_after(1, reserved.folder.name.rpartition("-")[2])
    reserved.close()  # as a killed process's locks are
    delivery.recover(here)
    if not is_named:  # another process may be about to lock one that is new
        assert [*here.journals.iterdir()] == [reserved.folder]
        os.utime(reserved.folder, (0, 0))
        delivery.recover(here)
    assert [*here.journals.iterdir()] == []
    assert not lease.is_alive(here, here.database.runs, find_run(here.database, 1))


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"weighty"), os.unlink])
def test_a_run_does_not_end_with_a_damaged_file(here, tmp_path, damage):
    """A copied file that is altered or missing is damage: what comes after it is not delivered, so
    the run is not complete, and can be resumed."""
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    writer = Writer(here)
    writer.log(1.0)
    writer.observer.artifact_event("weights", str(file))
    writer.complete()
    writer.die()
    (copy,) = (path for path in writer.journal.folder.iterdir() if len(path.name) == 32)
    damage(copy)
    lines: list[str] = []
    assert delivery.recover(here, lines.append) == 0
    assert "is not as it was written; what was before that is delivered; set aside" in lines[0]
    run = find_run(here.database, writer.run)
    assert run["status"] == "RUNNING" and run.get("artifacts", []) == []
    assert stored(here, writer.run) == {"loss": [1.0]}
    assert not lease.is_alive(here, here.database.runs, run)
