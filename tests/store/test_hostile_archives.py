"""Archives from anywhere: a good import, or one line and an unchanged store."""

import copy
import hashlib
import io
import json
import random
import time
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import bson
import gridfs
import pytest
from bson import Code, ObjectId, Regex
from click.testing import CliRunner

from benchmarks import synthetic
from grok.cli import main
from grok.errors import UserError
from grok.reports.page import collect, curves, views
from grok.store import archive, maintenance

CREATED = datetime(2026, 1, 1)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "3ee297d" / "runs.zip"
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def made(store):
    """A store with a run, its metrics, a file and a sweep: what a hostile archive is after."""
    made = replace(store, db_name="hostile")
    database = made.database
    synthetic.fill(database, 2, steps=6)
    for number in (1, 2):
        kept = gridfs.GridFS(database).put(b"weights %d" % number, filename="w")
        own = {
            "artifacts": [{"name": "w", "file_id": kept}],
            "meta.sweep": {"id": "s-1", "point": 0},
        }
        database.runs.update_one({"_id": number}, {"$set": own})
    config = {"parameters": {"p": {"values": [5, 6]}}, "program": "experiments/liu_toy.py"}
    sweep = {"_id": "s-1", "name": "s", "created": CREATED, "config": config, "points": [{"p": 5}]}
    database.sweeps.insert_one(sweep)
    served = {**sweep, "_id": "s-2", "served": True}
    del served["points"]
    point = {"_id": "s-2/0", "sweep": "s-2", "number": 0, "point": {"p": 5}, "state": "finished"}
    database.sweeps.insert_one(served)
    database.sweep_points.insert_one({**point, "run": "r0", "attempts": ["r0"]})
    database.runs.update_one({"_id": 2}, {"$set": {"info.wandb": {"run": "r0", "sweep": "s-2"}}})
    yield made
    store.client.drop_database("hostile")


@pytest.fixture(scope="module")
def good(made, tmp_path_factory) -> Members:
    """The members of an archive of run 2, which is no longer in the store; run 1 stays."""
    path = tmp_path_factory.mktemp("good") / "runs.zip"
    archive.export(made.database, {"_id": 2}, path)
    assert path.stat().st_mode & 0o777 == 0o600
    remove_imported(made)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def remove_imported(made) -> None:
    """Remove what an archive has brought: all but run 1 and its sweep."""
    maintenance.delete(made, {"_id": {"$ne": 1}})
    made.database.sweeps.delete_many({"_id": {"$ne": "s-1"}})
    made.database.sweep_points.delete_many({})


@pytest.fixture
def state(made):
    """A hash of the whole store."""

    def state() -> str:
        return made.database.command("dbHash")["md5"]

    return state


def documents(members: Members, name: str) -> list[dict]:
    return bson.decode_all(members[f"{name}.bson"])


def with_documents(members: Members, **changed: list[dict]) -> Members:
    """The members with other documents and the right hashes."""
    new = {f"{name}.bson": b"".join(map(bson.encode, docs)) for name, docs in changed.items()}
    return with_hashes(members | new)


def with_hashes(members: Members) -> Members:
    manifest = json.loads(members["manifest.json"])
    hashed = {name: content for name, content in members.items() if name != "manifest.json"}
    manifest["sha256"] = {name: hashlib.sha256(one).hexdigest() for name, one in hashed.items()}
    return {**hashed, "manifest.json": json.dumps(manifest).encode()}


def zipped(members: Members) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(name, member)
    return content.getvalue()


def changed_run(**fields: object):
    return lambda good: with_documents(good, runs=[{**documents(good, "runs")[0], **fields}])


def changed(name: str, **fields: object):
    def change(good: Members) -> Members:
        first, *others = documents(good, name)
        return with_documents(good, **{name: [{**first, **fields}, *others]})

    return change


def without(key: str, name: str):
    def change(good: Members) -> Members:
        docs = documents(good, name)
        return with_documents(
            good, **{name: [{k: v for k, v in d.items() if k != key} for d in docs]}
        )

    return change


def nested(depth: int) -> dict:
    value: dict = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def raw(name: str, content: bytes):
    return lambda good: with_hashes({**good, name: content})


def manifest(text: str):
    return lambda good: {**good, "manifest.json": text.encode()}


HOSTILE = {
    "manifest is a list": manifest("[]"),
    "manifest is nested": manifest("[" * 100_000),
    "manifest has no hashes": manifest('{"format": 1, "runs": 1}'),
    "manifest has a list of hashes": manifest('{"format": 1, "runs": 1, "sha256": ["runs.bson"]}'),
    "manifest is no text": lambda good: {**good, "manifest.json": b"\xff\xfe"},
    "no manifest": lambda good: {k: v for k, v in good.items() if k != "manifest.json"},
    "another format": manifest('{"format": 3, "runs": 1, "sha256": {}}'),
    "no metrics": lambda good: with_hashes({k: v for k, v in good.items() if "metrics" not in k}),
    "no file": lambda good: with_hashes({k: v for k, v in good.items() if "data" not in k}),
    "another member": raw("../../evil.py", b"x"),
    "a file of nothing": raw(f"data/{ObjectId()}", b"x"),
    "garbage": raw("runs.bson", b"garbage" * 9),
    "zeros": raw("runs.bson", bytes(100)),
    "a length that lies": raw("runs.bson", b"\xff\xff\xff\x7f" + bytes(100)),
    "a short document": raw("runs.bson", b"\x40\x00\x00\x00\x00"),
    "a run without id": without("_id", "runs"),
    "a metric without id": without("_id", "metrics"),
    "a metric without run": without("run_id", "metrics"),
    "id is a dict": changed_run(_id={"$gt": 0}),
    "id is an ObjectId": changed_run(_id=ObjectId()),
    "id is a path": changed_run(_id="../../etc/passwd"),
    "id is a pattern": changed_run(_id="*"),
    "id is true": changed_run(_id=True),
    "id is NaN": changed_run(_id=float("nan")),
    "a run twice": lambda good: with_documents(good, runs=documents(good, "runs") * 2),
    "config is a list": changed_run(config=[1]),
    "config is a query": changed("runs", **{"$where": "sleep(1000)"}),
    "status is a number": changed_run(status=3),
    "start is a text": changed_run(start_time="now"),
    "no experiment": without("experiment", "runs"),
    "experiment is a list": changed_run(experiment=[]),
    "artifacts is a dict": changed_run(artifacts={"name": "w"}),
    "an artifact without file": changed_run(artifacts=[{"name": "w"}]),
    "sources are texts": changed_run(experiment={"name": "x", "sources": ["a"]}),
    "info is a text": changed_run(info="x"),
    "a million slots": changed_run(info={"program": {"slot": 0, "slots": 10**6}}),
    "code": changed_run(result=Code("while (1) {}")),
    "a regular expression": changed_run(config={"p": Regex("(a+)+$")}),
    "deep": changed_run(config=nested(60)),
    "very deep": changed_run(config=nested(400)),
    "it runs since never": changed_run(status="RUNNING", start_time=None, heartbeat=None),
    "a metric of a run that is here": changed("metrics", run_id=1),
    "values are texts": changed("metrics", values=["x"] * 6),
    "values are a dict": changed("metrics", values={"0": 1}),
    "more steps than values": changed("metrics", steps=list(range(7))),
    "a file of another size": changed("files", length=3),
    "a file of negative size": changed("files", length=-1),
    "a file whose id is a text": changed("files", _id="x"),
    "a sweep of another id": changed("sweeps", _id={"a": 1}),
    "a sweep that is another one here": changed("sweeps", created=datetime(2020, 1, 1)),
    "a run of a sweep that is here": lambda good: with_documents(good, sweeps=[]),
    "a point of a sweep that is not in it": changed("sweep_points", _id="s-3/0", sweep="s-3"),
    "a point with the id of another": changed("sweep_points", _id="s-1/0"),
    "a point in no known state": changed("sweep_points", state="x"),
    "a point that runs without a run": changed("sweep_points", state="running"),
    "no points in format 2": lambda good: with_hashes(
        {k: v for k, v in good.items() if "points" not in k}
    ),
    "parameters are a list": changed("sweeps", config={"parameters": [1]}),
}


def refused(made, path: Path) -> str:
    """The one line with which the command ends, with exit code 2."""
    result = CliRunner().invoke(main, ["store", "import", str(path), "-m", f"{made.uri}/hostile"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, (
        result.output,
        result.exception,
    )
    return result.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_line_and_changes_nothing(made, good, state, tmp_path, name):
    path, before = tmp_path / "runs.zip", state()
    path.write_bytes(zipped(HOSTILE[name](good)))
    assert str(path) in refused(made, path)
    assert state() == before


def test_zip_bombs_are_refused_at_once(made, good, state, tmp_path):
    """700 MB of zeros as documents, as a file of another size, and as the archive itself."""
    before, start = state(), time.process_time()
    zeros = tmp_path / "zeros"
    with open(zeros, "wb") as file:
        file.truncate(700 << 20)
    refused(made, zeros)
    for name in ("runs.bson", "manifest.json", next(name for name in good if "data/" in name)):
        bomb = tmp_path / "bomb.zip"
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for other, content in good.items():
                if other != name:
                    file.writestr(other, content)
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            with file.open(info, "w", force_zip64=True) as member:
                for _ in range(30):  # compressing takes longer than all the rest
                    member.write(bytes(1 << 20))
        built = time.process_time()
        refused(made, bomb)
        assert time.process_time() - built < 2
    assert state() == before and time.process_time() - start < 20


def test_members_that_overlap_are_refused(made, good, state, tmp_path):
    """Many entries of the directory for one place of the file: a small file of terabytes."""
    listed = json.loads(good["manifest.json"])
    copies = {f"data/{number:024x}": listed["sha256"]["runs.bson"] for number in range(20)}
    listed["sha256"] |= copies
    content = io.BytesIO(zipped({**good, "manifest.json": json.dumps(listed).encode()}))
    with zipfile.ZipFile(content, "a") as file:
        for name in copies:
            member = copy.copy(file.getinfo("runs.bson"))
            member.filename = name
            file.filelist.append(member)
        file._didModify = True
    path, before = tmp_path / "runs.zip", state()
    path.write_bytes(content.getvalue())
    assert "members that overlap" in refused(made, path)
    assert state() == before


def test_a_foreign_archive_takes_no_metrics_and_no_files(made, good, tmp_path):
    """One that names the metrics and the file of a local run gets copies of its own."""
    database = made.database
    local = {name: list(database[name].find()) for name in ("metrics", "fs.files", "fs.chunks")}
    (run,) = documents(good, "runs")
    theirs = local["fs.files"][0]["_id"]
    old = run["artifacts"][0]["file_id"]
    run["artifacts"][0]["file_id"] = theirs
    run["info"] = {
        "metrics": [{"id": str(local["metrics"][0]["_id"]), "name": "x"}],
        "initial_run": 1,
    }
    run |= {"uid": "x", "lease": {"metrics": [{"id": one["_id"]} for one in local["metrics"]]}}
    metrics = documents(good, "metrics")
    for metric, taken in zip(metrics, local["metrics"], strict=True):
        metric["_id"] = taken["_id"]
    files = [{**documents(good, "files")[0], "_id": theirs}]
    members = {**good, f"data/{theirs}": good[f"data/{old}"]}
    del members[f"data/{old}"]
    path = tmp_path / "runs.zip"
    path.write_bytes(zipped(with_documents(members, runs=[run], metrics=metrics, files=files)))
    assert archive.import_(database, path) == archive.Imported(1, 0, {})
    for name, docs in local.items():
        assert list(database[name].find({"_id": {"$in": [one["_id"] for one in docs]}})) == docs
    new = database.runs.find_one({"_id": 2})
    assert "initial_run" not in new["info"] and not {"uid", "lease"} & set(new)
    assert database.metrics.count_documents({"run_id": 2}) == 4
    assert (
        database.metrics.find_one({"_id": ObjectId(new["info"]["metrics"][0]["id"])})["run_id"] == 2
    )
    content = gridfs.GridFS(database).get(new["artifacts"][0]["file_id"]).read()
    assert content == b"weights 2"
    remove_imported(made)
    assert list(database["fs.chunks"].find()) == local["fs.chunks"]


@pytest.mark.parametrize("step", ["metrics", "runs", "fs.files", "sweep_points", "sweeps"])
def test_an_error_during_the_writes_leaves_nothing(made, good, state, tmp_path, monkeypatch, step):
    """A server that refuses a write in the middle; all that was written before is removed."""
    path, before = tmp_path / "runs.zip", state()
    path.write_bytes(zipped(good))
    calls = {"metrics": "bulk_write", "runs": "update_one"}

    def fail(collection, *arguments, original, **options):
        if collection.name == step:
            raise archive.PyMongoError("no space left")
        return original(collection, *arguments, **options)

    from pymongo.collection import Collection

    call = calls.get(step, "insert_one")
    original = getattr(Collection, call)
    with monkeypatch.context() as patch:
        patch.setattr(Collection, call, lambda *a, **o: fail(*a, original=original, **o))
        with pytest.raises(UserError, match="not imported, nothing is kept: no space left"):
            archive.import_(made.database, path)
    assert state() == before
    assert archive.import_(made.database, path) == archive.Imported(1, 0, {})
    remove_imported(made)
    assert state() == before


VALUES = [None, True, -1, 2**62, float("nan"), "x" * 50, "[/b]", "\x1b[2J", [], [1], {}, {"$gt": 1}]
VALUES += [{"a": {"b": []}}, ObjectId(), CREATED, b"bytes", "../..", "<script>"]


def replaced(value: object, chance: random.Random) -> object:
    """The value with one part somewhere in it replaced or left out."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: replaced(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.6:
        place = chance.randrange(len(value))
        return [*value[:place], replaced(value[place], chance), *value[place + 1 :]]
    return chance.choice(VALUES)


def mutated(good: Members, chance: random.Random) -> bytes:
    """The archive with flipped bytes, without a member, or with a replaced value and right hashes."""
    kind = chance.randrange(4)
    if kind == 0:
        content = bytearray(zipped(good))
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(content)
    if kind == 1:
        dropped = chance.choice(list(good))
        members = {name: one for name, one in good.items() if name != dropped}
        return zipped(with_hashes(members) if "manifest.json" in members else members)
    if kind == 2:
        text = json.dumps(replaced(json.loads(good["manifest.json"]), chance), default=str)
        return zipped({**good, "manifest.json": text.encode()})
    name = chance.choice(["runs", "metrics", "sweeps", "sweep_points", "files"])
    first, *others = documents(good, name)
    first = replaced(first, chance)
    return zipped(
        with_documents(good, **{name: [first if isinstance(first, dict) else {}, *others]})
    )


def test_three_hundred_mutations_are_imported_or_refused_in_one_line(made, good, state, tmp_path):
    """What is imported can be shown by the report, and deleted; what is refused leaves no trace."""
    chance, path, before = random.Random(1), tmp_path / "runs.zip", state()
    imported = 0
    for _ in range(300):
        path.write_bytes(mutated(good, chance))
        try:
            result = archive.import_(made.database, path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            imported += result.new
            runs = list(made.database.runs.find())
            json.dumps([collect.columns_of(runs), *map(collect.commands_of, runs)], allow_nan=False)
            ids = [run["_id"] for run in runs]
            json.dumps(curves.curves_of(made.database, ids), allow_nan=False)
            list(map(collect.tags_of, runs)), list(map(collect.claims_of, runs))
            list(map(views.sweep_of, made.database.sweeps.find()))
        remove_imported(made)
        assert state() == before
    assert 30 < imported < 200


def test_an_archive_of_an_earlier_version_is_imported(store):
    database = replace(store, db_name="earlier").database
    assert archive.import_(database, FIXTURE) == archive.Imported(8, 0, {})
    assert archive.import_(database, FIXTURE) == archive.Imported(0, 8, {})
    assert database.metrics.count_documents({}) == 53
    for run in database.runs.find():
        for file in archive.file_ids(run):
            gridfs.GridFS(database).get(file).read()
        ids = [ObjectId(entry["id"]) for entry in run["info"]["metrics"]]
        assert database.metrics.count_documents({"_id": {"$in": ids}, "run_id": run["_id"]}) == len(
            ids
        )
    store.client.drop_database("earlier")
