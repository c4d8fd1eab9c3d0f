"""What a repair takes from the latest backup, and from the journals."""

from dataclasses import replace

import pytest

from grok.store import archive, backup, delivery, documents
from grok.store.connection import artifact
from tests.store.writers import Writer, held_delivery, node


@pytest.fixture
def recorded(store, tmp_path, monkeypatch):
    """A store with a run of 12 values in parts of 5 and a file, its writer, and a backup of it."""
    monkeypatch.setattr(documents, "VALUES_PER_PART", 5)
    made = replace(node(store, tmp_path), db_name="recorded")
    kept = tmp_path / "weights"
    kept.write_bytes(b"w" * 600_000)
    with held_delivery():
        writer = Writer(made)
        writer.log(*map(float, range(12)))
        writer.observer.artifact_event("weights", str(kept))
        writer.deliver()
        path = tmp_path / "runs.zip"
        archive.export(made.database, {}, path)
        yield made, writer, path
    for name in ("recorded", "scratch"):
        store.client.drop_database(name)


def values_of(store, run) -> list[float]:
    (metric,) = documents.find_metrics(store.database.metrics, {"run_id": run})
    assert metric["steps"] == list(range(len(metric["values"])))
    return metric["values"]


@pytest.mark.parametrize("lost", ["a later part", "the first part", "its files", "the run", "all"])
@pytest.mark.parametrize("later", [0, 9])
def test_what_is_lost_of_a_run_comes_from_the_backup_and_the_journal(recorded, lost, later):
    """Each document that is lost is restored, and is the one that was lost: the journal, which has
    all values, adds those that were recorded after the backup, and doubles none."""
    store, writer, path = recorded
    database, run = store.database, writer.run
    writer.log(*map(float, range(12, 12 + later)))
    writer.deliver()
    writer.die()
    before = {name: list(database[name].find().sort("_id")) for name in ("metrics", "fs.files")}
    if lost in ("a later part", "all"):
        assert (
            database.metrics.delete_many({"part": {"$gte": 1}}).deleted_count == (11 + later) // 5
        )
    if lost in ("the first part", "all"):
        assert database.metrics.delete_many({"part": 0}).deleted_count == 1
    if lost in ("its files", "all"):
        database["fs.chunks"].delete_many({})
        database["fs.files"].delete_many({})
    if lost in ("the run", "all"):
        database.runs.delete_many({})
    scratch = store.client["scratch"]
    archive.import_(scratch, path, is_backup=True)
    backup._merge_runs(scratch, database)
    if not later:
        assert values_of(store, run) == list(range(12)) and backup.losses(store) == []
    assert delivery.recover(store) == 1
    assert backup.losses(store) == []
    assert values_of(store, run) == list(range(12 + later))
    after = {name: list(database[name].find().sort("_id")) for name in ("metrics", "fs.files")}
    assert [one["_id"] for one in after["metrics"]] == [one["_id"] for one in before["metrics"]]
    assert [one["_id"] for one in after["fs.files"]] == [one["_id"] for one in before["fs.files"]]
    assert artifact(database, run, "weights") == b"w" * 600_000


def test_a_later_part_that_nothing_restores_is_named(recorded):
    """The first part alone would look like a whole metric."""
    store, writer, _ = recorded
    assert backup.losses(store) == []
    store.database.metrics.delete_one({"part": 1})
    assert backup.losses(store) == [f"run {writer.run}: 1 metrics are lost"]
