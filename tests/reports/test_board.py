"""`grok board`: the views that the page shows, who may ask for them, and the live page in a browser."""

import hashlib
import io
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import gridfs
import numpy as np
import pytest
import safetensors.numpy
from pymongo.errors import AutoReconnect

from benchmarks import synthetic
from grok.errors import UserError
from grok.reports.page import arrays, published, server, views
from grok.reports.page.changes import Cache, Changes
from grok.reports.page.collect import claims_of
from grok.reports.page.values import command_of
from grok.store import status
from tests.store.selection_cases import CASES, fill

TOKEN = "a-token"


@pytest.fixture(scope="module")
def made(store):
    """A store of 60 synthetic runs."""
    made = replace(store, db_name="board")
    synthetic.fill(made.database, 60, steps=30)
    made.database.runs.update_many({"_id": {"$lte": 20}}, {"$set": {"meta.sweep.id": "s-1"}})
    made.database.runs.update_many({"_id": {"$lte": 10}}, {"$set": {"result.steps_to_test": None}})
    yield made
    store.client.drop_database("board")


def test_the_copied_parts_are_those_of_their_makers():
    """A changed copy could hide anything; each has the checksum of the published file."""
    folder = server.FRONT / "vendor"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert name in server.FILES


# -- views ---------------------------------------------------------------------------------------


def column(database, name, *filters, **options):
    """The values of one column of the table of runs."""
    found = views.runs(database, " ".join(filters), [name], **{"limit": 1000, **options})
    return [row[0] for row in found["rows"]]


def test_the_table_selects_what_the_command_line_selects(store):
    """The page's filter is the language of the command line, since the server reads it there."""
    cases = replace(store, db_name="board_cases")
    fill(cases.database)
    try:
        for filters, expected in CASES["cases"]:
            assert sorted(column(cases.database, "run", filters), key=str) == expected, filters
        for filters, message in CASES["errors"]:
            with pytest.raises(UserError) as caught:
                views.runs(cases.database, filters, ["run"])
            assert str(caught.value).startswith(message)
        cases.database.runs.insert_one({"_id": 99, "config": {"operation": "a**2 + b"}})
        assert column(cases.database, "run", "operation='a**2 + b' run=99") == [99]
        with pytest.raises(UserError, match="expected KEY=VALUE"):
            views.runs(cases.database, "operation='a**2 + b", ["run"])
    finally:
        store.client.drop_database("board_cases")


def test_pages_of_the_table_are_parts_of_one_order(made):
    """A run must not be on two pages, nor on none, also where many runs have an equal value."""
    for sort in ("run", "seed", "result.phase", "result.steps_to_test", "decoder_lr"):
        for down in (True, False):
            options = {"sort": sort, "descending": down}
            pages = [
                column(made.database, "run", offset=at, limit=7, **options)
                for at in range(0, 63, 7)
            ]
            joined = [run for page in pages for run in page]
            assert sorted(joined) == list(range(1, 61))
            assert joined == column(made.database, "run", **options)


def test_runs_are_sorted_by_the_last_value_that_a_metric_has_now(made, monkeypatch):
    """The values are kept in memory: one that a run has logged since must count, and a run that has
    none, or no number, comes last. Those of completed runs are in their results, so that the first
    order of many runs does not read their curves, which took 5 s of 50,000."""
    last = views.LastValues()
    metrics, runs = made.database.metrics, made.database.runs

    def order(down=True, filters="run=..5"):
        options = {"sort": "metric.test_loss", "descending": down, "last": last}
        return column(made.database, "run", filters, **options)

    before = [*metrics.find({"run_id": {"$lte": 5}, "name": "test_loss"})]
    read, read_curves = [], views._last_values
    monkeypatch.setattr(
        views,
        "_last_values",
        lambda database, ids, name: read.extend(ids) or read_curves(database, ids, name),
    )
    try:
        runs.update_many({"_id": {"$lte": 5}}, {"$set": {"status": "INTERRUPTED"}})
        for run_id, value in ((1, 3.0), (2, float("inf")), (3, float("nan")), (4, -1), (5, 3.0)):
            change = {"$push": {"values": value}}
            metrics.update_one({"run_id": run_id, "name": "test_loss"}, change)
        assert order() == [2, 5, 1, 4, 3] and order(down=False) == [4, 5, 1, 2, 3]
        assert order(filters="seed=0,4 run=..5") == [5, 1]
        part = {"run_id": 4, "name": "test_loss", "values": [9.0], "part": 1}
        metrics.insert_one(part)
        runs.update_one({"_id": 4}, {"$set": {"heartbeat": datetime.now(UTC)}})
        assert order() == [2, 4, 5, 1, 3]
        assert len(column(made.database, "run", sort="metric.test_loss", last=last)) == 60
        assert max(read) == 5
        losses = column(made.database, "metric.test_loss", "run=6..", sort="metric.test_loss")
        assert losses == sorted(losses, reverse=True)
        assert column(made.database, "run", sort="metric.none", limit=2) == [60, 59]
    finally:
        runs.update_many({"_id": {"$lte": 5}}, {"$set": {"status": "COMPLETED"}})
        metrics.delete_many({"run_id": 4, "part": 1})
        for document in before:
            metrics.replace_one({"_id": document["_id"]}, document)


def test_what_has_no_value_is_last_in_both_directions(made):
    """The first page should show runs that have the value that they are sorted by."""
    for down in (True, False):
        steps = column(
            made.database, "result.steps_to_test", sort="result.steps_to_test", descending=down
        )
        assert steps[-10:] == [None] * 10 and None not in steps[:-10]
        assert steps[:-10] == sorted(steps[:-10], reverse=down)


def test_columns_are_config_keys_results_and_last_values_of_metrics(made):
    """Every column that is offered has the value that the store has."""
    run = made.database.runs.find_one({"_id": 3})
    last = made.database.metrics.find_one({"run_id": 3, "name": "test_loss"})["values"][-1]
    names = [
        "decoder_lr",
        "config.p",
        "result.phase",
        "metric.test_loss",
        "sweep",
        "tag",
        "nothing",
    ]
    (row,) = views.runs(made.database, "run=3", names)["rows"]
    config = run["config"]
    assert row == [
        config["decoder_lr"],
        config["p"],
        run["result"]["phase"],
        last,
        "s-1",
        ["cpu"],
        None,
    ]
    offered = views.keys(made.database)
    assert "decoder_lr" in offered["config"] and "metric.test_loss" in offered["metrics"]
    made.database.metrics.update_one(
        {"run_id": 20, "name": "test_loss"}, {"$set": {"name": "rare"}}
    )
    try:  # the colours of a sweep are those of its own runs, however old
        assert "metric.rare" not in views.keys(made.database)["metrics"]
        assert "metric.rare" in views.keys(made.database, sweeps=["s-1"])["metrics"]
    finally:
        made.database.metrics.update_one({"name": "rare"}, {"$set": {"name": "test_loss"}})
    assert len(column(made.database, "curve", "run=3")[0]) == 24


def test_a_name_that_can_be_no_key_is_an_error(made):
    """A column's name becomes part of a query: it must not become an operator, nor be refused by
    MongoDB, whose error would say that the store is away."""
    deep = ".".join("a" * 300)
    with pytest.raises(UserError, match="a key has at most 100 parts"):
        views.runs(made.database, f"{deep}=1", ["run"])
    for name in ("$where", "a.$b", "a..b", "", "config.", deep, f"result.{deep}"):
        with pytest.raises(UserError):
            views.runs(made.database, "", ["run"], sort=name)
        with pytest.raises(UserError):
            views.runs(made.database, "", [name])
        with pytest.raises(UserError):
            views.groups(made.database, "", name, [])
    with pytest.raises(UserError, match="cannot be sorted by a curve"):
        views.runs(made.database, "", ["run"], sort="curve")


def test_groups_count_all_runs_and_average_their_results(made):
    """A group's mean is that of its runs which have a number there."""
    groups = views.groups(made.database, "", "seed", ["result.test_accuracy"])["groups"]
    assert [group["count"] for group in groups] == [6] * 10
    runs = made.database.runs.find({"config.seed": groups[0]["value"]})
    accuracies = [run["result"]["test_accuracy"] for run in runs]
    assert groups[0]["means"]["result.test_accuracy"] == pytest.approx(sum(accuracies) / 6)
    assert groups[0]["states"] == {"COMPLETED": 6}


def test_the_number_of_runs_is_told_also_where_not_all_groups_are(made, monkeypatch):
    """The page added up the groups that it had got, which are the largest 500."""
    monkeypatch.setattr(views, "MOST_GROUPS", 4)
    found = views.groups(made.database, "run=2..", "decoder_lr", [])
    assert len(found["groups"]) == 4 and found["total"] == 59


def test_curves_are_thinned_to_their_ends_and_have_gaps_where_not_finite(made):
    """The page draws what JSON can hold: no number is invented for NaN."""
    change = {"$set": {"values.1": float("nan"), "values.2": float("inf")}}
    made.database.metrics.update_one({"run_id": 5, "name": "train_loss"}, change)
    (curve,) = views.curves(made.database, [5], ["train_loss"])
    stored = made.database.metrics.find_one({"run_id": 5, "name": "train_loss"})
    assert [*curve["steps"]] == stored["steps"] and curve["values"][1:3] == [None, None]
    assert curve["values"][3] == pytest.approx(stored["values"][3], rel=1e-5)
    (short,) = views.curves(made.database, [5], ["train_loss"], points=5)
    assert len(short["steps"]) == 5
    assert (short["steps"][0], short["steps"][-1]) == (stored["steps"][0], stored["steps"][-1])


def test_a_running_run_has_a_rate_and_the_time_left(made):
    """Both are measured over the last minute, since evaluations are not equally far apart."""
    now = datetime(2026, 1, 1)
    times = [now + timedelta(seconds=s) for s in (0, 100, 110, 120)]
    made.database.metrics.insert_one(
        {
            "run_id": 900,
            "name": "a",
            "steps": [0, 10, 60, 110],
            "values": [0.0] * 4,
            "timestamps": times,
        }
    )
    for part, last in ((0, 5), (7, 90)):  # one logged at the start, and one seldom, in parts
        seldom = {"name": f"b{part}", "part": part, "steps": [0, last], "values": [0.0] * 2}
        made.database.metrics.insert_one({"run_id": 900, "timestamps": times[:2], **seldom})
    run = {"_id": 900, "status": "RUNNING", "config": {"train_steps": 310}}
    known = views.progress(made.database, run)
    assert known == {"step": 110, "steps": 310, "rate": 5.0, "left": 40.0}
    assert views.progress(made.database, {**run, "status": "COMPLETED"}) is None
    endless = views.progress(made.database, {**run, "config": {"train_steps": math.inf}})
    assert endless is not None and "left" not in endless
    made.database.metrics.update_many({"run_id": 900}, {"$unset": {"timestamps": 1}})
    assert views.progress(made.database, run) is None  # an imported one may have none
    made.database.metrics.delete_many({"run_id": 900})


def test_a_sweep_has_its_points_before_they_run(store):
    """The diagram has its axes from the start; a point's state is that of its latest run."""
    made = replace(store, db_name="board_sweep")
    try:
        made.database.sweeps.insert_one(
            {
                "_id": "s-1",
                "name": "s",
                "created": datetime(2026, 1, 1),
                "config": {"parameters": {"p": {"values": [5, 7]}}},
                "points": [{"p": 5}, {"p": 7}, {"p": 9}],
            }
        )
        for run_id, status, point in (
            (1, "INTERRUPTED", 0),
            (2, "COMPLETED", 0),
            (3, "RUNNING", 1),
        ):
            meta = {"sweep": {"id": "s-1", "point": point}}
            made.database.runs.insert_one({"_id": run_id, "status": status, "meta": meta})
        sweep = views.sweep(made.database, "s")
        assert [point["state"] for point in sweep["points"]] == ["finished", "running", "pending"]
        assert sweep["states"] == {"pending": 1, "running": 1, "finished": 1}
        (listed,) = views.sweeps(made.database)
        assert listed["runs"] == {"INTERRUPTED": 1, "COMPLETED": 1, "RUNNING": 1}
        assert listed["keys"] == ["p"]
        with pytest.raises(UserError, match="no sweep x"):
            views.sweep(made.database, "x")
        assert column(made.database, "run", ids=[3, 1], sort="run", descending=False) == [1, 3]
        assert len(column(made.database, "run", sweeps=["s-1"])) == 3
    finally:
        store.client.drop_database("board_sweep")


def test_a_published_grid_is_read_with_its_phases(tmp_path):
    """It is shown beside diagrams over its keys only; 99999 steps stand for never."""
    path = tmp_path / "figure.csv"
    path.write_text(
        "lr,wd,steps_to_train,steps_to_test\n1e-3,0,100,200\n1e-2,0,100,5000\n1e-2,1,100,99999\n1e-1,1,99999,99999\n"
    )
    grid = published.read(path)
    found = published.cells([grid], "wd", "lr")
    assert found["name"] == "figure" and found["cells"][1] == {
        "x": 0,
        "y": 0.01,
        "phase": "grokking",
    }
    phases = [cell["phase"] for cell in found["cells"]]
    assert phases == ["comprehension", "grokking", "memorization", "confusion"]
    assert published.cells([grid], "lr", "p") is None
    for text, message in (
        ("lr,steps_to_train\n", "lacks the column"),
        ("lr,steps_to_train,steps_to_test\n1,a,2\n", "expected a number"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            published.read(path)


def test_kept_matrices_are_shown_with_the_principal_components_of_their_rows(store):
    """Points on a line in 5 dimensions have one component; a file that is none is an error of one line."""
    made = replace(store, db_name="board_arrays")
    files = gridfs.GridFS(made.database)
    line = np.outer(np.arange(4.0), np.arange(5.0))
    trajectory = io.BytesIO()
    np.savez_compressed(
        trajectory, steps=[0, 10], **{"weights/E": np.stack([line, -line]), "loss": np.ones(2)}
    )
    weights = safetensors.numpy.save({"E": line, "b": np.ones(3), "big": np.ones((500, 3))})
    try:
        entries = [
            {"name": name, "file_id": files.put(content)}
            for name, content in (
                ("weights.safetensors", weights),
                ("trajectory.npz", trajectory.getvalue()),
            )
        ]
        made.database.runs.insert_one({"_id": 1, "artifacts": entries})
        made.database.runs.insert_one({"_id": 2, "artifacts": []})
        listed = {one["name"]: one for one in arrays.listing(made.database, 1)}
        assert set(listed) == {"E", "big", "weights/E"}
        assert listed["weights/E"]["steps"] == [0, 10] and listed["weights/E"]["shape"] == [4, 5]
        shown = arrays.matrix(made.database, 1, "weights.safetensors", "E", 0)
        assert shown["values"] == line.tolist() and shown["explains"][0] == 1.0
        firsts = [point[0] for point in shown["points"]]
        assert np.diff(np.abs(np.diff(firsts))) == pytest.approx(0, abs=1e-4)  # evenly spaced
        later = arrays.matrix(made.database, 1, "trajectory.npz", "weights/E", 1)
        assert later["values"] == (-line).tolist()
        assert len(arrays.matrix(made.database, 1, "weights.safetensors", "big", 0)["rows"]) == 96
        assert arrays.listing(made.database, 2) == []
        for file, name, place in (
            ("weights.safetensors", "b", 0),
            ("trajectory.npz", "weights/E", 2),
            ("x", "E", 0),
        ):
            with pytest.raises(UserError, match="has kept no matrix"):
                arrays.matrix(made.database, 1, file, name, place)
        made.database.runs.update_one(
            {"_id": 2},
            {"$set": {"artifacts": [{"name": "weights.safetensors", "file_id": files.put(b"x")}]}},
        )
        with pytest.raises(UserError, match="cannot be read"):
            arrays.listing(made.database, 2)
    finally:
        store.client.drop_database("board_arrays")


# -- changes -------------------------------------------------------------------------------------


def test_a_poll_finds_what_has_changed_and_all_viewers_hear_of_it(store):
    """A message names the runs that are new, that have gone on, or that have ended."""
    live = replace(store, db_name="board_changes")
    runs = live.database.runs
    try:
        changes = Changes(live.database)
        changes.poll()
        assert changes.wait(changes.version, 0.0) is None
        run = {"status": "RUNNING", "heartbeat": datetime.now(UTC), "start_time": datetime.now(UTC)}
        runs.insert_many([{"_id": 1, **run}, {"_id": 2, **run}])
        changes.poll()
        for _ in range(2):
            assert changes.wait(changes.version - 1, 0.0)["runs"] == [1, 2]
        changes.poll()
        assert changes.wait(changes.version, 0.0) is None
        runs.update_one({"_id": 2}, {"$set": {"status": "INTERRUPTED"}})
        changes.poll()
        assert changes.wait(changes.version - 1, 0.0)["runs"] == [2]
        live.database.sweeps.insert_one({"_id": "s", "state": "RUNNING"})
        changes.poll()
        live.database.sweep_points.insert_one({"sweep": "s", "state": "pending"})
        changes.poll()
        message = changes.wait(changes.version - 1, 0.0)
        assert message["sweeps"] == ["s"] and message["runs"] == []
        assert changes.wait(0, 0.0)["runs"] is None  # more than one change ago: everything
    finally:
        store.client.drop_database("board_changes")


def test_a_run_that_dies_is_dead_everywhere_and_viewers_hear_of_it(store, monkeypatch):
    """Only its own page said so: in the table and in its sweep it was running for ever. When these knew,
    filters and the counts of groups and sweeps still took it for a running one."""
    live = replace(store, db_name="board_changes")
    try:
        live.database.sweeps.insert_one({"_id": "s-1", "name": "s", "points": [{"p": 5}]})
        run = {"_id": 1, "status": "RUNNING", "heartbeat": datetime.now(UTC)}
        live.database.runs.insert_one({**run, "meta": {"sweep": {"id": "s-1", "point": 0}}})
        changes = Changes(live.database)
        changes.poll()
        assert column(live.database, "status") == ["RUNNING"]
        monkeypatch.setattr(status, "DEAD_AFTER", -1.0)
        changes.poll()
        assert changes.wait(changes.version - 1, 0.0)["runs"] == [1]
        assert column(live.database, "status") == ["DEAD"]
        assert views.run(live.database, 1)["status"] == "DEAD"
        assert views.sweep(live.database, "s")["states"] == {"stopped": 1}
        assert views.sweeps(live.database)[0]["runs"] == {"DEAD": 1}
        assert column(live.database, "run", "status=RUNNING") == []
        assert column(live.database, "run", "status=DEAD", sort="status") == [1]
        (group,) = views.groups(live.database, "", "status", [])["groups"]
        assert (group["value"], group["states"]) == ("DEAD", {"DEAD": 1})
        live.database.runs.update_one({"_id": 1}, {"$set": {"status": "INTERRUPTED"}})
        changes.poll()
        assert changes.wait(changes.version - 1, 0.0)["runs"] == [1]
        odd = {"status": "RUNNING", "lease": {"renewed": "no time"}}  # as an archive may have it
        live.database.runs.update_one({"_id": 1}, {"$set": odd})
        assert column(live.database, "status")[0] in ("RUNNING", "DEAD")
    finally:
        store.client.drop_database("board_changes")


def test_a_change_is_not_lost_when_the_store_is_away_in_the_middle_of_a_poll(store, monkeypatch):
    """The viewers' tables would stay as they were until something else changed."""
    live = replace(store, db_name="board_changes")
    try:
        changes = Changes(live.database)
        changes.poll()
        live.database.runs.insert_one({"_id": 1, "status": "RUNNING"})
        with monkeypatch.context() as patch:
            away = AutoReconnect("away")
            patch.setattr(Changes, "_sweeps", lambda self: (_ for _ in ()).throw(away))
            with pytest.raises(AutoReconnect):
                changes.poll()
        changes.poll()
        assert changes.wait(changes.version - 1, 0.0)["runs"] == [1]
    finally:
        store.client.drop_database("board_changes")


def test_viewers_who_ask_the_same_share_one_answer(made):
    """Ten viewers of one table cost one query, until something changes."""
    changes, asked = Changes(made.database), []
    cache = Cache(changes)
    for _ in range(10):
        assert cache.get("a", lambda: asked.append("a") or b"1") == b"1"
    assert asked == ["a"]
    changes.announce([1])
    cache.get("a", lambda: asked.append("again") or b"2")
    assert asked == ["a", "again"]


# -- who may ask ---------------------------------------------------------------------------------


@pytest.fixture
def client(made):
    """A client of the page that has opened its link."""
    application = server.app(made, TOKEN, Changes(made.database))
    client = application.test_client()
    assert client.get(f"/?token={TOKEN}").status_code == 302
    return client


def test_without_the_token_nothing_is_answered(made):
    """The link is the only way in: neither data nor the page's files are for others."""
    stranger = server.app(made, TOKEN, Changes(made.database)).test_client()
    for path in (
        "/",
        "/?token=wrong",
        "/?token=",
        "/files/main.js",
        "/api/runs",
        "/api/events",
        "/none",
        f"/api/runs?token={TOKEN}",
    ):
        assert stranger.get(path).status_code == 401, path
    assert stranger.post("/api/notes", json={}).status_code == 401


def test_the_link_sets_a_cookie_that_scripts_and_other_sites_do_not_get(made):
    """The token leaves the address at once, so that it is in no history and no referrer."""
    client = server.app(made, TOKEN, Changes(made.database)).test_client()
    answer = client.get(f"/?token={TOKEN}")
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self' 'sha256-" in policy and "script-src 'unsafe" not in policy
    assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8420"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_requests_of_other_web_pages_are_refused(client, headers):
    """A page that a viewer has open elsewhere, or that has renamed this server, gets nothing."""
    assert client.get("/api/runs?column=run", headers=headers).status_code == 403
    body = {"run": 1, "tags": [], "notes": ""}
    assert client.post("/api/notes", json=body, headers=headers).status_code == 403


def test_only_tags_and_notes_can_be_written(client, made):
    """Other methods, other forms and other runs change nothing."""
    ours = {"Origin": "http://localhost"}
    before = made.database.runs.find_one({"_id": 7})
    for body in (
        {"run": 7},
        {"run": 7, "tags": [], "notes": "", "status": "x"},
        {"run": 7, "tags": "a", "notes": ""},
        {"run": 7, "tags": [{"$set": 1}], "notes": ""},
        {"run": {"$gt": 0}, "tags": [], "notes": ""},
        {"run": 7, "tags": [], "notes": "x" * 20_001},
        {"run": 7, "tags": ["x"] * 51, "notes": ""},
        {"run": 7777, "tags": [], "notes": ""},
        {"run": 10**30, "tags": [], "notes": ""},
        {"run": 7, "tags": [], "notes": "\ud800"},
        [7],
    ):
        assert client.post("/api/notes", json=body, headers=ours).status_code == 400, body
    assert client.post("/api/notes", data="{}", headers=ours).status_code == 415
    assert client.post("/api/notes", data="x" * 100_000, headers=ours).status_code in (413, 415)
    for method in ("put", "delete", "patch", "options"):
        assert getattr(client, method)("/api/notes", headers=ours).status_code == 405
    assert made.database.runs.find_one({"_id": 7}) == before
    body = {"run": 7, "tags": ["odd", "look"], "notes": "<b>why?</b>"}
    assert client.post("/api/notes", json=body, headers=ours).status_code == 200
    after = made.database.runs.find_one({"_id": 7})
    assert after.pop("omniboard") == {"tags": ["odd", "look"], "notes": "<b>why?</b>"}
    assert after == before
    assert column(made.database, "run", "tag=odd") == [7]


def test_wrong_questions_are_one_line_with_a_code(client):
    """The page shows the line; nothing of the server's inside is told."""
    for path, code in (
        ("/api/runs?filters=p", 400),
        ("/api/runs?filters='", 400),
        ("/api/runs?offset=-1", 400),
        ("/api/runs?sort=$where", 400),
        ("/api/run?run=99999", 400),
        ("/api/none", 404),
        ("/files/server.py", 404),
        (f"/figures/{'a' * 300}.png", 404),
        ("/files/..%2fserver.py", 404),
    ):
        answer = client.get(path)
        assert answer.status_code == code, path
        assert "\n" not in json.loads(answer.data)["error"]


def test_a_command_to_copy_has_no_option_of_an_archive():
    """An imported run can have any text in place of a commit: `git checkout --orphan=x` would run."""
    experiment = {"mainfile": "a.py", "repositories": [{"commit": "--orphan=x"}]}
    assert command_of({"experiment": experiment}) == "python a.py with"
    experiment["repositories"][0]["commit"] = "0123456789abcdef"
    assert command_of({"experiment": experiment}).startswith("git checkout 0123456789ab\n")


def test_a_claim_that_needs_other_runs_is_not_said_to_have_failed_on_one(store):
    """A run's page said "failed" of each claim that is made on a whole sweep."""
    live = replace(store, db_name="board_claims")
    needs = {"claim": "b", "passed": False, "why": "needs a run with p=3"}
    claims = [{"claim": "a", "passed": False, "why": None}, needs]
    try:
        live.database.runs.insert_one({"_id": 1, "status": "COMPLETED", "info": {"claims": claims}})
        assert [one["claim"] for one in views.run(live.database, 1)["claims"]] == ["a"]
        assert claims_of({"info": {"claims": claims}}) == ["-a"]
        assert views.runs(live.database, "claim=-a", ["run"])["rows"] == [[1]]
        assert views.runs(live.database, "claim=-b", ["run"])["rows"] == []
    finally:
        store.client.drop_database("board_claims")


def test_a_finding_without_a_verdict_has_not_passed():
    """An archive may have one; the report must not end for it."""
    assert claims_of({"info": {"claims": [{"claim": "x"}, {"claim": "y", "passed": True}]}}) == [
        "-x",
        "y",
    ]
