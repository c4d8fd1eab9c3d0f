"""Runs out of the store and back, and the store kept in order."""

import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import bson
import gridfs
import pandas as pd
import pytest
from bson import ObjectId
from click.testing import CliRunner
from pymongo.collection import Collection

from benchmarks import synthetic
from grok.analysis import query
from grok.cli import main
from grok.errors import UserError
from grok.store import archive, maintenance
from grok.store.documents import RUN_KEYS, named_run
from grok.store.status import DEAD_AFTER

CREATED = datetime(2026, 1, 1)
LONG_AGO = datetime.now(UTC) - timedelta(hours=3)


@pytest.fixture
def made(store):
    """A store of ten runs; runs 1 and 2 share a source file, run 1 keeps an artifact."""
    made = replace(store, db_name="archive")
    synthetic.fill(made.database, 10, steps=12)
    bucket = gridfs.GridFS(made.database)
    source, kept = (
        bucket.put(b"ex = ...", filename="a.py"),
        bucket.put(b"w" * 600_000, filename="w"),
    )
    sources = {"experiment.sources": [["a.py", source]]}
    made.database.runs.update_many({"_id": {"$in": [1, 2]}}, {"$set": sources})
    own = {"artifacts": [{"name": "w", "file_id": kept}]}
    made.database.runs.update_one({"_id": 1}, {"$set": own})
    yield made
    store.client.drop_database("archive")


def frames(store) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = query.runs(store)
    return runs, query.wide(query.metrics(store, runs["run"]))


def test_export_delete_import_gives_equal_frames_and_an_orderly_store(made, tmp_path):
    before, path = frames(made), tmp_path / "runs.zip"
    assert archive.export(made.database, {}, path) == 10
    assert maintenance.delete(made, {}) == (10, 0)
    for collection in ("runs", "metrics", "fs.files", "fs.chunks"):
        assert made.database[collection].count_documents({}) == 0
    assert archive.import_(made.database, path) == archive.Imported(10, 0, {})
    for then, now in zip(before, frames(made), strict=True):
        pd.testing.assert_frame_equal(then, now)
    file = made.database.runs.find_one({"_id": 1})["artifacts"][0]["file_id"]
    assert gridfs.GridFS(made.database).get(file).read() == b"w" * 600_000
    assert maintenance.examine(made) == []
    assert archive.import_(made.database, path) == archive.Imported(0, 10, {})
    assert made.database.metrics.count_documents({}) == 40


def test_a_run_whose_id_is_taken_gets_a_new_one(made, tmp_path):
    path = tmp_path / "runs.zip"
    archive.export(made.database, {"_id": 3}, path)
    wanted = query.metrics(made, [3])["value"].tolist()
    made.database.runs.update_one({"_id": 3}, {"$set": {"config.p": 77}})  # another run now
    made.database.metrics.delete_many({"run_id": 3})
    assert archive.import_(made.database, path) == archive.Imported(1, 0, {3: 11})
    assert query.metrics(made, [11])["value"].tolist() == wanted
    assert made.database.runs.find_one({"_id": 3})["config"]["p"] == 77


def test_deleting_keeps_files_that_others_have_and_runs_that_are_alive(made):
    now = datetime.now(UTC)
    alive = {"status": "RUNNING", "heartbeat": now}
    made.database.runs.update_one({"_id": 5}, {"$set": alive})
    assert maintenance.delete(made, {"_id": {"$in": [1, 5]}}) == (1, 1)
    assert made.database.runs.count_documents({}) == 9
    assert [file.filename for file in gridfs.GridFS(made.database).find()] == ["a.py"]
    maintenance.delete(made, {"_id": 2})
    assert made.database["fs.files"].count_documents({}) == 0


def test_an_import_that_was_killed_is_finished_by_the_next(made, tmp_path, monkeypatch):
    path = tmp_path / "runs.zip"
    before = frames(made)
    archive.export(made.database, {}, path)
    maintenance.delete(made, {})
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(archive._Import, "undo", lambda *_: None)  # as after SIGKILL
        with pytest.raises(KeyboardInterrupt):
            archive.import_(made.database, path)
    assert made.database.runs.count_documents({"status": "IMPORTING"}) == 10
    assert archive.import_(made.database, path) == archive.Imported(10, 0, {})
    for then, now in zip(before, frames(made), strict=True):
        pd.testing.assert_frame_equal(then, now)


@pytest.mark.parametrize("interrupted", ["first", "second"])
def test_an_interrupted_import_keeps_what_another_of_the_same_runs_has_brought_in(
    made, tmp_path, interrupted
):
    """The second takes the runs of the first for those of a killed import, and its end deleted them,
    with their metrics, after the first had said that it has brought them in."""
    database, path = made.database, tmp_path / "runs.zip"
    sweep = {"_id": "s-1", "name": "s", "created": CREATED, "config": {}}
    point = {"_id": "s-1/0", "sweep": "s-1", "number": 0, "point": {}, "state": "finished"}
    database.sweeps.insert_one(sweep)
    database.sweep_points.insert_one(point)
    database.runs.update_one({"_id": 1}, {"$set": {"meta.sweep": {"id": "s-1", "point": 0}}})
    before = frames(made)
    archive.export(database, {}, path)
    maintenance.delete(made, {})
    database.sweeps.delete_many({})
    database.sweep_points.delete_many({})

    def interrupt() -> None:
        raise KeyboardInterrupt

    with zipfile.ZipFile(path) as file:
        contents = archive._check(file, path.stat().st_size, False)
        first, second = (archive._Import(database, file, contents, False) for _ in range(2))
        write_points = first._write_points

        def write_points_beside_the_second() -> None:
            write_points()
            if interrupted == "first":
                assert second.write() == archive.Imported(10, 0, {})
                interrupt()
            second._write_points = interrupt
            with pytest.raises(KeyboardInterrupt):
                second.write()

        first._write_points = write_points_beside_the_second
        if interrupted == "first":
            with pytest.raises(KeyboardInterrupt):
                first.write()
            first.undo()
        else:
            assert first.write() == archive.Imported(10, 0, {})
            second.undo()
    for then, now in zip(before, frames(made), strict=True):
        pd.testing.assert_frame_equal(then, now)
    assert [*database.sweeps.find()] == [{**sweep, "imported": True}]
    assert [*database.sweep_points.find()] == [point]
    assert maintenance.examine(made) == []


def test_an_import_whose_runs_are_deleted_meanwhile_says_so(made, tmp_path, monkeypatch):
    """It said that it has brought them in. The runs that were complete by then are removed, too."""
    path, database = tmp_path / "runs.zip", made.database
    archive.export(database, {}, path)
    maintenance.delete(made, {})
    monkeypatch.setattr(archive, "_write", lambda *_: database.runs.delete_one({"_id": 4}))
    with pytest.raises(UserError, match=r"run 4 was deleted while it was imported"):
        archive.import_(database, path)
    assert database.runs.count_documents({}) == 0


def test_references_between_renamed_runs_go_along(made, tmp_path):
    path = tmp_path / "runs.zip"
    made.database.runs.update_one({"_id": 8}, {"$set": {"info.initial_run": 7}})
    archive.export(made.database, {"_id": {"$in": [7, 8]}}, path)
    made.database.runs.update_many({"_id": {"$in": [7, 8]}}, {"$set": {"config.p": 77}})
    assert archive.import_(made.database, path).renamed == {7: 11, 8: 12}
    assert made.database.runs.find_one({"_id": 12})["info"]["initial_run"] == 11


def test_ids_in_a_configuration_are_translated_and_never_read_as_those_of_this_store(
    made, tmp_path
):
    """`reference_run=7` is run 7 of the store in which the run was made. Exported from there, it is
    run 11 here; exported without that run, or a second time, it is none that is known here."""
    runs, path = made.database.runs, tmp_path / "runs.zip"
    change = {"config.reference_run": 7, "config.initial_run": 7, "uid": "made here"}
    runs.update_one({"_id": 8}, {"$set": change})
    for exported, ids, known in (([7, 8], {7: 11, 8: 12}, 11), ([8], {8: 11}, None)):
        archive.export(made.database, {"_id": {"$in": exported}}, path)
        runs.update_many({"_id": {"$in": exported}}, {"$inc": {"config.p": 1}})
        assert archive.import_(made.database, path).renamed == ids
        imported = runs.find_one({"_id": ids[8]})
        assert imported["config"]["reference_run"] == imported["config"]["initial_run"] == 7
        assert {named_run(imported, key) for key in RUN_KEYS} == {known}
        assert archive.import_(made.database, path).new == 0  # it is known by its configuration
        runs.delete_many({"_id": {"$in": [*ids.values()]}})
    archive.export(made.database, {"_id": 8}, path)
    runs.delete_one({"_id": 8})
    archive.import_(made.database, path)
    archive.export(made.database, {"_id": {"$in": [7, 8]}}, path)
    runs.delete_one({"_id": 8})
    archive.import_(made.database, path)
    assert named_run(runs.find_one({"_id": 8}), "reference_run") is None


def test_the_points_of_a_served_sweep_go_along(made, tmp_path):
    """Which points agents have run is known from these documents alone: without them, claims on the
    sweep cannot be computed from an archive. A sweep that is here keeps its own points."""
    database, path = made.database, tmp_path / "runs.zip"
    database.sweeps.insert_one({"_id": "s-1", "name": "s", "created": CREATED, "config": {}})
    point = {"sweep": "s-1", "point": {"p": 5}, "state": "finished", "attempts": [], "seen": True}
    points = [{**point, "_id": f"s-1/{i}", "number": i, "run": f"r{i}"} for i in range(2)]
    database.sweep_points.insert_many([*points, {**points[0], "_id": "s-2/0", "sweep": "s-2"}])
    database.runs.update_one({"_id": 1}, {"$set": {"info.wandb": {"sweep": "s-1", "run": "r0"}}})
    archive.export(database, {"_id": 1}, path)
    with zipfile.ZipFile(path) as file:
        assert bson.decode_all(file.read("sweep_points.bson")) == points
    database.sweep_points.update_one({"_id": "s-1/1"}, {"$set": {"state": "failed"}})
    archive.import_(database, path)
    assert database.sweep_points.find_one({"_id": "s-1/1"})["state"] == "failed"
    database.sweeps.delete_many({})
    database.sweep_points.delete_many({})
    archive.import_(database, path)
    assert [*database.sweep_points.find().sort("number")] == points


def test_a_file_that_cannot_be_read_is_left_out_of_an_archive(made, tmp_path, capsys):
    """Every export and every backup ended with CorruptGridFile, so that one damaged file of one run
    kept all others from being saved; a file that was deleted while it was exported left an entry
    without a content, and the whole archive was refused as damaged."""
    database, path = made.database, tmp_path / "runs.zip"
    damaged = database.runs.find_one({"_id": 1})["artifacts"][0]["file_id"]
    whole = gridfs.GridFS(database).put(b"whole", filename="v")
    database.runs.update_one({"_id": 2}, {"$set": {"artifacts": [{"name": "v", "file_id": whole}]}})
    gone = [{"name": "u", "file_id": ObjectId()}]
    database.runs.update_one({"_id": 3}, {"$set": {"artifacts": gone}})
    database["fs.chunks"].delete_one({"files_id": damaged, "n": 1})
    assert archive.export(database, {}, path) == 10
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert f"run 1: its file {damaged} cannot be read, and is left out" in said
    assert "run 3: its file" in said
    maintenance.delete(made, {})
    assert archive.import_(database, path).new == 10
    assert query.artifact(made, 2, "v") == b"whole"
    with pytest.raises(UserError, match=r"^run 1: the content of w is not in the store$"):
        query.artifact(made, 1, "w")


def test_a_file_that_is_deleted_during_an_export_is_left_out(made, tmp_path, monkeypatch):
    """Its entry was written before its content was looked for."""
    database, path = made.database, tmp_path / "runs.zip"
    written = archive._add

    def with_a_deletion(zipped, hashes, name, pieces):
        written(zipped, hashes, name, pieces)
        if name.startswith("data/") or name == "files.bson":
            database["fs.files"].delete_many({})

    monkeypatch.setattr(archive, "_add", with_a_deletion)
    archive.export(database, {}, path)
    monkeypatch.undo()
    maintenance.delete(made, {})
    assert archive.import_(database, path).new == 10


def test_what_an_import_would_refuse_is_left_out_of_an_archive(made, tmp_path, capsys):
    """It was written, and the import refused the whole file: one run with an unusual id made every
    backup useless, and nobody knew before it was needed."""
    database, path = made.database, tmp_path / "runs.zip"
    for number, name in ((1, "a/b"), (2, "x" * 120), (3, "-x")):
        run = database.runs.find_one({"_id": number})
        database.runs.insert_one({**run, "_id": name})
        database.runs.delete_one({"_id": number})
        database.metrics.update_many({"run_id": number}, {"$set": {"run_id": name}})
    wanted = {"run_id": 4, "name": "test_accuracy"}
    database.metrics.update_one(wanted, {"$set": {"values.0": True}})
    deep: list = []
    for _ in range(60):
        deep = [deep]
    database.runs.update_one({"_id": 5}, {"$set": {"added.x.value": deep}})
    sweep = {"_id": "s-1", "name": "s", "created": "yesterday", "config": {}}
    database.sweeps.insert_one(sweep)
    point = {"_id": "s-1/0", "sweep": "s-1", "number": 0, "point": {}, "state": "finished"}
    database.sweep_points.insert_one(point)
    database.runs.update_one({"_id": 6}, {"$set": {"meta.sweep": {"id": "s-1"}}})
    assert archive.export(database, {}, path) == 5
    said = capsys.readouterr().err.splitlines()
    ids = ("run 4", "run 5", "run -x", "run a/b", f"run {'x' * 120}", "sweep s-1")
    assert len(said) == len(ids)
    for each in ids:
        assert sum(line.startswith(f"{each} is left out: ") for line in said) == 1, said
    maintenance.delete(made, {})
    database.sweeps.delete_many({})
    database.sweep_points.delete_many({})
    assert archive.import_(database, path) == archive.Imported(5, 0, {})
    assert database.metrics.count_documents({}) == 20
    assert sorted(database.runs.distinct("_id")) == [6, 7, 8, 9, 10]


def test_a_run_of_any_name_can_be_deleted(made):
    """The name of its checkpoint had nine bytes for each letter of such a name, more than file systems
    take: nothing could be deleted, and the doctor repaired nothing."""
    made.checkpoint_path(1).parent.mkdir(exist_ok=True)
    names = ["\u8dd1" * 40, "\u8dd1" * 41, "a" * 1000]
    for name in names:
        made.database.runs.insert_one({"_id": name, "status": "COMPLETED"})
    assert maintenance.delete(made, {"_id": {"$in": names}}) == (3, 0)
    paths = {made.checkpoint_path(name) for name in names}
    assert len(paths) == 3 and not any(path.exists() for path in paths)
    assert made.checkpoint_path("a b").name == "archive-a%20b.safetensors"


@pytest.mark.parametrize("command", ["export", "backup"])
def test_an_archive_that_cannot_be_written_is_one_line(store, tmp_path, command):
    """It was a traceback, with the exit code 1."""
    synthetic.fill(store.database, 1, steps=4, first=90_001)
    result = CliRunner().invoke(main, ["store", command, str(tmp_path / "none" / "x.zip")])
    maintenance.delete(store, {"_id": 90_001})
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert "none/x.zip: No such file or directory" in result.stderr


def test_the_query_for_a_run_does_not_grow_with_the_archive(made, tmp_path, monkeypatch):
    """It had the ids of all runs that were brought in before, so that the time of an import was
    quadratic in their number."""
    path, queries, find = tmp_path / "runs.zip", [], Collection.find

    def recorded(collection, *arguments, **options):
        queries.append(arguments[0] if arguments else None)
        return find(collection, *arguments, **options)

    archive.export(made.database, {}, path)
    monkeypatch.setattr(Collection, "find", recorded)
    assert archive.import_(made.database, path).known == 10
    asked = [query for query in queries if query and "experiment.name" in query]
    assert len(asked) == 10 and not any("_id" in query for query in asked)


def test_the_list_of_an_archive_with_very_many_files_can_be_read():
    """An export had no limit and an import one of 16 MiB, about 166,000 files: nothing could read the
    backup of a larger store."""
    names = [*archive.DOCUMENTS[archive.FORMAT], *(f"data/{ObjectId()}" for _ in range(200_000))]
    hashes = dict.fromkeys(names, "0" * 64)
    manifest = json.dumps({"format": archive.FORMAT, "runs": 1, "sha256": hashes})
    listed = zipfile.ZipInfo("manifest.json")
    listed.file_size = len(manifest)
    stored = SimpleNamespace(
        infolist=lambda: [listed, *map(zipfile.ZipInfo, names)],
        getinfo=lambda name: listed,
        read=lambda name: manifest,
    )
    assert archive._hashes(stored, 0) == hashes


def test_files_of_runs_under_a_prefix_are_not_orphans(made):
    kept = gridfs.GridFS(made.database).put(b"theirs", filename="theirs")
    made.database["fs.files"].update_one({"_id": kept}, {"$set": {"uploadDate": LONG_AGO}})
    assert [fault.message for fault in maintenance.examine(made)] == ["1 files of no run"]
    made.database["foo_runs"].insert_one({"_id": 1, "artifacts": [{"name": "t", "file_id": kept}]})
    assert maintenance.examine(made) == []


@pytest.mark.parametrize("harm", ["cut", "altered", "text", "pickle"])
def test_a_damaged_archive_is_refused_and_nothing_is_written(made, tmp_path, harm):
    path = tmp_path / "runs.zip"
    archive.export(made.database, {}, path)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    elif harm == "altered":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new.zip", "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(
                    name, content[:-9] + b"x" + content[-8:] if "metrics" in name else content
                )
        path = tmp_path / "new.zip"
    else:
        path.write_bytes(b"\x80\x04cos\nsystem\n." if harm == "pickle" else b"no archive")
    maintenance.delete(made, {})
    with pytest.raises(UserError, match=r"not what was exported|no archive of runs"):
        archive.import_(made.database, path)
    assert made.database.runs.count_documents({}) == made.database.metrics.count_documents({}) == 0


def test_the_doctor_finds_faults_and_repairs_them(made):
    database = made.database
    silent = {
        "status": "RUNNING",
        "heartbeat": datetime.now(UTC) - timedelta(seconds=2 * DEAD_AFTER),
    }
    database.runs.update_one({"_id": 4}, {"$set": silent})
    database.runs.delete_one({"_id": 6})
    lost = gridfs.GridFS(database).put(b"nobody's", filename="lost")
    database["fs.files"].update_one({"_id": lost}, {"$set": {"uploadDate": LONG_AGO}})
    old = ObjectId.from_datetime(LONG_AGO)
    database["fs.chunks"].insert_one({"_id": old, "files_id": ObjectId(), "n": 0, "data": b"x"})
    database.runs.drop_index("status_1")
    messages = [fault.message for fault in maintenance.examine(made)]
    assert messages == [
        "1 dead runs: 4",
        "4 metrics of 1 runs that are not there: 6",
        "1 files of no run",
        "pieces of 1 files that are not there",
        "missing indexes: runs.status_1",
    ]
    for fault in maintenance.examine(made):
        fault.repair()
    assert maintenance.examine(made) == []
    assert database.runs.find_one({"_id": 4})["status"] == "INTERRUPTED"
    assert database.runs.count_documents({}) == 9


def test_the_doctor_leaves_chunks_of_a_file_that_is_just_being_imported(
    made, tmp_path, monkeypatch
):
    """An import writes chunks before their file, under an id whose time is any: the doctor must not
    take them for orphans, neither when it looks nor when it repairs what it has seen before."""
    database, path = made.database, tmp_path / "runs.zip"
    archive.export(database, {}, path)
    maintenance.delete(made, {})
    old, seen = ObjectId.from_datetime(LONG_AGO), []
    written = archive._Import._write_file
    derived = archive._derived_id
    monkeypatch.setattr(
        archive, "_derived_id", lambda *parts: ObjectId(bytes(4) + derived(*parts).binary[4:])
    )

    def beside_a_doctor(self, file):
        here = self.contents.files[file["_id"]]
        chunk = {"_id": old, "files_id": here, "n": 9, "data": b"cut short"}
        database["fs.chunks"].insert_one(chunk)  # of an import that was killed
        repairs = [fault.repair for fault in maintenance.examine(made)]
        written(self, file)
        entry = database["fs.files"].find_one_and_delete({"_id": here})
        for repair in repairs:
            repair()
        assert not [f for f in maintenance.examine(made) if "pieces" in f.message]
        database["fs.files"].insert_one(entry)
        seen.append(len(repairs))

    monkeypatch.setattr(archive._Import, "_write_file", beside_a_doctor)
    archive.import_(database, path)
    assert seen == [1, 1]
    kept = database.runs.find_one({"_id": 1})["artifacts"][0]["file_id"]
    assert gridfs.GridFS(database).get(kept).read() == b"w" * 600_000


def test_the_commands_ask_before_they_delete(store, tmp_path):
    synthetic.fill(store.database, 3, steps=4, first=90_001)
    cli, chosen = CliRunner(), ["run=90001..90003"]
    out = cli.invoke(main, ["store", "export", str(tmp_path / "a.zip"), *chosen]).output
    assert out.startswith("3 runs in ")
    refused = cli.invoke(main, ["store", "delete", *chosen], input="n\n")
    assert "delete 3 runs" in refused.output and refused.exit_code == 1
    assert store.database.runs.count_documents({"synthetic": True}) == 3
    assert cli.invoke(main, ["store", "delete"]).exit_code == 2
    assert "3 runs deleted" in cli.invoke(main, ["store", "delete", "--yes", *chosen]).output
    assert store.database.runs.count_documents({"synthetic": True}) == 0
    back = cli.invoke(main, ["store", "import", str(tmp_path / "a.zip")]).output
    assert back == "3 runs brought in, 0 were there already\n"
    cli.invoke(main, ["store", "delete", "--yes", *chosen])
