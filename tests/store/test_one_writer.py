"""Only the holder of a run's lease writes it; the server itself refuses all others."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import bson
import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect

from grok.errors import UserError
from grok.store import delivery, journal, lease, maintenance
from grok.store.connection import Store, find_run
from grok.store.lease import LeaseLost
from grok.store.status import silence
from tests.store.writers import Writer, held_delivery, make_silent, node, stored


@pytest.fixture
def nodes(store: Store, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two GROK_HOMEs with one empty database."""
    name = f"writers_{uuid4().hex[:8]}"
    both = tuple(node(store, tmp_path / each) for each in ("a", "b"))
    for each in both:
        each.db_name = name
    with held_delivery():
        yield both
    store.client.drop_database(name)


def resume(store: Store, run: int) -> Writer:
    """A writer that resumes a run, once it is known to be free; as `grok resume` does."""
    found = find_run(store.database, run)
    if lease.is_alive(store, store.database.runs, found):
        raise UserError("is still running")
    return Writer(store, found)


def test_a_living_run_is_not_resumed_from_another_home(nodes):
    """Fault 1: the run's process is on this machine, but its journal is not below this GROK_HOME."""
    here, there = nodes
    first = Writer(here)
    with pytest.raises(UserError, match="still running"):
        resume(there, first.run)
    first.die()
    assert resume(there, first.run).run == first.run


def test_tags_and_notes_survive_a_resume(nodes):
    """They are somebody's words about the run, which its program does not record again."""
    here, _ = nodes
    first = Writer(here)
    first.die()
    words = {"tags": ["odd"], "notes": "look at step 300"}
    here.database.runs.update_one({"_id": first.run}, {"$set": {"omniboard": words}})
    assert find_run(here.database, resume(here, first.run).run)["omniboard"] == words


def test_of_two_that_resume_a_run_at_once_one_is_refused(nodes):
    here, there = nodes
    first = Writer(here)
    first.die()
    seen = find_run(here.database, first.run)
    Writer(here, seen)
    with pytest.raises(UserError, match=r"run 1 has just been taken by another process"):
        Writer(there, seen)


def test_whether_a_run_lives_does_not_depend_on_the_clocks_of_nodes(nodes):
    """A heartbeat that says ten minutes ago comes from a slow clock; one of the future, from a fast."""
    here, there = nodes
    writer = Writer(here)
    writer.log(1.0)
    writer.deliver()
    runs = here.database.runs
    slow = {"heartbeat": datetime.now(UTC) - timedelta(minutes=10), "lease.machine": "elsewhere"}
    runs.update_one({"_id": writer.run}, {"$set": slow})
    assert silence(runs, {"_id": writer.run})[writer.run] < 30
    assert maintenance.delete(there, {"_id": writer.run}) == (0, 1)
    make_silent(here, writer.run)
    fast = {"heartbeat": datetime.now(UTC) + timedelta(minutes=10)}
    runs.update_one({"_id": writer.run}, {"$set": fast})
    assert not lease.is_alive(there, runs, find_run(here.database, writer.run))


def test_the_former_holder_can_write_nothing_more(nodes, tmp_path):
    """Values of old and new metrics, states and files that were on their way are all refused."""
    here, there = nodes
    first = Writer(here)
    first.log(1.0, 2.0)
    first.deliver()
    make_silent(here, first.run)
    second = resume(there, first.run)
    second.log(1.0)
    second.deliver()
    first.log(3.0)
    first.log(3.0, name="new")
    first.complete()
    (tmp_path / "file").write_text("x")
    first.observer.artifact_event("file", str(tmp_path / "file"), content_type="text/plain")
    for event, to in first.journal.waiting:
        with pytest.raises(LeaseLost, match=r"run 1 has been taken over .*\(term 2\)"):
            to.apply(event, first.journal.folder)
    run = find_run(here.database, first.run)
    assert stored(here, first.run) == {"loss": [1.0]}
    assert (run["status"], run["artifacts"], run["lease"]["term"]) == ("RUNNING", [], 2)
    first.journal.superseded = "taken over"  # as the delivery thread sets it
    with pytest.raises(LeaseLost, match="stopped here"):
        first.observer.check()


@pytest.mark.parametrize("kind", ["resumed", "deleted"])
@pytest.mark.parametrize("operation", range(3))
def test_a_writer_that_is_held_up_between_two_operations_is_refused(
    nodes, monkeypatch, operation, kind
):
    """New values take three operations of the server; whatever happens between them mixes nothing."""
    here, there = nodes
    first = Writer(here)
    first.log(1.0)
    count = 0

    def interfere() -> None:
        nonlocal count
        if count == operation:
            make_silent(here, first.run)
            if kind == "resumed":
                resume(there, first.run).log(5.0)
            else:
                maintenance.delete(there, {"_id": first.run})
                assert Writer(there).run == first.run  # the number is given away
        count += 1

    to = first.journal.waiting[0][1]
    for method in ("_write_metrics", "_update_run"):
        original = getattr(to, method)

        def held(*args, _original=original, **kwargs):
            interfere()
            return _original(*args, **kwargs)

        monkeypatch.setattr(to, method, held)
    with pytest.raises(LeaseLost):
        to.apply(first.journal.waiting[0][0], first.journal.folder)
    assert stored(here, first.run) == {}


@pytest.mark.parametrize("kind", ["resumed", "deleted"])
def test_the_journal_of_an_earlier_holder_is_set_aside(nodes, kind):
    """Fault 1: run A is resumed elsewhere, or deleted and its number given to B; then A's journal."""
    here, there = nodes
    first = Writer(here)
    first.log(1.0, 2.0)
    first.die()
    make_silent(here, first.run)
    if kind == "resumed":
        second = resume(there, first.run)
    else:
        assert maintenance.delete(there, {"_id": first.run}) == (1, 0)
        second = Writer(there)
    assert second.run == first.run
    second.log(5.0)
    second.deliver()
    lines = []
    assert delivery.recover(here, lines.append) == 0
    assert len(lines) == 1 and "set aside in" in lines[0]
    assert stored(here, first.run) == {"loss": [5.0]}
    assert journal.count_waiting(here) == 0
    ((folder, why),) = journal.set_aside(here).items()
    assert folder.name == first.journal.folder.name
    assert why.startswith("run 1 has been taken over by another process")
    messages = [fault.message for fault in maintenance.examine(here)]
    assert any(str(folder) in message and why in message for message in messages)


def test_a_lost_answer_doubles_nothing(nodes, monkeypatch):
    """The server has done an operation, but its answer is lost: the event is delivered again."""
    here, _ = nodes
    writer = Writer(here)
    for value in (1.0, 2.0, 3.0):
        writer.log(value)
    for event, to in writer.journal.waiting:
        for method in ("_write_metrics", "_update_run"):
            original = getattr(to, method)

            def lost(*args, _original=original, **kwargs):
                _original(*args, **kwargs)
                raise AutoReconnect("lost")

            with monkeypatch.context() as patch:
                patch.setattr(to, method, lost)
                with pytest.raises(AutoReconnect):
                    to.apply(event, writer.journal.folder)
                    raise AutoReconnect("an event that has no such operation")
    writer.deliver()
    assert stored(here, writer.run) == {"loss": [1.0, 2.0, 3.0]}


def test_an_event_that_the_server_refuses_holds_up_no_other(nodes):
    """Fault 4: it is set aside with its reason, and the run's document says so."""
    here, _ = nodes
    first = Writer(here)
    first.log(1.0)
    first.observer._record({"kind": "state", "fields": {"captured_out": "x" * (17 << 20)}})
    first.log(2.0)
    first.complete()
    second = Writer(here)
    second.log(5.0)
    for writer in (first, second):
        writer.die()
    lines = []
    delivery.recover(here, lines.append)
    assert stored(here, first.run) == {"loss": [1.0, 2.0]}
    assert stored(here, second.run) == {"loss": [5.0]}
    run = find_run(here.database, first.run)
    assert run["status"] == "COMPLETED" and len(run["refused_events"]) == 1
    assert sum("MongoDB refused 1 of its events" in line for line in lines) == 1
    ((_, why),) = journal.set_aside(here).items()
    assert why == "MongoDB refused 1 of its events"


def test_runs_of_versions_without_leases_are_resumed_and_their_journals_delivered(nodes):
    here, there = nodes
    metric = ObjectId()
    runs, metrics = here.database.runs, here.database.metrics
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    for number in (1, 2):
        runs.insert_one({"_id": number, "status": "RUNNING", "start_time": long_ago, "meta": {}})
    lists = {"steps": [0], "values": [1.0], "timestamps": [0.0]}
    metrics.insert_one({"_id": metric, "run_id": 1, "name": "loss", "seq": 1, **lists})
    header = {"kind": "head", "uri": here.uri, "kind_of_store": here.kind}
    more = {"id": metric, "name": "loss", "steps": [1], "values": [2.0], "timestamps": [0.0]}
    for number in (1, 2):
        folder = here.journals / f"{number}-0123456789ab"
        folder.mkdir(parents=True)
        events = [
            {**header, "database": here.db_name, "prefix": "", "run_id": number},
            {"kind": "values", "seq": 1, "metrics": [{**more, **lists}]},
            {"kind": "values", "seq": 2, "metrics": [more]},
        ]
        if number == 2:
            events[1:] = [{"kind": "values", "seq": 1, "metrics": [{**more, "id": ObjectId()}]}]
        (folder / "journal").write_bytes(b"".join(map(bson.encode, events)))
    second = resume(there, 2)
    second.log(7.0)
    second.deliver()
    assert delivery.recover(here) == 1  # run 2 has another writer by now
    assert stored(here, 1) == {"loss": [1.0, 2.0]} and stored(here, 2) == {"loss": [7.0]}
    assert len(journal.set_aside(here)) == 1
    again = resume(there, 1)
    again.log(9.0)
    again.deliver()
    assert stored(here, 1) == {"loss": [9.0]}
