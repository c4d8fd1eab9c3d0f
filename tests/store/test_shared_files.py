"""Source files are stored once for all runs, and never deleted from under a run that begins."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import gridfs
import pytest

from benchmarks import synthetic
from grok.store import archive, maintenance
from grok.store.shared_files import store_sources

LONG_AGO = datetime.now(UTC) - timedelta(hours=3)


def digest(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def database(store):
    yield replace(store, db_name="shared").database
    store.client.drop_database("shared")


def stored(database, folder, name="a.py"):
    """The id of the copy that a new run of the file refers to."""
    content = (folder / name).read_bytes()
    ((_, file),) = store_sources(database, folder, [(name, digest(content))])
    return file


def test_runs_of_the_same_content_share_one_copy(database, tmp_path):
    """A run has some 27 source files: a copy for each of 1,000 runs would be 0.7 GB."""
    (tmp_path / "a.py").write_bytes(b"x = 1")
    first = stored(database, tmp_path)
    assert stored(database, tmp_path) == first
    (tmp_path / "a.py").write_bytes(b"x = 2")
    second = stored(database, tmp_path)
    bucket = gridfs.GridFS(database)
    assert (bucket.get(first).read(), bucket.get(second).read()) == (b"x = 1", b"x = 2")
    assert database["fs.files"].count_documents({}) == 2


def test_the_same_content_under_another_name_is_another_file(database, tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_bytes(b"x = 1")
    sources = [(name, digest(b"x = 1")) for name in ("a.py", "b.py")]
    (_, first), (_, second) = store_sources(database, tmp_path, sources)
    names = [gridfs.GridFS(database).get(file).filename for file in (first, second)]
    assert names == [str(tmp_path / "a.py"), str(tmp_path / "b.py")]


def test_a_file_that_changed_after_it_was_loaded_is_not_taken_for_the_loaded_one(
    database, tmp_path
):
    """The copy under the loaded content's MD5 must have this content, for all later runs."""
    (tmp_path / "a.py").write_bytes(b"changed")
    store_sources(database, tmp_path, [("a.py", digest(b"loaded"))])
    (tmp_path / "a.py").write_bytes(b"loaded")
    assert gridfs.GridFS(database).get(stored(database, tmp_path)).read() == b"loaded"


def test_a_copy_is_deleted_when_no_run_refers_to_it_and_none_can_be_about_to(
    store, database, tmp_path
):
    """Deleting the last run that refers to a copy must not take it from a run that just begins,
    which has found the copy but is not in the store yet."""
    made = replace(store, db_name="shared")
    (tmp_path / "a.py").write_bytes(b"x = 1")
    file = stored(database, tmp_path)
    synthetic.fill(database, 1, steps=12)
    database.runs.update_one({}, {"$set": {"experiment.sources": [["a.py", file]]}})
    database["fs.files"].update_one({"_id": file}, {"$set": {"uploadDate": LONG_AGO}})
    assert stored(database, tmp_path) == file  # by a run that begins
    maintenance.delete(made, {})
    assert gridfs.GridFS(database).get(file).read() == b"x = 1"
    assert maintenance.examine(made) == []
    database["fs.files"].update_one({"_id": file}, {"$set": {"uploadDate": LONG_AGO}})
    (fault,) = maintenance.examine(made)
    assert fault.message == "1 files of no run"
    fault.repair()
    assert [database[f"fs.{name}"].count_documents({}) for name in ("files", "chunks")] == [0, 0]


def test_an_archive_cannot_plant_a_source_file(store, database, tmp_path):
    """A run that begins here records the file that it was loaded from, whatever MD5 an archive has
    written beside its own content."""
    made = replace(store, db_name="shared")
    path = tmp_path / "a.py"
    planted = gridfs.GridFS(database).put(b"planted", filename=str(path), md5=digest(b"real"))
    synthetic.fill(database, 1, steps=12)
    database.runs.update_one({}, {"$set": {"experiment.sources": [["a.py", planted]]}})
    archive.export(database, {}, tmp_path / "runs.zip")
    maintenance.delete(made, {})
    database["fs.files"].delete_many({})
    database["fs.chunks"].delete_many({})
    archive.import_(database, tmp_path / "runs.zip")
    path.write_bytes(b"real")
    assert gridfs.GridFS(database).get(stored(database, tmp_path)).read() == b"real"
