"""The file of verdicts that the documentation reads."""

import json
from datetime import UTC, datetime
from math import inf
from types import SimpleNamespace

from grok.claims import verdicts
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


def test_a_passed_claim_shows_the_numbers_of_a_seed_on_which_it_passed():
    soon, late = [0.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0, 1.0]
    assert verdicts.claim_result(findings(EARLY, late, soon, soon)) == {
        "verdict": "passed",
        "seeds_passed": 2,
        "seeds": 3,
        "measured": {"90 % at": 10},
    }
    assert verdicts.claim_result(findings(EARLY, soon, late, late)) == {
        "verdict": "failed",
        "seeds_passed": 1,
        "seeds": 3,
        "measured": {"90 % at": 30},
    }


def test_a_step_that_is_never_reached_is_null():
    """JSON has no infinity."""
    result = verdicts.claim_result(findings(EARLY, [0.0, 0.0]))
    assert result["measured"] == {"90 % at": None}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert evaluate(EARLY, Runs([run(test_accuracy=[0.0, 0.0])])).measured == {"90 % at": inf}


def test_a_claim_that_could_not_be_evaluated_has_no_verdict():
    not_evaluated = {"verdict": "not evaluated", "seeds_passed": 0, "measured": None}
    assert verdicts.claim_result(findings(NOT_RUN, [1.0], [1.0])) == {**not_evaluated, "seeds": 2}
    assert verdicts.claim_result([]) == {**not_evaluated, "seeds": 0}


def test_a_replication_updates_the_papers_that_it_ran(store, tmp_path):
    paper = SimpleNamespace(path="x", doc="Somebody 2022.\n\nMore.", claims=[EARLY, NOT_RUN])
    sweep = {"_id": "x_cpu-1", "name": "x_cpu", "experiment": "x", "created": datetime.now(UTC)}
    made = [one.__dict__ for one in findings(EARLY, [0.0, 1.0, 1.0])]
    store.database.sweeps.insert_one({**sweep, "seconds": 61.6, "claims": {"findings": made}})
    ids = [f"x{number}" for number in range(3)]
    for id, result in zip(ids, (RAN, RAN, None), strict=True):
        meta = {"sweep": {"id": "x_cpu-1"}}
        store.database.runs.insert_one({"_id": id, "meta": meta, "result": result})
    path = tmp_path / "verdicts.json"
    other = {"sources": {"Other 2020": None}, "commit": "1", "claims": {}}
    by_hand = {"sources": {"Somebody 2022": "2201.00001"}, "reproduced": "the effect"}
    path.write_text(json.dumps({"papers": {"y": other, "x": {**by_hand, "commit": "1"}}}))
    try:
        verdicts.update(path, [paper], store.database, "abc1234")
    finally:
        store.database.sweeps.delete_one({"_id": "x_cpu-1"})
        store.database.runs.delete_many({"_id": {"$in": ids}})
    papers = json.loads(path.read_text())["papers"]
    assert papers["y"] == other
    assert papers["x"] == {
        **by_hand,
        "commit": "abc1234",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "runs": 2,
        "seconds": 62,
        "claims": {
            "X-1": verdicts.claim_result(findings(EARLY, [0.0, 1.0, 1.0])),
            "X-2": verdicts.claim_result([]),
        },
    }
