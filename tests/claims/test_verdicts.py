"""The file of verdicts that the documentation reads."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from types import SimpleNamespace

from grok.claims import scorecard, verdicts
from grok.claims.model import Claim, Finding, Runs, evaluate
from tests.claims.runs import run

RAN = {"ended": "limit"}


def is_early(runs: Runs) -> tuple[bool, dict[str, float]]:
    """Test accuracy is reached by step 20."""
    step = runs.one("cpu").first_step_held("test_accuracy", 0.9)
    return step <= 20, {"90 % at": step}


def needs_another_config(runs: Runs) -> tuple[bool, dict[str, float]]:
    return True, {"accuracy": runs.one("paper").final("test_accuracy")}


EARLY = Claim("X-1", "It is early (figure 1)", is_early, "x_cpu")
NOT_RUN = Claim("X-2", "It is never checked (figure 2)", needs_another_config, "x_cpu")


def findings(claim: Claim, *curves: list[float]) -> list[Finding]:
    """The findings of a claim on runs of the seeds 0, 1, ... with these test accuracies."""
    return [
        evaluate(claim, Runs([run(seed, test_accuracy=curve)]), seed)
        for seed, curve in enumerate(curves)
    ]


def result_of(claim: Claim, *curves: list[float]) -> dict:
    return verdicts.claim_result(claim, findings(claim, *curves))


SOON, LATE = [0.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0, 1.0]
UNSTATED = {"version": None, "stated_after": False, "restated": False}


def test_a_result_has_the_verdict_and_the_numbers_over_the_seeds():
    assert result_of(EARLY, LATE, SOON, SOON) == {
        "verdict": "mostly",
        "seeds_passed": 2,
        "seeds_run": 3,
        "seeds": 3,
        "measured": {"90 % at": [10, 10, 30]},
        **UNSTATED,
    }
    assert result_of(EARLY, SOON, LATE, LATE)["verdict"] == "failed"
    assert result_of(EARLY, SOON, SOON)["verdict"] == "passed"


def test_a_step_that_is_never_reached_is_null():
    """JSON has no infinity."""
    never = result_of(EARLY, [0.0, 0.0])
    assert never["measured"] == {"90 % at": [None, None, None]}
    assert json.loads(json.dumps(never, allow_nan=False)) == never
    assert evaluate(EARLY, Runs([run(test_accuracy=[0.0, 0.0])])).measured == {"90 % at": inf}


def test_a_claim_that_could_not_be_evaluated_has_failed_and_one_without_runs_was_not_run():
    assert result_of(NOT_RUN, [1.0], [1.0])["verdict"] == "failed"
    nothing = {"verdict": "not run", "seeds_passed": 0, "seeds_run": 0, "seeds": 0}
    assert verdicts.claim_result(EARLY, []) == {**nothing, "measured": None, **UNSTATED}


def test_a_replication_updates_the_papers_that_it_ran(store, tmp_path, monkeypatch):
    """What an earlier replication found stays, once: `grok papers --history` would otherwise know only
    the runs of the store at hand, and a claim that was changed and trained again would look new."""
    monkeypatch.setattr(scorecard, "version_of", lambda experiment, claim: None)
    paper = SimpleNamespace(path="x", doc="Somebody 2022.\n\nMore.", claims=[EARLY, NOT_RUN])
    sweep = {"_id": "x_cpu-1", "name": "x_cpu", "experiment": "x", "created": datetime.now(UTC)}
    made = [one.__dict__ for one in findings(EARLY, [0.0, 1.0, 1.0])]
    runs = {"seeds": [0], "machines": ["2 cores, A"]}
    checked = {"findings": made, "runs": runs, "checked": datetime(2026, 2, 1), "commit": "def"}
    store.database.sweeps.insert_one({**sweep, "seconds": 61.6, "claims": checked})
    ids = [f"x{number}" for number in range(3)]
    for id, result in zip(ids, (RAN, RAN, None), strict=True):
        meta = {"sweep": {"id": "x_cpu-1"}}
        store.database.runs.insert_one({"_id": id, "meta": meta, "result": result})
    path = tmp_path / "verdicts.json"
    other = {"sources": {"Other 2020": None}, "commit": "1", "claims": {}}
    by_hand = {"sources": {"Somebody 2022": "2201.00001"}, "subject": "the effect"}
    first = {"verdict": "failed", "checked": "2026-01-01T00:00:00+00:00"}
    second = {"verdict": "mostly", "checked": "2026-01-02T00:00:00+00:00"}
    before = {"claims": {"X-1": second, "X-2": {"verdict": "not run"}}, "earlier": {"X-1": [first]}}
    path.write_text(json.dumps({"papers": {"y": other, "x": {**by_hand, "commit": "1", **before}}}))
    try:
        verdicts.update(path, [paper], store.database, "abc1234")
        verdicts.update(path, [paper], store.database, "abc1234")  # the same check again
    finally:
        store.database.sweeps.delete_one({"_id": "x_cpu-1"})
        store.database.runs.delete_many({"_id": {"$in": ids}})
    papers = json.loads(path.read_text())["papers"]
    assert papers["y"] == other
    assert papers["x"] == {
        **by_hand,
        "commit": "abc1234",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machines": ["2 cores, A"],
        "runs": 2,
        "seconds": 62,
        "claims": {
            "X-1": {
                **result_of(EARLY, [0.0, 1.0, 1.0]),
                "checked": "2026-02-01T00:00:00+00:00",
                "commit": "def",
                "sweep": "x_cpu",
                "seed_values": [0],
            },
            "X-2": verdicts.claim_result(NOT_RUN, []),
        },
        "earlier": {"X-1": [first, second]},
    }


def test_a_replication_keeps_what_it_does_not_check(store, tmp_path, monkeypatch):
    """Claims whose sweeps take too long for `grok replicate` were "not run" after one, and a paper that has
    no others had no runs and the date of the day."""
    monkeypatch.setattr(scorecard, "version_of", lambda experiment, claim: None)
    reported = replace(NOT_RUN, sweep="x_long", report_only=True)
    papers = [
        SimpleNamespace(path="x", doc="Somebody 2022.", claims=[EARLY, reported]),
        SimpleNamespace(path="y", doc="Other 2023.", claims=[replace(reported, id="Y-1")]),
    ]
    made = [one.__dict__ for one in findings(EARLY, [0.0, 1.0, 1.0])]
    checked = {"findings": made, "runs": {}, "checked": datetime(2026, 2, 1), "commit": "def"}
    sweep = {"_id": "x_cpu-1", "name": "x_cpu", "experiment": "x", "created": datetime.now(UTC)}
    entry = {"verdict": "passed", "checked": "2026-01-01T00:00:00+00:00"}
    other = {"commit": "1", "date": "2026-01-01", "runs": 3, "claims": {"Y-1": entry}}
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps({"papers": {"x": {"claims": {"X-2": entry}}, "y": other}}))
    store.database.sweeps.insert_one({**sweep, "seconds": 1.0, "claims": checked})
    try:
        verdicts.update(path, papers, store.database, "abc1234")
    finally:
        store.database.sweeps.delete_one({"_id": "x_cpu-1"})
    found = json.loads(path.read_text())["papers"]
    assert found["x"]["claims"]["X-2"] == entry and found["x"]["earlier"] == {}
    assert found["x"]["claims"]["X-1"]["verdict"] == "passed"
    assert found["y"] == other


def test_the_commit_and_the_date_of_a_replication_are_those_of_its_runs(store):
    """`grok replicate --resume` checks sweeps that finished before: with another commit, on another day,
    and perhaps with changed files. The commit of the day on which it is called would hide that."""
    paper = SimpleNamespace(path="y", claims=[EARLY, replace(NOT_RUN, sweep="y_more")])
    trained = {
        "x_cpu": {
            "last": datetime(2026, 1, 3),
            "commits": ["0123456789ab", "0123456789ab+"],
            "machines": ["2 cores, A"],
        },
        "y_more": {
            "last": datetime(2026, 1, 2),
            "commits": ["ffff456789ab"],
            "machines": ["2 cores, A", "1 core, B"],
        },
    }
    made = {"experiment": "y", "created": datetime.now(UTC)}
    store.database.sweeps.insert_many(
        {**made, "_id": name, "name": name, "claims": {"findings": [], "runs": runs}}
        for name, runs in trained.items()
    )
    try:
        state = verdicts._state(paper, store.database, "abc1234")
    finally:
        store.database.sweeps.delete_many({"_id": {"$in": [*trained]}})
    assert state == {
        "commit": "0123456, 0123456+, ffff456",
        "date": "2026-01-03",
        "machines": ["1 core, B", "2 cores, A"],
    }
