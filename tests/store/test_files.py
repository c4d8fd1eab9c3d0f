"""A run's files come out of the store as they went in; what is added later is marked, and replaces nothing."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from bson import ObjectId
from click.testing import CliRunner

from grok.analysis import query
from grok.cli import main
from grok.errors import UserError
from grok.store import archive, files, maintenance
from tests.conftest import PROJECT

SMALL = {"p": 5, "train_steps": 3, "seed": 1}


@pytest.fixture(scope="module")
def run(store):
    """A run that was alone in its process, so that its output is stored."""
    words = [f"{key}={value}" for key, value in SMALL.items()]
    command = [sys.executable, PROJECT / "experiments" / "liu_toy.py", "with", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=PROJECT)
    return store.database.runs.find_one(sort=[("_id", -1)])["_id"]


def grok(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def test_files_output_and_sources_are_written_as_they_were_stored(store, run, tmp_path):
    store.database.runs.update_one({"_id": run}, {"$set": {"captured_out": "a line"}})
    done = grok("export", "run", run, tmp_path, "--files", "--sources")
    assert done.exit_code == 0, done.output
    document = store.database.runs.find_one({"_id": run})
    names = {entry["name"] for entry in document["artifacts"]}
    assert {path.name for path in (tmp_path / "files").iterdir()} == {*names, "captured_out.txt"}
    assert (tmp_path / "files" / "captured_out.txt").read_text() == "a line"
    weights = (tmp_path / "files" / "weights.safetensors").read_bytes()
    assert weights == query.artifact(store, run, "weights.safetensors")
    for name, file_id in document["experiment"]["sources"]:
        content = (tmp_path / "sources" / name).read_bytes()
        stored = store.database["fs.files"].find_one({"_id": file_id})
        assert hashlib.md5(content).hexdigest() == stored["md5"]
    original = (PROJECT / "experiments" / "liu_toy.py").read_bytes()
    assert (tmp_path / "sources" / "experiments" / "liu_toy.py").read_bytes() == original


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", ""])
def test_a_stored_name_leads_out_of_no_folder(store, run, tmp_path, name):
    """A run may have come from an archive of anybody's."""
    entry = {"name": name, "file_id": ObjectId()}
    store.database.runs.insert_one({"_id": "hostile", "artifacts": [entry]})
    try:
        with pytest.raises(UserError, match=r"outside the folder|not in the store"):
            files.export(store, "hostile", tmp_path / "in", ["files"])
    finally:
        store.database.runs.delete_one({"_id": "hostile"})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_added_is_marked_and_read_in_tables(store, run, tmp_path):
    """It survives an archive, which has the forms of documents."""
    picture = tmp_path / "later.png"
    picture.write_bytes(b"first")
    before = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    done = grok("store", "attach", run, "peak=0.93", "note=second peak", picture)
    assert done.output == f"run {run} has later.png, peak, note\n"
    picture.write_bytes(b"second")
    assert grok("store", "attach", run, picture).exit_code == 0
    assert query.artifact(store, run, "later.png") == b"second"
    document = store.database.runs.find_one({"_id": run})
    marked = [entry["name"] for entry in document["artifacts"] if "added" in entry]
    assert marked == ["later.png"]
    assert all(one["date"] >= before for one in document["added"].values())
    row = query.runs(store, {"_id": run}).iloc[0]
    assert (row["added.peak"], row["added.note"]) == (0.93, "second peak")
    assert store.database["fs.files"].count_documents({"filename": "later.png"}) == 1
    assert archive.export(store.database, {"_id": run}, tmp_path / "runs.zip") == 1
    archive.import_(store.database, tmp_path / "runs.zip")


def test_what_was_added_survives_a_resume(store, liu_toy, tmp_path):
    """A resumed run records everything again except what somebody has found out about it."""
    number = liu_toy.run(config_updates=SMALL)._id
    (tmp_path / "later.png").write_bytes(b"later")
    assert grok("store", "attach", number, "peak=0.93", tmp_path / "later.png").exit_code == 0
    store.database.runs.update_one({"_id": number}, {"$set": {"status": "INTERRUPTED"}})
    assert grok("resume", number).exit_code == 0
    document = store.database.runs.find_one({"_id": number})
    assert document["status"] == "COMPLETED" and document["added"]["peak"]["value"] == 0.93
    assert query.artifact(store, number, "later.png") == b"later"
    names = [entry["name"] for entry in document["artifacts"]]
    assert sorted(names) == sorted({*names}) and "weights.safetensors" in names


def test_a_run_that_has_a_name_is_repeated_resumed_and_exported(store, liu_toy, tmp_path):
    """Sacred's `--id` may name a run: a hint such as "`grok resume first` continues it" led to a
    command that took numbers only."""
    liu_toy.run(config_updates=SMALL, options={"--id": "first"})
    try:
        done = grok("repeat", "first")
        assert done.exit_code == 0, done.output
        store.database.runs.update_one({"_id": "first"}, {"$set": {"status": "INTERRUPTED"}})
        done = grok("resume", "first")
        assert done.exit_code == 0, done.output
        assert "run first went on from step" in done.output
        done = grok("export", "weights", "first", tmp_path / "weights.safetensors")
        assert done.exit_code == 0, done.output
    finally:
        maintenance.delete(store, {"_id": "first"})


def test_files_that_two_processes_add_are_both_kept(store, run, monkeypatch):
    """Each has read the run before the other one has written it."""
    ended, inner = files._ended_run, []

    def slowly(store, number):
        document = ended(store, number)
        if not inner:
            inner.append(True)
            files.attach_file(store, run, "two.txt", b"2")
        return document

    monkeypatch.setattr(files, "_ended_run", slowly)
    files.attach_file(store, run, "one.txt", b"1")
    names = [entry["name"] for entry in store.database.runs.find_one({"_id": run})["artifacts"]]
    assert {"one.txt", "two.txt"} <= {*names}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such/file"], "No such file"),
        (["later.png", "a-b=1"], "letters, digits"),
        (["later.png", "deeper/later.png"], "the same name"),
        (["a.b=1"], "letters, digits"),
        (["x={1, 2}"], "cannot be stored"),
        ([r"x='\udcff'"], "cannot be stored"),
        ([f"x={'[' * 60}{']' * 60}"], "cannot be stored: a document that is more than 50 deep"),
        (["weights.safetensors"], "has stored weights.safetensors itself"),
        (["later.png", "weights.safetensors"], "has stored weights.safetensors itself"),
        (["captured_out.txt"], "captured_out.txt is the name of a run's own output"),
    ],
)
def test_what_the_run_stored_is_not_replaced_and_bad_input_is_one_line(
    store, run, tmp_path, monkeypatch, words, message
):
    """The run's output has the name captured_out.txt where its files are exported. No archive can
    have a value of more levels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deeper").mkdir()
    for name in ("weights.safetensors", "captured_out.txt", "later.png", "deeper/later.png"):
        (tmp_path / name).write_text("new")
    before = store.database.runs.find_one({"_id": run})
    done = grok("store", "attach", run, *words)
    assert done.exit_code == 2 and message in done.output
    assert done.output.count("\n") == 1
    assert store.database.runs.find_one({"_id": run}) == before


def test_a_configuration_that_names_a_number_that_no_run_can_have_is_one_line(liu_toy):
    """It was a traceback of MongoDB's driver."""
    with pytest.raises(UserError, match=rf"no run {10**20}$"):
        liu_toy.run(config_updates={**SMALL, "initial_run": 10**20})


@pytest.mark.parametrize("number", ["9" * 20, "\u00b2"])
@pytest.mark.parametrize("words", [["export", "run"], ["resume"], ["repeat"]])
def test_a_number_that_no_run_can_have_is_one_line(store, tmp_path, words, number):
    """It was a traceback: MongoDB's numbers have 64 bits, and not every digit is one of a number."""
    folder = [tmp_path / "out"] if words[0] == "export" else []
    done = grok(*words, number, *folder)
    assert (done.exit_code, done.stderr) == (2, f"error: no run {number}\n")


def test_a_pipe_is_no_file_to_attach_or_to_import(run, tmp_path):
    """Whoever reads one that nobody writes to waits forever, and a device may have no end."""
    os.mkfifo(tmp_path / "pipe")
    for words in (["attach", run, tmp_path / "pipe"], ["import", tmp_path / "pipe"]):
        done = grok("store", *words)
        expected = f"{tmp_path / 'pipe'}: expected a file, not a folder, pipe or device"
        assert (done.exit_code, done.stderr) == (2, f"error: {expected}\n")


def test_a_running_run_gets_nothing(store, run):
    """Its own process writes it."""
    now = datetime.now(UTC)
    store.database.runs.insert_one({"_id": "alive", "status": "RUNNING", "heartbeat": now})
    try:
        with pytest.raises(UserError, match="still running"):
            files.attach_value(store, "alive", "peak", 1)
    finally:
        store.database.runs.delete_one({"_id": "alive"})


def test_only_the_named_files_of_the_selected_runs_are_deleted(store, liu_toy, tmp_path):
    runs = [liu_toy.run(config_updates={**SMALL, "seed": seed}) for seed in (91, 92)]
    ids = [run._id for run in runs]
    done = grok("store", "delete", "seed=91", "--files", "traj*.npz", "--yes")
    assert done.output == "1 files of 1 runs deleted\n"
    names = [
        {entry["name"] for entry in store.database.runs.find_one({"_id": one})["artifacts"]}
        for one in ids
    ]
    assert names[1] - names[0] == {"trajectory.npz"}
    with pytest.raises(UserError, match=r"has kept no trajectory\.npz"):
        query.arrays(store, ids[0])
    assert len(query.arrays(store, ids[1])) > 1
    assert query.runs(store, {"_id": ids[0]})["result.steps"].tolist() == [3]


def test_a_pattern_that_matches_no_file_is_an_error(store, run):
    """Zero deleted files look like success, and the mistyped name stays unnoticed."""
    before = store.database.runs.find_one({"_id": run})
    for patterns, message in (
        (["traj.npz"], "no file of the selected runs matches traj.npz"),
        (["no.npz", "*.jpg"], "no file of the selected runs matches no.npz or *.jpg"),
        (["", "*.npz"], "an empty pattern: expected the name of a file, or one as *.png"),
    ):
        options = [word for pattern in patterns for word in ("--files", pattern)]
        for more in ([], ["--yes"]):
            done = grok("store", "delete", f"run={run}", *options, *more)
            assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")
    assert store.database.runs.find_one({"_id": run}) == before


def test_the_runs_are_read_once_to_delete_files(monkeypatch):
    """They were read twice, first only to see that a file matches."""
    runs = [{"_id": 1, "artifacts": [{"name": "trajectory.npz", "file_id": 5}]}]
    reads = []
    found = SimpleNamespace(find=lambda wanted, fields: reads.append(wanted) or runs)
    monkeypatch.setattr(files, "is_alive", lambda *_: True)
    fake = SimpleNamespace(database=SimpleNamespace(runs=found))
    assert files.delete(fake, {"seed": 1}, ["*.npz"]) == (0, 0, 1)
    assert reads == [{"seed": 1}]
